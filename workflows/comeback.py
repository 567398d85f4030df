"""How a machine whose instance is lost comes to live again: on the same disk, or from a snapshot."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.instances import InstanceActivities, StartInstance
    from activities.snapshots import Body, BodyAsk, SnapshotActivities
    from dumont.domain.errors import DumontError
    from dumont.domain.events import EventKind
    from dumont.domain.machine import ActiveInstance, MachinePhase, MachineSpec, Timing
    from dumont.domain.protection import AgentRole
    from dumont.domain.snapshots import RestoreResult, SnapshotRecord
    from dumont.temporal.failures import error_of
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.chronicle import Chronicle
    from workflows.options import LOOKUP
    from workflows.snapshots import RestoreInput, RestoreSnapshot

COMES_BACK = "a machine whose instance is gone comes back from its newest snapshot"
USABLE_EARLY = "people work on a woken machine before its last byte is back"
STARTS_AGAIN = "a stopped instance is started again"
"""Patches: machines that were alive before them replay as they were."""


class Comeback:
    """What a machine does that is stuck without its instance, one try at a time.

    Args:
        spec: Whose machine it is.
        timing: How patient it is.
        life: Its state and events.
    """

    def __init__(self, spec: MachineSpec, timing: Timing, life: Chronicle) -> None:
        self._spec = spec
        self._timing = timing
        self._life = life

    def stuck(self, error: DumontError) -> None:
        """It cannot go on by itself now: say why, and when the next try is."""
        ladder = self._timing.retry_ladder_s
        tries = self._life.state.provision_tries + 1
        wait = timedelta(seconds=ladder[min(tries, len(ladder)) - 1])
        self._life.move(
            MachinePhase.STUCK,
            error.message,
            kind=EventKind.STUCK,
            provision_tries=tries,
            next_try_at=workflow.now() + wait,
            data={"code": error.code, "hint": error.hint},
        )

    def lost_both(self) -> None:
        """Neither body is there: the GPU's disk has what there is, and is asked for again."""
        due = workflow.now() + self.wait(0) if workflow.patched(STARTS_AGAIN) else None
        why = "the GPU and the standby are both lost; the GPU's disk is waited for"
        self._life.move(MachinePhase.STUCK, why, kind=EventKind.STUCK, next_try_at=due)

    async def start_again(self, home: ActiveInstance) -> None:
        """Its files are on this instance's disk: it must run again, unless the disk is gone."""
        state = self._life.state
        tries = state.provision_tries + 1
        due: datetime | None = workflow.now() + self.wait(tries)
        summary = "its provider was asked to start its instance again"
        error = await self._start(home)
        gone = error is not None and error.code == "instance_gone"
        if gone and workflow.patched(COMES_BACK):
            kept = await self.newest_snapshot()
            if isinstance(kept, SnapshotRecord):
                self._come_back_from(kept, avoid=home.host_id)
                return
            due = due if kept is not None else None
        elif gone:
            due = None
        elif error is None and state.restoring is not None:
            self._life.state = state.model_copy(update={"phase": MachinePhase.PROVISIONING})
            return
        if error is not None:
            summary = f"its instance does not start: {error.message}"
        self._life.move(
            MachinePhase.STUCK,
            summary,
            kind=EventKind.STUCK,
            provision_tries=tries,
            next_try_at=due,
        )

    def _come_back_from(self, kept: SnapshotRecord, *, avoid: str | None) -> None:
        """Its disk is gone, by two witnesses: its newest snapshot is what there is."""
        self._life.move(
            MachinePhase.PROVISIONING,
            f"its instance is gone; it comes back from snapshot {kept.snapshot_id}, "
            f"taken {kept.taken_at:%Y-%m-%d %H:%M:%S} UTC",
            kind=EventKind.ALERT,
            instance=None,
            restoring=kept.snapshot_id,
            epoch=self._life.state.epoch + 1,
            avoid_hosts=(*self._life.state.avoid_hosts, *([avoid] if avoid else [])),
            provision_tries=0,
            next_try_at=None,
        )

    def wait(self, tries: int) -> timedelta:
        """How long to wait before asking the provider again, after so many times."""
        ladder = self._timing.restart_ladder_s
        return timedelta(seconds=ladder[min(tries, len(ladder) - 1)])

    async def _start(self, home: ActiveInstance) -> DumontError | None:
        """Ask the provider to run an instance again; returns why it will not."""
        try:
            await workflow.execute_activity_method(
                InstanceActivities.start_instance,
                StartInstance(instance_id=home.instance_id),
                task_queue=PROVIDER_VAST,
                summary=f"start {home.label} again",
                **LOOKUP,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            return error_of(failure)
        return None

    async def newest_snapshot(self) -> SnapshotRecord | DumontError | None:
        """The newest whole snapshot; None: there is none; an error: nobody knows now."""
        try:
            return await workflow.execute_activity_method(
                SnapshotActivities.newest_snapshot,
                BodyAsk(machine_id=self._spec.machine_id),
                **LOOKUP,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            return error_of(failure)

    async def bring_back(self, home: ActiveInstance, snapshot_id: str) -> RestoreResult:
        """Have an instance that nobody has used yet get everything that a snapshot has.

        Small files come first: then people may work there, and what they change is kept.

        Raises:
            ChildWorkflowError: Not everything is back; what is, is not fetched again.
        """
        if not workflow.patched(USABLE_EARLY):
            return await self._restored(home, snapshot_id)
        if self._life.state.usable != home.label:
            small = await self._restored(home, snapshot_id, small_only=True)
            self._life.note(
                EventKind.USABLE,
                f"a shell is ready: {small.files:,} small files are back, the big ones are coming",
                usable=home.label,
            )
        return await self._restored(home, snapshot_id)

    async def _restored(
        self, home: ActiveInstance, snapshot_id: str, *, small_only: bool = False
    ) -> RestoreResult:
        restore_id = f"machine/{self._spec.machine_id}/restore/{home.label}"
        return await workflow.execute_child_workflow(
            RestoreSnapshot.run,
            RestoreInput(
                machine_id=self._spec.machine_id,
                snapshot_id=snapshot_id,
                small_only=small_only,
                keep_changed=True,
                onto=Body(
                    machine_id=self._spec.machine_id,
                    owner_id=self._spec.owner_id,
                    name=self._spec.name,
                    generation=home.generation,
                    role=AgentRole.PRIMARY,
                    ssh=home.ssh,
                ),
            ),
            id=f"{restore_id}/small" if small_only else restore_id,
            static_summary=f"{self._spec.name} comes back from {snapshot_id}",
        )
