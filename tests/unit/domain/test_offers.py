"""Which offers are tried, in which order, at which bid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.instances import Rental
from dumont.domain.offers import GpuRequirement, Offer, rank_offers

NEED = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6)


def make(**changes: object) -> Offer:
    facts = {
        "provider": "vast", "offer_id": "1", "host_id": "h1", "gpu": "RTX 4090", "gpu_count": 1,
        "rental": Rental.SPOT, "usd_per_hour": 0.3, "gpu_usd_per_hour": 0.29, "reliability": 0.99,
    }  # fmt: skip
    return Offer(**{**facts, **changes})  # type: ignore[arg-type]


def test_cheap_and_reliable_comes_first() -> None:
    cheap = make(offer_id="1", host_id="a", usd_per_hour=0.30)
    dear = make(offer_id="2", host_id="b", usd_per_hour=0.40)
    shaky = make(offer_id="3", host_id="c", usd_per_hour=0.29, reliability=0.91)
    ranked = rank_offers([dear, shaky, cheap], NEED)
    assert [c.offer.offer_id for c in ranked] == ["1", "3", "2"]


def test_what_does_not_say_does_not_qualify() -> None:
    assert rank_offers([make(reliability=None)], NEED) == []
    assert rank_offers([make(country=None)], NEED.model_copy(update={"regions": ("US",)})) == []


def test_a_host_is_tried_once_and_a_bad_one_not_at_all() -> None:
    slices = [make(offer_id=str(n), host_id="h1", usd_per_hour=0.3 + n / 100) for n in range(3)]
    assert len(rank_offers(slices, NEED)) == 1
    assert rank_offers(slices, NEED, avoid_hosts={"h1"}) == []


def test_the_wrong_kind_is_never_rented() -> None:
    wrong = [
        make(gpu="RTX 3090"),
        make(gpu_count=2),
        make(rental=Rental.ON_DEMAND),
        make(usd_per_hour=0.61),
        make(usd_per_hour=0.0),
        make(disk_gb=10),
        make(available_s=3600),
    ]
    assert rank_offers(wrong, NEED) == []


def test_on_demand_carries_no_bid() -> None:
    need = NEED.model_copy(update={"rental": Rental.ON_DEMAND})
    (choice,) = rank_offers([make(rental=Rental.ON_DEMAND)], need)
    assert choice.bid_usd_per_hour is None


@given(gpu=st.floats(0.01, 2), disk=st.floats(0, 0.5), ceiling=st.floats(0.01, 3))
def test_a_bid_wins_now_and_never_exceeds_the_ceiling(
    gpu: float, disk: float, ceiling: float
) -> None:
    need = NEED.model_copy(update={"max_usd_per_hour": ceiling})
    total = gpu + disk
    for choice in rank_offers([make(usd_per_hour=total, gpu_usd_per_hour=gpu)], need):
        assert choice.bid_usd_per_hour is not None
        assert choice.bid_usd_per_hour >= gpu * (1 - 1e-9)
        assert choice.bid_usd_per_hour + disk <= ceiling + 1e-9
