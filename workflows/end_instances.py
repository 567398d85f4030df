"""End what carries a label: destroy, and destroy again, until two listings no longer show it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.endings import EndingActivities, EndTarget
    from activities.records import CloseIntent, RecordActivities
    from dumont.domain import labels
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.instances import Message
    from dumont.domain.machine import MachineSpec
    from dumont.temporal.ids import end_workflow_id
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.options import MUST, RECORD


_LOOK_AGAIN = timedelta(seconds=5)
"""A provider may list what it ended for a few seconds more."""


class EndInput(Message):
    """Input of `EndInstances`."""

    machine_id: str
    target: EndTarget
    why: str
    confirm_s: float = 30.0
    """Two empty listings this far apart prove that nothing is left."""
    queue: str = PROVIDER_VAST
    """Whose instances."""


class EndResult(Message):
    """What was ended."""

    instance_ids: tuple[str, ...]


@workflow.defn
class EndInstances:
    """Destroy is retried for ever; nothing counts as gone before two empty listings agree.

    It lives on its own: a machine, a sweep or a lost race starts it, and its end does not depend on
    theirs. Running it twice for the same target is harmless.
    """

    @workflow.run
    async def run(self, input: EndInput) -> EndResult:
        """Return once the provider has twice shown nothing of the target."""
        ended: dict[str, None] = {}
        while True:
            gone = await workflow.execute_activity_method(
                EndingActivities.destroy_instances,
                input.target,
                task_queue=input.queue,
                summary=f"end {input.target.label}: {input.why}"[:200],
                **MUST,
            )
            ended.update(dict.fromkeys(gone.instance_ids))
            if not await self._listed(input):
                await workflow.sleep(timedelta(seconds=input.confirm_s))
                if not await self._listed(input):
                    break
            await workflow.sleep(_LOOK_AGAIN)
        await self._record(input, tuple(ended))
        return EndResult(instance_ids=tuple(ended))

    async def _listed(self, input: EndInput) -> bool:
        look = await workflow.execute_activity_method(
            EndingActivities.look_for_instances, input.target, task_queue=input.queue, **MUST
        )
        return bool(look.present)

    async def _record(self, input: EndInput, ended: tuple[str, ...]) -> None:
        events = tuple(
            MachineEvent(
                key=f"{workflow.info().workflow_id}/{instance_id}",
                machine_id=input.machine_id,
                kind=EventKind.INSTANCE_ENDED,
                at=workflow.now(),
                summary=f"instance {instance_id} ended and verified gone: {input.why}",
                data={"instance_id": instance_id, "label": input.target.label},
            )
            for instance_id in ended
        )
        if events:
            await workflow.execute_activity_method(
                RecordActivities.record_events, list(events), **RECORD
            )
        if not input.target.whole_machine:
            await workflow.execute_activity_method(
                RecordActivities.close_intent,
                CloseIntent(label=input.target.label, outcome=f"ended: {input.why}"),
                **RECORD,
            )


async def end_ownerless(
    label: str, instance_id: str, *, machine_id: str, why: str, confirm_s: float, queue: str
) -> None:
    """Have an instance that nobody owns ended by a workflow of its own.

    Its id is the instance's: of several sweeps that find the same one, one ends it.

    Args:
        label: What it carries.
        instance_id: Which of those that carry it.
        machine_id: Whose it was.
        why: For people.
        confirm_s: As in `EndInput`.
        queue: The provider's task queue.
    """
    with suppress(WorkflowAlreadyStartedError):
        await workflow.start_child_workflow(
            EndInstances.run,
            EndInput(
                machine_id=machine_id,
                target=EndTarget(label=label, instance_id=instance_id, known_ids=(instance_id,)),
                why=why,
                confirm_s=confirm_s,
                queue=queue,
            ),
            id=end_workflow_id(f"{label}/{instance_id}"),
            parent_close_policy=ParentClosePolicy.ABANDON,
        )


async def end_everything(
    spec: MachineSpec,
    *,
    known: str | None,
    queue: str,
    confirm_s: float,
    why: str = "the machine is destroyed",
) -> None:
    """End whatever carries a label of a machine at one provider; returns when it is verified gone.

    Args:
        spec: The machine.
        known: Id of an instance that is meant, whether a listing shows it or not.
        queue: The provider's task queue.
        confirm_s: As in `EndInput`.
        why: For people.
    """
    whose = spec.machine_id
    prefix = labels.machine_prefix(env=spec.env, machine_id=whose)
    await workflow.execute_child_workflow(
        EndInstances.run,
        EndInput(
            machine_id=whose,
            target=EndTarget(
                label=prefix, whole_machine=True, known_ids=(known,) if known is not None else ()
            ),
            why=why,
            confirm_s=confirm_s,
            queue=queue,
        ),
        id=end_workflow_id(whose if queue == PROVIDER_VAST else f"standby/{whose}"),
        parent_close_policy=ParentClosePolicy.ABANDON,
    )
