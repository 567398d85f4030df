"""What the rule of `idle` would have done in the past, and the seed's rule beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import Field

from dumont.domain.idle_signals import (
    MINUTE,
    IdlePolicy,
    Sample,
    against,
    by_minute,
    is_quiet,
    minutes_of,
    patience_s,
)
from dumont.domain.instances import Message


class Stretch(Message):
    """What the rule would have done about one quiet stretch."""

    idle_since: datetime
    warned_at: datetime
    acted_at: datetime | None = None
    withdrawn_at: datetime | None = None
    """When activity or the unknown came back between the warning and the act."""
    until: datetime
    """End of the stretch: activity, the unknown, or the last sample."""
    saved_gpu_hours: float = 0.0
    """From the act to the end of the stretch, times GPUs."""
    ended_by: str = ""
    """What ended it; empty: it lasted to the last sample."""


class BareRule(Message):
    """The seed's rule and nothing else, for comparison."""

    gpu_percent: float = Field(default=5.0, gt=0, le=100)
    idle_for_s: float = Field(default=180.0, ge=60)


def bare_rule(samples: Sequence[Sample], *, now: datetime, rule: BareRule | None = None) -> bool:
    """Whether the seed's rule says idle: GPU under 5 % for 3 minutes, whatever else happens.

    It is spared its worst fault: a GPU figure that is unknown is not idle here either.
    """
    rule = rule or BareRule()
    minutes = by_minute(samples, now)
    newest = max(minutes, default=None)
    if newest is None or now - newest - MINUTE > timedelta(seconds=120):
        return False
    return all(
        _bare_quiet(minutes.get(newest - MINUTE * back), rule)
        for back in range(minutes_of(rule.idle_for_s))
    )


def replay(
    samples: Sequence[Sample],
    *,
    policy: IdlePolicy,
    gpus: int = 1,
    started_at: datetime | None = None,
) -> list[Stretch]:
    """What the rule would have done over these samples, had it looked once a minute.

    Keep-alives of the control plane are not in it: nobody keeps old ones. Hours are counted only for
    minutes that were really heard, so a machine that hibernated is not saved twice.
    """
    if not policy.enabled:
        return []
    minutes = by_minute(samples, None)
    begins = None if started_at is None else started_at + timedelta(seconds=policy.grace_s)
    worked: dict[datetime, datetime] = {}
    for minute, there in minutes.items():
        if is_quiet(there, policy, lasting=False):
            worked[minute] = worked.get(minute - MINUTE, minute)

    def is_idle(minute: datetime, since: datetime) -> bool:
        end = minute + MINUTE
        patience = minutes_of(patience_s(minutes[minute], policy)) * MINUTE
        long_enough = end - since >= minutes_of(policy.idle_for_s) * MINUTE
        return (
            (begins is None or end >= begins) and long_enough and end - worked[minute] >= patience
        )

    quiet = {minute: ", ".join(against(there, policy)) for minute, there in minutes.items()}
    return _replayed(quiet, is_idle, warn_s=policy.warn_s, gpus=gpus)


def bare_replay(
    samples: Sequence[Sample], *, rule: BareRule | None = None, warn_s: float = 0.0, gpus: int = 1
) -> list[Stretch]:
    """What the seed's rule would have done: without a warning, it acts as soon as it is true."""
    rule = rule or BareRule()
    quiet = {
        minute: "" if _bare_quiet(there, rule) else "gpu"
        for minute, there in by_minute(samples, None).items()
    }
    needed = timedelta(minutes=minutes_of(rule.idle_for_s))
    return _replayed(
        quiet, lambda minute, since: minute + MINUTE - since >= needed, warn_s=warn_s, gpus=gpus
    )


def _bare_quiet(there: Sequence[Sample] | None, rule: BareRule) -> bool:
    return bool(there) and all(
        sample.gpu_percent is not None and sample.gpu_percent < rule.gpu_percent
        for sample in there or ()
    )


def _replayed(
    quiet: Mapping[datetime, str],
    is_idle: Callable[[datetime, datetime], bool],
    *,
    warn_s: float,
    gpus: int,
) -> list[Stretch]:
    """Walk the minutes as `judge` and `next_step` would; `quiet` names what was not idle in each."""
    found: list[Stretch] = []
    since: datetime | None = None
    open_: Stretch | None = None
    before: datetime | None = None
    for minute, active in sorted(quiet.items()):
        gap = before is not None and minute - before > MINUTE
        if active or gap:
            if open_ is not None:
                # A gap is noticed where it begins: what came after the last minute is not known.
                at = minute if before is None or not gap else before + MINUTE
                found.append(_closed(open_, at, "no reading" if gap else active, gpus))
            since, open_ = None, None
        before = minute
        if active:
            continue
        since = since or minute
        end = minute + MINUTE
        if open_ is None and is_idle(minute, since):
            open_ = Stretch(idle_since=since, warned_at=end, until=end)
        elif open_ is not None and open_.acted_at is None and not is_idle(minute, since):
            # Held memory came up after the warning: more patience, as `next_step` has it.
            found.append(_closed(open_, end, "gpu_memory", gpus))
            open_ = None
        due = open_ is not None and end >= open_.warned_at + timedelta(seconds=warn_s)
        if open_ is not None and open_.acted_at is None and due:
            open_ = open_.model_copy(update={"acted_at": end})
    if open_ is not None and before is not None:
        found.append(_closed(open_, before + MINUTE, "", gpus))
    return found


def _closed(stretch: Stretch, at: datetime, ended_by: str, gpus: int) -> Stretch:
    acted = stretch.acted_at
    saved = 0.0 if acted is None else max(0.0, (at - acted).total_seconds() / 3600 * gpus)
    withdrawn = at if acted is None and ended_by else None
    return stretch.model_copy(
        update={
            "until": at,
            "withdrawn_at": withdrawn,
            "ended_by": ended_by,
            "saved_gpu_hours": round(saved, 4),
        }
    )
