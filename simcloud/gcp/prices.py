"""What things cost per hour, by region; the price list and the bills are both made from this.

Sources, and how far to trust them:
* E2 on demand in us-central1: Google's published $0.02181159 per core and $0.00292353 per GB.
* E2 Spot: one dated catalogue of e2-medium prices for all 42 regions, split between core and memory
  in the ratio of the on-demand price. Real Spot prices move up to once a day.
* E2 on demand elsewhere: us-central1 times a regional factor; an approximation.
* N1, N2, disks, addresses: us-central1 list prices times the same factor; Spot at a flat share.
"""

from __future__ import annotations

from dataclasses import dataclass

from simcloud.gcp.machine_types import MachineType

HOURS_PER_MONTH = 730.0

E2_CORE = 0.02181159
E2_RAM_GB = 0.00292353
_E2_MEDIUM = E2_CORE + 4 * E2_RAM_GB

_SERIES: dict[str, tuple[float, float]] = {
    "e2": (E2_CORE, E2_RAM_GB),
    "n1": (0.031611, 0.004237),
    "n2": (0.031611, 0.004237),
    "f1": (0.031611, 0.004237),
    "g1": (0.031611, 0.004237),
}
_SPOT_SHARE = 0.3

DISK_GB_MONTH: dict[str, float] = {"pd-standard": 0.04, "pd-balanced": 0.10, "pd-ssd": 0.17}
_ADDRESS_HOUR = {"SPOT": 0.0025, "STANDARD": 0.005}
_IDLE_ADDRESS_HOUR = 0.01

_E2_MEDIUM_SPOT: dict[str, float] = {
    "us-central1": 0.01547,
    "us-east1": 0.01547,
    "us-west1": 0.01547,
    "us-east4": 0.01817,
    "us-east5": 0.00841,
    "us-south1": 0.00916,
    "us-west2": 0.01033,
    "us-west3": 0.00927,
    "us-west4": 0.00358,
    "northamerica-northeast1": 0.00825,
    "northamerica-northeast2": 0.00557,
    "northamerica-south1": 0.01323,
    "southamerica-east1": 0.00936,
    "southamerica-west1": 0.01304,
    "europe-west1": 0.01474,
    "europe-west2": 0.01187,
    "europe-west3": 0.01726,
    "europe-west4": 0.01462,
    "europe-west6": 0.01834,
    "europe-west8": 0.01620,
    "europe-west9": 0.01451,
    "europe-west10": 0.00745,
    "europe-west12": 0.01000,
    "europe-north1": 0.00809,
    "europe-north2": 0.00929,
    "europe-central2": 0.00966,
    "europe-southwest1": 0.01914,
    "asia-east1": 0.01877,
    "asia-east2": 0.00802,
    "asia-northeast1": 0.01986,
    "asia-northeast2": 0.01617,
    "asia-northeast3": 0.01159,
    "asia-south1": 0.01859,
    "asia-south2": 0.01501,
    "asia-southeast1": 0.01909,
    "asia-southeast2": 0.00781,
    "australia-southeast1": 0.01844,
    "australia-southeast2": 0.01688,
    "me-central1": 0.01628,
    "me-central2": 0.02006,
    "me-west1": 0.01309,
    "africa-south1": 0.01043,
}

_FACTORS: dict[str, float] = {
    "us-central1": 1.0,
    "us-east1": 1.0,
    "us-west1": 1.0,
    "us-east4": 1.13,
    "us-east5": 1.0,
    "us-south1": 1.18,
    "us-west2": 1.2,
    "us-west3": 1.2,
    "us-west4": 1.13,
    "northamerica": 1.1,
    "southamerica": 1.59,
    "europe-west1": 1.1,
    "europe-west4": 1.1,
    "europe-north1": 1.1,
    "europe": 1.29,
    "asia-east1": 1.16,
    "asia-south1": 1.2,
    "asia-southeast1": 1.23,
    "asia": 1.29,
    "australia": 1.42,
    "me": 1.3,
    "africa": 1.31,
}


def regional_factor(region: str) -> float:
    """Return how much dearer `region` is than us-central1, on demand."""
    exact = _FACTORS.get(region)
    return exact if exact is not None else _FACTORS.get(region.partition("-")[0], 1.0)


@dataclass(frozen=True, kw_only=True)
class ComputePrice:
    """Dollars per hour."""

    core: float
    ram_gb: float

    def of(self, machine_type: MachineType) -> float:
        """Return dollars per hour of a machine of this type."""
        return machine_type.billed_cores * self.core + machine_type.memory_mb / 1024 * self.ram_gb


def compute_price(*, family: str, region: str, spot: bool) -> ComputePrice:
    """Return what a core and a GB of memory of a machine series cost."""
    core, ram_gb = _SERIES[family]
    if spot and family == "e2":
        share = _E2_MEDIUM_SPOT[region] / _E2_MEDIUM
    else:
        share = regional_factor(region) * (_SPOT_SHARE if spot else 1.0)
    return ComputePrice(core=core * share, ram_gb=ram_gb * share)


def disk_price(*, disk_type: str, region: str) -> float:
    """Return dollars per GB and hour of a persistent disk."""
    return DISK_GB_MONTH[disk_type] * regional_factor(region) / HOURS_PER_MONTH


def address_price(*, spot: bool) -> float:
    """Return dollars per hour of an external IPv4 address in use."""
    return _ADDRESS_HOUR["SPOT" if spot else "STANDARD"]


def idle_address_price() -> float:
    """Return dollars per hour of a reserved external IPv4 address that nothing uses."""
    return _IDLE_ADDRESS_HOUR
