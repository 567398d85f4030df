"""Renting and watching GPU instances. Every write is keyed by the label.

The order of a rental is *intend -> look by label -> create*: the intent is in the workflow's history
and in the database before the call, a retry looks before it creates, and whatever carries the label
can be found and ended by it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.deadline import Deadline
from activities.heartbeat import heartbeating
from activities.listing import SharedListing
from dumont.domain.errors import DumontError, InstanceDead, ProviderError
from dumont.domain.instances import Instance, InstanceOrder, InstanceState, Message, Rental
from dumont.domain.ladder import Rung
from dumont.domain.machine import MachineSpec
from dumont.domain.offers import Choice
from dumont.ports import GpuProvider, LadderRecord, MachineStore, OnStart, SecretStore

POLL_S = 2.0
"""Age of a listing that still tells whether an instance came up."""

MISSING_PATIENCE = timedelta(seconds=60)
"""A fresh instance may take this long to show up in listings."""


class EnsureInstance(Message):
    """Input of `ensure_instance`."""

    spec: MachineSpec
    label: str
    generation: int
    attempt: int
    choice: Choice


class Rented(Message):
    """An instance that carries the label."""

    instance_id: str
    found: bool
    """It was there already: an earlier try had succeeded."""


class WaitUntilRunning(Message):
    """Input of `wait_until_running`."""

    machine_id: str
    label: str
    generation: int
    attempt: int
    instance_id: str
    rental: Rental | None = None
    """What it must have been rented as; None accepts either."""
    within_s: float


class StartInstance(Message):
    """Input of `start_instance`."""

    instance_id: str


class InstanceActivities:
    """Reads and writes of one GPU provider account."""

    def __init__(
        self,
        *,
        provider: GpuProvider,
        listing: SharedListing,
        store: MachineStore,
        secrets: SecretStore,
        onstart: OnStart,
        poll_s: float = POLL_S,
    ) -> None:
        self._provider = provider
        self._listing = listing
        self._store = store
        self._secrets = secrets
        self._onstart = onstart
        self._poll_s = poll_s

    @activity.defn
    async def ensure_instance(self, ask: EnsureInstance) -> Rented:
        """Have exactly one instance with the label.

        Safe to repeat: looks for the label in a listing taken now, and creates only when there is
        none. Of several (a create whose answer was lost can land late) the oldest stays.

        Raises:
            OfferGone, InsufficientCredit, QuotaExceeded, AuthFailed, RequestRefused: Final.
            OutcomeUnknown, ProviderUnavailable, RateLimited: Look again later.
        """
        async with heartbeating():
            rented = await self._adopt(ask) or Rented(
                instance_id=await self._create(ask), found=False
            )
            await self._reached(ask.spec.machine_id, ask, Rung.RENTED, rented.instance_id)
            return rented

    @activity.defn
    async def start_instance(self, ask: StartInstance) -> None:
        """Start a stopped instance, with its disk. One that runs or starts is left alone.

        Raises:
            InstanceGone: The provider has no such instance (any more).
        """
        async with heartbeating():
            found = await self._provider.get(ask.instance_id)
            if found is not None and found.state in (InstanceState.RUNNING, InstanceState.STARTING):
                return
            await self._provider.start(ask.instance_id)

    @activity.defn
    async def wait_until_running(self, ask: WaitUntilRunning) -> Instance:
        """Wait until the provider says that the instance runs and where its SSH port is.

        Raises:
            InstanceDead: It failed, was interrupted, never showed up, or time is up.
        """
        last: InstanceState | None = None
        detail = ""
        deadline = Deadline(ask.within_s)
        started = datetime.now(UTC)
        async with heartbeating():
            while True:
                if deadline.passed():
                    raise InstanceDead(f"not running in time; last state {last}: {detail}")
                try:
                    listing = await self._listing.taken_within(self._poll_s)
                except ProviderError as error:
                    if not error.retryable:
                        raise
                    await asyncio.sleep(error.retry_after or self._poll_s)
                    continue
                found = [i for i in listing.labelled(ask.label) if i.instance_id == ask.instance_id]
                if not found:
                    if listing.asked_at - started > MISSING_PATIENCE:
                        raise InstanceDead(f"instance {ask.instance_id} vanished while starting")
                    await asyncio.sleep(self._poll_s)
                    continue
                instance = found[0]
                _refuse_the_dead(instance, wanted=ask.rental)
                if instance.state is InstanceState.RUNNING:
                    if last is not InstanceState.RUNNING:
                        await self._reached(ask.machine_id, ask, Rung.RUNNING)
                    if instance.ssh is not None:
                        where = f"{instance.ssh.host}:{instance.ssh.port}"
                        await self._reached(ask.machine_id, ask, Rung.PORT_MAPPED, where)
                        return instance
                last, detail = instance.state, instance.detail
                await asyncio.sleep(self._poll_s)

    @activity.defn
    async def fetch_logs(self, instance_id: str) -> str:
        """The instance's own output, as far as the provider has it."""
        return await self._provider.logs(instance_id)

    async def _adopt(self, ask: EnsureInstance) -> Rented | None:
        listing = await self._listing.taken_within(0)
        found = listing.labelled(ask.label)
        for surplus in found[1:]:
            await self._provider.destroy(surplus.instance_id)
        return Rented(instance_id=found[0].instance_id, found=True) if found else None

    async def _create(self, ask: EnsureInstance) -> str:
        keys = await self._secrets.ensure_machine_secrets(ask.spec.machine_id)
        order = InstanceOrder(
            offer_id=ask.choice.offer.offer_id,
            label=ask.label,
            image=ask.spec.requirement.image,
            disk_gb=ask.spec.requirement.disk_gb,
            onstart=self._onstart(
                keys=keys,
                authorized_keys=ask.spec.authorized_keys,
                setup_script=ask.spec.setup_script,
            ),
            bid_usd_per_hour=ask.choice.bid_usd_per_hour,
        )
        try:
            return await self._provider.create(order)
        except ProviderError as error:
            if error.instance_id is not None:
                # Refused, and rented all the same. If this destroy fails too, the label finds it.
                await self._provider.destroy(error.instance_id)
            raise

    async def _reached(
        self,
        machine_id: str,
        ask: EnsureInstance | WaitUntilRunning,
        rung: Rung,
        detail: str = "",
    ) -> None:
        await note_rung(
            self._store,
            LadderRecord(
                machine_id=machine_id,
                generation=ask.generation,
                attempt=ask.attempt,
                rung=rung,
                at=datetime.now(UTC),
                detail=detail,
            ),
        )


def _refuse_the_dead(instance: Instance, *, wanted: Rental | None) -> None:
    """Raise for a state from which a *new* instance does not come back."""
    if instance.state is InstanceState.FAILED:
        raise InstanceDead(f"the provider reports an error: {instance.detail or 'no reason given'}")
    if instance.state is InstanceState.STOPPED:
        raise InstanceDead("stopped before it was ready: outbid, or it never could start")
    if instance.state is InstanceState.OFFLINE:
        raise InstanceDead("its host went offline while it was starting")
    if wanted is not None and instance.rental is not None and instance.rental is not wanted:
        raise InstanceDead(
            f"rented as {instance.rental.value} where {wanted.value} was meant: "
            "it would cost another price"
        )


async def note_rung(store: MachineStore, rung: LadderRecord) -> None:
    """Show a rung to whoever watches. Best effort: the climb does not wait for the database."""
    try:
        await store.record_rung(rung)
    except DumontError as error:
        activity.logger.warning("rung %s not recorded: %s", rung.rung.value, error)
