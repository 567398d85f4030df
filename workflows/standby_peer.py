"""A machine's side of its standby: the workflow that keeps it hears what the machine lives on."""

from __future__ import annotations

from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from dumont.domain.machine import MachinePhase, MachineSpec, Timing
    from dumont.temporal.ids import standby_workflow_id
    from workflows.chronicle import Chronicle
    from workflows.standby import PrimaryIs, Standby, StandbyInput


_STARTS_ANOTHER = "a standby's workflow that has just ended is started again"
"""Patch: machines that were alive before it replay as they were."""


class StandbyPeer:
    """Starts the workflow `Standby` of a machine and keeps it informed.

    Args:
        spec: The machine.
        timing: How patient its workflows are.
        life: Where the machine's state is kept.
    """

    def __init__(self, spec: MachineSpec, timing: Timing, life: Chronicle) -> None:
        self._spec = spec
        self._timing = timing
        self._life = life
        self._told: PrimaryIs | None = None

    async def keep_told(self) -> None:
        """Have a workflow that knows what the machine lives on now, if there is to be a standby."""
        if self._spec.protection is None or self._life.state.instance is None:
            return
        if not self._life.state.epoch:
            self._life.change(epoch=1)
        state = self._life.state
        now = PrimaryIs(
            primary=state.instance,
            generation=state.generation,
            epoch=state.epoch,
            in_use=state.phase is not MachinePhase.RUNNING,
        )
        if now == self._told:
            return
        self._told = now
        # One that was released may be at its end: it hears this, or there is room for another.
        while not (await self._started(now) or await self.tell("primary_is", now)):
            if not workflow.patched(_STARTS_ANOTHER):
                return

    async def _started(self, now: PrimaryIs) -> bool:
        """Start its workflow; False: there is one."""
        state = self._life.state
        try:
            await workflow.start_child_workflow(
                Standby.run,
                StandbyInput(
                    spec=self._spec,
                    timing=self._timing,
                    now=now,
                    standby=state.standby,
                    number=state.standby.number if state.standby else state.standbys_used,
                ),
                id=standby_workflow_id(self._spec.machine_id),
                parent_close_policy=ParentClosePolicy.ABANDON,
                static_summary=f"standby of {self._spec.name}",
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def release(self) -> None:
        """The machine gives its standby back, or is destroyed: it ends the VM itself."""
        self._told = None
        await self.tell("release")

    async def tell(self, what: str, *args: object) -> bool:
        """Send it a signal; False: there is none, or it has ended."""
        standby_id = standby_workflow_id(self._spec.machine_id)
        with suppress(FailureError):
            await workflow.get_external_workflow_handle(standby_id).signal(what, *args)
            return True
        return False
