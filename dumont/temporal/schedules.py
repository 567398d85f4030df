"""Temporal Schedules: stateless sweeps at fixed intervals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)


async def ensure_schedule(
    client: Client,
    *,
    schedule_id: str,
    workflow: str,
    arg: Any = None,
    task_queue: str,
    every: timedelta,
) -> None:
    """Have a schedule as described; one that exists is brought up to date.

    A sweep that is still running is not joined by a second one, and one that was missed while
    everything was down is not caught up: the next one sees the same world.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            workflow,
            args=[] if arg is None else [arg],
            id=schedule_id,
            task_queue=task_queue,
            execution_timeout=every * 10,
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)], jitter=every / 10),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every * 2),
    )

    async def bring_up_to_date(_: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule=schedule)

    try:
        await client.create_schedule(schedule_id, schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(schedule_id).update(bring_up_to_date)
