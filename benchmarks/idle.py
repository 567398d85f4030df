"""How often "this machine is idle" is right: the product's rule beside GPU < 5 % for 3 minutes.

Records real programs with the agent's own telemetry (a minute and a half), composes labelled traces of
hours from the pieces, and lets both rules look once a minute. `_idle_record` says what is real in a
recording and what is declared, `_idle_traces` how traces are made and what counts as truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _harness
from benchmarks._harness import Report, Section, Target, Value
from benchmarks._idle_record import recorded
from benchmarks._idle_traces import PLANS, Recorded, Trace, compose
from dumont.domain.idle import MINUTE, IdlePolicy, Stretch, bare_replay, replay

BARE = "GPU < 5 % for 3 min"
OURS = "the product's"
VARIANTS: dict[str, dict[str, float]] = {
    "no patience for held memory": {"memory_held_for_s": 60},
    "held memory 10 min": {"memory_held_for_s": 600},
    "held memory 60 min": {"memory_held_for_s": 3600},
    "login 10 min": {"session_quiet_s": 600},
    "login 60 min": {"session_quiet_s": 3600},
    "kernel 20 min": {"kernel_quiet_s": 1200},
    "kernel 120 min": {"kernel_quiet_s": 7200},
    "no warning time": {"warn_s": 60},
}


@dataclass
class Score:
    """Of one rule over some traces; minutes, acts and traces."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    acts: int = 0
    ended_work: int = 0
    """Acts while the truth was work."""
    wasted: int = 0
    """Minutes that could have been saved and were paid for: before the act, or without one."""
    traces_right: int = 0
    traces_wrong: int = 0
    """Traces in which work was ended."""
    traces_missed: int = 0
    """Traces with something to save in which nothing was."""

    def __add__(self, other: Score) -> Score:
        return Score(*(one + two for one, two in zip(_values(self), _values(other), strict=True)))

    @property
    def precision(self) -> float | None:
        """Of the minutes called idle, those that were."""
        return _share(self.right, self.wrong)

    @property
    def recall(self) -> float | None:
        """Of the minutes that were idle, those called so."""
        return _share(self.right, self.missed)

    @property
    def trace_precision(self) -> float | None:
        """Of the traces in which it acted, those without ended work."""
        return _share(self.traces_right, self.traces_wrong)

    @property
    def trace_recall(self) -> float | None:
        """Of the traces with something to save, those in which it saved something."""
        return _share(self.traces_right, self.traces_missed)


def score(trace: Trace, stretches: Sequence[Stretch]) -> Score:
    """Compare what a rule would have done with the truth.

    After an act the trace goes on as if it had been woken at once, so that one early mistake does not
    hide the next.
    """
    called: set[Any] = set()
    acted: set[Any] = set()
    found = Score()
    for stretch in stretches:
        minute = stretch.warned_at - MINUTE
        while minute + MINUTE <= stretch.until:
            called.add(minute)
            if stretch.acted_at is not None and minute >= stretch.acted_at:
                acted.add(minute)
            minute += MINUTE
        if stretch.acted_at is not None:
            found.acts += 1
            found.ended_work += not trace.truth.get(stretch.acted_at - MINUTE, False)
    for minute, over in trace.truth.items():
        found.right += over and minute in called
        found.wrong += not over and minute in called
        found.missed += over and minute not in called
        found.wasted += over and minute not in acted
    saved = any(trace.truth.get(minute, False) for minute in acted)
    if found.ended_work:
        found.traces_wrong = 1
    elif saved:
        found.traces_right = 1
    elif any(trace.truth.values()):
        found.traces_missed = 1
    return found


def scores(traces: Sequence[Trace], policy: IdlePolicy | None) -> dict[str, Score]:
    """By kind of trace; None is the bare rule."""
    found: dict[str, Score] = {}
    for trace in traces:
        stretches = (
            bare_replay(trace.samples) if policy is None else replay(trace.samples, policy=policy)
        )
        found[trace.kind] = found.get(trace.kind, Score()) + score(trace, stretches)
    return found


def total(of: dict[str, Score]) -> Score:
    """All kinds together."""
    return sum(of.values(), Score())


def traces_of(pieces: Recorded, *, each: int, seed: int, longest: int | None = None) -> list[Trace]:
    """So many traces of each kind."""
    return [
        compose(kind, pieces, seed=seed + number, longest=longest)
        for kind in PLANS
        for number in range(each)
    ]


def fill(report: Report, traces: Sequence[Trace]) -> None:
    """Score everything and put it into the report."""
    ours, bare = scores(traces, IdlePolicy()), scores(traces, None)
    report.add(
        Section(
            title="All traces together",
            columns=["rule", *_COLUMNS],
            rows=[_row(OURS, total(ours)), _row(BARE, total(bare))],
            note=_NOTE,
        )
    )
    rows: list[Sequence[Value]] = []
    for kind in ours:
        rows += [_row(kind, ours[kind]), _row(f"    {BARE}", bare[kind])]
    report.add(Section(title="By kind of trace", columns=["trace", *_COLUMNS], rows=rows))
    report.add(
        Section(
            title="Other patience: why the defaults are what they are",
            columns=["thresholds", *_COLUMNS],
            rows=[
                _row("the defaults", total(ours)),
                *(_row(name, total(scores(traces, _policy(change))))
                  for name, change in VARIANTS.items()),
            ],
        )
    )  # fmt: skip
    all_, beside = total(ours), total(bare)
    report.targets += [
        Target(name="precision, minutes", measured=all_.precision, target=0.98, unit="",
               better="more"),
        Target(name="recall, minutes", measured=all_.recall, target=0.75, unit="", better="more"),
        Target(name="work ended, beside the bare rule", better="less", unit="acts",
               measured=float(all_.ended_work), target=beside.ended_work / 10),
    ]  # fmt: skip
    report.figures["scores"] = {
        OURS: {kind: vars(each) for kind, each in ours.items()},
        BARE: {kind: vars(each) for kind, each in bare.items()},
    }
    minutes = sum(len(trace.truth) for trace in traces)
    over = sum(sum(trace.truth.values()) for trace in traces)
    report.figures["traces"] = {"count": len(traces), "minutes": minutes, "idle_minutes": over}


_COLUMNS = ("precision", "recall", "by trace", "recall", "work ended", "acts", "waste, h")
_NOTE = (
    "precision and recall of `may be hibernated now`, per minute and per trace; work ended: acts while "
    "something would have gone on; waste: hours that could have been saved and were not"
)


def _row(name: str, of: Score) -> list[Value]:
    shares = (of.precision, of.recall, of.trace_precision, of.trace_recall)
    return [
        name,
        *(None if share is None else f"{share:.3f}" for share in shares),
        of.ended_work,
        of.acts,
        round(of.wasted / 60, 1),
    ]


def _policy(change: dict[str, float]) -> IdlePolicy:
    return IdlePolicy.model_validate(change)


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def _values(of: Score) -> list[int]:
    return list(vars(of).values())


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="recorded of each phase")
    parser.add_argument("--traces", type=int, default=8, metavar="N", help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recorded", type=Path, metavar="FILE", help="use these recordings")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the recordings there")
    given: argparse.Namespace = parser.parse_args()
    report = Report(name="idle", question="is a machine called idle when it is?", arguments=given)
    pieces = (
        json.loads(given.recorded.read_text())
        if given.recorded
        else recorded(given.seconds, report.say)
    )
    if given.keep:
        given.keep.write_text(json.dumps(pieces))
    report.say("composing")
    traces = traces_of(pieces["phases"], each=given.traces, seed=given.seed)
    fill(report, traces)
    recordings = sum(len(readings) for readings in pieces["phases"].values())
    report.figures["recorded"] = {
        "seconds": round(recordings * pieces["every_s"], 1),
        "readings": recordings,
        "private_network": pieces["private_network"],
        "gpu": "declared by the workload, read through a stand-in for nvidia-smi",
    }
    report.finish()


if __name__ == "__main__":
    main()
