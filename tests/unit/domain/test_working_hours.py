"""Working hours: what may be said, and when what comes, across every change of clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dumont.domain.working_hours import (
    HoursAct,
    Weekday,
    WorkingHours,
    days_text,
    due_act,
    moment,
    near_change,
    next_acts,
    parse_days,
    zone,
)

WAKE, HIBERNATE = HoursAct.WAKE, HoursAct.HIBERNATE


def hours(**said: Any) -> WorkingHours:
    given = {"wake": "08:45", "hibernate": "19:00", "timezone": "Europe/Berlin"}
    return WorkingHours.model_validate(given | said)


def local(of: WorkingHours, after: str, count: int) -> list[str]:
    """What comes, as people there read it."""
    where = zone(of.timezone)
    acts = next_acts(of, datetime.fromisoformat(after), count)
    return [f"{one.act.value} {one.at.astimezone(where):%a %Y-%m-%d %H:%M %z}" for one in acts]


# What may be said ---------------------------------------------------------------------------------


def test_it_is_read_and_written_as_people_write_it():
    said = hours(days="mon,wed-fri", holidays=["2026-12-24", "2026-01-01", "2026-12-24"])
    assert (said.wake, said.hibernate) == (time(8, 45), time(19))
    assert said.holidays == (date(2026, 1, 1), date(2026, 12, 24))
    written = said.model_dump(mode="json")
    assert (written["wake"], written["days"]) == ("08:45", ["mon", "wed", "thu", "fri"])
    assert WorkingHours.model_validate(written) == said
    assert WorkingHours.model_validate(said.model_dump()) == said


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri", "mon tue wed thu fri"),
        ("Mon, Wed,FRI", "mon wed fri"),
        ("fri-mon", "mon fri sat sun"),
        ("daily", "mon tue wed thu fri sat sun"),
        ("Monday - Wednesday,sun", "mon tue wed sun"),
        ("sat", "sat"),
    ],
)
def test_days(text: str, days: str):
    found = parse_days(text)
    assert " ".join(found) == days
    assert parse_days(days_text(found)) == found


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ({"wake": None, "hibernate": None}, "say when to wake"),
        ({"wake": "19:00"}, "same time of day"),
        ({"wake": "25:00"}, "for example 08:45"),
        ({"wake": "24:00"}, "not a time of day"),
        ({"wake": "08:45:30"}, "not a time of day"),
        ({"wake": 845}, "not a time of day"),
        ({"days": "workdays"}, "for example mon-fri"),
        ({"days": "mon--fri"}, "not days of the week"),
        ({"days": []}, "at least 1"),
        ({"timezone": "Berlin"}, "did you mean Europe/Berlin?"),
        ({"timezone": "new york"}, "did you mean America/New_York?"),
        ({"timezone": "europe/berlin"}, "did you mean Europe/Berlin?"),
        ({"timezone": "Europe"}, "not a time zone"),
        ({"timezone": "../../etc/passwd"}, "not a time zone"),
        ({"timezone": "/etc/passwd"}, "not a time zone"),
        ({"timezone": ""}, "for example Europe/Berlin"),
        ({"holidays": ["tomorrow"]}, "valid date"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(said: dict[str, Any], about: str):
    with pytest.raises(ValidationError) as refused:
        hours(**said)
    assert about in str(refused.value)


# What comes -------------------------------------------------------------------------------------


def test_a_week_and_its_weekend():
    assert local(hours(), "2026-11-26T20:00+01:00", 4) == [
        "wake Fri 2026-11-27 08:45 +0100",
        "hibernate Fri 2026-11-27 19:00 +0100",
        "wake Mon 2026-11-30 08:45 +0100",
        "hibernate Mon 2026-11-30 19:00 +0100",
    ]


def test_the_very_moment_is_not_next():
    assert local(hours(), "2026-11-27T08:45+01:00", 1) == ["hibernate Fri 2026-11-27 19:00 +0100"]


def test_one_of_both_alone():
    assert local(hours(wake=None, days="fri"), "2026-11-26T20:00+01:00", 2) == [
        "hibernate Fri 2026-11-27 19:00 +0100",
        "hibernate Fri 2026-12-04 19:00 +0100",
    ]


def test_a_night_ends_on_the_day_after_it_began():
    nights = hours(wake="22:00", hibernate="06:00")
    assert local(nights, "2026-11-27T12:00+01:00", 3) == [
        "wake Fri 2026-11-27 22:00 +0100",
        "hibernate Sat 2026-11-28 06:00 +0100",
        "wake Mon 2026-11-30 22:00 +0100",
    ]
    # And a holiday is the day on which the night would have begun.
    off = hours(wake="22:00", hibernate="06:00", holidays=["2026-11-27"])
    assert local(off, "2026-11-27T12:00+01:00", 1) == ["wake Mon 2026-11-30 22:00 +0100"]


def test_holidays_and_pauses():
    off = hours(holidays=["2026-12-24", "2026-12-25"])
    assert local(off, "2026-12-23T20:00+01:00", 1) == ["wake Mon 2026-12-28 08:45 +0100"]
    assert next_acts(hours(paused=True), datetime.now(UTC), 3) == ()
    every_friday_off = [date(2026, 11, 27) + timedelta(weeks=n) for n in range(100)]
    rare = hours(days="fri", holidays=every_friday_off)
    assert local(rare, "2026-11-26T20:00+01:00", 1) == ["wake Fri 2028-10-27 08:45 +0200"]


@pytest.mark.parametrize(
    ("where", "after", "wake", "days"),
    [
        # The same time by the wall, an hour earlier or later by the sun.
        ("Europe/Berlin", "2027-03-27T12:00+01:00", "08:45", ["28 08:45 +0200", "29 08:45 +0200"]),
        ("Europe/Berlin", "2027-10-30T12:00+02:00", "08:45", ["31 08:45 +0100", "01 08:45 +0100"]),
        # Skipped: the first moment after the gap.
        ("Europe/Berlin", "2027-03-27T12:00+01:00", "02:30", ["28 03:00 +0200", "29 02:30 +0200"]),
        ("Europe/Berlin", "2027-03-27T12:00+01:00", "02:00", ["28 03:00 +0200", "29 02:00 +0200"]),
        ("Europe/Berlin", "2027-03-27T12:00+01:00", "01:59", ["28 01:59 +0100", "29 01:59 +0200"]),
        ("America/New_York", "2027-03-13T12:00-05:00", "02:30",
         ["14 03:00 -0400", "15 02:30 -0400"]),
        ("Australia/Lord_Howe", "2027-10-02T12:00+10:30", "02:15",
         ["03 02:30 +1100", "04 02:15 +1100"]),
        ("Africa/Cairo", "2027-04-29T12:00+02:00", "00:10", ["30 01:00 +0300", "01 00:10 +0300"]),
        # Twice: the first of the two.
        ("Europe/Berlin", "2027-10-30T12:00+02:00", "02:30", ["31 02:30 +0200", "01 02:30 +0100"]),
        ("America/New_York", "2027-11-06T12:00-04:00", "01:30",
         ["07 01:30 -0400", "08 01:30 -0500"]),
        ("Australia/Lord_Howe", "2027-04-03T12:00+11:00", "01:45",
         ["04 01:45 +1100", "05 01:45 +1030"]),
        # No clock ever changes.
        ("Asia/Kolkata", "2027-03-27T12:00+05:30", "02:30", ["28 02:30 +0530", "29 02:30 +0530"]),
        ("UTC", "2027-10-30T12:00+00:00", "02:30", ["31 02:30 +0000", "01 02:30 +0000"]),
    ],
)  # fmt: skip
def test_when_clocks_change(where: str, after: str, wake: str, days: list[str]):
    said = hours(wake=wake, hibernate=None, days="daily", timezone=where)
    assert [line.split("-", 2)[2] for line in local(said, after, 2)] == days


ZONES = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Cairo",
     "Pacific/Chatham", "America/Santiago", "Antarctica/Troll"]
)  # fmt: skip
MINUTES = st.times(min_value=time(0), max_value=time(23, 59)).map(
    lambda at: at.replace(second=0, microsecond=0)
)
AFTER = st.integers(min_value=0, max_value=3 * 365 * 86_400).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@settings(max_examples=60, deadline=None)
@given(
    ZONES,
    st.lists(MINUTES, min_size=2, max_size=2, unique=True),
    AFTER,
    st.sets(st.sampled_from(list(Weekday)), min_size=1),
)
def test_acts_alternate_at_the_right_time_by_the_wall(
    where: str, times: list[time], after: datetime, days: set[Weekday]
):
    said = hours(wake=times[0], hibernate=times[1], timezone=where, days=tuple(days))
    acts = next_acts(said, after, 9)
    assert len(acts) == 9
    assert acts[0].at > after
    for one, other in pairwise(acts):
        assert one.at <= other.at
        assert one.act is not other.act, "a machine that was woken is put to sleep next"
    for one in acts:
        at = one.at.astimezone(zone(where))
        wanted = said.at(one.act)
        assert wanted is not None
        if at.time() != wanted:  # skipped that day: nothing of the gap is left, and none is lost
            before = (one.at - timedelta(seconds=1)).astimezone(zone(where))
            assert before.time() < wanted or before.date() < at.date()
            assert before.utcoffset() != at.utcoffset()
        assert due_act(said, one.act, one.at - one.act.notice) == one
        assert due_act(said, one.act, one.at + timedelta(seconds=1)) != one


@settings(max_examples=60, deadline=None)
@given(ZONES, MINUTES, st.dates(min_value=date(2026, 1, 1), max_value=date(2028, 12, 31)))
def test_a_moment_is_the_first_not_before_its_time(where: str, at: time, day: date):
    """Looked for the slow way: the first second of that day, or after it, that shows no less."""
    found = moment(day, at, zone(where))
    wall = datetime.combine(day, at)
    assert found.astimezone(zone(where)).replace(tzinfo=None) >= wall
    earlier = [found - timedelta(minutes=n) for n in range(1, 180)]
    assert all(each.astimezone(zone(where)).replace(tzinfo=None) < wall for each in earlier)


# Calls --------------------------------------------------------------------------------------------


def test_a_call_is_for_the_act_that_it_comes_for():
    said = hours()
    seven = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)
    for early, is_for in ((0, True), (600, True), (300, True), (601, False), (-1, False)):
        found = due_act(said, HIBERNATE, seven - timedelta(seconds=early))
        assert (found is not None and found.at == seven) is is_for, early
    morning = datetime(2026, 11, 27, 7, 45, tzinfo=UTC)
    assert due_act(said, WAKE, morning) is not None
    assert due_act(said, WAKE, morning - timedelta(seconds=1)) is None
    assert due_act(hours(paused=True), WAKE, morning) is None
    assert due_act(hours(holidays=["2026-11-27"]), WAKE, morning) is None
    assert due_act(hours(wake=None), WAKE, morning) is None


def test_the_second_of_two_same_times_is_for_nothing():
    said = hours(wake="02:30", hibernate=None, days="daily")
    first = datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    assert due_act(said, WAKE, first) is not None
    assert due_act(said, WAKE, first + timedelta(hours=1)) is None


def test_moments_near_a_change_are_named_one_by_one_and_no_others():
    since = datetime(2027, 3, 1, tzinfo=UTC)
    until = since + timedelta(days=45)
    assert near_change(hours(), WAKE, since, until) == [], "Friday and Monday are far from it"
    early = near_change(hours(hibernate="02:30", days="daily"), HIBERNATE, since, until)
    gap = datetime(2027, 3, 28, 1, 0, tzinfo=UTC)
    assert gap - HIBERNATE.notice in early
    assert len(early) <= 3
    assert near_change(hours(days="daily", timezone="UTC"), WAKE, since, until) == []
