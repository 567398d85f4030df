"""The fake API's idleness: one machine's view, and what was asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dumont.domain.idle import IdlePolicy, Judgement, KeepAlive, Says, Signal, Stretch
from dumont.domain.idle_resources import (
    WEEK,
    IdleRefusal,
    IdleView,
    IdleWarning,
    LastWeek,
    Replayed,
)

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
NOTHING = Replayed(warnings=0, acts=0, saved_gpu_hours=0, stretches=[])


def signal(name: str = "gpu", says: Says = Says.IDLE, value: str = "0 %") -> Signal:
    return Signal(name=name, says=says, value=value, limit="under 5 %", why=f"quiet: {value}")


def view(**changes: Any) -> IdleView:
    """A machine that was forgotten and warned."""
    night = Stretch(
        idle_since=NOW - timedelta(hours=12),
        warned_at=NOW - timedelta(hours=11, minutes=57),
        acted_at=NOW - timedelta(hours=11, minutes=52),
        until=NOW - timedelta(hours=4),
        saved_gpu_hours=7.87,
        ended_by="sessions",
    )
    rule = Replayed(warnings=2, acts=1, saved_gpu_hours=7.87, stretches=[night])
    given = {
        "machine_id": "m000000000001",
        "name": "my-box",
        "at": NOW,
        "acts": True,
        "why_not": "",
        "judgement": Judgement(
            idle=True,
            since=NOW - timedelta(minutes=6),
            signals=(signal(), signal("sessions", value="none")),
            reason="Nothing has worked for 6 min.",
        ),
        "policy": IdlePolicy(),
        "keep_alive": None,
        "warning": IdleWarning(warned_at=NOW, act_at=NOW + timedelta(minutes=5)),
        "refusal": None,
        "last_week": LastWeek(
            since=NOW - WEEK,
            until=NOW,
            minutes_heard=9000,
            rule=rule,
            bare_rule=rule.model_copy(update={"acts": 14}),
        ),
    }
    return IdleView.model_validate(given | changes)


def kept(**changes: Any) -> KeepAlive:
    given = {"until": NOW + timedelta(hours=2), "by": "ana@example.com", "reason": "a long think"}
    return KeepAlive.model_validate(given | changes)


REFUSAL = IdleRefusal(why="a former instance is looked through", at=NOW, orders=2)
