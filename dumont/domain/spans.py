"""Which phase a machine was in, when: from its event log. Pure.

An end that is missing means that it is still so. Where the log cannot tell (a phase that cannot follow
the one before: something happened that nobody wrote down), the time is of an unknown phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Final

from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import Model
from dumont.domain.machine import TRANSITIONS, MachinePhase


class PhaseSpan(Model):
    """A time that a machine spent in one phase."""

    machine_id: str
    phase: MachinePhase | None
    """None: unknown."""
    start: datetime
    end: datetime | None = None
    """None: it is still so."""


_PHASES: Final[Mapping[EventKind, MachinePhase]] = {
    EventKind.REQUESTED: MachinePhase.REQUESTED,
    EventKind.PROVISIONING: MachinePhase.PROVISIONING,
    EventKind.READY: MachinePhase.RUNNING,
    EventKind.STUCK: MachinePhase.STUCK,
    EventKind.INSTANCE_LOST: MachinePhase.STUCK,
    EventKind.ON_STANDBY: MachinePhase.ON_STANDBY,
    EventKind.DRILL: MachinePhase.ON_STANDBY,
    EventKind.REPLACING: MachinePhase.REPLACING,
    EventKind.FAILED_BACK: MachinePhase.RUNNING,
    EventKind.FALSE_ALARM: MachinePhase.RUNNING,
    EventKind.HIBERNATING: MachinePhase.HIBERNATING,
    EventKind.HIBERNATED: MachinePhase.HIBERNATED,
    EventKind.WAKING: MachinePhase.WAKING,
    EventKind.DESTROYING: MachinePhase.DESTROYING,
    EventKind.DESTROYED: MachinePhase.DESTROYED,
}

TELLING: Final = (*_PHASES, EventKind.INSTANCE_CHANGED, EventKind.ALERT)
"""Kinds of events that can tell of another phase."""

_NAMES: Final = frozenset(phase.value for phase in MachinePhase)
_CHANGED_ONLY: Final = ("SSH is at ", "it costs ")
_BACK: Final = ("not hibernated", "the drill did not begin")
_FROM_SNAPSHOT: Final = "its instance is gone; it comes back"


def build_spans(events: Iterable[MachineEvent]) -> list[PhaseSpan]:
    """The phases of machines, by machine and time.

    Args:
        events: In the order of the log; of any number of machines.
    """
    by_machine: dict[str, list[MachineEvent]] = {}
    for event in events:
        by_machine.setdefault(event.machine_id, []).append(event)
    return [
        span for machine_id in sorted(by_machine) for span in _of_machine(by_machine[machine_id])
    ]


def phase_after(event: MachineEvent, now: MachinePhase | None) -> MachinePhase | None:
    """The phase that an event tells of; None when it tells of none.

    Args:
        event: What happened.
        now: The phase before; None: not known.
    """
    told = event.data.get("phase")
    if isinstance(told, str) and told in _NAMES:
        return MachinePhase(told)
    if event.kind is EventKind.INSTANCE_CHANGED:
        # One kind for three things: facts of the instance, its interruption, and its return.
        if event.summary.startswith(_CHANGED_ONLY):
            return None
        return MachinePhase.RUNNING if now is MachinePhase.STUCK else MachinePhase.STUCK
    if event.kind is EventKind.ALERT:
        if event.summary.startswith(_FROM_SNAPSHOT):
            return MachinePhase.PROVISIONING
        return MachinePhase.RUNNING if event.summary.startswith(_BACK) else None
    if event.kind is EventKind.PROVISIONING and now is MachinePhase.WAKING:
        return MachinePhase.WAKING
    return _PHASES.get(event.kind)


def _of_machine(events: list[MachineEvent]) -> list[PhaseSpan]:
    spans: list[PhaseSpan] = []
    machine_id = events[0].machine_id
    phase: MachinePhase | None = None
    since: datetime | None = None
    for event in events:
        after = phase_after(event, phase)
        if after is None or after is phase:
            continue
        if since is not None and event.at > since:
            known = phase if phase is None or _can_follow(phase, after) else None
            spans.append(PhaseSpan(machine_id=machine_id, phase=known, start=since, end=event.at))
        phase, since = after, max(event.at, since or event.at)
    if since is not None:
        spans.append(PhaseSpan(machine_id=machine_id, phase=phase, start=since))
    return spans


def _can_follow(phase: MachinePhase, after: MachinePhase) -> bool:
    """Whether one phase can come after another, at most with steps between that leave no event.

    `replacing` has none where it is entered, a machine that wakes beside a standby that was kept is in
    it too, and a try of a stuck machine begins without.
    """
    silent = {
        MachinePhase.ON_STANDBY: MachinePhase.REPLACING,
        MachinePhase.WAKING: MachinePhase.REPLACING,
        MachinePhase.STUCK: MachinePhase.PROVISIONING,
    }
    return after in TRANSITIONS[phase] or (phase in silent and after in TRANSITIONS[silent[phase]])


class Days:
    """Spans of machines, asked for by day of UTC.

    Args:
        spans: Of any machines.
        until: What is still so is counted until then: now, or the end of the period.
    """

    def __init__(self, spans: Iterable[PhaseSpan], *, until: datetime) -> None:
        self._until = until
        self._spans: dict[str, list[PhaseSpan]] = {}
        for span in spans:
            self._spans.setdefault(span.machine_id, []).append(span)

    def of_machine(self, machine_id: str) -> list[PhaseSpan]:
        """All spans of a machine, ended ones and the one that goes on."""
        return self._spans.get(machine_id, [])

    @property
    def machines(self) -> list[str]:
        """Ids of those that anything is known of."""
        return sorted(self._spans)

    def seconds(
        self, machine_id: str, phase: MachinePhase, within: Iterable[tuple[datetime, datetime]]
    ) -> float | None:
        """Seconds of a phase within intervals; None where a part of them is of an unknown phase.

        Args:
            machine_id: Whose.
            phase: Which.
            within: Intervals that may overlap: each second counts once.
        """
        total = 0.0
        spans = self.of_machine(machine_id)
        for start, end in merged(within):
            known = 0.0
            for span in spans:
                overlap = _overlap(span.start, span.end or self._until, start, end)
                if overlap <= 0:
                    continue
                if span.phase is None:
                    return None
                known += overlap
                total += overlap if span.phase is phase else 0.0
            if known + SLACK_S < (min(end, self._until) - start).total_seconds():
                return None
        return total

    def pieces(self, span: PhaseSpan, since: datetime) -> list[tuple[datetime, datetime]]:
        """A span cut at the days of UTC, between `since` and the end of the period."""
        start, end = max(span.start, since), min(span.end or self._until, self._until)
        cut: list[tuple[datetime, datetime]] = []
        while start < end:
            midnight = datetime.combine(
                start.astimezone(UTC).date() + timedelta(days=1), time(), tzinfo=UTC
            )
            cut.append((start, min(midnight, end)))
            start = midnight
        return cut


SLACK_S: Final = 5.0
"""So much of an interval may lie outside what the log tells: the provider's clock is not ours."""


def merged(intervals: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Intervals without their overlaps, in order."""
    result: list[tuple[datetime, datetime]] = []
    for start, end in sorted(intervals):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        elif start < end:
            result.append((start, end))
    return result


def _overlap(a: datetime, b: datetime, c: datetime, d: datetime) -> float:
    return (min(b, d) - max(a, c)).total_seconds()
