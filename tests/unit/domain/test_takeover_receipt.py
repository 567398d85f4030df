"""What a receipt says of the writes that had not reached the standby: known points, no guesses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dumont.domain.instances import SshAddress
from dumont.domain.machine import ActiveInstance, MachineSpec
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import ActiveStandby, Barrier, ProtectionReport
from dumont.domain.receipts import Receipt
from dumont.domain.takeover import Account, BodiesSeen, Evidence, ProviderView, receipt_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = SshAddress(host="127.1.1.1", port=22)
FORMER = ActiveInstance(
    provider="vast", instance_id="7", label="dmt-test-m1-g3-a1", generation=3, ssh=AT,
    usd_per_hour=0.4, gpu="L4", gpu_count=1,
)  # fmt: skip
STANDBY = ActiveStandby(
    provider="gcp", instance_id="9", label="dmt-test-m1-s1", zone="us-west1-b", number=1, ssh=AT,
    endpoint=AT,
)  # fmt: skip
SPEC = MachineSpec(
    machine_id="m0123456789ab", owner_id="u1", name="my-box", env="test",
    requirement=GpuRequirement(gpu="L4", max_usd_per_hour=1), authorized_keys=("ssh-ed25519 A",),
)  # fmt: skip


def filed(**account: Any) -> Receipt:
    whole = Account(
        number=1, cause="the link is lost", drill=False, detected_at=NOW, former=FORMER,
        standby=STANDBY, epoch_before=1, **account,
    )  # fmt: skip
    return receipt_of(
        whole, spec=SPEC, outcome="returned", epoch=2, closed_at=NOW + timedelta(seconds=60)
    )


def seen(report: ProtectionReport | None) -> Evidence:
    return Evidence(
        epoch=1,
        at=NOW,
        bodies=BodiesSeen(at=NOW, last_report=report),
        provider=ProviderView(at=NOW),
    )


def test_the_last_point_that_the_agent_named():
    point = NOW - timedelta(seconds=0.3)
    lost = filed(evidence=seen(ProtectionReport(replicated_at=point, pending_files=3))).unreplicated
    assert lost.last_point_at == point
    assert (lost.files, lost.bytes) == (None, None)
    assert lost.why_unknown.startswith("3 files were on their way")


def test_an_agent_that_said_nothing_leaves_it_unknown():
    for evidence in (None, seen(None), seen(ProtectionReport())):
        lost = filed(evidence=evidence).unreplicated
        assert lost.last_point_at is lost.files is lost.bytes is None
        assert lost.why_unknown


def test_a_barrier_is_a_point_not_a_claim_about_what_came_after_it():
    barrier = Barrier(
        epoch=1, sequence=17, replicated_at=NOW, files=1, bytes=1, hashed=1, seconds=0.1
    )
    lost = filed(barrier=barrier).unreplicated
    assert (lost.last_point_at, lost.sequence) == (NOW, 17)
    assert (lost.files, lost.bytes) == (None, None)


def test_it_says_which_generation_was_lost_and_never_a_price_that_nobody_named():
    receipt = filed()
    assert receipt.former.generation == 3
    assert receipt.cost.standby_usd is None
    assert receipt.cost.replacement_usd is None
