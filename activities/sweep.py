"""The sweep for forgotten instances: gathers both witnesses, leaves the decision to the domain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.listing import SharedListing
from dumont.domain.instances import Instance, Message
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState
from dumont.domain.protection import AgentRole
from dumont.domain.reconcile import (
    Limits,
    Owner,
    OwnerStatus,
    Plan,
    Suspicion,
    key_of,
    machine_key,
    machines_of,
    plan,
    suspect,
)
from dumont.ports import InstanceProvider, MachineRecord, MachineStore

DescribeOwner = Callable[[str], Awaitable[tuple[OwnerStatus, int | None]]]
"""Asks Temporal about a machine's workflow: its status, and its generation while it runs."""

RunningMachines = Callable[[], Awaitable[set[str]]]
"""Ids of the machines whose workflow runs, as Temporal's index has it: cheap, seconds behind."""

StartMachine = Callable[[MachineSpec, MachineState], Awaitable[None]]
"""Starts a machine's workflow from its record; one that runs already is left alone."""


class Survey(Message):
    """Input of `survey`."""

    env: str
    limits: Limits = Limits()
    body: AgentRole = AgentRole.PRIMARY
    """What is rented at this provider: machines' GPUs, or their standbys."""


class Revive(Message):
    """Input of `revive_machine` and `drop_request`."""

    machine_id: str


class SweepActivities:
    """Reads providers, records and workflows; writes only what it saw."""

    def __init__(
        self,
        *,
        provider: InstanceProvider,
        listing: SharedListing,
        store: MachineStore,
        describe_owner: DescribeOwner,
        running_machines: RunningMachines,
        start_machine: StartMachine,
    ) -> None:
        self._provider = provider
        self._listing = listing
        self._store = store
        self._describe_owner = describe_owner
        self._running_machines = running_machines
        self._start_machine = start_machine

    @activity.defn
    async def survey(self, ask: Survey) -> Plan:
        """Hold what the provider bills us for against what has an owner.

        Any witness that does not answer fails the whole survey: then nothing is decided.
        """
        async with heartbeating():
            listing = await self._listing.taken_within(0)
            billed = machines_of(listing.instances, env=ask.env)
            live = {
                owned.spec.machine_id: owned.state for owned in await self._store.live_machines()
            }
            suspicions = await self._suspicions(billed, live, ask)
            missing = {} if ask.body is AgentRole.STANDBY else await self._without_workflow(live)
            first_seen = await self._store.record_sightings(
                provider=self._provider.name,
                keys=[*suspicions, *(machine_key(m) for m in missing)],
                at=listing.asked_at,
            )
            decided = plan(
                suspicions,
                missing,
                first_seen,
                seen=sum(len(found) for found in billed.values()),
                now=listing.asked_at,
                limits=ask.limits,
            )
            if decided.blocked:
                activity.logger.error("sweep blocked: %s", decided.blocked)
            return decided

    @activity.defn
    async def revive_machine(self, ask: Revive) -> None:
        """Start a machine's workflow again from its record."""
        activity.heartbeat()
        for owned in await self._store.owned_machines([ask.machine_id]):
            if not owned.state.phase.final:
                await self._start_machine(owned.spec, owned.state)

    @activity.defn
    async def drop_request(self, ask: Revive) -> None:
        """Close the record of a machine that was requested and never started.

        Whoever asked was told that it failed; renting it now would surprise them.
        """
        for owned in await self._store.owned_machines([ask.machine_id]):
            if owned.state.phase is MachinePhase.REQUESTED:
                state = owned.state.model_copy(
                    update={
                        "phase": MachinePhase.DESTROYED,
                        "reason": "it was requested, but never started; nothing was rented",
                        "version": owned.state.version + 1,
                    }
                )
                await self._store.record(
                    MachineRecord(spec=owned.spec, state=state, at=datetime.now(UTC))
                )

    async def _without_workflow(self, live: dict[str, MachineState]) -> dict[str, MachineState]:
        """Live records that Temporal has no workflow for. One of the two sweeps looks for them."""
        indexed = await self._running_machines()
        return {
            machine_id: state
            for machine_id, state in live.items()
            if machine_id not in indexed
            and (await self._describe_owner(machine_id))[0] is not OwnerStatus.RUNNING
        }

    async def _suspicions(
        self, billed: dict[str, list[Instance]], live: dict[str, MachineState], ask: Survey
    ) -> dict[str, tuple[Instance, Suspicion]]:
        found: dict[str, tuple[Instance, Suspicion]] = {}
        strangers = [m for m in billed if m not in live]
        records = {o.spec.machine_id: o.state for o in await self._store.owned_machines(strangers)}
        for machine_id, instances in billed.items():
            record = live.get(machine_id) or records.get(machine_id)
            if _at_home(instances, record, ask.body):
                continue
            status, generation = await self._describe_owner(machine_id)
            owner = Owner(workflow=status, workflow_generation=generation, record=record)
            for instance in instances:
                why = suspect(instance, env=ask.env, owner=owner, body=ask.body)
                if why is not None:
                    found[key_of(instance)] = (instance, why)
        return found


def _at_home(instances: list[Instance], record: MachineState | None, body: AgentRole) -> bool:
    """The one instance billed is the one that the record names: nothing to ask Temporal about."""
    if record is None or record.phase.final:
        return False
    home = record.instance if body is AgentRole.PRIMARY else record.standby
    return home is not None and [i.instance_id for i in instances] == [home.instance_id]
