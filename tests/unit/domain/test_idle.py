"""Idleness: unknown is never idle, one voice is enough against it, and nothing happens unannounced."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dumont.domain.idle import (
    MINUTE,
    IdlePolicy,
    IdleState,
    Judgement,
    KeepAlive,
    Sample,
    Says,
    Step,
    bare_replay,
    bare_rule,
    judge,
    merge,
    next_step,
    refused,
    replay,
)

T0 = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
POLICY = IdlePolicy()
QUIET: dict[str, Any] = {
    "gpu_percent": 0.0,
    "gpu_memory_busy_percent": 0.0,
    "gpu_memory_mb": 3,
    "cpu_percent": 1.0,
    "cpu_cores": 0.0,
    "disk_read_bps": 0.0,
    "disk_write_bps": 0.0,
    "net_rx_bps": 2000.0,
    "net_tx_bps": 9000.0,
    "user_processes": 0,
    "ssh_sessions": 0,
    "jupyter_kernels": 0,
    "keep_alive_s": 0.0,
}
ACTIVE: dict[str, dict[str, Any]] = {
    "gpu": {"gpu_percent": 5.0},
    "gpu_memory_traffic": {"gpu_memory_busy_percent": 30.0},
    "cpu": {"cpu_cores": 1.0},
    "processes": {"user_processes": 1},
    "disk": {"disk_write_bps": 4e8},
    "network": {"net_rx_bps": 4e7},
    "sessions": {"ssh_sessions": 1, "session_idle_s": 60.0},
    "kernels": {"jupyter_kernels": 1, "jupyter_idle_s": 600.0},
    "keep_alive_here": {"keep_alive_s": 900.0},
}
NEEDED = [name for name in QUIET if name != "cpu_percent"]


def sample(minute: int, **figures: Any) -> Sample:
    return Sample(minute=T0 + minute * MINUTE, **{**QUIET, **figures})


def quiet(count: int = 10, **figures: Any) -> list[Sample]:
    return [sample(minute, **figures) for minute in range(count)]


def at(minute: float) -> datetime:
    return T0 + minute * MINUTE


def says(judgement: Judgement, name: str) -> Says:
    return next(signal.says for signal in judgement.signals if signal.name == name)


def test_three_quiet_minutes_and_nobody_there_are_idle() -> None:
    found = judge(quiet(3), policy=POLICY, now=at(3))
    assert found.idle
    assert found.since == T0
    assert "nobody is there" in found.reason
    assert not judge(quiet(2), policy=POLICY, now=at(2)).idle


@pytest.mark.parametrize("name", ACTIVE)
@pytest.mark.parametrize("minute", [7, 8, 9])
def test_one_voice_in_the_last_minutes_is_enough_against_it(name: str, minute: int) -> None:
    samples = quiet(10)
    samples[minute] = sample(minute, **ACTIVE[name])
    found = judge(samples, policy=POLICY, now=at(10))
    assert not found.idle
    assert says(found, name) is Says.ACTIVE
    assert name in found.reason
    assert judge(quiet(10), policy=POLICY, now=at(10)).idle


@pytest.mark.parametrize("figure", NEEDED)
def test_an_unknown_figure_is_not_idle(figure: str) -> None:
    hidden = {figure: None, **({"cpu_percent": None} if figure == "cpu_cores" else {})}
    samples = [*quiet(9), sample(9, **hidden)]
    found = judge(samples, policy=POLICY, now=at(10))
    assert not found.idle
    assert "Not known" in found.reason


def test_the_hosts_load_stands_in_for_our_own_processes() -> None:
    assert judge(quiet(5, cpu_cores=None, cpu_percent=2.0), policy=POLICY, now=at(5)).idle
    assert not judge(quiet(5, cpu_cores=None, cpu_percent=20.0), policy=POLICY, now=at(5)).idle
    busy_neighbours = quiet(5, cpu_cores=0.0, cpu_percent=90.0)
    assert judge(busy_neighbours, policy=POLICY, now=at(5)).idle


def test_silence_is_not_idleness() -> None:
    assert not judge([], policy=POLICY, now=at(5)).idle
    assert not judge(quiet(5), policy=POLICY, now=at(9)).idle
    assert "last heard 4 min ago" in judge(quiet(5), policy=POLICY, now=at(9)).reason
    gap = [each for each in quiet(10) if each.minute != at(8)]
    assert not judge(gap, policy=POLICY, now=at(10)).idle
    unheard = [*quiet(9), sample(9, heard=0)]
    assert not judge(unheard, policy=POLICY, now=at(10)).idle


def test_a_minute_that_is_not_over_counts_only_against_it() -> None:
    assert not judge(quiet(3), policy=POLICY, now=at(2.1)).idle
    started = [*quiet(3), sample(3, gpu_percent=90.0)]
    assert not judge(started, policy=POLICY, now=at(3.1)).idle


def test_held_gpu_memory_needs_patience_and_then_is_idle() -> None:
    assert not judge(quiet(29, gpu_memory_mb=20_000), policy=POLICY, now=at(29)).idle
    found = judge(quiet(30, gpu_memory_mb=20_000), policy=POLICY, now=at(30))
    assert found.idle
    assert "memory held" in found.reason


def test_a_shell_with_a_sleep_is_idle_once_nobody_typed_for_long() -> None:
    def shell(count: int) -> list[Sample]:
        return [sample(m, ssh_sessions=1, session_idle_s=60.0 * m) for m in range(count)]

    assert not judge(shell(30), policy=POLICY, now=at(30)).idle
    assert judge(shell(34), policy=POLICY, now=at(34)).idle


def test_patience_for_a_kernel_and_for_its_memory_do_not_add_up() -> None:
    kernel = [
        sample(m, jupyter_kernels=1, jupyter_idle_s=60.0 * m, gpu_memory_mb=9000) for m in range(64)
    ]
    assert not judge(kernel[:60], policy=POLICY, now=at(60)).idle
    assert judge(kernel, policy=POLICY, now=at(64)).idle


def test_a_wish_and_a_fresh_start_keep_it() -> None:
    wish = KeepAlive(until=at(60), by="ana", reason="long compile")
    found = judge(quiet(10), policy=POLICY, now=at(10), keep_alive=wish)
    assert not found.idle
    assert "ana asked for 50 min more: long compile" in found.reason
    over = KeepAlive(until=at(9), by="ana")
    assert judge(quiet(10), policy=POLICY, now=at(10), keep_alive=over).idle
    assert not judge(quiet(10), policy=POLICY, now=at(10), started_at=at(-1)).idle
    assert judge(quiet(10), policy=POLICY, now=at(10), started_at=at(-60)).idle


def test_switched_off_is_never_idle_and_thresholds_have_bounds() -> None:
    off = IdlePolicy(enabled=False)
    found = judge(quiet(10), policy=off, now=at(10))
    assert not found.idle
    assert next_step(found, IdleState(), off, at(10)) == (Step.NOTHING, IdleState())
    for wrong in ({"gpu_percent": 0}, {"idle_for_s": 10}, {"warn_s": 0}, {"net_bps": -1}):
        with pytest.raises(ValidationError):
            IdlePolicy.model_validate(wrong)


figures = st.fixed_dictionaries(
    {
        "gpu_percent": st.none() | st.floats(0, 100),
        "gpu_memory_busy_percent": st.none() | st.floats(0, 100),
        "gpu_memory_mb": st.none() | st.integers(0, 80_000),
        "cpu_cores": st.none() | st.floats(0, 8),
        "cpu_percent": st.none() | st.floats(0, 100),
        "disk_read_bps": st.none() | st.floats(0, 1e9),
        "disk_write_bps": st.none() | st.floats(0, 1e9),
        "net_rx_bps": st.none() | st.floats(0, 1e9),
        "net_tx_bps": st.none() | st.floats(0, 1e9),
        "user_processes": st.none() | st.integers(0, 3),
        "ssh_sessions": st.none() | st.integers(0, 2),
        "session_idle_s": st.none() | st.floats(0, 9000),
        "jupyter_kernels": st.none() | st.integers(0, 2),
        "jupyter_idle_s": st.none() | st.floats(0, 9000),
        "keep_alive_s": st.none() | st.floats(0, 9000),
        "heard": st.integers(0, 3),
    }
)


@given(strange=st.lists(figures, min_size=1, max_size=3), seed=st.integers(0, 99))
def test_any_minute_that_is_active_or_unknown_vetoes_in_any_order(
    strange: list[dict[str, Any]], seed: int
) -> None:
    samples = quiet(40)
    for back, figure in enumerate(strange, 1):
        samples[-back] = Sample(minute=samples[-back].minute, **figure)
    found = judge(samples, policy=POLICY, now=at(40))
    mixed = list(samples)
    random.Random(seed).shuffle(mixed)
    assert judge(mixed, policy=POLICY, now=at(40)) == found
    assert found.idle == all(signal.says is Says.IDLE for signal in found.signals)
    for figure in strange:
        hidden = any(
            figure[name] is None for name in NEEDED if name not in ("cpu_cores", "cpu_percent")
        )
        busy = (figure["gpu_percent"] or 0) >= 5 or (figure["user_processes"] or 0) > 0
        if hidden or busy or figure["heard"] == 0:
            assert not found.idle


@given(st.lists(st.tuples(st.booleans(), st.integers(20, 400)), max_size=60))
def test_nothing_happens_without_a_warning_that_was_quiet_all_through(
    looks: list[tuple[bool, int]],
) -> None:
    now, state, since = T0, IdleState(), None
    warned: datetime | None = None
    for idle, seconds in looks:
        now += timedelta(seconds=seconds)
        since = (since or now) if idle else None
        judgement = Judgement(idle=idle, since=since, reason="")
        step, state = next_step(judgement, state, POLICY, now)
        if step is Step.WARN:
            assert warned is None
            warned = now
        elif step is Step.WITHDRAW:
            assert warned is not None
            warned = None
        elif step is Step.ACT:
            assert warned is not None
            assert since is not None
            assert since <= warned
            assert now - warned >= timedelta(seconds=POLICY.warn_s)
        if not idle:
            assert warned is None


def test_activity_between_two_looks_withdraws_a_warning() -> None:
    idle = Judgement(idle=True, since=T0, reason="")
    step, state = next_step(idle, IdleState(), POLICY, at(3))
    assert (step, state.act_at) == (Step.WARN, at(8))
    assert next_step(idle, state, POLICY, at(7))[0] is Step.NOTHING
    again = Judgement(idle=True, since=at(5), reason="")
    assert next_step(again, state, POLICY, at(9)) == (Step.WITHDRAW, IdleState())
    assert next_step(idle, state, POLICY, at(8)) == (Step.ACT, state)
    longer = IdlePolicy(warn_s=3600)
    assert next_step(idle, state, longer, at(9))[0] is Step.NOTHING


def test_a_refused_order_is_tried_again_ever_later_after_another_warning() -> None:
    idle = Judgement(idle=True, since=T0, reason="")
    state = IdleState()
    waits = []
    now = at(3)
    for _ in range(6):
        tried = now
        while True:
            step, state = next_step(idle, state, POLICY, now)
            if step is Step.WARN:
                waits.append((now - tried) / MINUTE)
            if step is Step.ACT:
                break
            now += MINUTE
        state = refused(state, "no standby", now)
    assert waits == [0, 15, 30, 60, 120, 240]
    assert state.refused == "no standby"
    busy = Judgement(idle=False, reason="")
    assert next_step(busy, state, POLICY, now) == (Step.NOTHING, IdleState())


def test_the_week_is_played_again_as_it_would_have_been() -> None:
    work = [sample(m, gpu_percent=90.0) for m in range(10)]
    lull = [sample(m) for m in range(10, 15)]
    more = [sample(m, gpu_percent=80.0) for m in range(15, 20)]
    night = [sample(m) for m in range(20, 140)]
    first, second = replay([*work, *lull, *more, *night], policy=POLICY, gpus=2)
    assert (first.warned_at, first.withdrawn_at, first.acted_at) == (at(13), at(15), None)
    assert (second.warned_at, second.acted_at, second.until) == (at(23), at(28), at(140))
    assert second.saved_gpu_hours == pytest.approx(2 * 112 / 60, abs=1e-3)
    assert first.ended_by == "gpu"
    assert replay([*work, *lull], policy=IdlePolicy(enabled=False)) == []
    bare = bare_replay([*work, *lull, *more, *night])
    assert [each.acted_at for each in bare] == [at(13), at(23)]


def test_a_machine_that_hibernated_is_not_saved_twice() -> None:
    night = [sample(m) for m in range(20)] + [sample(m) for m in range(500, 505)]
    first, _ = replay(night, policy=POLICY)
    assert first.until == at(20)
    assert first.ended_by == "no reading"
    assert first.saved_gpu_hours == pytest.approx(12 / 60, abs=1e-3)


@given(st.lists(st.sampled_from(["", *ACTIVE]), min_size=1, max_size=50))
def test_replaying_says_what_looking_every_minute_says(kinds: list[str]) -> None:
    samples = [sample(m, **ACTIVE.get(kind, {})) for m, kind in enumerate(kinds)]
    state, warned, acted = IdleState(), [], []
    for minute in range(1, len(samples) + 1):
        now = at(minute)
        judgement = judge(samples[:minute], policy=POLICY, now=now)
        step, state = next_step(judgement, state, POLICY, now)
        warned += [now] if step is Step.WARN else []
        acted += [now] if step is Step.ACT else []
    stretches = replay(samples, policy=POLICY)
    assert [each.warned_at for each in stretches] == warned
    assert {each.acted_at for each in stretches if each.acted_at} == {
        at_ for at_ in acted if at_ - MINUTE not in acted
    }


def test_the_bare_rule_sees_the_gpu_and_nothing_else() -> None:
    assert bare_rule(quiet(3, user_processes=9, cpu_cores=8.0), now=at(3))
    assert not bare_rule(quiet(3, gpu_percent=5.0), now=at(3))
    assert not bare_rule(quiet(3, gpu_percent=None), now=at(3))
    assert not bare_rule(quiet(3), now=at(9))


def test_a_minute_is_its_liveliest_reading() -> None:
    found = merge(
        T0,
        [
            {"gpu_percent": 0.0, "cpu_cores": 0.1, "ssh_sessions": 2, "session_idle_s": 90.0},
            {"gpu_percent": None, "cpu_cores": 0.9, "ssh_sessions": 1, "session_idle_s": 700.0},
            {"gpu_percent": 40.0, "cpu_cores": 0.0, "ssh_sessions": 0, "other": 3.0},
        ],
    )
    assert (found.heard, found.gpu_percent, found.cpu_cores) == (3, 40.0, 0.9)
    assert (found.ssh_sessions, found.session_idle_s) == (2, 90.0)
    assert found.net_rx_bps is None


def test_figures_that_are_mostly_missing_or_impossible_are_unknown() -> None:
    late = merge(T0, [{"gpu_percent": None}, {"gpu_percent": None}, {"gpu_percent": 0.0}])
    assert late.gpu_percent is None
    assert merge(T0, [{"gpu_percent": -1.0}, {"gpu_percent": 0.0}]).gpu_percent is None
    assert merge(T0, [{"gpu_percent": float("nan")}]).gpu_percent is None
    blind = merge(T0, [{"ssh_sessions": 1}, {"ssh_sessions": 1, "session_idle_s": 9000.0}])
    assert blind.session_idle_s is None
    assert merge(T0, []).heard == 0
