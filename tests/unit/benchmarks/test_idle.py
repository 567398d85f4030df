"""The idle benchmark: the same traces from the same recordings, and scores that can be bad."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _idle_record, idle
from benchmarks._harness import Report
from benchmarks._idle_traces import PLANS, Trace, compose
from dumont.domain.idle import MINUTE, IdlePolicy, replay

QUIET: dict[str, Any] = {
    "gpu_percent": 0.0, "gpu_memory_mb": 4, "gpu_memory_busy_percent": 0.0, "cpu_cores": 0.0,
    "user_processes": 0, "disk_read_bps": 0, "disk_write_bps": 0, "net_rx_bps": 0, "net_tx_bps": 0,
    "ssh_sessions": 0, "session_idle_s": None, "jupyter_kernels": 0, "jupyter_idle_s": None,
    "keep_alive_s": 0.0,
}  # fmt: skip
BUSY: dict[str, Any] = {
    "gpu_percent": 80.0,
    "gpu_memory_mb": 18_000,
    "user_processes": 1,
    "cpu_cores": 0.9,
}
HELD: dict[str, Any] = {"gpu_memory_mb": 18_000}
LOGIN: dict[str, Any] = {"ssh_sessions": 1, "session_idle_s": 86_402.0}
KERNEL: dict[str, Any] = {"jupyter_kernels": 1, "gpu_memory_mb": 6000}
FIGURES: dict[str, dict[str, Any]] = {
    "train": BUSY,
    "lull_loading": HELD | {"user_processes": 1, "cpu_cores": 0.3},
    "lull_fetching": HELD | {"net_rx_bps": 2e7},
    "lull_waiting": HELD,
    "checkpoint": HELD | {"disk_write_bps": 1e9},
    "evaluate_on_cpu": {"cpu_cores": 1.0, "user_processes": 1},
    "compile": {"cpu_cores": 0.8, "user_processes": 2},
    "download": {"net_rx_bps": 2e8},
    "upload": {"net_tx_bps": 2e8},
    "typing": LOGIN | {"session_idle_s": 3.0},
    "reading": LOGIN,
    "sleep_in_shell": LOGIN,
    "cells": KERNEL | {"gpu_percent": 50.0, "jupyter_idle_s": 0.0},
    "thinking": KERNEL | {"jupyter_idle_s": 2.0},
    "held": HELD,
    "sick_driver": {"gpu_percent": None, "gpu_memory_mb": None},
    "nothing": {},
}
CANNED = {name: [QUIET | figures] * 2 for name, figures in FIGURES.items()}


def test_every_phase_that_a_plan_uses_is_recorded() -> None:
    assert set(CANNED) == set(_idle_record.PHASES)
    for kind in PLANS:
        assert len(compose(kind, CANNED, seed=1, longest=2).truth) >= 2


def test_the_same_seed_makes_the_same_trace() -> None:
    one, same, other = (compose("notebook", CANNED, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.samples != other.samples
    thinking = [s for s in one.samples if one.phases[s.minute] == "thinking"]
    assert (thinking[-1].jupyter_idle_s or 0) > 3 * 3600, "it follows the trace's clock"


def test_ours_ends_less_work_than_the_bare_rule_and_saves_nearly_as_much() -> None:
    traces = idle.traces_of(CANNED, each=2, seed=1)
    ours = idle.total(idle.scores(traces, IdlePolicy()))
    bare = idle.total(idle.scores(traces, None))
    assert bare.ended_work > 10
    assert ours.ended_work * 10 <= bare.ended_work
    assert (ours.precision or 0) > (bare.precision or 1)
    assert (ours.recall or 0) > 0.75


def test_a_rule_without_patience_is_shown_to_be_worse() -> None:
    traces = [compose("training on slow storage", CANNED, seed=seed) for seed in range(4)]
    hasty = idle.total(idle.scores(traces, IdlePolicy(memory_held_for_s=60)))
    assert hasty.ended_work > idle.total(idle.scores(traces, IdlePolicy())).ended_work


def test_a_score_counts_minutes_acts_and_traces() -> None:
    trace = compose("forgotten", CANNED, seed=1, longest=30)
    trace = Trace("x", trace.samples, dict.fromkeys(trace.truth, True))
    found = idle.score(trace, replay(trace.samples, policy=IdlePolicy()))
    assert (found.right, found.missed, found.wrong, found.wasted) == (28, 2, 0, 8)
    assert (found.acts, found.ended_work, found.traces_right) == (1, 0, 1)
    trace.truth = {minute: not over for minute, over in trace.truth.items()}
    found = idle.score(trace, replay(trace.samples, policy=IdlePolicy()))
    assert (found.right, found.wrong, found.ended_work, found.traces_wrong) == (0, 28, 1, 1)
    assert found.precision == 0.0
    assert found.recall is None
    asleep = idle.score(trace, [])
    assert (asleep.acts, asleep.precision) == (0, None)
    assert min(trace.truth) + 30 * MINUTE > max(trace.truth)


def test_the_report_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "idle.json"
    report = Report(name="idle", question="?", arguments=argparse.Namespace(json=file))
    idle.fill(report, idle.traces_of(CANNED, each=1, seed=1, longest=40))
    report.finish()
    written = json.loads(file.read_text())
    assert set(written["scores"]) == {idle.OURS, idle.BARE}
    assert written["traces"]["count"] == len(PLANS)
    shown = capsys.readouterr().out
    assert "GPU memory held at 0 %" in shown
    assert "work ended" in shown


@pytest.mark.parametrize("name", ["nothing", "evaluate_on_cpu"])
def test_a_real_program_is_recorded_by_the_agents_own_code(name: str, tmp_path: Path) -> None:
    readings = _idle_record.record(name, seconds=1.3, folder=tmp_path, port=1)
    assert readings
    assert set(readings[0]) >= set(QUIET)
    assert readings[-1]["gpu_percent"] == 0.0
    assert readings[-1]["gpu_memory_mb"] == 4
    worked = any((reading["cpu_cores"] or 0) > 0.1 for reading in readings)
    assert worked == (name == "evaluate_on_cpu")
