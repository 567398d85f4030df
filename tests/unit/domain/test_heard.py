"""Stored heartbeats as witnesses: by our clock alone, whatever theirs say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dumont.domain.heard import Stored, witnesses_of
from dumont.domain.protection import Heartbeat
from dumont.domain.verdict import VerdictKind, judge

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def beat(role: str, age_s: float, *, clock: timedelta = timedelta(0), **changes: Any) -> Stored:
    sent_at = NOW + clock
    body = {
        "protocol": 1,
        "role": role,
        "machine_id": "m1",
        "generation": 1,
        "epoch": 1,
        "instance_id": "7",
        "sequence": 1,
        "sent_at": sent_at,
    }
    return Stored(Heartbeat.model_validate(body | changes), age_s)


def guard(
    link: str, *, down_s: float | None = None, age_s: float = 1, clock: timedelta = timedelta(0)
) -> Stored:
    since = NOW + clock - timedelta(seconds=down_s) if down_s is not None else None
    said = {"authority": "primary", "epoch": 1, "link": link, "link_since": since}
    return beat("standby", age_s, clock=clock, guard=said)


def meaning(primary: Stored | None, of_guard: Stored | None) -> VerdictKind:
    return judge(witnesses_of(primary=primary, guard=of_guard, now=NOW), now=NOW).kind


@pytest.mark.parametrize(
    ("primary", "of_guard", "expected"),
    [
        (None, None, VerdictKind.UNKNOWN),
        (beat("primary", 1), guard("up"), VerdictKind.HEALTHY),
        (beat("primary", 1), None, VerdictKind.HEALTHY),
        (beat("primary", 1), guard("down", down_s=60), VerdictKind.SUSPECT),
        (beat("primary", 60), guard("down", down_s=60), VerdictKind.LOST),
        (beat("primary", 60), guard("down", down_s=3), VerdictKind.SUSPECT),
        (beat("primary", 60), guard("down", down_s=600, age_s=600), VerdictKind.SUSPECT),
        (beat("primary", 60), guard("unknown", down_s=60), VerdictKind.SUSPECT),
        (None, guard("down", down_s=60), VerdictKind.SUSPECT),
        (None, guard("strange"), VerdictKind.UNKNOWN),
    ],
)
def test_what_they_mean(primary: Stored | None, of_guard: Stored | None, expected: VerdictKind):
    assert meaning(primary, of_guard) is expected


@pytest.mark.parametrize("clock", [-HOUR, timedelta(0), HOUR])
def test_a_standby_whose_clock_is_wrong_says_the_same(clock: timedelta):
    primary = beat("primary", 60, clock=-clock)
    assert meaning(primary, guard("down", down_s=60, clock=clock)) is VerdictKind.LOST
    assert meaning(primary, guard("down", down_s=3, clock=clock)) is VerdictKind.SUSPECT
