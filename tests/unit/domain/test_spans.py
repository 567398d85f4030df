"""Phases from the event log: what it tells, what it cannot tell, and what is still so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.fleet import InstanceReport, Presence
from dumont.domain.instances import Instance, InstanceState, SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase
from dumont.domain.report import consequence
from dumont.domain.spans import Days, PhaseSpan, build_spans

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)
P = MachinePhase


def event(kind: str, hours: float, *, machine: str = "m1", summary: str = "", **data: object):
    return MachineEvent(
        key=f"{kind}/{hours}",
        machine_id=machine,
        kind=EventKind(kind),
        at=T0 + timedelta(hours=hours),
        summary=summary,
        data=data,
    )


def told(*events: MachineEvent) -> list[tuple[MachinePhase | None, float, float | None]]:
    """Phase, begin and end in hours."""
    hour = timedelta(hours=1)
    return [
        (s.phase, (s.start - T0) / hour, None if s.end is None else (s.end - T0) / hour)
        for s in build_spans(events)
    ]


def test_a_machine_that_slept_and_woke():
    assert told(
        event("machine.requested", 0),
        event("machine.provisioning", 0),
        event("machine.ready", 1),
        event("snapshot.taken", 2),
        event("machine.hibernating", 3),
        event("instance.ended", 3.4),
        event("machine.hibernated", 3.5),
        event("machine.waking", 10),
        event("machine.provisioning", 10),
        event("machine.ready", 10.5),
    ) == [
        (P.PROVISIONING, 0, 1),
        (P.RUNNING, 1, 3),
        (P.HIBERNATING, 3, 3.5),
        (P.HIBERNATED, 3.5, 10),
        (P.WAKING, 10, 10.5),
        (P.RUNNING, 10.5, None),
    ]


def test_a_failover_and_its_way_back():
    assert told(
        event("machine.ready", 1),
        event("machine.on_standby", 2),
        event("failover.step", 2.1),
        event("machine.failed_back", 3),
        event("machine.destroying", 4),
        event("machine.destroyed", 5),
    ) == [
        (P.RUNNING, 1, 2),
        (P.ON_STANDBY, 2, 3),
        (P.RUNNING, 3, 4),
        (P.DESTROYING, 4, 5),
        (P.DESTROYED, 5, None),
    ]


def test_a_refused_hibernation_is_running_again():
    assert told(
        event("machine.ready", 0),
        event("machine.hibernating", 1),
        event("alert", 2, summary="not hibernated: somebody is writing"),
        event("alert", 3, summary="no snapshot could be made"),
    ) == [(P.RUNNING, 0, 1), (P.HIBERNATING, 1, 2), (P.RUNNING, 2, None)]


def test_what_cannot_have_followed_was_missed_and_is_unknown():
    """From hibernated to on_standby no way leads but through phases that are not in this log."""
    assert told(
        event("machine.hibernated", 0), event("machine.ready", 5), event("machine.on_standby", 6)
    ) == [(None, 0, 5), (P.RUNNING, 5, 6), (P.ON_STANDBY, 6, None)]


def test_an_event_that_names_its_phase_is_believed():
    assert told(
        event("machine.ready", 0),
        event("machine.hibernating", 1),
        event("alert", 2, summary="whatever", phase="running"),
    ) == [(P.RUNNING, 0, 1), (P.HIBERNATING, 1, 2), (P.RUNNING, 2, None)]


HOME = ActiveInstance(
    provider="vast",
    instance_id="7",
    label="l",
    generation=1,
    ssh=SshAddress(host="198.51.100.4", port=22),
    usd_per_hour=0.4,
    gpu="RTX 4090",
    gpu_count=1,
)


@pytest.mark.parametrize(
    ("before", "state", "usd", "after"),
    [
        (P.RUNNING, InstanceState.STOPPED, 0.4, P.STUCK),
        (P.RUNNING, InstanceState.OFFLINE, 0.4, P.STUCK),
        (P.RUNNING, InstanceState.FAILED, 0.4, P.STUCK),
        (P.RUNNING, InstanceState.STARTING, 0.4, P.STUCK),
        (P.RUNNING, InstanceState.RUNNING, 0.5, P.RUNNING),
        (P.STUCK, InstanceState.RUNNING, 0.4, P.RUNNING),
        (P.RUNNING, None, 0.4, P.STUCK),
    ],
)
def test_what_news_of_an_instance_mean_is_read_as_the_machine_meant_it(
    before: MachinePhase, state: InstanceState | None, usd: float, after: MachinePhase
):
    """The words of `consequence` are all that tells an interruption from a new price."""
    seen = Instance(
        provider="vast",
        instance_id="7",
        label="l",
        state=state or InstanceState.UNKNOWN,
        ssh=HOME.ssh,
        usd_per_hour=usd,
    )
    presence = Presence.GONE if state is None else Presence.LISTED
    news = consequence(
        before,
        HOME,
        InstanceReport(
            label="l", instance_id="7", presence=presence, at=T0,
            instance=None if state is None else seen,
        ),
    )  # fmt: skip
    assert not news.changes_nothing
    first = event("machine.ready" if before is P.RUNNING else "machine.stuck", 0)
    spans = build_spans([first, event(news.kind.value, 1, summary=news.summary)])
    assert spans[-1].phase is after


def test_machines_do_not_mix():
    spans = build_spans(
        [
            event("machine.ready", 0, machine="m2"),
            event("machine.ready", 1, machine="m1"),
            event("machine.stuck", 2, machine="m2"),
        ]
    )
    assert [(s.machine_id, s.phase) for s in spans] == [
        ("m1", P.RUNNING),
        ("m2", P.RUNNING),
        ("m2", P.STUCK),
    ]


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def span(phase: MachinePhase | None, start: float, end: float | None) -> PhaseSpan:
    return PhaseSpan(
        machine_id="m1", phase=phase, start=at(start), end=None if end is None else at(end)
    )


def test_seconds_of_a_phase_count_once_and_end_now():
    days = Days([span(P.RUNNING, 0, 4), span(P.ON_STANDBY, 4, 5), span(P.RUNNING, 5, None)],
                until=at(8))  # fmt: skip
    assert days.seconds("m1", P.RUNNING, [(at(1), at(3)), (at(2), at(6))]) == 4 * 3600
    assert days.seconds("m1", P.RUNNING, [(at(7), at(20))]) == 3600


def test_seconds_are_unknown_where_the_log_cannot_tell():
    days = Days([span(P.RUNNING, 1, 2), span(None, 2, 3), span(P.RUNNING, 3, None)], until=at(8))
    assert days.seconds("m1", P.RUNNING, [(at(3), at(4))]) == 3600
    assert days.seconds("m1", P.RUNNING, [(at(1), at(4))]) is None, "an unknown phase"
    assert days.seconds("m1", P.RUNNING, [(at(0), at(2))]) is None, "before the first event"
    assert days.seconds("m2", P.RUNNING, [(at(0), at(2))]) is None, "a machine without a log"


def test_a_span_is_cut_at_the_days_of_utc():
    days = Days([span(P.HIBERNATED, 0, None)], until=at(38))
    lengths = [(end - start) / timedelta(hours=1) for start, end in days.pieces(
        days.of_machine("m1")[0], at(6))]  # fmt: skip
    assert lengths == [6, 24, 2]
