"""Which snapshots stay: a pure decision over their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from dumont.snapshots.manifest import Snapshot


@dataclass(frozen=True)
class Policy:
    """How many of each kind stay; the newest of each hour, day, ... counts.

    A snapshot stays if any rule keeps it. With no rule at all, all stay.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    minimum: int = 1
    """So many stay whatever the other rules say."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a snapshot, and why."""

    snapshot: Snapshot
    stays: bool
    why: tuple[str, ...]


_PERIODS: tuple[tuple[str, Callable[[datetime], object]], ...] = (
    ("hourly", lambda t: (t.year, t.month, t.day, t.hour)),
    ("daily", lambda t: (t.year, t.month, t.day)),
    ("weekly", lambda t: t.isocalendar()[:2]),
    ("monthly", lambda t: (t.year, t.month)),
)


def decide(snapshots: Iterable[Snapshot], policy: Policy) -> list[Verdict]:
    """Apply a policy to the snapshots of one machine, newest first. Periods are UTC's.

    A snapshot that is not whole never takes the place of a whole one: it counts for no period.
    """
    ordered = sorted(snapshots, key=lambda snapshot: snapshot.id, reverse=True)
    why: dict[str, list[str]] = {snapshot.id: [] for snapshot in ordered}
    rules = [policy.last, policy.hourly, policy.daily, policy.weekly, policy.monthly]
    if not any(rules):
        return [Verdict(snapshot, True, ("no rule",)) for snapshot in ordered]
    for snapshot in ordered:
        if snapshot.kept:
            why[snapshot.id].append("kept for ever")
    whole = [snapshot for snapshot in ordered if snapshot.is_whole]
    for snapshot in whole[: policy.last]:
        why[snapshot.id].append("last")
    for snapshot in whole[: policy.minimum]:
        why[snapshot.id].append("minimum")
    for name, period in _PERIODS:
        seen: set[object] = set()
        for snapshot in whole:
            mark = period(snapshot.time.astimezone(timezone.utc))
            if mark not in seen and len(seen) < getattr(policy, name):
                seen.add(mark)
                why[snapshot.id].append(name)
    if whole:
        # One that failed in part says more than none about the time since the newest whole one.
        for snapshot in ordered:
            if snapshot.id > whole[0].id:
                why[snapshot.id].append("newer than the newest whole one")
    return [Verdict(s, bool(why[s.id]) or not whole, tuple(why[s.id])) for s in ordered]
