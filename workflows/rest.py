"""A machine that rests: everything is kept, found whole, and given back; waking is the reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.repository import ChangesAsk, PinAsk, RepositoryActivities
    from activities.snapshots import SnapshotOf
    from dumont.domain.errors import Conflict, DumontError
    from dumont.domain.events import EventKind
    from dumont.domain.instances import Message
    from dumont.domain.machine import MachinePhase, MachineSpec, MachineState, Timing
    from dumont.domain.protection import AgentNews, Asleep, ProtectionStatus, StandbyNews
    from dumont.domain.snapshots import SnapshotRecord
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import run_workflow_id
    from dumont.temporal.queues import PROVIDER_GCP, PROVIDER_VAST
    from workflows.chronicle import Chronicle
    from workflows.comeback import Comeback
    from workflows.end_instances import end_everything
    from workflows.failover_messages import DrillRequest
    from workflows.options import ASK_STORE
    from workflows.protection_axis import ProtectionAxis
    from workflows.snapshots import Snapshot, SnapshotInput
    from workflows.standby_peer import StandbyPeer

_RESTING = (MachinePhase.HIBERNATING, MachinePhase.HIBERNATED, MachinePhase.WAKING)
_KEEPS_WHAT_IS_MISSING = "a snapshot that is not wholly back stays pinned"
_LOOKS_BEFORE_IT_ENDS = "a redirect on the way to sleep keeps a machine awake"
"""Patches: machines that were alive before them replay as they were."""

_LOOKS = 4
"""Snapshots in a row before somebody who goes on writing keeps the machine awake."""


class HibernateRequest(Message):
    """Argument of the update `hibernate`."""

    actor: str = "the owner"
    reason: str = ""
    standby: Asleep | None = None
    """What becomes of its standby; None: as its policy says."""


class WakeRequest(Message):
    """Argument of the update `wake`."""

    actor: str = "the owner"


def why_stay_awake(
    wanted: HibernateRequest | WakeRequest | None,
    inbox: Sequence[object],
    state: MachineState,
    *,
    keeps_standby: bool,
) -> str | None:
    """What has happened on the way to sleep that takes precedence; None: nothing.

    Args:
        wanted: What was asked for last and not yet taken up.
        inbox: What was said and not yet taken in.
        state: The machine's.
        keeps_standby: It shall rest on its standby.
    """
    if state.stopping or isinstance(wanted, WakeRequest):
        return "somebody wants to use it"
    redirected = any(isinstance(news, AgentNews) and news.is_redirect for news in inbox)
    if redirected and workflow.patched(_LOOKS_BEFORE_IT_ENDS):
        return "the GPU was lost meanwhile, and people may work on the standby"
    other = [
        news for news in inbox if isinstance(news, StandbyNews) and news.standby != state.standby
    ]
    if keeps_standby and other:
        return "the standby that it was to rest on was lost meanwhile"
    return None


class Rest:
    """Hibernating and waking.

    Args:
        spec: Whose machine it is.
        timing: How patient it is.
        life: Its state and events.
        protection: How safe its workspace is.
        standby: The workflow that keeps its standby.
        comeback: Knows its newest snapshot.
    """

    def __init__(
        self,
        spec: MachineSpec,
        timing: Timing,
        life: Chronicle,
        protection: ProtectionAxis,
        standby: StandbyPeer,
        comeback: Comeback,
    ) -> None:
        self._spec = spec
        self._timing = timing
        self._life = life
        self._protection = protection
        self._standby = standby
        self._comeback = comeback

    def why_not(self, request: HibernateRequest) -> str | None:
        """Why the machine cannot hibernate now; None when it can."""
        state = self._life.state
        if state.phase is not MachinePhase.RUNNING:
            return f"the machine is {state.phase.value}"
        if state.retiring:
            return "a former instance is still looked through for files that only it has"
        return self._protection.why_no_drill() if self.keeps_standby(request) else None

    def keeps_standby(self, request: HibernateRequest) -> bool:
        """Whether it shall rest on its standby, where people can still work.

        Where only its policy says so, a standby that has not everything is no reason to go on paying for
        a GPU: it is given back like the rest.
        """
        policy = self._spec.protection
        if policy is None:
            return False
        if request.standby is not None:
            return request.standby is Asleep.KEEP
        return policy.asleep is Asleep.KEEP and self._protection.why_no_drill() is None

    def may_wake(self) -> bool:
        """Whether it sleeps, is on its way to, or wakes."""
        phase = self._life.state.phase
        on_standby = phase in (MachinePhase.ON_STANDBY, MachinePhase.REPLACING)
        return phase in _RESTING or (on_standby and self._life.state.restoring is not None)

    def is_woken_by(self, news: AgentNews) -> bool:
        """Whether somebody on its standby wants a GPU."""
        state = self._life.state
        standby = state.standby.instance_id if state.standby is not None else None
        said = news.guard is not None and news.guard.wake and news.instance_id == standby
        return said and news.epoch == state.epoch and state.phase is MachinePhase.HIBERNATED

    async def hibernate(
        self, request: HibernateRequest, *, why_no_more: Callable[[bool], str | None]
    ) -> DrillRequest | None:
        """Keep everything, see that it is whole, and only then give back what is rented.

        Whatever fails before that leaves the machine running, and says so.

        Returns:
            The failover without an end in which it rests, when its standby stays.
        """
        keeps_standby = self.keeps_standby(request)
        self._life.move(
            MachinePhase.HIBERNATING,
            f"{request.actor} asked for it" + (f": {request.reason}" if request.reason else ""),
            kind=EventKind.HIBERNATING,
        )
        try:
            kept = await self._kept()
            no_more = why_no_more(keeps_standby)
            if no_more is not None:
                raise Conflict(no_more)
            await self._set_pin(kept.snapshot_id, pinned=True)
        except (ActivityError, ChildWorkflowError, DumontError) as failure:
            if is_cancelled_exception(failure):
                raise
            why = f"not hibernated: {error_of(failure).message}"
            self._life.move(MachinePhase.RUNNING, why, kind=EventKind.ALERT)
            return None
        no_more = why_no_more(keeps_standby)
        if no_more is not None:
            await self.awake(kept.snapshot_id)
            why = f"not hibernated: {no_more}"
            self._life.move(MachinePhase.RUNNING, why, kind=EventKind.READY)
            return None
        self._life.change(restoring=kept.snapshot_id)
        if keeps_standby:
            return DrillRequest(actor=request.actor, rest=True)
        await self.go_to_sleep(kept.snapshot_id, f"{kept.files:,} files are")
        return None

    async def go_to_sleep(self, snapshot_id: str, what: str = "its files are") -> None:
        """Everything is kept and pinned: give back what is rented, and sleep."""
        await self._give_back()
        standby = self._life.state.standby
        self._sleep(
            f"nothing is rented; {what} in snapshot {snapshot_id}",
            kind=EventKind.HIBERNATED,
            restoring=snapshot_id,
            standbys_used=standby.number if standby else self._life.state.standbys_used,
        )

    def _sleep(
        self, summary: str, *, kind: EventKind, restoring: str | None, standbys_used: int
    ) -> None:
        """It has no body any more."""
        self._life.move(
            MachinePhase.HIBERNATED,
            summary,
            kind=kind,
            instance=None,
            standby=None,
            mirrored=False,
            kept_standby=None,
            protection=ProtectionStatus.UNPROTECTED,
            protection_reason="hibernated",
            restoring=restoring,
            standbys_used=standbys_used,
        )

    async def interrupted(self) -> None:
        """Its workflow was started again from its record, on its way to sleep."""
        kept = self._life.state.restoring
        if kept is None:
            why = "not hibernated: it was interrupted"
            self._life.move(MachinePhase.RUNNING, why, kind=EventKind.ALERT)
        else:
            await self.go_to_sleep(kept)

    def sleeps_on(self, error: DumontError) -> bool:
        """Whether a wake ends here: its owner's budget has no room, and will not have it by waiting.

        A GPU that is rented the moment a month begins is rented for nobody.
        """
        state = self._life.state
        if state.restoring is None or state.instance is not None or error.code != "budget_exceeded":
            return False
        self._life.move(
            MachinePhase.HIBERNATED,
            f"not woken: {error.message}",
            kind=EventKind.ALERT,
            next_try_at=None,
        )
        return True

    def resumed(self) -> DrillRequest:
        """The rest of a machine whose workflow was started again: its GPU is ended already."""
        return DrillRequest(flush=False, rest=True)

    async def without_standby(self) -> None:
        """The standby that it rested on is gone, with its disk: its newest snapshot is what there is."""
        state = self._life.state
        newest = await self._comeback.newest_snapshot()
        kept = state.restoring
        if isinstance(newest, SnapshotRecord) and newest.snapshot_id != kept:
            kept = await self._rather(newest.snapshot_id, instead_of=kept)
        await self._standby.release()
        # Another standby may have been rented meanwhile, and the GPU need not be ended yet.
        home = state.instance.instance_id if state.instance is not None else None
        await asyncio.gather(self._end(home, PROVIDER_VAST), self._end(None, PROVIDER_GCP))
        self._sleep(
            f"its standby is gone; its files are in snapshot {kept}",
            kind=EventKind.ALERT,
            standbys_used=state.standbys_used + 1,  # the one that may have been rented meanwhile
            restoring=kept,
        )

    async def _rather(self, newer: str, *, instead_of: str | None) -> str | None:
        """What was done on the standby is in the newer one: that is what no rule may delete now."""
        try:
            await self._set_pin(newer, pinned=True)
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            return instead_of
        if instead_of is not None:
            await self.awake(instead_of)
        return newer

    async def forget_snapshot(self) -> None:
        """A machine that rested on its standby has a GPU with its files: it needs no snapshot for that."""
        kept = self._life.state.restoring
        if kept is not None:
            self._life.change(restoring=None)
            await self.awake(kept)

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

    async def awake(self, snapshot_id: str, *, problems: Sequence[str] = ()) -> None:
        """It has its files again: rules decide about the snapshot, as about any other.

        Args:
            snapshot_id: What it came back from.
            problems: What could not be brought back: then it is the only copy of that, and stays.
        """
        if problems and workflow.patched(_KEEPS_WHAT_IS_MISSING):
            words = f"{len(problems)} files of snapshot {snapshot_id} are NOT back, and it is kept"
            self._life.note(EventKind.ALERT, f"{words}: {problems[0]}")
            return
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
                    machine_id=self._spec.machine_id,
                    tags=("hibernate",),
                    flush=True,
                    must_flush=True,
                    asked=True,
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
