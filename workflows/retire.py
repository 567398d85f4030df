"""A former instance's last service: what only it has is rescued, then it is ended.

It has been fenced before: it writes nothing any more. Work it went on with while it was out of
reach, a checkpoint of a training that nobody stopped, may exist nowhere else.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.endings import EndTarget
    from activities.evidence import ProviderAsk, ProviderEvidence
    from activities.records import RecordActivities
    from activities.takeover import Rescue, Rescued, TakeoverActivities
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.instances import InstanceState, Message, SshAddress
    from dumont.domain.machine import ActiveInstance, MachineSpec, Timing
    from dumont.domain.takeover import ProviderView
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import end_workflow_id, machine_workflow_id, retire_workflow_id
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.end_instances import EndInput, EndInstances
    from workflows.failover_messages import Former
    from workflows.options import MUST, ONCE, RECORD

_SAYS_UNREACHED = "a former instance that was never reached is told of"
"""Patch: retirements that were under way before it replay as they were."""

_LOOK_AGAIN = timedelta(seconds=10)


class RetireInput(Message):
    """Input of `Retire`."""

    spec: MachineSpec
    former: ActiveInstance
    epoch: int
    """The last epoch under which it was allowed to write."""
    take_to: SshAddress
    """The body that has the workspace now."""
    within_s: float
    """How long to wait for it to be reachable."""
    confirm_s: float = 30.0


async def retire(
    spec: MachineSpec, timing: Timing, former: Former, *, to: ActiveInstance, at_once: bool
) -> None:
    """Have a former instance do its last service and be ended, whatever its machine does meanwhile.

    Args:
        spec: Whose it was.
        timing: How patient the machine is.
        former: The instance.
        to: What has the workspace now.
        at_once: Nothing is to be waited for.
    """
    with suppress(WorkflowAlreadyStartedError):
        await workflow.start_child_workflow(
            Retire.run,
            RetireInput(
                spec=spec,
                former=former.instance,
                epoch=former.epoch,
                take_to=to.ssh,
                within_s=0.0 if at_once else timing.rescue_s,
                confirm_s=timing.gone_confirm_s,
            ),
            id=retire_workflow_id(former.instance.label),
            parent_close_policy=ParentClosePolicy.ABANDON,
        )


class Retired(Message):
    """Signal `retired` of a machine."""

    label: str
    rescued: Rescued = Rescued()


@workflow.defn
class Retire:
    """Rescue what only it has, if it can be reached in time; then end it."""

    @workflow.run
    async def run(self, input: RetireInput) -> Retired:
        """Return once its ending is in the hands of a workflow of its own."""
        rescued = await self._rescued(input)
        await self._end(input)
        done = Retired(label=input.former.label, rescued=rescued)
        machine = workflow.get_external_workflow_handle(machine_workflow_id(input.spec.machine_id))
        with suppress(FailureError):  # a machine that has ended needs no news
            await machine.signal("retired", done)
        return done

    async def _rescued(self, input: RetireInput) -> Rescued:
        give_up_at = workflow.now() + timedelta(seconds=input.within_s)
        while workflow.now() < give_up_at:
            view = await self._provider(input)
            if view.answered and view.present is False:
                break
            if view.state is InstanceState.RUNNING:
                # One that comes back may have another address than it had.
                former = input.former.model_copy(update={"ssh": view.ssh or input.former.ssh})
                try:
                    rescued = await workflow.execute_activity_method(
                        TakeoverActivities.rescue,
                        Rescue(
                            machine_id=input.spec.machine_id,
                            former=former,
                            standby=input.take_to,
                            epoch=input.epoch,
                        ),
                        summary=f"rescue from {input.former.label}",
                        **ONCE,
                    )
                except ActivityError as failure:
                    workflow.logger.info("not rescued yet: %s", error_of(failure).message)
                else:
                    await self._tell(input, rescued)
                    return rescued
            await workflow.sleep(min(_LOOK_AGAIN, max(give_up_at - workflow.now(), timedelta(0))))
        else:
            if input.within_s and workflow.patched(_SAYS_UNREACHED):
                await self._unreached(input)
        return Rescued()

    async def _unreached(self, input: RetireInput) -> None:
        event = MachineEvent(
            key=f"{input.former.label}/unreached",
            machine_id=input.spec.machine_id,
            kind=EventKind.ALERT,
            at=workflow.now(),
            generation=input.former.generation,
            summary=(
                f"the former GPU could not be reached within {input.within_s:g} s and is ended; "
                "what it wrote after the last replicated point, if anything, is lost"
            ),
            data={"instance_id": input.former.instance_id, "label": input.former.label},
        )
        await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)

    async def _provider(self, input: RetireInput) -> ProviderView:
        return await workflow.execute_activity_method(
            ProviderEvidence.provider_view,
            ProviderAsk(instance_id=input.former.instance_id, label=input.former.label),
            task_queue=PROVIDER_VAST,
            **MUST,
        )

    async def _tell(self, input: RetireInput, rescued: Rescued) -> None:
        if not rescued.total_files:
            return
        event = MachineEvent(
            key=f"{input.former.label}/rescued",
            machine_id=input.spec.machine_id,
            kind=EventKind.RESCUED,
            at=workflow.now(),
            generation=input.former.generation,
            summary=(
                f"{rescued.total_files} files that only the former GPU had are kept in "
                f"{rescued.folder} of the workspace"
            ),
            data=rescued.model_dump(mode="json"),
        )
        await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)

    async def _end(self, input: RetireInput) -> None:
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                EndInstances.run,
                EndInput(
                    machine_id=input.spec.machine_id,
                    target=EndTarget(
                        label=input.former.label, known_ids=(input.former.instance_id,)
                    ),
                    why="another instance has taken its place",
                    confirm_s=input.confirm_s,
                ),
                id=end_workflow_id(input.former.label),
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
