"""Watch one provider account, for ever, at no cost in history."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.fleet import FleetActivities, Watch
    from dumont.domain.instances import Message
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.options import LOOKUP, WATCH


class FleetWatchInput(Message):
    """Input of `FleetWatch`."""

    watch: Watch
    queue: str = PROVIDER_VAST
    """Which account."""


@workflow.defn
class FleetWatch:
    """One long activity lists the account and signals the machines that changed; a day later a fresh
    one takes over.
    """

    @workflow.init
    def __init__(self, input: FleetWatchInput) -> None:
        self._queue = input.queue
        self._woken = False

    @workflow.run
    async def run(self, input: FleetWatchInput) -> None:
        """Never returns: each day it continues as new."""
        watching = workflow.start_activity_method(
            FleetActivities.watch_provider,
            input.watch,
            task_queue=self._queue,
            summary="watch the account",
            **WATCH,
        )
        while not watching.done():
            await workflow.wait_condition(lambda: watching.done() or self._woken)
            if self._woken:
                self._woken = False
                await workflow.execute_activity_method(
                    FleetActivities.look_now, task_queue=self._queue, **LOOKUP
                )
        await watching
        workflow.continue_as_new(input)

    @workflow.signal
    def wake(self) -> None:
        """Somebody heard that something changed: look now, not at the next turn."""
        self._woken = True
