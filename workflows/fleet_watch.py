"""Watch one provider account, for ever, at no cost in history."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.fleet import FleetActivities, Watch
    from dumont.domain.instances import Message
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.options import WATCH


class FleetWatchInput(Message):
    """Input of `FleetWatch`."""

    watch: Watch


@workflow.defn
class FleetWatch:
    """One long activity lists the account and signals the machines that changed; a day later a fresh
    one takes over.
    """

    @workflow.run
    async def run(self, input: FleetWatchInput) -> None:
        """Never returns: each day it continues as new."""
        await workflow.execute_activity_method(
            FleetActivities.watch_provider,
            input.watch,
            task_queue=PROVIDER_VAST,
            summary="watch the account",
            **WATCH,
        )
        workflow.continue_as_new(input)
