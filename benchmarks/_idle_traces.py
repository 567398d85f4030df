"""Traces of hours, composed from recorded readings by seed, each minute with its truth.

The readings are recorded (`_idle_record`); how long each phase lasts and what follows what is declared
here. Pauses have a long tail (`_pause`: log-normal, 4 to 10 % of them outlast the patience that the product
has by default): no rule can tell such a pause from an end, and what that costs is in the result. A
recorded reading is 0.6 s long; six consecutive ones of a phase stand for a minute, as a dozen
heartbeats do. Rates are never stretched. Only the two figures that *are* times (since the last key, since
the kernel worked) follow the trace's clock: they restart where the recorded reading was lively.

Truth: `may be hibernated` from the minute in which nothing will happen until the end of the segment that
is marked so (the person is gone for good, the program is over), whatever is still open or held. A pause
after which somebody or something goes on is work: memory would be lost.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dumont.domain.idle import MINUTE, Sample, merge

Reading = Mapping[str, float | int | None]
Recorded = Mapping[str, Sequence[Reading]]

_START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
_READINGS = 6
_MISSED = 1 / 400
"""Of the minutes nobody is heard in one: a restarted agent, a lost network."""
_LIVELY_S = {"session_idle_s": 60.0, "jupyter_idle_s": 0.3}
"""A recorded idle time below this is activity now: the kernel notes terminals to 8 seconds."""


@dataclass(frozen=True)
class Segment:
    """A phase for some minutes."""

    phase: str
    minutes: int
    over: bool = False
    """Truth: it may be hibernated."""
    login: bool = False
    """A login stays open beside it, without keys."""


@dataclass
class Trace:
    """Minutes with their truth."""

    kind: str
    samples: list[Sample] = field(default_factory=list)
    truth: dict[datetime, bool] = field(default_factory=dict)
    """By minute; missing minutes have a truth as well."""
    phases: dict[datetime, str] = field(default_factory=dict)


_LONGEST_PAUSE = 240


def _pause(rng: random.Random, median: float, spread: float = 1.0) -> int:
    """Minutes until somebody or something goes on: mostly short, now and then a lunch or a meeting."""
    return min(_LONGEST_PAUSE, max(1, round(rng.lognormvariate(math.log(median), spread))))


Plan = Callable[[random.Random], list[Segment]]


def _training(rng: random.Random) -> list[Segment]:
    found = []
    for _ in range(rng.randint(4, 8)):
        found.append(Segment("train", rng.randint(15, 50)))
        lull = rng.choice(["lull_loading", "lull_fetching", "lull_waiting", "checkpoint"])
        found.append(Segment(lull, _pause(rng, 4, 0.8)))
    return [*found, Segment("train", 10), Segment("nothing", rng.randint(90, 480), over=True)]


def _slow_storage(rng: random.Random) -> list[Segment]:
    found = []
    for _ in range(rng.randint(3, 5)):
        found.append(Segment("train", rng.randint(20, 60)))
        found.append(Segment("lull_waiting", _pause(rng, 9, 0.8)))
    return [*found, Segment("train", 15), Segment("nothing", rng.randint(60, 300), over=True)]


def _notebook(rng: random.Random) -> list[Segment]:
    found = []
    for _ in range(rng.randint(6, 12)):
        found.append(Segment("cells", rng.randint(1, 12)))
        found.append(Segment("thinking", _pause(rng, 10)))
    return [*found, Segment("cells", 2), Segment("thinking", rng.randint(180, 600), over=True)]


def _compiling(rng: random.Random) -> list[Segment]:
    return [
        Segment("typing", rng.randint(5, 15)),
        Segment("compile", rng.randint(15, 60), login=True),
        Segment("typing", rng.randint(3, 10)),
        Segment("nothing", rng.randint(60, 240), over=True),
    ]


def _downloading(rng: random.Random) -> list[Segment]:
    return [
        Segment("typing", 5),
        Segment("download", rng.randint(30, 120)),
        Segment("train", rng.randint(40, 120)),
        Segment("nothing", rng.randint(60, 240), over=True),
    ]


def _evaluating(rng: random.Random) -> list[Segment]:
    return [
        Segment("train", rng.randint(20, 60)),
        Segment("evaluate_on_cpu", rng.randint(20, 90)),
        Segment("upload", rng.randint(8, 30)),
        Segment("nothing", rng.randint(60, 240), over=True),
    ]


def _forgotten(rng: random.Random) -> list[Segment]:
    return [Segment("nothing", rng.randint(180, 720), over=True)]


def _sleeping_shell(rng: random.Random) -> list[Segment]:
    return [
        Segment("typing", rng.randint(5, 30)),
        Segment("sleep_in_shell", rng.randint(180, 600), over=True),
    ]


def _held(rng: random.Random) -> list[Segment]:
    return [
        Segment("train", rng.randint(30, 120)),
        Segment("held", rng.randint(120, 480), over=True),
    ]


def _reading(rng: random.Random) -> list[Segment]:
    found = []
    for _ in range(rng.randint(3, 6)):
        found.append(Segment("typing", rng.randint(2, 10)))
        found.append(Segment("reading", _pause(rng, 8)))
    return [*found, Segment("typing", 2), Segment("reading", rng.randint(120, 400), over=True)]


def _sick_driver(rng: random.Random) -> list[Segment]:
    found = []
    for _ in range(3):
        found.append(Segment("train", rng.randint(20, 50)))
        found.append(Segment("sick_driver", rng.randint(5, 40)))
    return [*found, Segment("train", 20), Segment("nothing", rng.randint(60, 180), over=True)]


PLANS: dict[str, Plan] = {
    "training with lulls": _training,
    "training on slow storage": _slow_storage,
    "notebook": _notebook,
    "compile": _compiling,
    "download, then training": _downloading,
    "evaluation on the CPU, upload": _evaluating,
    "forgotten": _forgotten,
    "sleep in a shell": _sleeping_shell,
    "GPU memory held at 0 %": _held,
    "reading between commands": _reading,
    "GPU figures missing": _sick_driver,
}


def compose(kind: str, recorded: Recorded, *, seed: int, longest: int | None = None) -> Trace:
    """One trace. The same recordings, kind and seed make the same trace.

    Args:
        kind: A key of `PLANS`.
        recorded: Readings by phase.
        seed: Chooses durations, pieces and missed minutes.
        longest: Cuts each segment to so many minutes (for tests).
    """
    rng = random.Random(f"{kind} {seed}")
    trace, minute = Trace(kind), _START
    last: dict[str, datetime] = {}
    for segment in PLANS[kind](rng):
        for _ in range(min(segment.minutes, longest or segment.minutes)):
            readings = _piece(recorded[segment.phase], rng)
            if segment.login:
                beside = recorded["reading"][0]
                names = ("ssh_sessions", "session_idle_s")
                readings = [{**each, **{n: beside[n] for n in names}} for each in readings]
            trace.truth[minute] = segment.over
            trace.phases[minute] = segment.phase
            if rng.random() >= _MISSED:
                timed = [_on_the_traces_clock(each, minute, last) for each in readings]
                trace.samples.append(merge(minute, timed))
            minute += MINUTE
    return trace


def _piece(readings: Sequence[Reading], rng: random.Random) -> list[Reading]:
    start = rng.randrange(len(readings))
    return [readings[(start + at) % len(readings)] for at in range(_READINGS)]


def _on_the_traces_clock(
    reading: Reading, minute: datetime, last: dict[str, datetime]
) -> dict[str, float | int | None]:
    found = dict(reading)
    for name, lively_s in _LIVELY_S.items():
        idle_s = reading.get(name)
        if idle_s is None:
            last.pop(name, None)
            continue
        if idle_s < lively_s or name not in last:
            last[name] = minute
        found[name] = (minute - last[name]) / timedelta(seconds=1)
    return found
