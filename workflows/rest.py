"""A machine that rests: everything is kept, found whole, and given back; waking is the reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.repository import ChangesAsk, PinAsk, RepositoryActivities
    from activities.snapshots import SnapshotOf
    from dumont.domain.errors import Conflict, DumontError
    from dumont.domain.events import EventKind
    from dumont.domain.instances import Message
    from dumont.domain.machine import MachinePhase, MachineSpec, Timing
    from dumont.domain.protection import ProtectionStatus
    from dumont.domain.snapshots import SnapshotRecord
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import run_workflow_id
    from dumont.temporal.queues import PROVIDER_GCP, PROVIDER_VAST
    from workflows.chronicle import Chronicle
    from workflows.end_instances import end_everything
    from workflows.options import ASK_STORE
    from workflows.snapshots import Snapshot, SnapshotInput
    from workflows.standby_peer import StandbyPeer

_LOOKS = 4
"""Snapshots in a row before somebody who goes on writing keeps the machine awake."""


class HibernateRequest(Message):
    """Argument of the update `hibernate`."""

    actor: str = "the owner"
    reason: str = ""


class WakeRequest(Message):
    """Argument of the update `wake`."""

    actor: str = "the owner"


class Rest:
    """Hibernating and waking.

    Args:
        spec: Whose machine it is.
        timing: How patient it is.
        life: Its state and events.
        standby: The workflow that keeps its standby.
    """

    def __init__(
        self, spec: MachineSpec, timing: Timing, life: Chronicle, standby: StandbyPeer
    ) -> None:
        self._spec = spec
        self._timing = timing
        self._life = life
        self._standby = standby

    def why_not(self) -> str | None:
        """Why the machine cannot hibernate now; None when it can."""
        state = self._life.state
        if state.phase is not MachinePhase.RUNNING:
            return f"the machine is {state.phase.value}"
        if state.retiring:
            return "a former instance is still looked through for files that only it has"
        return None

    async def hibernate(
        self, request: HibernateRequest, *, changed_mind: Callable[[], bool]
    ) -> None:
        """Keep everything, see that it is whole, and only then give back what is rented.

        Whatever fails before that leaves the machine running, and says so.
        """
        self._life.move(
            MachinePhase.HIBERNATING,
            f"{request.actor} asked for it" + (f": {request.reason}" if request.reason else ""),
            kind=EventKind.HIBERNATING,
        )
        try:
            kept = await self._kept()
            if changed_mind():
                raise Conflict("somebody wants to use it")
            await self._set_pin(kept.snapshot_id, pinned=True)
        except (ActivityError, ChildWorkflowError, DumontError) as failure:
            if is_cancelled_exception(failure):
                raise
            why = f"not hibernated: {error_of(failure).message}"
            self._life.move(MachinePhase.RUNNING, why, kind=EventKind.ALERT)
            return
        if changed_mind():
            await self.awake(kept.snapshot_id)
            self._life.move(MachinePhase.RUNNING, "not hibernated: somebody wants to use it")
            return
        self._life.change(restoring=kept.snapshot_id)
        await self._give_back()
        standby = self._life.state.standby
        self._life.move(
            MachinePhase.HIBERNATED,
            f"nothing is rented; {kept.files:,} files are in snapshot {kept.snapshot_id}",
            kind=EventKind.HIBERNATED,
            instance=None,
            standby=None,
            mirrored=False,
            kept_standby=None,
            protection=ProtectionStatus.UNPROTECTED,
            protection_reason="hibernated",
            standbys_used=standby.number if standby else self._life.state.standbys_used,
        )

    def wake(self, request: WakeRequest) -> None:
        """Begin to come back: what is rented next gets the files of the snapshot."""
        self._life.move(
            MachinePhase.WAKING,
            f"{request.actor} woke it",
            kind=EventKind.WAKING,
            # What a guard of its former standby still says is of an authority that has passed.
            epoch=self._life.state.epoch + 1,
            provision_tries=0,
        )

    async def awake(self, snapshot_id: str) -> None:
        """It has its files again: rules decide about the snapshot, as about any other."""
        try:
            await self._set_pin(snapshot_id, pinned=False)
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            workflow.logger.warning("still pinned: %s", error_of(failure).message)

    async def _kept(self) -> SnapshotRecord:
        """A snapshot after which nobody has written anything.

        Raises:
            ChildWorkflowError, ActivityError: It cannot be made, or is not whole in the store.
            Conflict: Somebody goes on writing; something cannot be read.
        """
        before: SnapshotRecord | None = None
        for look in range(1, _LOOKS + 1):
            record = await workflow.execute_child_workflow(
                Snapshot.run,
                SnapshotInput(
                    machine_id=self._spec.machine_id, tags=("hibernate",), flush=True, asked=True
                ),
                id=run_workflow_id(
                    self._spec.machine_id, f"snapshot-hibernate-v{self._life.state.version}-{look}"
                ),
            )
            assert record is not None
            if not record.whole:
                raise Conflict(f"a file cannot be read: {record.unreadable[0]}")
            if before is not None and not await self._differ(before, record):
                return record
            before = record
        raise Conflict(f"somebody is writing: files changed between {_LOOKS} snapshots in a row")

    async def _differ(self, old: SnapshotRecord, new: SnapshotRecord) -> bool:
        found = await workflow.execute_activity_method(
            RepositoryActivities.list_changes,
            ChangesAsk(
                owner_id=self._spec.owner_id, old=old.snapshot_id, new=new.snapshot_id, limit=0
            ),
            **ASK_STORE,
        )
        totals = found.totals
        return bool(totals.added or totals.removed or totals.changed)

    async def _set_pin(self, snapshot_id: str, *, pinned: bool) -> None:
        await workflow.execute_activity_method(
            RepositoryActivities.pin_snapshot,
            PinAsk(
                which=SnapshotOf(
                    owner_id=self._spec.owner_id,
                    machine_id=self._spec.machine_id,
                    snapshot_id=snapshot_id,
                ),
                pinned=pinned,
            ),
            **ASK_STORE,
        )

    async def _give_back(self) -> None:
        """End both bodies, however long it takes: stopping does not end billing."""
        state = self._life.state
        ends = [self._end(state.instance.instance_id if state.instance else None, PROVIDER_VAST)]
        if self._spec.protection is not None:
            await self._standby.release()
            known = state.standby.instance_id if state.standby else None
            ends.append(self._end(known, PROVIDER_GCP))
        await asyncio.gather(*ends)

    async def _end(self, known: str | None, queue: str) -> None:
        await end_everything(
            self._spec,
            known=known,
            queue=queue,
            confirm_s=self._timing.gone_confirm_s,
            why="the machine hibernates",
        )
