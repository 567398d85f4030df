"""What costs money although no machine runs on it: found, priced, told, and ended by policy."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.leftovers import EndAnswer, EndAsk, LeftoverActivities, LeftoverSurvey
    from activities.records import RecordActivities
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.instances import Message
    from dumont.domain.leftovers import Found, Leftover, LeftoverKind, LeftoverPlan
    from dumont.temporal.queues import CONTROL
    from workflows.end_instances import end_ownerless
    from workflows.options import READ, RECORD, SWEPT


class LeftoversInput(Message):
    """Input of `Leftovers`; it travels in the schedule."""

    survey: LeftoverSurvey
    queue: str = CONTROL
    """Whose leftovers: a provider's account, or with `control` schedules and snapshots."""
    confirm_s: float = 30.0
    """As in `EndInput`."""


@workflow.defn
class Leftovers:
    """Survey one source; tell of what has no owner; end what two sweeps agree about."""

    @workflow.run
    async def run(self, input: LeftoversInput) -> LeftoverPlan:
        """One sweep. Returns what has no owner, and what was done about it."""
        plan = await workflow.execute_activity_method(
            LeftoverActivities.survey_leftovers, input.survey, task_queue=input.queue, **READ
        )
        if plan.found:
            await self._record([_event(each, EventKind.LEFTOVER_FOUND) for each in plan.found])
        for each in plan.end:
            answer = await self._end(each, input)
            if answer.ended:
                await self._record([_event(each, EventKind.LEFTOVER_ENDED)])
            else:
                await self._record([_event(each, EventKind.ALERT, said=answer.said)])
        return plan

    async def _end(self, found: Found, input: LeftoversInput) -> EndAnswer:
        if found.leftover.kind is LeftoverKind.STOPPED_INSTANCE:
            left = found.leftover
            await end_ownerless(
                left.label,
                left.resource_id,
                machine_id=left.machine_id,
                why=f"left behind: {found.why}",
                confirm_s=input.confirm_s,
                queue=input.queue,
            )
            return EndAnswer(ended=True)
        try:
            return await workflow.execute_activity_method(
                LeftoverActivities.end_leftover,
                EndAsk(env=input.survey.env, leftover=found.leftover),
                task_queue=input.queue,
                summary=found.leftover.sentence[:200],
                **SWEPT,
            )
        except ActivityError as error:
            # The next sweep finds it again; the others must not wait for it.
            return EndAnswer(ended=False, said=str(error.cause or error))

    async def _record(self, events: list[MachineEvent]) -> None:
        await workflow.execute_activity_method(RecordActivities.record_events, events, **RECORD)


def _event(found: Found, kind: EventKind, *, said: str = "") -> MachineEvent:
    left = found.leftover
    key = f"{left.key}/{kind.value}"
    if kind is not EventKind.LEFTOVER_FOUND:
        # What fails again is told again, once a day and not at each sweep.
        key = f"{key}/{workflow.now().date().isoformat()}"
    return MachineEvent(
        key=key,
        machine_id=left.machine_id,
        kind=kind,
        at=workflow.now(),
        summary=_summary(left, said or found.why, kind),
        data={
            "kind": left.kind.value,
            "provider": left.provider,
            "resource_id": left.resource_id,
            "usd_per_hour": left.usd_per_hour,
        },
    )


def _summary(left: Leftover, why: str, kind: EventKind) -> str:
    if kind is EventKind.LEFTOVER_FOUND:
        return f"left behind: {left.sentence}; {why}"
    if kind is EventKind.ALERT:
        return f"what was left behind could not be ended: {left.sentence}; {why}"
    if left.kind is LeftoverKind.STOPPED_INSTANCE:
        return f"what was left behind is being ended: {left.sentence}; {why}"
    return f"what was left behind is ended: {left.sentence}; {why}"
