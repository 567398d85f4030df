"""What the API takes about snapshots: paths below the workspace, and nothing that is ignored silently."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from dumont.domain.snapshot_resources import (
    RestoreOrder,
    SnapshotOrder,
    SnapshotPolicyOrder,
    checked_path,
    health_view,
)
from dumont.domain.snapshots import SnapshotHealth, SnapshotPolicy

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ID = "20261126T120001.000000Z-00000001"


@pytest.mark.parametrize(
    ("path", "is_"),
    [
        ("src", "src"),
        ("/src/a.py", "src/a.py"),
        ("//src/a/", "src/a"),
        ("..a/b..", "..a/b.."),
        (".ssh/config", ".ssh/config"),
        ("a b/größe", "a b/größe"),
        ("-rf", "-rf"),
        ("x" * 4_096, "x" * 4_096),
    ],
)
def test_a_path_below_the_workspace(path: str, is_: str):
    assert checked_path(path) == is_


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", ".", "..", "./a", "a/.", "../a", "a/..", "a/../../b", "/../etc/passwd", "a//b",
     "a\0b", "x" * 4_097, "\ud800"],
    ids=lambda path: ascii(path[:20]),
)  # fmt: skip
def test_what_leads_out_of_the_workspace_or_nowhere_is_refused(path: str):
    with pytest.raises(ValueError, match="not a path below the workspace"):
        checked_path(path)


def test_a_restore_is_of_all_of_the_latest_unless_said():
    order = RestoreOrder()
    assert (order.snapshot, order.paths, order.into, order.in_place) == ("latest", (), None, False)
    given = RestoreOrder.model_validate({"snapshot": ID, "paths": ["/a/"], "into": "/old/x/"})
    assert (given.snapshot, given.paths, given.into) == (ID, ("a",), "old/x")


@pytest.mark.parametrize(
    "order",
    [
        {"snapshot": "newest"},
        {"snapshot": f"{ID}\n"},
        {"snapshot": ID[:8]},
        {"paths": ["good", "../bad"]},
        {"paths": ["x"] * 101},
        {"into": ""},
        {"into": "../x"},
        {"into": "x" * 201},
        {"of": "x" * 81},
        {"inplace": True},
    ],
)
def test_a_restore_that_cannot_be_meant_is_refused(order: dict[str, Any]):
    with pytest.raises(ValidationError):
        RestoreOrder.model_validate(order)


@pytest.mark.parametrize("tag", ["", "x" * 65, "a,b", "a\nb", "\x1b[31m", "\ud800"], ids=ascii)
def test_what_is_no_tag_is_refused(tag: str):
    with pytest.raises(ValidationError, match="not a tag"):
        SnapshotOrder(tags=("good", tag))


def test_tags_are_taken_as_they_are():
    assert SnapshotOrder(tags=("x" * 64, "vor dem Umbau")).tags == ("x" * 64, "vor dem Umbau")
    with pytest.raises(ValidationError, match="at most 20"):
        SnapshotOrder(tags=("x",) * 21)


@pytest.mark.parametrize("wrong", [{"every": 5}, {"retention": {"dayly": 14}}])
def test_a_slip_of_the_pen_in_a_policy_is_refused_for_it_would_delete_snapshots(
    wrong: dict[str, Any],
):
    with pytest.raises(ValidationError, match="not permitted"):
        SnapshotPolicyOrder.model_validate(wrong)


def test_a_policy_that_is_ordered_is_the_policy_that_is_kept():
    order = SnapshotPolicyOrder.model_validate({"cron": "0 3 * * *", "retention": {"daily": 14}})
    kept = SnapshotPolicy.model_validate(order.model_dump())
    assert (kept.cron, kept.every_minutes) == ("0 3 * * *", None)
    assert (kept.retention.daily, kept.retention.weekly) == (14, 4), "the others are the default"


def test_health_is_told_with_the_age_of_the_newest():
    health = SnapshotHealth(newest_at=NOW - timedelta(hours=2), failures=3, error="no room")
    told = health_view(health, SnapshotPolicy(), now=NOW, since=NOW - timedelta(days=9))
    assert (told.age_s, told.stale, told.failures, told.error) == (7_200.0, True, 3, "no room")
    new = health_view(SnapshotHealth(), SnapshotPolicy(), now=NOW, since=NOW)
    assert (new.newest_at, new.age_s, new.stale) == (None, None, False)
