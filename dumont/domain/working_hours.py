"""Working hours of a machine: when it wakes and when it hibernates, on which days, by whose clock.

A time of day that a change of clocks skips is the first moment after the gap; one that comes twice is
the first of the two. Temporal's calendars do otherwise: they skip the former (or are late, where the
gap is half an hour), and of the latter they take the second, the first or both, depending on the zone.
`near_change` finds the moments that have to be planned one by one for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from dumont.domain.instances import Message

WARNING: Final = timedelta(minutes=10)
"""Before a machine hibernates at its hour, people who work on it are told."""

_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_DAY: Final = timedelta(days=1)
_CHANGE: Final = timedelta(hours=26)
"""No clock was ever put forward or back by more, and times this near to a change are looked at closely."""


class HoursAct(StrEnum):
    """What is done at an hour."""

    WAKE = "wake"
    HIBERNATE = "hibernate"

    @property
    def notice(self) -> timedelta:
        """How long before its moment the work begins: nobody is put to sleep without a word."""
        return WARNING if self is HoursAct.HIBERNATE else timedelta(0)


class Weekday(StrEnum):
    """A day of the week, in order."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_WEEK: Final = tuple(Weekday)


def _clock(value: object) -> object:
    """`08:45`; seconds and offsets are no hours that people keep."""
    if isinstance(value, time):
        if value.second or value.microsecond or value.tzinfo is not None:
            raise ValueError(f"not a time of day in hours and minutes: {value}")
        return value
    found = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"not a time of day: {str(value)[:20]!r} (for example 08:45)")
    return time(int(found[1]), int(found[2]))


Clock = Annotated[
    time,
    BeforeValidator(_clock),
    PlainSerializer(lambda at: at.strftime("%H:%M"), return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$", "examples": ["08:45"]}
    ),
]


class WorkingHours(Message):
    """When a machine wakes and hibernates without anybody asking.

    A day names the day on which the hours begin: with `wake` 22:00 and `hibernate` 06:00, `fri` ends
    on Saturday morning.
    """

    wake: Clock | None = None
    """None: only somebody wakes it."""
    hibernate: Clock | None = None
    """None: only somebody, or idleness, lets it rest."""
    days: tuple[Weekday, ...] = Field(default=_WEEK[:5], min_length=1, max_length=7)
    timezone: str = Field(max_length=64)
    """A name of the IANA database, for example `Europe/Berlin`."""
    paused: bool = False
    """Nothing is done until they are resumed."""
    holidays: tuple[date, ...] = Field(default=(), max_length=100)
    """Dates on which they do not begin: it is neither woken nor put to sleep."""

    @field_validator("days", mode="before")
    @classmethod
    def _days(cls, value: object) -> object:
        return parse_days(value) if isinstance(value, str) else value

    @field_validator("days")
    @classmethod
    def _in_order(cls, value: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
        return tuple(day for day in _WEEK if day in value)

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        zone(value)
        return value

    @field_validator("holidays")
    @classmethod
    def _once_each(cls, value: tuple[date, ...]) -> tuple[date, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _something_to_do(self) -> WorkingHours:
        if self.wake is None and self.hibernate is None:
            raise ValueError("say when to wake, when to hibernate, or both")
        if self.wake == self.hibernate:
            raise ValueError("it cannot wake and hibernate at the same time of day")
        return self

    def at(self, act: HoursAct) -> time | None:
        """The time of day of an act; None when it is not made."""
        return self.wake if act is HoursAct.WAKE else self.hibernate

    def is_next_day(self, act: HoursAct) -> bool:
        """Whether the act is on the day after the one on which the hours begin."""
        if act is HoursAct.WAKE or self.wake is None or self.hibernate is None:
            return False
        return self.hibernate < self.wake


class PlannedAct(Message):
    """One act to come."""

    act: HoursAct
    at: datetime


class HoursCall(Message):
    """Input of `KeepHours`: a schedule calls for an act."""

    machine_id: str
    act: HoursAct
    called_at: datetime | None = None
    """The moment that the call is for; None: the one that the schedule names."""


def parse_days(text: str) -> tuple[Weekday, ...]:
    """Days as people write them: `mon-fri`, `mon,wed,fri`, `fri-mon`, `daily`.

    Raises:
        ValueError: It is none of these.
    """
    if text.strip().lower() in ("daily", "every day"):
        return _WEEK
    found: set[Weekday] = set()
    for piece in text.lower().split(","):
        first, dash, last = (part.strip() for part in piece.partition("-"))
        try:
            start = _WEEK.index(Weekday(first[:3]))
            end = _WEEK.index(Weekday(last[:3])) if dash else start
        except ValueError:
            raise ValueError(
                f"not days of the week: {text[:40]!r} (for example mon-fri, mon,wed,fri or daily)"
            ) from None
        found.update(_WEEK[(start + n) % 7] for n in range((end - start) % 7 + 1))
    return tuple(day for day in _WEEK if day in found)


def days_text(days: Sequence[Weekday]) -> str:
    """`mon-fri`, `mon,wed,fri`, `daily`: what `parse_days` reads."""
    numbers = [_WEEK.index(day) for day in days]
    if len(numbers) == 7:
        return "daily"
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{days[0]}-{days[-1]}"
    return ",".join(days)


def zone(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        ValueError: There is none of that name; says which ones are like it.
    """
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):  # a folder of zones is an OSError
        like = _names_like(name)
        meant = f"did you mean {like}?" if like else "for example Europe/Berlin"
        raise ValueError(f"not a time zone: {name[:64]!r} ({meant})") from None


def moment(day: date, at: time, where: ZoneInfo) -> datetime:
    """When a time of day is on a day, in UTC.

    One that the change of clocks skips is the first moment after the gap; of one that comes twice it
    is the first.
    """
    wall = datetime.combine(day, at)
    found = wall.replace(tzinfo=where).astimezone(UTC)
    if found.astimezone(where).replace(tzinfo=None) == wall:
        return found
    # In a gap: read with the offset after it, the time is before the change; so the change is between.
    before, after = wall.replace(tzinfo=where, fold=1).astimezone(UTC), found
    old = before.astimezone(where).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(where).utcoffset() == old:
            before = middle
        else:
            after = middle
    # Clocks change at full seconds.
    return after.replace(microsecond=0)


def next_acts(hours: WorkingHours, after: datetime, count: int) -> tuple[PlannedAct, ...]:
    """What comes next, in order; nothing while they are paused.

    Args:
        hours: The hours.
        after: Aware; what is planned for this very moment is not counted.
        count: How many, at most.
    """
    if hours.paused:
        return ()
    where = zone(hours.timezone)
    # Hours that began the day before may still be to end, and no date is more than a day from UTC's.
    start = after.astimezone(where).date() - 3 * _DAY
    found: list[tuple[datetime, datetime, HoursAct]] = []
    enough_after: date | None = None
    for begins in _begins(hours, start, weeks=count + len(hours.holidays) + 2):
        if enough_after is not None and begins > enough_after:
            break
        for act in HoursAct:
            at = _at(hours, act, begins, where)
            if at is not None and at > after:
                found.append((at, _wall(hours, act, begins), act))
        if enough_after is None and len(found) >= count:
            enough_after = begins + 3 * _DAY  # what begins later may come first, but not by so much
    return tuple(PlannedAct(act=act, at=at) for at, _, act in sorted(found)[:count])


def due_act(hours: WorkingHours, act: HoursAct, called_at: datetime) -> PlannedAct | None:
    """The act that a call at a moment is for; None when it is for none.

    A call comes at the act's moment, or within its notice before that. Calls at other moments are
    those that Temporal's calendars make too many of when clocks change, those of hours that were
    changed since, and those that somebody made by hand.
    """
    if hours.paused:
        return None
    where = zone(hours.timezone)
    day = called_at.astimezone(where).date()
    for begins in _begins(hours, day - 3 * _DAY, weeks=1):
        at = _at(hours, act, begins, where)
        if at is not None and called_at <= at <= called_at + act.notice:
            return PlannedAct(act=act, at=at)
    return None


def near_change(
    hours: WorkingHours, act: HoursAct, since: datetime, until: datetime
) -> list[datetime]:
    """Calls for an act, in a period, that a calendar may get wrong: close to a change of clocks.

    Paused hours are looked at as if they were not.
    """
    where = zone(hours.timezone)
    first = since.astimezone(where).date() - 3 * _DAY
    found = []
    for begins in _begins(hours, first, weeks=(until - since).days // 7 + 2):
        at = _at(hours, act, begins, where)
        if at is None or not since <= at - act.notice <= until:
            continue
        offsets = {
            (at + shift).astimezone(where).utcoffset()
            for shift in (-_CHANGE, timedelta(0), _CHANGE)
        }
        if len(offsets) > 1:
            found.append(at - act.notice)
    return found


def _begins(hours: WorkingHours, start: date, *, weeks: int) -> Iterator[date]:
    """Days on which the hours begin."""
    for number in range(7 * weeks):
        day = start + number * _DAY
        if _WEEK[day.weekday()] in hours.days and day not in hours.holidays:
            yield day


def _wall(hours: WorkingHours, act: HoursAct, begins: date) -> datetime:
    at = hours.at(act)
    assert at is not None
    return datetime.combine(begins + _DAY * hours.is_next_day(act), at)


def _at(hours: WorkingHours, act: HoursAct, begins: date, where: ZoneInfo) -> datetime | None:
    if hours.at(act) is None:
        return None
    wall = _wall(hours, act, begins)
    return moment(wall.date(), wall.time(), where)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())


def _names_like(text: str) -> str | None:
    """The name that was meant, by its last part, by its letters, or by likeness."""
    wanted = text.strip().replace(" ", "_").lower()
    for name in sorted(_names()):
        if wanted in (name.lower(), name.lower().rpartition("/")[2]):
            return name
    by_letters = {name.lower(): name for name in _names()}
    by_letters |= {name.lower().rpartition("/")[2]: name for name in sorted(_names())}
    close = get_close_matches(wanted[:64], by_letters, n=1)
    return by_letters[close[0]] if close else None
