"""What the sweep and the API share about idleness: readings, a judgement of this moment, its events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, get_args

from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.idle import MINUTE, IdlePolicy, IdleState, Judgement, KeepAlive, Sample, judge

Reading = dict[str, float | int | None]

NO_STORE: Final = "this deployment has no object store, so no machine can hibernate"

_LARGEST: Final = 1e15
"""No figure of a host is larger, in any unit."""
_COUNTS: Final = {
    name: float not in get_args(field.annotation)
    for name, field in Sample.model_fields.items()
    if name not in ("minute", "heard")
}
"""Figures of a sample, and whether each is a whole number."""
_MARGIN: Final = timedelta(minutes=5)


def reading_of(host: Mapping[str, Any]) -> Reading:
    """The figures that idleness is judged by; what is no finite number from 0 on is unknown.

    Args:
        host: The `host` section of a heartbeat, or what the agent's `observe` printed. It comes from
            a machine that is not trusted.
    """
    return {name: _figure(host.get(name), whole=whole) for name, whole in _COUNTS.items()}


def judge_now(
    samples: Sequence[Sample],
    *,
    policy: IdlePolicy,
    now: datetime,
    keep_alive: KeepAlive | None = None,
    started_at: datetime | None = None,
) -> Judgement:
    """Judge this moment: the minute that still runs can say that a machine is used, never that it is not.

    Args:
        samples: Minutes, the present one among them.
        policy: The owner's thresholds.
        now: The present.
        keep_alive: Somebody's wish.
        started_at: When the instance began to run.
    """
    over = [sample for sample in samples if sample.minute + MINUTE <= now]
    judgement = judge(samples, policy=policy, now=now, keep_alive=keep_alive, started_at=started_at)
    if not judgement.idle:
        return judgement
    return judge(over, policy=policy, now=now, keep_alive=keep_alive, started_at=started_at)


def looks_back(policy: IdlePolicy) -> timedelta:
    """How far back minutes matter to a judgement and to the warning before it."""
    patience = max(policy.idle_for_s, policy.memory_held_for_s)
    return timedelta(seconds=patience + policy.warn_s) + _MARGIN


def warning(
    judgement: Judgement,
    state: IdleState,
    *,
    machine_id: str,
    name: str,
    generation: int,
    terminals: int | None,
) -> MachineEvent:
    """The event of a warning.

    Args:
        judgement: Why.
        state: With the times of the warning and of the act.
        machine_id: Whose.
        name: Its name.
        generation: Its generation.
        terminals: On how many terminals of the machine it was shown; None: it could not be reached.
    """
    assert state.warned_at is not None
    assert state.act_at is not None
    return MachineEvent(
        key=f"idle/warned/{state.warned_at.isoformat()}",
        machine_id=machine_id,
        kind=EventKind.IDLE_WARNING,
        at=state.warned_at,
        generation=generation,
        summary=f"{name} looks unused and hibernates at {state.act_at:%H:%M} UTC. "
        f"{judgement.reason} To keep it up: dumont keep-alive {name}",
        data={
            "act_at": state.act_at.isoformat(),
            "idle_since": judgement.since.isoformat() if judgement.since is not None else None,
            "reason": judgement.reason,
            "terminals": terminals,
        },
    )


def withdrawal(
    state: IdleState, why: str, *, machine_id: str, name: str, generation: int, at: datetime
) -> MachineEvent:
    """The event of a warning that is withdrawn; the same warning is withdrawn once."""
    assert state.warned_at is not None
    return MachineEvent(
        key=f"idle/withdrawn/{state.warned_at.isoformat()}",
        machine_id=machine_id,
        kind=EventKind.IDLE_WITHDRAWN,
        at=at,
        generation=generation,
        summary=f"{name} stays up. {why}",
        data={"warned_at": state.warned_at.isoformat(), "reason": why},
    )


def refusal(
    why: str,
    *,
    machine_id: str,
    name: str,
    generation: int,
    warned_at: datetime | None,
    at: datetime,
) -> MachineEvent:
    """The event of an order that the machine did not take."""
    return MachineEvent(
        key=f"idle/refused/{(warned_at or at).isoformat()}",
        machine_id=machine_id,
        kind=EventKind.ALERT,
        at=at,
        generation=generation,
        summary=f"{name} looks unused and does not hibernate: {why}. It is asked again later.",
        data={"reason": why},
    )


def _figure(value: object, *, whole: bool) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared first: an int may be longer than any float.
    if not 0 <= value <= _LARGEST or not math.isfinite(value):
        return None
    return round(value) if whole else value
