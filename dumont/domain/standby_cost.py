"""What a standby costs per hour, from dated list prices.

Every figure is an estimate: what was paid is in receipts. A type or region that the list does not have
makes the figure unknown, never zero, so that no screen shows a free standby.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Literal, NamedTuple

from dumont.domain.errors import InvalidInput
from dumont.domain.gcp_list_prices import (
    ADDRESS_PER_HOUR,
    ADDRESS_PER_HOUR_SPOT,
    AS_OF,
    E2_SHARES,
    HOURS_PER_MONTH,
    LIST_PRICES,
    N2_SHARES,
    SOURCE,
    ListPrices,
)
from dumont.domain.instances import Model

DiskType = Literal["pd-standard", "pd-balanced", "pd-ssd"]


class StandbyCost(Model):
    """Dollars per hour of one standby, by what they are paid for; None is unknown."""

    vm: float | None
    disk: float | None
    address: float | None
    """The external IPv4 address."""
    egress: float | None
    """Bytes that leave Google: failing back, and users' downloads. What comes in is free."""
    total: float | None
    """The sum; None as soon as one part is."""
    as_of: date
    source: str

    @property
    def label(self) -> str:
        """What to print beside every one of these figures."""
        return f"estimate from list prices of {self.as_of.isoformat()}"


def standby_cost(
    machine_type: str,
    *,
    spot: bool,
    disk_gb: float,
    region: str,
    egress_gb_per_hour: float = 0.0,
    disk_type: DiskType = "pd-balanced",
) -> StandbyCost:
    """Estimate what a standby costs per hour while it runs.

    Args:
        machine_type: Google's name, such as `e2-small`.
        spot: Whether it is rented as Spot.
        disk_gb: Size of its boot disk.
        region: Google's region, such as `us-west1`.
        egress_gb_per_hour: What leaves Google, on average.
        disk_type: Kind of the boot disk.

    Raises:
        InvalidInput: A size is negative or no number.
    """
    _not_negative("disk_gb", disk_gb)
    _not_negative("egress_gb_per_hour", egress_gb_per_hour)
    prices = LIST_PRICES.get(region)
    if prices is None:
        return _cost(vm=None, disk=None, address=None, egress=None)
    return _cost(
        vm=_vm(prices, machine_type, spot=spot),
        disk=_times(_disk(prices, disk_type), disk_gb / HOURS_PER_MONTH),
        address=ADDRESS_PER_HOUR_SPOT if spot else ADDRESS_PER_HOUR,
        egress=_times(prices.egress, egress_gb_per_hour) if egress_gb_per_hour else 0.0,
    )


class StandbyPrices(NamedTuple):
    """Dollars per hour of a standby's parts; None is unknown."""

    vm: float | None
    """Cores and memory, while it runs."""
    disk: float | None
    """All of its disk, as long as that exists."""
    address: float | None
    """The external IPv4 address, while it is in use."""
    source: str
    """Which list, with its date."""


def dated_prices(
    machine_type: str, *, spot: bool, disk_gb: float | None, disk_type: str, region: str
) -> StandbyPrices:
    """A standby's prices from the dated list. What the list does not have is None."""
    prices = LIST_PRICES.get(region)
    source = f"{SOURCE}, {AS_OF.isoformat()}"
    if prices is None:
        return StandbyPrices(None, None, None, source)
    per_month = {
        "pd-standard": prices.pd_standard,
        "pd-balanced": prices.pd_balanced,
        "pd-ssd": prices.pd_ssd,
    }.get(disk_type)
    return StandbyPrices(
        vm=_vm(prices, machine_type, spot=spot),
        disk=None if disk_gb is None else _times(per_month, disk_gb / HOURS_PER_MONTH),
        address=ADDRESS_PER_HOUR_SPOT if spot else ADDRESS_PER_HOUR,
        source=source,
    )


def _vm(prices: ListPrices, machine_type: str, *, spot: bool) -> float | None:
    if machine_type in E2_SHARES:
        medium = prices.e2_medium_spot if spot else prices.e2_medium
        return _times(medium, E2_SHARES[machine_type])
    if machine_type in N2_SHARES:
        smallest = prices.n2_standard_2_spot if spot else prices.n2_standard_2
        return _times(smallest, N2_SHARES[machine_type])
    return None


def _disk(prices: ListPrices, disk_type: DiskType) -> float | None:
    return {
        "pd-standard": prices.pd_standard,
        "pd-balanced": prices.pd_balanced,
        "pd-ssd": prices.pd_ssd,
    }[disk_type]


def _times(price: float | None, quantity: float) -> float | None:
    return None if price is None else price * quantity


def _cost(
    *, vm: float | None, disk: float | None, address: float | None, egress: float | None
) -> StandbyCost:
    parts = [part for part in (vm, disk, address, egress) if part is not None]
    return StandbyCost(
        vm=vm,
        disk=disk,
        address=address,
        egress=egress,
        total=sum(parts) if len(parts) == 4 else None,
        as_of=AS_OF,
        source=SOURCE,
    )


def _not_negative(field: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise InvalidInput(f"{field} must be a number of at least 0, not {value}", field=field)
