"""What a standby costs: dated, by region, and unknown rather than free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.errors import InvalidInput
from dumont.domain.gcp_list_prices import LIST_PRICES
from dumont.domain.gcp_regions import REGIONS
from dumont.domain.standby_cost import standby_cost

TYPES = ["e2-micro", "e2-small", "e2-medium", "e2-standard-2", "e2-standard-4", "n2-standard-2"]


@pytest.mark.parametrize(
    ("machine_type", "spot", "usd_per_month"),
    [  # 730 hours, us-central1; on-demand E2 from Google's published price of a core and of a GB
        ("e2-micro", False, 6.11),
        ("e2-small", False, 12.23),
        ("e2-medium", False, 24.46),
        ("e2-standard-2", False, 48.92),
        ("e2-standard-4", False, 97.84),
        ("n2-standard-2", False, 70.90),
        ("e2-small", True, 7.34),
        ("e2-medium", True, 14.68),
    ],
)
def test_what_a_vm_costs_a_month(machine_type: str, spot: bool, usd_per_month: float) -> None:
    cost = standby_cost(machine_type, spot=spot, disk_gb=0, region="us-central1")
    assert cost.vm is not None
    assert cost.vm * 730 == pytest.approx(usd_per_month, abs=0.005)


def test_the_parts_and_their_sum() -> None:
    cost = standby_cost(
        "e2-small", spot=True, disk_gb=100, region="us-central1", egress_gb_per_hour=0.5
    )
    assert cost.disk == pytest.approx(100 * 0.10 / 730)
    assert cost.address == pytest.approx(0.0025)
    assert cost.egress == pytest.approx(0.5 * 0.12)
    assert cost.total == pytest.approx(0.010053 + 10 / 730 + 0.0025 + 0.06)


def test_a_plain_disk_is_cheaper_and_an_address_dearer_on_demand() -> None:
    plain = standby_cost(
        "e2-small", spot=False, disk_gb=100, region="us-central1", disk_type="pd-standard"
    )
    assert plain.disk == pytest.approx(100 * 0.04 / 730)
    assert plain.address == pytest.approx(0.005)


def test_regions_differ() -> None:
    prices = {
        region: standby_cost("e2-small", spot=True, disk_gb=20, region=region).total
        for region in ("us-central1", "us-west4", "asia-northeast1")
    }
    assert len(set(prices.values())) == 3


def test_every_figure_is_an_estimate_with_a_date() -> None:
    cost = standby_cost("e2-small", spot=True, disk_gb=20, region="us-central1")
    assert cost.label == f"estimate from list prices of {cost.as_of.isoformat()}"
    assert cost.source


def test_an_unknown_region_makes_everything_unknown() -> None:
    cost = standby_cost("e2-small", spot=True, disk_gb=20, region="mars-north1")
    assert (cost.vm, cost.disk, cost.address, cost.egress, cost.total) == (None,) * 5


@pytest.mark.parametrize("machine_type", ["", "e2-huge", "E2-SMALL", "a3-highgpu-8g"])
def test_an_unknown_type_makes_the_sum_unknown_never_zero(machine_type: str) -> None:
    cost = standby_cost(machine_type, spot=True, disk_gb=20, region="us-central1")
    assert cost.vm is None
    assert cost.total is None
    assert cost.disk is not None


def test_a_type_that_a_region_does_not_sell_is_unknown_there() -> None:
    assert (
        standby_cost("n2-standard-2", spot=True, disk_gb=20, region="europe-north2").total is None
    )
    assert standby_cost("e2-small", spot=True, disk_gb=20, region="asia-southeast3").total is None


def test_unknown_egress_matters_only_when_there_is_some() -> None:
    quiet = standby_cost("e2-small", spot=True, disk_gb=20, region="asia-northeast1")
    busy = standby_cost(
        "e2-small", spot=True, disk_gb=20, region="asia-northeast1", egress_gb_per_hour=1
    )
    assert quiet.total is not None
    assert (busy.egress, busy.total) == (None, None)


@pytest.mark.parametrize("region", sorted(LIST_PRICES))
def test_prices_are_of_known_regions_and_plausible(region: str) -> None:
    assert region in REGIONS
    small = {
        spot: standby_cost("e2-small", spot=spot, disk_gb=20, region=region).vm
        for spot in (True, False)
    }
    if region == "asia-southeast3":
        assert small == {True: None, False: None}
        return
    assert small[True] is not None
    assert small[False] is not None
    assert 0.001 < small[True] < small[False] < 0.04


@given(
    st.sampled_from(TYPES), st.booleans(), st.floats(0, 65_536), st.sampled_from(sorted(REGIONS))
)
def test_a_known_sum_is_its_parts_and_never_nothing(
    machine_type: str, spot: bool, disk_gb: float, region: str
) -> None:
    cost = standby_cost(machine_type, spot=spot, disk_gb=disk_gb, region=region)
    parts = (cost.vm, cost.disk, cost.address, cost.egress)
    assert (cost.total is None) == (None in parts)
    if cost.total is not None:
        assert cost.total == pytest.approx(sum(part or 0 for part in parts))
        assert cost.total > 0


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_sizes_must_be_numbers_of_at_least_zero(wrong: float) -> None:
    with pytest.raises(InvalidInput, match="disk_gb"):
        standby_cost("e2-small", spot=True, disk_gb=wrong, region="us-central1")
    with pytest.raises(InvalidInput, match="egress_gb_per_hour"):
        standby_cost(
            "e2-small", spot=True, disk_gb=1, region="us-central1", egress_gb_per_hour=wrong
        )
