"""Reconcile: what providers bill us for against what has an owner."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from activities.sweep import Revive, Survey, SweepActivities
    from dumont.domain import labels
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.instances import Message
    from dumont.domain.reconcile import Orphan, Plan
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.end_instances import end_ownerless
    from workflows.options import READ, RECORD


class ReconcileInput(Message):
    """Input of `Reconcile`; it travels in the schedule."""

    survey: Survey
    confirm_s: float = 30.0
    dry_run: bool = False
    """Decide and report, end nothing."""
    queue: str = PROVIDER_VAST
    """Whose account."""


@workflow.defn
class Reconcile:
    """Survey; end what nobody owns; bring back the workflows of live machines."""

    @workflow.run
    async def run(self, input: ReconcileInput) -> Plan:
        """One sweep. Returns what was decided."""
        plan = await workflow.execute_activity_method(
            SweepActivities.survey,
            input.survey,
            task_queue=input.queue,
            **READ,
        )
        if input.dry_run:
            return plan
        for orphan in plan.end:
            await self._end(orphan, input)
        for machine_id in plan.revive:
            await workflow.execute_activity_method(
                SweepActivities.revive_machine,
                Revive(machine_id=machine_id),
                task_queue=input.queue,
                **READ,
            )
        for machine_id in plan.drop:
            await workflow.execute_activity_method(
                SweepActivities.drop_request,
                Revive(machine_id=machine_id),
                task_queue=input.queue,
                **READ,
            )
        return plan

    async def _end(self, orphan: Orphan, input: ReconcileInput) -> None:
        label = labels.parse(orphan.label, env=input.survey.env)
        assert label is not None
        event = MachineEvent(
            key=f"{orphan.label}/{orphan.instance_id}/orphan",
            machine_id=label.machine_id,
            kind=EventKind.RECONCILE_ENDED,
            at=workflow.now(),
            generation=label.generation,
            summary=f"orphan instance {orphan.instance_id} is being ended: {orphan.why.value}",
            data={"instance_id": orphan.instance_id, "usd_per_hour": orphan.usd_per_hour},
        )
        await end_ownerless(
            orphan.label,
            orphan.instance_id,
            machine_id=label.machine_id,
            why=f"orphan: {orphan.why.value}",
            confirm_s=input.confirm_s,
            queue=input.queue,
        )
        await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)
