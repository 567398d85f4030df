"""What owners may want of snapshots, when the newest is stale, and how much time is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from dumont.domain.snapshots import (
    Retention,
    SnapshotHealth,
    SnapshotPolicy,
    TransferProgress,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HALF_HOURLY = SnapshotPolicy()
NIGHTLY = SnapshotPolicy(cron="0 3 * * *")
WHEN_ASKED = SnapshotPolicy(every_minutes=None)


def policy(**wanted: Any) -> SnapshotPolicy:
    return SnapshotPolicy.model_validate(wanted)


def stale(
    wanted: SnapshotPolicy | None,
    *,
    newest: timedelta | None = None,
    made: timedelta = timedelta(days=9),
) -> bool:
    """Whether it is, with the newest snapshot and the machine being so old."""
    health = SnapshotHealth(newest_at=NOW - newest if newest is not None else None)
    return health.is_stale(wanted, now=NOW, since=NOW - made)


def test_nobody_has_to_want_anything():
    assert policy().every_minutes == 30
    assert policy().cron is None
    assert policy().is_scheduled


@pytest.mark.parametrize("every_minutes", [5, 15, 30, 60])
def test_the_intervals_that_there_are(every_minutes: int):
    assert policy(every_minutes=every_minutes).every_minutes == every_minutes


@pytest.mark.parametrize("every_minutes", [0, -5, 1, 7, 61, 1_440, "often", True])
def test_other_intervals_are_refused(every_minutes: object):
    with pytest.raises(ValidationError, match="every_minutes"):
        policy(every_minutes=every_minutes)


def test_only_when_asked():
    assert not WHEN_ASKED.is_scheduled
    assert WHEN_ASKED.stale_after_s is None


@pytest.mark.parametrize(
    "line",
    ["0 */6 * * *", "*/15 8-18 * * MON-FRI", "0,30 * 1 JAN,JUL *", "0 0 L * ?", "0 0 * * 1#2"],
)
def test_a_cron_line_takes_the_place_of_the_default_interval(line: str):
    wanted = policy(cron=line)
    assert (wanted.cron, wanted.every_minutes) == (line, None)
    assert wanted.is_scheduled


def test_spaces_of_a_cron_line_do_not_matter():
    assert policy(cron="  0\t */6  * * * ").cron == "0 */6 * * *"


@pytest.mark.parametrize(
    "line",
    ["", "   ", "daily", "@daily", "0 3 * *", "0 3 * * * *", "CRON_TZ=Asia/Tokyo 0 3 * *",
     "0 3 * * ; rm", "0 3 * * é", f"{'1,' * 40}1 * * * *"],
)  # fmt: skip
def test_what_is_not_five_fields_is_refused_with_an_example(line: str):
    with pytest.raises(ValidationError, match=r"for example '0 \*/6 \* \* \*'"):
        policy(cron=line)


def test_two_clocks_are_refused():
    with pytest.raises(ValidationError, match="give either every_minutes or cron"):
        policy(cron="0 3 * * *", every_minutes=30)
    assert policy(cron="0 3 * * *", every_minutes=None).cron == "0 3 * * *"


@pytest.mark.parametrize(
    "wanted",
    [HALF_HOURLY, NIGHTLY, WHEN_ASKED,
     SnapshotPolicy(every_minutes=5, excludes=("*.tmp", "größe/"), retention=Retention(daily=0))],
)  # fmt: skip
def test_what_was_wanted_is_read_back_as_it_was_written(wanted: SnapshotPolicy):
    assert SnapshotPolicy.model_validate(wanted.model_dump(mode="json")) == wanted
    assert SnapshotPolicy.model_validate_json(wanted.model_dump_json()) == wanted


def test_an_older_program_reads_what_a_newer_one_wrote():
    written = HALF_HOURLY.model_dump(mode="json") | {"new_in_2027": 1}
    assert SnapshotPolicy.model_validate(written) == HALF_HOURLY


@pytest.mark.parametrize("pattern", ["", "a\nb", "a\rb", "a\0b", "x" * 257, "\ud800"], ids=ascii)
def test_what_is_no_pattern_on_one_line_is_refused(pattern: str):
    with pytest.raises(ValidationError, match="not a pattern"):
        policy(excludes=("good/", pattern))


def test_the_longest_pattern_and_the_most_of_them():
    assert len(policy(excludes=("x" * 256,) * 200).excludes) == 200
    with pytest.raises(ValidationError, match="at most 200"):
        policy(excludes=("x",) * 201)


@pytest.mark.parametrize("rule", ["last", "hourly", "daily", "weekly", "monthly"])
def test_a_rule_may_keep_none_but_not_fewer(rule: str):
    assert getattr(Retention.model_validate({rule: 0}), rule) == 0
    for count in (-1, 10_001):
        with pytest.raises(ValidationError, match=rule):
            Retention.model_validate({rule: count})


def test_one_always_stays():
    with pytest.raises(ValidationError, match="minimum"):
        Retention(minimum=0)


@pytest.mark.parametrize("every_minutes", [5, 15, 30, 60])
def test_stale_after_two_intervals_and_not_before(every_minutes: int):
    wanted = policy(every_minutes=every_minutes)
    two = timedelta(minutes=2 * every_minutes)
    assert not stale(wanted, newest=two)
    assert stale(wanted, newest=two + timedelta(seconds=1))


def test_a_new_machine_has_time_to_make_its_first():
    assert not stale(HALF_HOURLY, made=timedelta(minutes=60))
    assert stale(HALF_HOURLY, made=timedelta(minutes=61))


def test_the_age_of_the_machine_does_not_matter_once_there_is_one():
    assert not stale(HALF_HOURLY, newest=timedelta(minutes=1), made=timedelta(days=300))


@pytest.mark.parametrize("wanted", [None, NIGHTLY, WHEN_ASKED])
def test_where_no_interval_was_promised_nothing_is_stale(wanted: SnapshotPolicy | None):
    assert not stale(wanted, newest=timedelta(days=300))
    assert not stale(wanted, made=timedelta(days=300))


def test_a_snapshot_from_the_future_is_not_stale():
    assert not stale(HALF_HOURLY, newest=timedelta(hours=-3)), "the clock of a host may be wrong"


def test_what_is_left_takes_as_long_as_what_is_done():
    half = TransferProgress(bytes=500, total_bytes=1_500, seconds=10)
    assert half.estimated().eta_s == 20.0
    assert half.estimated().bytes == 500, "nothing else changes"


def test_more_than_the_last_time_takes_no_time_any_more():
    assert TransferProgress(bytes=900, total_bytes=500, seconds=10).estimated().eta_s == 0.0


@pytest.mark.parametrize(
    "unknown",
    [
        {"bytes": 5, "seconds": 1},
        {"bytes": 5, "seconds": 1, "total_bytes": 0},
        {"bytes": 0, "seconds": 1, "total_bytes": 9},
        {"bytes": 5, "seconds": 0, "total_bytes": 9},
    ],
)
def test_no_time_is_told_where_there_is_nothing_to_tell_it_by(unknown: dict[str, Any]):
    assert TransferProgress.model_validate(unknown).estimated().eta_s is None
