"""Leftovers: priced or unknown, and never ended when somebody may own them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.instances import Instance, InstanceState, SshAddress
from dumont.domain.labels import MACHINE_KEY
from dumont.domain.leftovers import (
    CloudAddress,
    CloudDisk,
    Fate,
    Leftover,
    LeftoverKind,
    LeftoverLimits,
    LeftoverPlan,
    decide,
    detached_disks,
    disk_usd_per_hour,
    idle_addresses,
    kept_snapshots,
    schedule,
    seen_key,
    sightings_of,
    stopped_instances,
    suspect_key,
)
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineState
from dumont.domain.protection import AgentRole
from dumont.domain.reconcile import Owner, OwnerStatus, Suspicion

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGES_AGO = NOW - timedelta(days=30)
M = "m0123456789ab"
LABEL = f"dmt-prod-{M}-g2-a1"
LIMITS = LeftoverLimits()


def disk(**changes: object) -> CloudDisk:
    fields = {
        "name": LABEL, "disk_id": "5", "zone": "us-central1-a", "size_gb": 20.0,
        "disk_type": "pd-balanced", "labels": {MACHINE_KEY: M}, **changes,
    }  # fmt: skip
    return CloudDisk.model_validate(fields)


def instance(**changes: object) -> Instance:
    fields = {
        "provider": "vast", "instance_id": "7", "label": LABEL, "state": InstanceState.STOPPED,
        "usd_per_hour": 0.0011, **changes,
    }  # fmt: skip
    return Instance.model_validate(fields)


def record(phase: MachinePhase = MachinePhase.RUNNING, **changes: object) -> MachineState:
    home = ActiveInstance(
        provider="vast", instance_id="7", label=LABEL, generation=2,
        ssh=SshAddress(host="h", port=22), usd_per_hour=1, gpu="L4", gpu_count=1,
    )  # fmt: skip
    return MachineState.model_validate(
        {"phase": phase, "generation": 2, "instance": home, **changes}
    )


def owner(workflow: OwnerStatus, state: MachineState | None) -> Owner:
    return Owner(workflow=workflow, workflow_generation=2, record=state)


LIVE = owner(OwnerStatus.RUNNING, record())
ENDED = owner(OwnerStatus.CLOSED, record(MachinePhase.DESTROYED))
NOBODY = owner(OwnerStatus.ABSENT, None)


def seen(*leftovers: Leftover, since: datetime = AGES_AGO) -> dict[str, datetime]:
    return {key(each): since for each in leftovers for key in (seen_key, suspect_key)}


def sweep(
    *leftovers: Leftover,
    owners: dict[str, Owner],
    since: datetime = AGES_AGO,
    limits: LeftoverLimits = LIMITS,
) -> LeftoverPlan:
    return decide(
        leftovers, owners, seen(*leftovers, since=since), env="prod", now=NOW, limits=limits
    )


# What is found ------------------------------------------------------------------------------


def test_a_detached_disk_is_priced_by_the_list() -> None:
    (found,) = detached_disks([disk(), disk(users=("vm",)), disk(ready=False)], env="prod")
    assert found.usd_per_hour == pytest.approx(20 * 0.1 / 730)
    assert found.price_note.endswith("2026-07-30")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": f"dmt-demo-{M}-g2-a1"},
        {"name": "dmt-prod"},
        {"name": f"{LABEL}-data"},
        {"labels": {}},
        {"labels": {MACHINE_KEY: "mffffffffffff"}},
    ],
)
def test_what_does_not_carry_our_labels_is_not_even_seen(changes: dict[str, object]) -> None:
    assert detached_disks([disk(**changes)], env="prod") == []
    where = {"address_id": "1", "region": "us-central1", "address": "203.0.113.9", "in_use": False}
    named = {"name": LABEL, "labels": {MACHINE_KEY: M}, **where}
    assert len(idle_addresses([CloudAddress.model_validate(named)], env="prod")) == 1
    assert idle_addresses([CloudAddress.model_validate({**named, **changes})], env="prod") == []


@pytest.mark.parametrize("changes", [{"zone": "moon-central1-a"}, {"disk_type": "hyperdisk-x"}])
def test_a_price_that_the_list_lacks_is_unknown_and_not_free(changes: dict[str, object]) -> None:
    assert disk_usd_per_hour(disk(**changes)) is None
    (found,) = detached_disks([disk(**changes)], env="prod")
    assert found.usd_per_hour is None
    (vm,) = stopped_instances(
        [instance(provider="gcp", usd_per_hour=None, region="us-central1-a")],
        env="prod",
        disks=[disk(users=(LABEL,)), disk(users=(LABEL,), **{**changes, "zone": "us-central1-a"})]
        if "zone" not in changes
        else [],
    )
    assert vm.usd_per_hour is None


def test_stopped_instances_are_priced_by_what_their_provider_says_or_by_their_disks() -> None:
    running = instance(state=InstanceState.RUNNING)
    stranger = instance(label="somebody's training run")
    (vast,) = stopped_instances([instance(), running, stranger], env="prod")
    assert (vast.usd_per_hour, vast.price_note) == (0.0011, "the provider's own figure")
    vm = instance(provider="gcp", usd_per_hour=None, region="us-central1-a")
    elsewhere = disk(users=(LABEL,), zone="us-central1-b")
    (standby,) = stopped_instances(
        [vm], env="prod", body=AgentRole.STANDBY, disks=[disk(users=(LABEL,)), elsewhere]
    )
    assert standby.size_gb == 20
    assert standby.usd_per_hour == pytest.approx(20 * 0.1 / 730)


def test_snapshots_cost_what_is_configured_or_nobody_knows() -> None:
    known = kept_snapshots(M, snapshots=3, stored_bytes=73_000_000_000, usd_per_gb_month=0.02)
    assert known.usd_per_hour == pytest.approx(0.002)
    unknown = kept_snapshots(M, snapshots=1, stored_bytes=1, usd_per_gb_month=None)
    assert unknown.usd_per_hour is None
    assert unknown.detail == "1 snapshot"


# What becomes of it -------------------------------------------------------------------------

DISK = detached_disks([disk()], env="prod")[0]
STOPPED = stopped_instances([instance()], env="prod")[0]
PLAN = schedule(f"machine/{M}/snapshot", machine_id=M)
SNAPSHOTS = kept_snapshots(M, snapshots=1, stored_bytes=1, usd_per_gb_month=1)


@pytest.mark.parametrize("leftover", [DISK, STOPPED, PLAN])
def test_it_is_ended_when_both_witnesses_say_so_twice(leftover: Leftover) -> None:
    plan = sweep(leftover, owners={M: ENDED})
    assert [each.leftover for each in plan.end] == [leftover]
    assert plan.end[0].suspicion is Suspicion.OWNER_ENDED
    again = sweep(leftover, owners={M: ENDED}, since=NOW - timedelta(seconds=29))
    assert again.end == ()
    assert [each.leftover for each in again.watching] == [leftover]


def test_the_stopped_instance_that_a_machine_wants_bills_and_stays() -> None:
    (found,) = sweep(STOPPED, owners={M: LIVE}).found
    assert (found.fate, found.seen_since) == (Fate.KEPT, AGES_AGO)
    assert "bills storage" in found.why
    other = stopped_instances([instance(instance_id="8")], env="prod")[0]
    assert sweep(other, owners={M: LIVE}).end[0].suspicion is Suspicion.DUPLICATE
    old = stopped_instances([instance(label=f"dmt-prod-{M}-g1-a1")], env="prod")[0]
    retiring = owner(OwnerStatus.RUNNING, record(retiring=(old.label,)))
    (kept,) = sweep(old, owners={M: retiring}).found
    assert (kept.fate, "only it has" in kept.why) == (Fate.KEPT, True)


def test_files_of_people_are_never_ended() -> None:
    (found,) = sweep(SNAPSHOTS, owners={M: ENDED}).found
    assert found.fate is Fate.KEPT
    assert "only their owner deletes them" in found.why


def test_an_owner_that_nobody_knows_is_waited_for_longer() -> None:
    for minutes, fate in ((14, Fate.WATCHED), (15, Fate.ENDING)):
        since = NOW - timedelta(minutes=minutes)
        assert sweep(DISK, owners={M: NOBODY}, since=since).found[0].fate is fate


def test_too_many_at_once_stop_the_sweep() -> None:
    many = [DISK.model_copy(update={"resource_id": str(n)}) for n in range(4)]
    plan = sweep(*many, owners={M: ENDED})
    assert plan.end == ()
    assert {each.fate for each in plan.found} == {Fate.HELD}
    assert "4 of 4" in (plan.blocked or "")


def test_a_deployment_may_only_want_to_see() -> None:
    plan = sweep(DISK, owners={M: ENDED}, limits=LeftoverLimits(end=False))
    assert (plan.end, plan.found[0].fate) == ((), Fate.SHOWN)


def test_time_without_an_owner_counts_and_not_time_since_it_was_seen() -> None:
    """A machine whose stopped instance was shown for a month, and that is destroyed today."""
    first = decide(
        [STOPPED], {M: ENDED}, {seen_key(STOPPED): AGES_AGO}, env="prod", now=NOW, limits=LIMITS
    )
    assert first.end == ()
    assert first.found[0].seen_since == AGES_AGO
    assert sightings_of([STOPPED], {M: LIVE}, env="prod") == [seen_key(STOPPED)]
    assert suspect_key(STOPPED) in sightings_of([STOPPED], {M: ENDED}, env="prod")


_STATES = st.builds(
    record,
    st.sampled_from(MachinePhase),
    retiring=st.sampled_from([(), (LABEL,), (f"dmt-prod-{M}-g1-a1",)]),
)
_OWNERS = st.none() | st.builds(
    Owner,
    workflow=st.sampled_from(OwnerStatus),
    workflow_generation=st.none() | st.integers(1, 3),
    record=st.none() | _STATES,
)
_LEFTOVERS = st.builds(
    Leftover,
    kind=st.sampled_from(LeftoverKind),
    provider=st.sampled_from(["vast", "gcp", "temporal", "s3"]),
    resource_id=st.sampled_from(["7", "8", f"machine/{M}/snapshot", "machine/mffffffffffff/x"]),
    label=st.sampled_from(
        [LABEL, f"dmt-prod-{M}-g1-a1", f"dmt-demo-{M}-g1-a1", "", "prod", "dmt-prod-x-g1-a1"]
    ),
    machine_id=st.sampled_from([M, "mffffffffffff"]),
    body=st.sampled_from(AgentRole),
)
_LIMITS = st.builds(
    LeftoverLimits,
    confirm_s=st.sampled_from([0.0, 30.0]),
    unknown_owner_s=st.sampled_from([0.0, 900.0]),
    max_ended=st.integers(1, 5),
    max_ended_share=st.sampled_from([0.0, 1.0]),
    end=st.booleans(),
)


@given(
    st.lists(_LEFTOVERS, max_size=6, unique_by=lambda each: each.key),
    _OWNERS,
    _LIMITS,
    st.sampled_from([None, NOW, NOW - timedelta(seconds=60), AGES_AGO]),
)
def test_nothing_is_ended_that_is_owned_foreign_or_seen_once(
    leftovers: list[Leftover], whose: Owner | None, limits: LeftoverLimits, since: datetime | None
) -> None:
    owners = {M: whose} if whose is not None else {}
    first = seen(*leftovers, since=since) if since is not None else {}
    plan = decide(leftovers, owners, first, env="prod", now=NOW, limits=limits)
    assert len(plan.found) == len(leftovers)
    if plan.end:
        assert limits.end
        assert since is not None
        assert since < NOW
        assert NOW - since >= timedelta(seconds=min(limits.confirm_s, limits.unknown_owner_s))
        assert whose is not None
        assert len(plan.end) <= max(limits.max_ended, len(leftovers) * limits.max_ended_share)
    for each in plan.end:
        leftover = each.leftover
        assert whose is not None
        assert leftover.kind is not LeftoverKind.BUCKET_PREFIX
        assert leftover.machine_id == M
        if leftover.kind is LeftoverKind.SCHEDULE:
            assert leftover.resource_id.startswith(f"machine/{M}/")
        else:
            assert leftover.label.startswith(f"dmt-prod-{M}-")
        if leftover.kind is LeftoverKind.STOPPED_INSTANCE:
            wanted = whose.record is not None and leftover.label in whose.record.retiring
            assert not (whose.workflow is OwnerStatus.RUNNING and wanted)
        else:
            assert whose.workflow is not OwnerStatus.RUNNING
            assert whose.record is None or whose.record.phase.final
