"""The sweep: orphans are ended, what is owned or not ours is never touched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.instances import Instance, InstanceState, SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineState
from dumont.domain.protection import ActiveStandby, AgentRole
from dumont.domain.reconcile import (
    Limits,
    Owner,
    OwnerStatus,
    Plan,
    Suspicion,
    key_of,
    machine_key,
    plan,
    suspect,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
M = "m0123456789ab"


def billed(label: str | None = f"dmt-prod-{M}-g2-a1", instance_id: str = "7") -> Instance:
    return Instance(
        provider="vast", instance_id=instance_id, label=label, state=InstanceState.RUNNING
    )


def record(phase: MachinePhase, *, generation: int = 2, home: str | None = "7") -> MachineState:
    instance = home and ActiveInstance(
        provider="vast", instance_id=home, label=f"dmt-prod-{M}-g{generation}-a1",
        generation=generation, ssh=SshAddress(host="h", port=22), usd_per_hour=1, gpu="L4", gpu_count=1,
    )  # fmt: skip
    return MachineState(phase=phase, generation=generation, instance=instance or None)


def owner(
    workflow: OwnerStatus, state: MachineState | None, *, generation: int | None = 2
) -> Owner:
    return Owner(workflow=workflow, workflow_generation=generation, record=state)


RUNNING = owner(OwnerStatus.RUNNING, record(MachinePhase.RUNNING))


def test_a_machine_keeps_the_instance_it_lives_on() -> None:
    assert suspect(billed(), env="prod", owner=RUNNING) is None


def test_orphans_of_each_kind() -> None:
    old = billed(f"dmt-prod-{M}-g1-a1")
    assert suspect(old, env="prod", owner=RUNNING) is Suspicion.OLD_GENERATION
    twin = billed(instance_id="8")
    assert suspect(twin, env="prod", owner=RUNNING) is Suspicion.DUPLICATE
    ended = owner(OwnerStatus.CLOSED, record(MachinePhase.DESTROYED, home=None), generation=None)
    assert suspect(billed(), env="prod", owner=ended) is Suspicion.OWNER_ENDED
    unknown = owner(OwnerStatus.ABSENT, None, generation=None)
    assert suspect(billed(), env="prod", owner=unknown) is Suspicion.OWNER_UNKNOWN


def test_a_lost_standby_that_is_kept_is_no_orphan() -> None:
    now = ActiveStandby(
        provider="gcp", instance_id="8", label=f"dmt-prod-{M}-g2-a1", zone="us-central1-a", number=2,
        ssh=SshAddress(host="h", port=22), endpoint=SshAddress(host="h", port=2222),
    )  # fmt: skip
    lost = billed(f"dmt-prod-{M}-g1-a1")
    state = record(MachinePhase.RUNNING).model_copy(update={"standby": now})

    def why(state: MachineState) -> Suspicion | None:
        owned = owner(OwnerStatus.RUNNING, state)
        return suspect(lost, env="prod", owner=owned, body=AgentRole.STANDBY)

    assert why(state) is Suspicion.OLD_GENERATION
    assert why(state.model_copy(update={"kept_standby": lost.label})) is None


def test_one_witness_is_not_enough() -> None:
    alive_on_paper = record(MachinePhase.RUNNING)
    for status in (OwnerStatus.CLOSED, OwnerStatus.ABSENT):
        assert suspect(billed(), env="prod", owner=owner(status, alive_on_paper)) is None


def test_a_race_under_way_is_left_alone() -> None:
    racing = owner(OwnerStatus.RUNNING, record(MachinePhase.PROVISIONING, home=None))
    assert suspect(billed(f"dmt-prod-{M}-g2-a3"), env="prod", owner=racing) is None


@given(
    label=st.one_of(st.none(), st.text(max_size=40), st.just(f"dmt-demo-{M}-g1-a1")),
    status=st.sampled_from(OwnerStatus),
    phase=st.sampled_from(MachinePhase),
    known=st.booleans(),
)
def test_nothing_without_our_label_is_ever_suspected(
    label: str | None, status: OwnerStatus, phase: MachinePhase, known: bool
) -> None:
    state = record(phase) if known else None
    assert suspect(billed(label), env="prod", owner=owner(status, state)) is None


def decide(
    why: Suspicion, *, seen_for: float, orphans: int = 1, seen: int = 1, limits: Limits = Limits()
) -> Plan:
    found = {}
    for n in range(orphans):
        instance = billed(instance_id=str(n))
        found[key_of(instance)] = (instance, why)
    first = {key: NOW - timedelta(seconds=seen_for) for key in found}
    return plan(found, {}, first, seen=seen, now=NOW, limits=limits)


def test_an_orphan_is_ended_at_the_second_sighting() -> None:
    assert decide(Suspicion.OWNER_ENDED, seen_for=0).end == ()
    assert len(decide(Suspicion.OWNER_ENDED, seen_for=60).end) == 1


def test_a_stranger_gets_more_time() -> None:
    assert decide(Suspicion.OWNER_UNKNOWN, seen_for=60).end == ()
    assert len(decide(Suspicion.OWNER_UNKNOWN, seen_for=901).end) == 1


def test_a_sweep_that_would_end_too_much_ends_nothing() -> None:
    decided = decide(Suspicion.OWNER_ENDED, seen_for=60, orphans=6, seen=20)
    assert decided.end == ()
    assert "more than the 3" in decided.blocked
    assert len(decide(Suspicion.OWNER_ENDED, seen_for=60, orphans=6, seen=60).end) == 6


def test_live_records_without_a_workflow_come_back_and_stale_requests_do_not() -> None:
    states = {
        "m1": MachineState(phase=MachinePhase.RUNNING),
        "m2": MachineState(phase=MachinePhase.REQUESTED),
        "m3": MachineState(phase=MachinePhase.RUNNING),
    }
    long_ago = NOW - timedelta(seconds=60)
    first = {machine_key("m1"): long_ago, machine_key("m2"): long_ago, machine_key("m3"): NOW}
    decided = plan({}, states, first, seen=0, now=NOW, limits=Limits())
    assert decided.revive == ("m1",)
    assert decided.drop == ("m2",)
    assert decided.watching == (machine_key("m3"),)
