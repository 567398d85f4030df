"""What a lost link leads to, and what a receipt says of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.instances import InstanceState, SshAddress
from dumont.domain.machine import ActiveInstance, MachineSpec
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import ActiveStandby, Authority, Barrier, GuardReport
from dumont.domain.takeover import (
    STEADY,
    Account,
    BodiesSeen,
    Decision,
    Evidence,
    ProviderView,
    Restored,
    decide,
    receipt_of,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(minutes=5)
SSH = SshAddress(host="127.1.1.1", port=22)


def guard(**changes: Any) -> GuardReport:
    lost = {"authority": Authority.STANDBY, "epoch": 1, "link": "down"}
    return GuardReport.model_validate(
        {**lost, "link_since": LONG_AGO, "since": LONG_AGO, **changes}
    )


def evidence(
    *,
    said: GuardReport | None = None,
    answers: bool | None = False,
    heard: datetime | None = None,
    state: InstanceState | None = InstanceState.RUNNING,
    answered: bool = True,
    present: bool | None = True,
) -> Evidence:
    return Evidence(
        epoch=1,
        at=NOW,
        bodies=BodiesSeen(at=NOW, guard=said, primary_answers=answers, heartbeat_at=heard),
        provider=ProviderView(at=NOW, answered=answered, present=present, state=state),
    )


def test_a_guard_that_cannot_be_asked_decides_nothing() -> None:
    gone = evidence(said=None, state=None, present=False)
    assert decide(gone) is Decision.WAIT


def test_a_guard_that_gave_the_authority_back_is_a_false_alarm() -> None:
    healed = guard(authority=Authority.PRIMARY, link="up")
    assert decide(evidence(said=healed, answers=True)) is Decision.HEALED


def test_the_providers_proof_and_a_dead_link_are_enough_at_once() -> None:
    just_now = guard(link_since=NOW - timedelta(seconds=0.2), since=NOW)
    for proof in ({"state": InstanceState.STOPPED}, {"state": None, "present": False}):
        assert decide(evidence(said=just_now, **proof)) is Decision.REPLACE  # type: ignore[arg-type]


def test_a_provider_that_does_not_answer_is_no_proof() -> None:
    silent = evidence(said=guard(), answers=None, answered=False, state=None, present=None)
    assert decide(silent) is Decision.WAIT


def test_two_witnesses_and_an_expired_lease_outweigh_a_provider_that_says_running() -> None:
    """The provider's list lags by minutes when a host dies."""
    assert decide(evidence(said=guard(), heard=LONG_AGO)) is Decision.REPLACE
    assert decide(evidence(said=guard(), answers=True, heard=LONG_AGO)) is not Decision.REPLACE


def test_an_instance_that_is_well_again_is_taken_back_only_after_the_guard_had_its_time() -> None:
    back = {"link": "up", "written": True}
    assert decide(evidence(said=guard(**back), answers=True)) is Decision.RETURN
    for soon in ({"link_since": NOW - STEADY / 2}, {"since": NOW - STEADY / 2}):
        assert decide(evidence(said=guard(**back, **soon), answers=True)) is Decision.WAIT


def test_an_instance_at_another_address_is_taken_back() -> None:
    moved = evidence(said=guard(), answers=True)
    assert decide(moved) is not Decision.RETURN
    assert decide(moved, moved=True) is Decision.RETURN


@given(
    link=st.sampled_from(["up", "down", "unknown"]),
    answers=st.sampled_from([True, None]),
    age_s=st.floats(0, 1e6),
    heard=st.sampled_from([None, NOW, LONG_AGO]),
    authority=st.sampled_from(list(Authority)),
)
def test_nothing_is_replaced_while_it_answers_us_or_nobody_has_proof(
    link: str, answers: bool | None, age_s: float, heard: datetime | None, authority: Authority
) -> None:
    since = NOW - timedelta(seconds=age_s)
    seen = evidence(
        said=guard(link=link, link_since=since, since=since, authority=authority),
        answers=answers,
        heard=heard if answers else None,
        answered=answers is not None,
        state=InstanceState.RUNNING if answers else None,
        present=True if answers else None,
    )
    assert decide(seen) is not Decision.REPLACE


def account(**changes: Any) -> Account:
    home = ActiveInstance(
        provider="vast", instance_id="1", label="dmt-t-m0123456789ab-g1-a1", generation=1, ssh=SSH,
        usd_per_hour=0.30, gpu="RTX 4090", gpu_count=1, host_id="h1",
    )  # fmt: skip
    standby = ActiveStandby(
        provider="gcp", instance_id="vm1", label="dmt-t-m0123456789ab-g1-a1", zone="us-west1-b",
        number=1, ssh=SSH, endpoint=SSH, usd_per_hour=0.02,
    )  # fmt: skip
    made = Account(
        number=1, cause="the link was lost", drill=False, detected_at=NOW, former=home,
        standby=standby, epoch_before=1, evidence=evidence(said=guard(since=NOW)),
    )  # fmt: skip
    made.adopted = home.model_copy(update={"instance_id": "2", "usd_per_hour": 0.36})
    made.reached("fenced", NOW + timedelta(seconds=1))
    made.reached("provisioned", NOW + timedelta(seconds=10))
    made.restored = Restored(files=3, bytes=300, verified=3)
    made.final = Restored(files=4, bytes=310, verified=4, conflicts=(".dumont/conflicts/1/a",))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


SPEC = MachineSpec(
    machine_id="m0123456789ab", owner_id="o", name="my-box", env="t",
    requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
    authorized_keys=("ssh-ed25519 AAAA me",),
)  # fmt: skip


def receipt(made: Account) -> Any:
    closed = NOW + timedelta(seconds=20)
    return receipt_of(made, spec=SPEC, outcome="replaced", epoch=2, closed_at=closed)


def test_a_receipt_counts_from_the_first_moment_and_prices_what_it_knows() -> None:
    filed = receipt(account())
    assert [(m.phase, m.ms) for m in filed.timeline] == [
        ("detected", 0.0), ("redirected", 0.0), ("fenced", 1000.0), ("provisioned", 10_000.0),
    ]  # fmt: skip
    assert filed.cost.replacement_usd == pytest.approx(0.36 * 10 / 3600)
    assert filed.cost.standby_usd == pytest.approx(0.02 * 20 / 3600)
    assert (filed.files_restored, filed.bytes_restored) == (4, 310)
    assert filed.conflicts == (".dumont/conflicts/1/a",)
    assert {w.witness for w in filed.witnesses} == {"link", "ssh", "heartbeat", "provider"}


def test_what_is_not_known_is_not_called_zero() -> None:
    filed = receipt(account())
    assert filed.unreplicated.files is None
    assert filed.unreplicated.why_unknown
    free = account()
    free.adopted = free.former.model_copy(update={"usd_per_hour": None})
    assert receipt(free).cost.replacement_usd is None


def test_after_a_barrier_the_point_before_which_nothing_is_missing_is_known() -> None:
    barrier = Barrier(epoch=1, replicated_at=NOW, files=1, bytes=1, hashed=1, seconds=0.1)
    assert receipt(account(barrier=barrier)).unreplicated.last_point_at == NOW


def test_the_digest_tells_two_receipts_apart() -> None:
    one = receipt(account())
    assert one.digest == receipt(account()).digest
    assert one.digest != receipt(account(cause="something else")).digest
