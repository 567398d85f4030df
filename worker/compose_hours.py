"""From settings to the activities that keep working hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from activities.working_hours import HoursActivities
from dumont.db.activity import PostgresActivity
from dumont.db.working_hours import PostgresWorkingHours
from dumont.domain.working_hours import WorkingHours
from dumont.temporal import hour_schedules
from dumont.temporal.ids import HOUR_SCHEDULES
from dumont.temporal.queues import CONTROL
from dumont.temporal.schedules import ensure_schedule
from worker.compose import Parts

ALIGN_EVERY: Final = timedelta(seconds=60)
_HEARD_LATELY: Final = timedelta(minutes=3)


def hours_activities(parts: Parts) -> list[Callable[..., Any]]:
    """All of them."""
    watched = PostgresActivity(parts.database)

    async def kept_alive_until(machine_id: str) -> datetime | None:
        """By `dumont keep-alive`, or by `dumont-keep-alive` on the machine as it was heard last."""
        wish = await watched.keep_alive(machine_id)
        heard = await watched.samples([machine_id], since=await watched.now() - _HEARD_LATELY)
        there = [
            sample.minute + timedelta(seconds=sample.keep_alive_s)
            for sample in heard.get(machine_id, [])
            if sample.keep_alive_s
        ]
        return max([*there, *([wish.until] if wish is not None else [])], default=None)

    async def align(wanted: Mapping[str, WorkingHours | None]) -> int:
        return await hour_schedules.align(parts.client, wanted, now=datetime.now(UTC))

    hours = HoursActivities(
        store=parts.store,
        hours=PostgresWorkingHours(parts.database).of,
        kept_alive_until=kept_alive_until,
        align=align,
    )
    return [hours.look_at_hours, hours.align_hours]


async def ensure_hours_sweep(parts: Parts) -> None:
    """Have the sweep run that keeps schedules as hours want them."""
    await ensure_schedule(
        parts.client,
        schedule_id=HOUR_SCHEDULES,
        workflow="HourSchedules",
        task_queue=CONTROL,
        every=ALIGN_EVERY,
    )
