"""What a standby costs per hour: the VM, and the disk, address and traffic that quotes leave out.

An estimate from list prices, labelled so; charges come from the provider's bill. What is not in the
price list is unknown, never free.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import computed_field

from dumont.domain.errors import InvalidInput
from dumont.domain.instances import Message
from dumont.domain.standby_prices import (
    ADDRESS_USD_PER_HOUR,
    DISK_RATES,
    HOURS_PER_MONTH,
    LIST_PRICES_OF,
    SERIES_RATES,
    Destination,
    egress_usd_per_gb,
)

DiskType = Literal["pd-standard", "pd-balanced", "pd-ssd"]

ESTIMATE_LABEL = f"estimate from list prices of {LIST_PRICES_OF.isoformat()}"
"""Stands beside every figure of this module."""

_SHARED_CORE = {"e2-micro": (0.25, 1.0), "e2-small": (0.5, 2.0), "e2-medium": (1.0, 4.0)}
"""Billed cores and GB of memory. These show two CPUs to their guest and bill a fraction of one."""
_GB_PER_CORE = {"standard": 4, "highmem": 8, "highcpu": 1}
_CORES = {
    ("e2", "standard"): (2, 4, 8, 16, 32),
    ("e2", "highmem"): (2, 4, 8, 16),
    ("e2", "highcpu"): (2, 4, 8, 16, 32),
    ("n2", "standard"): (2, 4, 8, 16, 32, 48, 64, 80, 96, 128),
    ("n2", "highmem"): (2, 4, 8, 16, 32, 48, 64, 80, 96),
    ("n2", "highcpu"): (2, 4, 8, 16, 32, 48, 64, 80, 96),
    ("n2d", "standard"): (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224),
    ("n2d", "highmem"): (2, 4, 8, 16, 32, 48, 64, 80, 96),
    ("n2d", "highcpu"): (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224),
}
_TYPE = re.compile(r"(?P<series>[a-z0-9]+)-(?P<kind>[a-z]+)-(?P<cores>[1-9][0-9]{0,2})")


class StandbyCost(Message):
    """$/h of one standby by part. None is unknown; a sum with an unknown part is unknown."""

    machine_type: str
    spot: bool
    region: str
    vm_usd: float | None
    disk_usd: float | None
    address_usd: float | None
    egress_usd: float | None
    label: str = ESTIMATE_LABEL

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total_usd(self) -> float | None:
        """All parts together, $/h."""
        parts = (self.vm_usd, self.disk_usd, self.address_usd, self.egress_usd)
        known = [part for part in parts if part is not None]
        return math.fsum(known) if len(known) == len(parts) else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def month_usd(self) -> float | None:
        """The sum for a month of 730 hours."""
        return None if self.total_usd is None else self.total_usd * HOURS_PER_MONTH


def standby_cost(
    machine_type: str,
    spot: bool,
    disk_gb: float,
    region: str,
    egress_gb_per_hour: float | None,
    *,
    disk_type: DiskType = "pd-balanced",
    destination: Destination = Destination.WORLDWIDE,
) -> StandbyCost:
    """Estimate what a standby costs per hour.

    Args:
        machine_type: Google's name, such as `e2-small`.
        spot: Whether it may be preempted.
        disk_gb: Size of its boot disk; a GB is 2**30 bytes here, as in Google's price list.
        region: Google's name, such as `us-central1`.
        egress_gb_per_hour: What it sends to the Internet: sessions, and the workspace when a new
            primary is restored from it. What it mirrors comes in, which is free. None: unknown.
        disk_type: Kind of its boot disk.
        destination: Where the traffic goes.

    Raises:
        InvalidInput: A size or a rate that cannot be.
    """
    _check("disk_gb", disk_gb)
    if egress_gb_per_hour is not None:
        _check("egress_gb_per_hour", egress_gb_per_hour)
    sold_here = region in DISK_RATES
    return StandbyCost(
        machine_type=machine_type,
        spot=spot,
        region=region,
        vm_usd=vm_usd_per_hour(machine_type, spot=spot, region=region),
        disk_usd=_disk(disk_gb, disk_type, region) if sold_here else None,
        address_usd=ADDRESS_USD_PER_HOUR["spot" if spot else "standard"] if sold_here else None,
        egress_usd=_egress(egress_gb_per_hour, region, destination),
    )


def vm_usd_per_hour(machine_type: str, *, spot: bool, region: str) -> float | None:
    """List price of the bare VM; None for a type or a region that the price list does not have."""
    shape = _shape(machine_type)
    rates = SERIES_RATES.get(machine_type.partition("-")[0], {}).get(region)
    if shape is None or rates is None:
        return None
    cores, ram_gb = shape
    if spot:
        return cores * rates.spot_core + ram_gb * rates.spot_ram_gb
    return cores * rates.core + ram_gb * rates.ram_gb


def _shape(machine_type: str) -> tuple[float, float] | None:
    if machine_type in _SHARED_CORE:
        return _SHARED_CORE[machine_type]
    match = _TYPE.fullmatch(machine_type)
    if match is None:
        return None
    cores = int(match["cores"])
    if cores not in _CORES.get((match["series"], match["kind"]), ()):
        return None
    return float(cores), float(cores * _GB_PER_CORE[match["kind"]])


def _disk(disk_gb: float, disk_type: DiskType, region: str) -> float:
    rates = DISK_RATES[region]
    per_month = {
        "pd-standard": rates.pd_standard,
        "pd-balanced": rates.pd_balanced,
        "pd-ssd": rates.pd_ssd,
    }[disk_type]
    return disk_gb * per_month / HOURS_PER_MONTH


def _egress(gb_per_hour: float | None, region: str, destination: Destination) -> float | None:
    per_gb = egress_usd_per_gb(region=region, destination=destination)
    return None if per_gb is None or gb_per_hour is None else gb_per_hour * per_gb


def _check(field: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise InvalidInput(f"{field} must be a number of at least 0, not {value}", field=field)
