"""Whether a machine is idle: pure, and slow to believe it.

The seed's rule was: GPU under 5 % for 3 minutes. It ends trainings that wait for data, compilers,
downloads, evaluations on the CPU and people who think. Here the same three quiet minutes only begin
the question; every other figure may say otherwise, and one that does is enough. A figure that is
missing, a minute nobody was heard in, a reading that is too old: unknown, and unknown is never idle.

What is lost by a wrong "idle" is work (a kernel's variables, a run without a checkpoint); what is lost
by a wrong "active" is minutes at the GPU's price. So patience grows with what would be lost:

- nothing there but a quiet machine: `idle_for_s`;
- a process holds GPU memory at 0 %: it may wait for a person or for data: `memory_held_for_s`. Held
  memory alone is no activity, or a notebook left open would be paid for until somebody looks;
- a login: somebody may read, think, be at lunch: `session_quiet_s` since its last key or output. A
  shell in which a `sleep` runs and nobody types is idle after that;
- a notebook's kernel: it holds the work of an afternoon in memory: `kernel_quiet_s` since it last did
  something.

The defaults are chosen with `make bench-idle`; docs/benchmarks.md has the figures. Being idle is not
yet the end: `next_step` warns, waits, and acts only when the machine was idle all through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from dumont.domain.idle_replay import BareRule, Stretch, bare_replay, bare_rule, replay
from dumont.domain.idle_signals import (
    CHECKS,
    LONGEST_KEEP_ALIVE,
    MINUTE,
    Check,
    IdlePolicy,
    KeepAlive,
    Sample,
    Says,
    Signal,
    by_minute,
    is_quiet,
    merge,
    minutes_of,
    patience_s,
    said,
    says_in,
    words,
    words_s,
)
from dumont.domain.instances import Message

__all__ = [
    "LONGEST_KEEP_ALIVE",
    "MINUTE",
    "BareRule",
    "IdlePolicy",
    "IdleState",
    "Judgement",
    "KeepAlive",
    "Sample",
    "Says",
    "Signal",
    "Step",
    "Stretch",
    "bare_replay",
    "bare_rule",
    "judge",
    "merge",
    "next_step",
    "refused",
    "replay",
]

_RETRY_S = (900.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""How long a refused order waits for its next try: the first, second... and every later one."""


class Judgement(Message):
    """Whether the machine is idle, and everything that led there."""

    idle: bool
    since: datetime | None = None
    """Start of the unbroken quiet stretch up to now, however short; None: it is not quiet now."""
    signals: tuple[Signal, ...] = ()
    reason: str
    """One sentence."""


class IdleState(Message):
    """What was done about it so far; stored between two looks."""

    warned_at: datetime | None = None
    act_at: datetime | None = None
    refused: str = ""
    """Why the last order was not carried out."""
    refused_at: datetime | None = None
    refusals: int = Field(default=0, ge=0)
    """Orders refused one after another; sets how long the next try waits."""


class Step(StrEnum):
    """What to do now."""

    NOTHING = "nothing"
    WARN = "warn"
    WITHDRAW = "withdraw"
    """Tell those who were warned that nothing will happen."""
    ACT = "act"


def judge(
    samples: Sequence[Sample],
    *,
    policy: IdlePolicy,
    now: datetime,
    keep_alive: KeepAlive | None = None,
    started_at: datetime | None = None,
) -> Judgement:
    """Decide from the samples whether the machine is idle now.

    Args:
        samples: In any order; two of one minute must both be quiet. Those after `now` do not count.
        policy: The owner's thresholds.
        now: The present.
        keep_alive: Asked for at the control plane.
        started_at: When the instance began to run; None: unknown, then there is no grace, and only
            what was heard counts.
    """
    minutes = by_minute(samples, now)
    newest = max(minutes, default=None)
    patience = patience_s(minutes[newest], policy) if newest is not None else policy.idle_for_s
    recent = _recent(minutes, newest, minutes_of(patience), now)
    short = _recent(minutes, newest, minutes_of(policy.idle_for_s), now)
    signals = [_over(check, short if check.lasting else recent, policy, now) for check in CHECKS]
    signals += [_readings(recent, newest, policy, now), _start(started_at, policy, now)]
    if keep_alive is not None:
        signals.append(_asked(keep_alive, now))
    since = _quiet_since(minutes, newest, policy, now, lasting=True)
    against = [signal for signal in signals if signal.says is not Says.IDLE]
    if not policy.enabled:
        reason = "Idle detection is switched off."
    elif against:
        reason = _why_not(against)
    else:
        worked = _quiet_since(minutes, newest, policy, now, lasting=False) or now
        held = " with GPU memory held" if patience > policy.idle_for_s else ""
        reason = (
            f"Nothing has worked for {words(now - worked)} and nobody is there; "
            f"{words_s(patience)} are enough{held}."
        )
    idle = policy.enabled and not against
    return Judgement(idle=idle, since=since, signals=tuple(signals), reason=reason)


def next_step(
    judgement: Judgement, state: IdleState, policy: IdlePolicy, now: datetime
) -> tuple[Step, IdleState]:
    """What to do about a judgement, and the state to store.

    Warns first, waits `warn_s`, and acts only when the quiet stretch began before the warning: what
    happened between two looks counts too. Activity and the unknown withdraw. After a refused order
    (`refused`) the next warning waits: 15 min, then twice as long each time, 4 h at most. `ACT` leaves
    the state as it is, so that an order that got lost is given again.
    """
    if not judgement.idle or not policy.enabled:
        return (Step.WITHDRAW if state.warned_at else Step.NOTHING), IdleState()
    if state.warned_at is None:
        if state.refused_at is not None and now < state.refused_at + _retry_after(state):
            return Step.NOTHING, state
        act_at = now + timedelta(seconds=policy.warn_s)
        return Step.WARN, state.model_copy(update={"warned_at": now, "act_at": act_at})
    if judgement.since is None or judgement.since > state.warned_at:
        return Step.WITHDRAW, IdleState()
    act_at = state.warned_at + timedelta(seconds=policy.warn_s)
    if state.act_at is not None:
        act_at = max(act_at, state.act_at)
    if now < act_at:
        return Step.NOTHING, state
    return Step.ACT, state


def refused(state: IdleState, why: str, now: datetime) -> IdleState:
    """The state after an order that was not carried out; `next_step` tries again later."""
    return IdleState(refused=why or "no reason given", refused_at=now, refusals=state.refusals + 1)


def _recent(
    minutes: Mapping[datetime, Sequence[Sample]],
    newest: datetime | None,
    window: int,
    now: datetime,
) -> dict[datetime, Sequence[Sample] | None]:
    """The minutes that must all be quiet; one that is not over yet counts only against it."""
    if newest is None:
        return {now - MINUTE * back: None for back in range(1, window + 1)}
    more = 1 if newest + MINUTE > now else 0
    wanted = [newest - MINUTE * back for back in range(window + more)]
    return {minute: minutes.get(minute) for minute in wanted}


def _quiet_since(
    minutes: Mapping[datetime, Sequence[Sample]],
    newest: datetime | None,
    policy: IdlePolicy,
    now: datetime,
    *,
    lasting: bool,
) -> datetime | None:
    """Start of the unbroken run of quiet minutes that ends now."""
    if newest is None or _is_stale(newest, policy, now):
        return None
    minute, since = newest, None
    while is_quiet(minutes.get(minute), policy, lasting=lasting):
        since = minute
        minute -= MINUTE
    return since


def _is_stale(newest: datetime, policy: IdlePolicy, now: datetime) -> bool:
    return now - (newest + MINUTE) > timedelta(seconds=policy.stale_s)


def _over(
    check: Check,
    recent: Mapping[datetime, Sequence[Sample] | None],
    policy: IdlePolicy,
    now: datetime,
) -> Signal:
    """A signal over the window: the newest minute that is not idle decides."""
    newest: Sample | None = None
    for minute in sorted(recent, reverse=True):
        for sample in recent[minute] or ():
            newest = newest or sample
            says = said(check, recent[minute] or (), policy)
            if says is Says.IDLE or says_in(check, sample, policy) is not says:
                continue
            ago = now - (minute + MINUTE)
            when = f"{words(ago)} ago" if ago >= MINUTE else "now"
            why = f"{says.value} {when}: {check.value(sample)}"
            return _signal(check, says, sample, policy, why)
    if newest is None:
        return _signal(check, Says.UNKNOWN, None, policy, "no reading")
    return _signal(check, Says.IDLE, newest, policy, f"quiet: {check.value(newest)}")


def _signal(
    check: Check, says: Says, sample: Sample | None, policy: IdlePolicy, why: str
) -> Signal:
    value = "unknown" if sample is None else check.value(sample)
    return Signal(name=check.name, says=says, value=value, limit=check.limit(policy), why=why)


def _readings(
    recent: Mapping[datetime, Sequence[Sample] | None],
    newest: datetime | None,
    policy: IdlePolicy,
    now: datetime,
) -> Signal:
    missing = sum(not there or not any(s.heard for s in there) for there in recent.values())
    stale = newest is None or _is_stale(newest, policy, now)
    why = "every minute was heard"
    if newest is None:
        why = "nothing was heard"
    elif stale:
        why = f"last heard {words(now - newest - MINUTE)} ago"
    elif missing:
        why = f"{missing} of the last {len(recent)} minutes were not heard"
    return Signal(
        name="readings",
        says=Says.UNKNOWN if stale or missing else Says.IDLE,
        value=f"{len(recent) - missing} of {len(recent)} minutes",
        limit=f"all of the last {words_s(60 * len(recent))}",
        why=why,
    )


def _start(started_at: datetime | None, policy: IdlePolicy, now: datetime) -> Signal:
    young = started_at is not None and now - started_at < timedelta(seconds=policy.grace_s)
    value = "unknown" if started_at is None else f"{words(now - started_at)} ago"
    return Signal(
        name="start",
        says=Says.ACTIVE if young else Says.IDLE,
        value=value,
        limit=f"more than {words_s(policy.grace_s)} ago",
        why=f"started {value}" if young else "it has run for long enough",
    )


def _asked(keep_alive: KeepAlive, now: datetime) -> Signal:
    left = keep_alive.until - now
    asked = left > timedelta(0)
    why = f"{keep_alive.by} asked for {words(left)} more" if asked else "it is over"
    return Signal(
        name="keep_alive",
        says=Says.ACTIVE if asked else Says.IDLE,
        value=f"until {keep_alive.until:%Y-%m-%d %H:%M} UTC",
        limit="none",
        why=f"{why}: {keep_alive.reason}" if asked and keep_alive.reason else why,
    )


def _why_not(against: Sequence[Signal]) -> str:
    active = [signal for signal in against if signal.says is Says.ACTIVE]
    if not active:
        unknown = "; ".join(f"{signal.name}: {signal.why}" for signal in against[:3])
        return f"Not known to be idle. {unknown}."
    return "In use. " + "; ".join(f"{signal.name}: {signal.why}" for signal in active[:3]) + "."


def _retry_after(state: IdleState) -> timedelta:
    at = min(max(state.refusals, 1), len(_RETRY_S)) - 1
    return timedelta(seconds=_RETRY_S[at])
