"""News from a provider: no news is no evidence, and nothing alive is called dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.fleet import InstanceReport, Presence, Sighting, implausible, news
from dumont.domain.instances import Instance, InstanceState, SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase
from dumont.domain.report import consequence

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CONFIRM = timedelta(seconds=30)
SSH = SshAddress(host="127.1.1.1", port=22)


def listed(instance_id: str = "1", state: InstanceState = InstanceState.RUNNING) -> Instance:
    return Instance(provider="vast", instance_id=instance_id, label="l", state=state, ssh=SSH)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_the_first_listing_and_each_change_are_news_once() -> None:
    reports, known = news({}, [listed()], at=at(0), confirm=CONFIRM)
    assert [r.instance_id for r in reports] == ["1"]
    reports, known = news(known, [listed()], at=at(5), confirm=CONFIRM)
    assert reports == []
    stopped = listed(state=InstanceState.STOPPED)
    reports, known = news(known, [stopped], at=at(10), confirm=CONFIRM)
    assert [r.instance.state for r in reports if r.instance] == [InstanceState.STOPPED]


def test_missing_is_unknown_until_confirmed_then_told_once() -> None:
    _, known = news({}, [listed()], at=at(0), confirm=CONFIRM)
    told = []
    for second in range(5, 120, 5):
        reports, known = news(known, [], at=at(second), confirm=CONFIRM)
        told += [(second, r.presence) for r in reports]
    assert told == [(35, Presence.GONE)]


def test_back_before_the_confirmation_is_no_news() -> None:
    _, known = news({}, [listed()], at=at(0), confirm=CONFIRM)
    _, known = news(known, [], at=at(20), confirm=CONFIRM)
    reports, known = news(known, [listed()], at=at(25), confirm=CONFIRM)
    assert reports == []
    reports, _ = news(known, [], at=at(49), confirm=CONFIRM)
    assert reports == []


def test_a_state_the_provider_cannot_name_is_no_news() -> None:
    _, known = news({}, [listed()], at=at(0), confirm=CONFIRM)
    reports, _ = news(known, [listed(state=InstanceState.UNKNOWN)], at=at(5), confirm=CONFIRM)
    assert reports == []


def test_losing_most_of_the_fleet_at_once_is_the_providers_fault() -> None:
    known = {str(n): Sighting(instance=listed(str(n))) for n in range(10)}
    assert implausible(known, [listed("0"), listed("1")])
    assert not implausible(known, [listed(str(n)) for n in range(6)])
    assert not implausible({"1": known["1"]}, [])


HOME = ActiveInstance(
    provider="vast", instance_id="1", label="l", generation=1, ssh=SSH, usd_per_hour=0.3,
    gpu="RTX 4090", gpu_count=1, ready_at=at(100),
)  # fmt: skip


def report(state: InstanceState, *, second: float = 200, instance_id: str = "1") -> InstanceReport:
    return InstanceReport(
        label="l",
        instance_id=instance_id,
        presence=Presence.LISTED,
        instance=listed(instance_id, state),
        at=at(second),
    )


def test_an_interrupted_instance_is_kept_and_explained() -> None:
    news = consequence(MachinePhase.RUNNING, HOME, report(InstanceState.STOPPED))
    assert news.phase is MachinePhase.STUCK
    assert "its disk is kept" in news.summary
    assert news.may_start_again


def test_only_what_is_stopped_is_started_again() -> None:
    offline = consequence(MachinePhase.RUNNING, HOME, report(InstanceState.OFFLINE))
    assert not offline.may_start_again
    gone = report(InstanceState.STOPPED).model_copy(
        update={"presence": Presence.GONE, "instance": None}
    )
    assert not consequence(MachinePhase.RUNNING, HOME, gone).may_start_again


def test_an_instance_that_comes_back_is_home_again() -> None:
    news = consequence(MachinePhase.STUCK, HOME, report(InstanceState.RUNNING))
    assert news.phase is MachinePhase.RUNNING
    assert news.instance is not None


def test_old_news_of_its_birth_changes_nothing() -> None:
    assert consequence(
        MachinePhase.RUNNING, HOME, report(InstanceState.STARTING, second=90)
    ).changes_nothing


@given(st.sampled_from(InstanceState), st.sampled_from(["2", "77"]))
def test_news_of_another_instance_never_matters(state: InstanceState, other: str) -> None:
    assert consequence(MachinePhase.RUNNING, HOME, report(state, instance_id=other)).changes_nothing


@given(st.sampled_from(InstanceState), st.sampled_from([MachinePhase.RUNNING, MachinePhase.STUCK]))
def test_no_news_ends_or_replaces_anything(state: InstanceState, phase: MachinePhase) -> None:
    decided = consequence(phase, HOME, report(state))
    assert decided.phase in {None, MachinePhase.RUNNING, MachinePhase.STUCK}
    if state is InstanceState.UNKNOWN:
        assert decided.changes_nothing
