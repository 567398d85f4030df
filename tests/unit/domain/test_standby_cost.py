"""What a standby costs: every part of it, from dated list prices, and never zero for unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.errors import InvalidInput
from dumont.domain.standby_cost import StandbyCost, standby_cost, vm_usd_per_hour
from dumont.domain.standby_prices import (
    DISK_RATES,
    LIST_PRICES_OF,
    SERIES_RATES,
    Destination,
    egress_usd_per_gb,
)

# Whole types as the price list of the same day has them, typed in by hand: the table keeps cores
# and memory, so that these check its arithmetic.
LISTED = [
    ("e2-small", "us-central1", False, 0.016752855),
    ("e2-small", "us-central1", True, 0.010053),
    ("e2-small", "europe-west3", True, 0.010483),
    ("e2-small", "us-west4", True, 0.002272),
    ("e2-medium", "us-central1", False, 0.03350571),
    ("e2-medium", "asia-northeast1", True, 0.025792),
    ("e2-medium", "southamerica-east1", False, 0.0531852),
]


@pytest.mark.parametrize(("machine_type", "region", "spot", "listed"), LISTED)
def test_vm_prices_are_those_of_the_list(
    machine_type: str, region: str, spot: bool, listed: float
) -> None:
    price = vm_usd_per_hour(machine_type, spot=spot, region=region)
    assert price == pytest.approx(listed, abs=1e-6)


def test_a_standby_costs_more_than_its_vm() -> None:
    cost = standby_cost("e2-small", True, 100, "us-central1", 0.0, disk_type="pd-standard")
    assert cost.vm_usd == pytest.approx(0.010053, abs=1e-6)
    assert cost.disk_usd == pytest.approx(100 * 0.04 / 730)
    assert cost.address_usd == 0.0025
    assert cost.egress_usd == 0.0
    assert cost.total_usd == pytest.approx(0.010053 + 0.005479 + 0.0025, abs=1e-5)
    assert cost.month_usd == pytest.approx(7.34 + 4.0 + 1.83, abs=0.02)


def test_a_standard_vm_in_its_own_region_is_dearer_than_spot() -> None:
    for region in SERIES_RATES["e2"]:
        spot = standby_cost("e2-small", True, 50, region, 0.1).total_usd
        standard = standby_cost("e2-small", False, 50, region, 0.1).total_usd
        assert spot is not None
        assert standard is not None
        assert 0 < spot < standard < 1


@pytest.mark.parametrize(
    ("region", "destination", "usd"),
    [
        ("us-central1", Destination.WORLDWIDE, 0.12),
        ("asia-northeast1", Destination.WORLDWIDE, 0.085),
        ("southamerica-east1", Destination.WORLDWIDE, 0.19),
        ("me-west1", Destination.WORLDWIDE, 0.15),
        ("us-central1", Destination.AUSTRALIA, 0.19),
        ("asia-northeast3", Destination.AUSTRALIA, 0.15),
        ("us-central1", Destination.CHINA, 0.23),
        ("asia-northeast3", Destination.CHINA, 0.20),
    ],
)
def test_egress_is_priced_by_where_it_goes(
    region: str, destination: Destination, usd: float
) -> None:
    cost = standby_cost("e2-small", True, 10, region, 2.0, destination=destination)
    assert cost.egress_usd == pytest.approx(2 * usd)


@pytest.mark.parametrize(
    "machine_type",
    ["", "e3-small", "e2-standard-3", "e2-small-2", "E2-small", "n2-highmem-128", "e2-highmem-32"],
)
def test_an_unknown_type_has_no_price_and_no_sum(machine_type: str) -> None:
    cost = standby_cost(machine_type, True, 10, "us-central1", 0.0)
    assert cost.vm_usd is None
    assert cost.disk_usd is not None
    assert cost.total_usd is None
    assert cost.month_usd is None


@pytest.mark.parametrize("region", ["", "us-central9", "us-central1-a", "local"])
def test_an_unknown_region_has_no_price_at_all(region: str) -> None:
    cost = standby_cost("e2-small", True, 10, region, 1.0)
    parts = (cost.vm_usd, cost.disk_usd, cost.address_usd, cost.egress_usd, cost.total_usd)
    assert parts == (None,) * 5
    assert egress_usd_per_gb(region=region, destination=Destination.CHINA) is None


def test_a_region_that_does_not_sell_the_series_is_unknown_for_the_vm_alone() -> None:
    cost = standby_cost("e2-small", True, 10, "asia-southeast3", 0.0)
    assert cost.vm_usd is None
    assert cost.disk_usd is not None
    assert cost.total_usd is None


def test_unknown_traffic_makes_the_sum_unknown() -> None:
    cost = standby_cost("e2-small", True, 10, "us-central1", None)
    assert cost.egress_usd is None
    assert cost.total_usd is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_impossible_sizes_are_refused(wrong: float) -> None:
    with pytest.raises(InvalidInput, match="disk_gb"):
        standby_cost("e2-small", True, wrong, "us-central1", 0.0)
    with pytest.raises(InvalidInput, match="egress_gb_per_hour"):
        standby_cost("e2-small", True, 10, "us-central1", wrong)


def test_every_figure_says_what_it_is_and_survives_the_wire() -> None:
    cost = standby_cost("e2-small", True, 10, "us-central1", 0.0)
    assert cost.label == f"estimate from list prices of {LIST_PRICES_OF}"
    wire = cost.model_dump_json()
    assert '"total_usd"' in wire
    assert StandbyCost.model_validate_json(wire) == cost


@given(
    region=st.sampled_from(sorted(DISK_RATES)),
    machine_type=st.sampled_from(["e2-micro", "e2-small", "e2-standard-4", "n2-standard-2"]),
    spot=st.booleans(),
    disk=st.floats(0, 2000),
    more=st.floats(0.1, 2000),
    egress=st.floats(0, 50),
)
def test_more_never_costs_less(
    region: str, machine_type: str, spot: bool, disk: float, more: float, egress: float
) -> None:
    small = standby_cost(machine_type, spot, disk, region, egress)
    large = standby_cost(machine_type, spot, disk + more, region, egress + more)
    if small.total_usd is None:
        assert small.vm_usd is None
        assert large.total_usd is None
    else:
        assert large.total_usd is not None
        assert small.total_usd < large.total_usd
