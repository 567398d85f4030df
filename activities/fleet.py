"""The watch over one provider account: one listing for all machines, news only for those changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.listing import SharedListing
from dumont.domain import labels
from dumont.domain.errors import ProviderError
from dumont.domain.fleet import InstanceReport, Presence, Sighting, implausible, news
from dumont.domain.instances import Instance, InstanceState, Message, SshAddress
from dumont.ports import InstanceProvider, MachineStore

Homes = Callable[[], Awaitable[list[Instance]]]
"""What the records say that machines live on at this provider."""

SendReport = Callable[[str, InstanceReport], Awaitable[None]]
"""Signals a machine's workflow; a workflow that has ended is not an error."""


class Watch(Message):
    """Input of `watch_provider`."""

    env: str
    poll_s: float = 5.0
    confirm_s: float = 30.0
    """How long an instance must be missing before it counts as gone."""
    for_s: float = 24 * 3600.0
    """Length of one watch; then the workflow starts a fresh one."""


class FleetActivities:
    """Watches one provider account."""

    def __init__(
        self,
        *,
        provider: InstanceProvider,
        listing: SharedListing,
        homes: Homes,
        send_report: SendReport,
    ) -> None:
        self._provider = provider
        self._listing = listing
        self._homes = homes
        self._send_report = send_report
        self._now = asyncio.Event()

    @activity.defn
    async def watch_provider(self, watch: Watch) -> None:
        """List the account every few seconds and tell machines what changed.

        Safe to repeat: it keeps nothing that cannot be rebuilt from the records, and a machine that
        hears the same news twice does nothing the second time.
        """
        confirm = timedelta(seconds=watch.confirm_s)
        until = asyncio.get_running_loop().time() + watch.for_s
        async with heartbeating():
            sightings = await self._remembered()
            while asyncio.get_running_loop().time() < until and not _is_stopping():
                try:
                    listing = await self._plausible_listing(sightings)
                except ProviderError as error:
                    # No answer is no evidence: nothing changes, for anybody.
                    activity.logger.warning("%s is blind: %s", self._provider.name, error)
                    await self._pause(max(error.retry_after or 0, watch.poll_s))
                    continue
                at, instances = listing
                reports, sightings = news(sightings, instances, at=at, confirm=confirm)
                for report in await self._confirmed(reports, sightings):
                    label = labels.parse(report.label, env=watch.env)
                    if label is not None:
                        await self._send_report(label.machine_id, report)
                await self._pause(watch.poll_s)

    @activity.defn
    async def look_now(self) -> None:
        """Have the watch look at once. It serves the same account, hence in the same process."""
        self._now.set()

    async def _pause(self, seconds: float) -> None:
        """Wait for the next turn: not longer than it takes until somebody knows of a change."""
        waiting = [
            asyncio.create_task(self._now.wait()),
            asyncio.create_task(activity.wait_for_worker_shutdown()),
        ]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        self._now.clear()

    async def _confirmed(
        self, reports: list[InstanceReport], sightings: dict[str, Sighting]
    ) -> list[InstanceReport]:
        """The reports without those that call an instance gone while nobody but the list says so.

        A list that has lost an instance, however often it is read, is one witness. The instance's
        own page is another; where it still shows the instance, or cannot be had, the instance
        counts as missing for a while longer.
        """
        confirmed = []
        for report in reports:
            if report.presence is Presence.GONE and not await self._is_gone(report.instance_id):
                sighting = sightings[report.instance_id]
                sightings[report.instance_id] = sighting.model_copy(
                    update={"missing_since": report.at, "reported_gone": False}
                )
                continue
            confirmed.append(report)
        return confirmed

    async def _is_gone(self, instance_id: str) -> bool:
        try:
            if await self._provider.get(instance_id) is None:
                return True
        except ProviderError as error:
            activity.logger.warning(
                "%s is not listed, and nothing more known: %s", instance_id, error
            )
            return False
        activity.logger.warning(
            "%s no longer lists %s, but shows it", self._provider.name, instance_id
        )
        return False

    async def _remembered(self) -> dict[str, Sighting]:
        """What the records say the machines live on: the state before the first listing."""
        return {home.instance_id: Sighting(instance=home) for home in await self._homes()}

    async def _plausible_listing(
        self, sightings: dict[str, Sighting]
    ) -> tuple[datetime, list[Instance]]:
        """A listing that has not lost half of everything at once, three times in a row.

        Raises:
            ProviderError: As the provider.
        """
        for _ in range(3):
            listing = await self._listing.taken_within(0)
            instances = list(listing.instances)
            if not implausible(sightings, instances):
                break
            activity.logger.warning("implausible listing of %s: read again", self._provider.name)
        return listing.asked_at, instances


def _is_stopping() -> bool:
    return activity.is_worker_shutdown()


def primaries(store: MachineStore, *, provider: str) -> Homes:
    """The GPU instances that live machines are recorded on."""

    async def homes() -> list[Instance]:
        found = (owned.state.gpu for owned in await store.live_machines())
        return [
            _as_listed(home.provider, home.instance_id, home.label, home.ssh, home.usd_per_hour)
            for home in found
            if home is not None and home.provider == provider
        ]

    return homes


def standbys(store: MachineStore, *, provider: str) -> Homes:
    """The VMs that stand by for live machines."""

    async def homes() -> list[Instance]:
        found = (owned.state.standby for owned in await store.live_machines())
        return [
            _as_listed(vm.provider, vm.instance_id, vm.label, vm.ssh, None)
            for vm in found
            if vm is not None and vm.provider == provider
        ]

    return homes


def _as_listed(
    provider: str, instance_id: str, label: str, ssh: SshAddress, usd_per_hour: float | None
) -> Instance:
    return Instance(
        provider=provider,
        instance_id=instance_id,
        label=label,
        state=InstanceState.RUNNING,
        ssh=ssh,
        usd_per_hour=usd_per_hour,
        created_at=datetime.now(UTC),
    )
