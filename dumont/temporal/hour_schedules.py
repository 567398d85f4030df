"""The Temporal Schedules of machines' working hours: one that wakes, one that lets hibernate.

Their calendars are in the hours' own time zone. Where a calendar would skip a time or take the wrong
one because clocks change, within the next weeks, the moment itself is planned besides; calls that are
too many find nothing to do (`due_act`). The sweep plans on as weeks go by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from dumont.domain.errors import InvalidInput
from dumont.domain.working_hours import (
    HoursAct,
    HoursCall,
    PlannedAct,
    Weekday,
    WorkingHours,
    days_text,
    due_act,
    near_change,
)
from dumont.temporal.ids import hours_schedule_id
from dumont.temporal.queues import CONTROL

log = structlog.get_logger(__name__)

WORKFLOW: Final = "KeepHours"
CATCH_UP: Final = timedelta(hours=1)
"""What Temporal missed while it was down is made up for within an hour; after that it is too late."""

_AHEAD: Final = timedelta(days=45)
"""How far ahead changes of clocks are planned for."""
_DAY: Final = timedelta(days=1)
_ONCE: Final = timedelta(days=10_000)
"""The interval of what is planned once. It is shorter than the time since 1970: from an offset that
is still to come Temporal would count one interval too many."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Final = timedelta(days=8)
"""For one call; it may wait for somebody who keeps a machine up, but not past the next act."""
_RPC: Final = timedelta(seconds=10)


async def apply(
    client: Client, machine_id: str, hours: WorkingHours | None, *, now: datetime
) -> None:
    """Have a machine's two schedules as its hours want them; none where nothing is to be done.

    Raises:
        InvalidInput: Temporal does not know the time zone; what was there before is there still.
        RPCError: Temporal did not confirm.
    """
    for act in HoursAct:
        schedule_id = hours_schedule_id(machine_id, act)
        if hours is None or hours.at(act) is None:
            await _delete(client, schedule_id)
        else:
            await _put(client, schedule_id, schedule(machine_id, act, hours, now=now), hours)


async def align(client: Client, wanted: Mapping[str, WorkingHours | None], *, now: datetime) -> int:
    """Have exactly the schedules that hours want; returns of how many machines they had to be changed.

    Args:
        client: Temporal.
        wanted: By machine; None: not known, so its schedules are left as they are. Those of all
            other machines are deleted.
        now: The time.
    """
    there: dict[str, dict[HoursAct, str]] = {}
    async for found in await client.list_schedules():
        which = _which(found.id)
        if which is not None:
            machine_id, act = which
            note = found.schedule.state.note if found.schedule is not None else None
            there.setdefault(machine_id, {})[act] = note or ""
    changed = 0
    for machine_id, hours in wanted.items():
        noted = there.pop(machine_id, {})
        if hours is None or noted == _notes(machine_id, hours, now=now):
            continue
        try:
            await apply(client, machine_id, hours, now=now)
        except InvalidInput as error:
            # One owner's mistake must not keep the others from having theirs.
            log.warning("hours_not_possible", machine=machine_id, error=error.message)
        else:
            changed += 1
    for machine_id in there:
        await apply(client, machine_id, None, now=now)
        changed += 1
    return changed


async def next_acts(client: Client, machine_id: str, hours: WorkingHours) -> list[PlannedAct]:
    """What Temporal is going to do, by its own word, in order; at most some ten of each act."""
    planned: set[tuple[datetime, HoursAct]] = set()
    for act in HoursAct:
        handle = client.get_schedule_handle(hours_schedule_id(machine_id, act))
        try:
            description = await handle.describe(rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                continue
            raise
        if description.schedule.state.paused:
            continue
        due = (due_act(hours, act, called) for called in description.info.next_action_times)
        planned |= {(one.at, act) for one in due if one is not None}
    return [PlannedAct(act=act, at=at) for at, act in sorted(planned)]


def schedule(machine_id: str, act: HoursAct, hours: WorkingHours, *, now: datetime) -> Schedule:
    """The schedule of one act, which there must be."""
    schedule_id = hours_schedule_id(machine_id, act)
    spec = _spec(act, hours, now=now)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            WORKFLOW,
            HoursCall(machine_id=machine_id, act=act),
            id=schedule_id,
            task_queue=CONTROL,
            execution_timeout=_LONGEST,
        ),
        spec=spec,
        # While one call still waits for somebody who works, the next is not for it.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=ScheduleState(note=_note(act, hours, spec), paused=hours.paused),
    )


def _spec(act: HoursAct, hours: WorkingHours, *, now: datetime) -> ScheduleSpec:
    at = hours.at(act)
    assert at is not None
    some_day = date(2024, 1, 1)
    called = datetime.combine(some_day + _DAY * hours.is_next_day(act), at) - act.notice
    shift = called.date() - some_day
    hour, minute = [ScheduleRange(called.hour)], [ScheduleRange(called.minute)]
    since = now.replace(hour=0, minute=0, second=0, microsecond=0) - _DAY
    return ScheduleSpec(
        calendars=[
            ScheduleCalendarSpec(
                hour=hour,
                minute=minute,
                day_of_week=[ScheduleRange(_number(day, shift.days)) for day in hours.days],
            )
        ],
        intervals=[
            ScheduleIntervalSpec(every=_ONCE, offset=(call - _EPOCH) % _ONCE)
            for call in near_change(hours, act, since, since + _AHEAD)
        ],
        skip=[
            ScheduleCalendarSpec(
                year=[ScheduleRange(day.year)],
                month=[ScheduleRange(day.month)],
                day_of_month=[ScheduleRange(day.day)],
                hour=hour,
                minute=minute,
            )
            for day in (holiday + shift for holiday in hours.holidays)
            if day >= since.date()
        ],
        time_zone_name=hours.timezone,
    )


def _number(day: Weekday, shift: int) -> int:
    """Temporal's number of a weekday, counted from Sunday, some days later."""
    return (list(Weekday).index(day) + 1 + shift) % 7


def _notes(machine_id: str, hours: WorkingHours, *, now: datetime) -> dict[HoursAct, str]:
    acts = [act for act in HoursAct if hours.at(act) is not None]
    return {act: _note(act, hours, _spec(act, hours, now=now)) for act in acts}


def _note(act: HoursAct, hours: WorkingHours, spec: ScheduleSpec) -> str:
    """For people who look at it in Temporal's UI, and for the sweep to see whether it is as wanted."""
    digest = hashlib.sha256(f"{spec} {hours.paused}".encode()).hexdigest()[:12]
    words = f"{act.value} at {hours.at(act):%H:%M}, {days_text(hours.days)}, {hours.timezone}"
    return f"{words}{' (paused)' if hours.paused else ''} #{digest}"


def _which(schedule_id: str) -> tuple[str, HoursAct] | None:
    for act in HoursAct:
        start, end = hours_schedule_id("\0", act).split("\0")
        if schedule_id.startswith(start) and schedule_id.endswith(end):
            return schedule_id.removeprefix(start).removesuffix(end), act
    return None


async def _put(client: Client, schedule_id: str, wanted: Schedule, hours: WorkingHours) -> None:
    async def bring_up_to_date(_: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule=wanted)

    try:
        try:
            await client.create_schedule(schedule_id, wanted, rpc_timeout=_RPC)
        except ScheduleAlreadyRunningError:
            handle = client.get_schedule_handle(schedule_id)
            await handle.update(bring_up_to_date, rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise InvalidInput(
                f"Temporal cannot keep these hours in {hours.timezone}: {error.message}",
                field="timezone",
                hint="name a time zone that its database has, for example Europe/Berlin",
            ) from error
        raise


async def _delete(client: Client, schedule_id: str) -> None:
    try:
        await client.get_schedule_handle(schedule_id).delete(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
