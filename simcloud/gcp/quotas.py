"""Regional quotas: how much the project may have, what it has, and the refusal of more."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import errors
from simcloud.gcp.images import DISK_TYPES
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.machine_types import find_machine_type
from simcloud.gcp.records import Instance
from simcloud.gcp.scheduling import is_preemptible
from simcloud.store import Store

DEFAULTS: dict[str, float] = {
    "CPUS": 72.0,
    "PREEMPTIBLE_CPUS": 72.0,
    "INSTANCES": 720.0,
    "IN_USE_ADDRESSES": 69.0,
    "STATIC_ADDRESSES": 21.0,
    "DISKS_TOTAL_GB": 40960.0,
    "SSD_TOTAL_GB": 10240.0,
}
"""Limits of a new project in every region; an account in good standing gets about these."""


class Quotas:
    """Limits per region and their use."""

    def __init__(self, *, store: Store, inventory: Inventory, enforced: bool) -> None:
        self._documents = store.collection("gcp_quotas")
        self._addresses = store.collection("gcp_addresses")
        self._inventory = inventory
        self._enforced = enforced

    def set_limit(self, *, region: str, metric: str, limit: float) -> None:
        """Change one limit."""
        self._documents.put(f"{region}/{metric}", limit)

    def limit(self, *, region: str, metric: str) -> float:
        """Return a limit."""
        changed = self._documents.get(f"{region}/{metric}")
        return DEFAULTS[metric] if changed is None else float(changed)

    def check(self, instance: Instance, *, new: bool, new_disks: dict[str, int]) -> None:
        """Refuse an instance that would exceed a quota.

        Args:
            instance: The instance to insert or start.
            new: Whether it does not count as an instance yet.
            new_disks: GB of disks to be made, by disk type.

        Raises:
            errors.GoogleError: 403 `quotaExceeded`.
        """
        if not self._enforced:
            return
        used = self.usage(instance.region)
        wanted = _use(instance)
        wanted["INSTANCES"] = 1.0 if new else 0.0
        for disk_type, size_gb in new_disks.items():
            metric = "SSD_TOTAL_GB" if DISK_TYPES[disk_type].ssd else "DISKS_TOTAL_GB"
            wanted[metric] = wanted.get(metric, 0.0) + size_gb
        for metric, amount in wanted.items():
            limit = self.limit(region=instance.region, metric=metric)
            if amount > 0 and used[metric] + amount > limit:
                raise errors.quota_exceeded(metric=metric, limit=limit, region=instance.region)

    def check_address(self, *, region: str) -> None:
        """Refuse one more reserved address where there are as many as the quota allows.

        Raises:
            errors.GoogleError: 403 `quotaExceeded`.
        """
        limit = self.limit(region=region, metric="STATIC_ADDRESSES")
        if self._enforced and self.usage(region)["STATIC_ADDRESSES"] + 1 > limit:
            raise errors.quota_exceeded(metric="STATIC_ADDRESSES", limit=limit, region=region)

    def usage(self, region: str) -> dict[str, float]:
        """Return what is used in a region, by metric."""
        used = dict.fromkeys(DEFAULTS, 0.0)
        reserved = [a for a in self._addresses.list() if a["region"] == region]
        used["STATIC_ADDRESSES"] = float(len(reserved))
        for instance in self._inventory.instances():
            if instance.region != region:
                continue
            used["INSTANCES"] += 1
            if instance.up:
                for metric, amount in _use(instance).items():
                    used[metric] += amount
        for disk in self._inventory.disks():
            if disk.zone.startswith(region + "-"):
                metric = "SSD_TOTAL_GB" if DISK_TYPES[disk.type].ssd else "DISKS_TOTAL_GB"
                used[metric] += disk.size_gb
        return used

    def render(self, region: str) -> list[dict[str, Any]]:
        """Return the quotas of a region as sent on the wire."""
        used = self.usage(region)
        return [
            {
                "metric": metric,
                "limit": self.limit(region=region, metric=metric),
                "usage": used[metric],
            }
            for metric in DEFAULTS
        ]


def _use(instance: Instance) -> dict[str, float]:
    machine_type = find_machine_type(instance.machine_type)
    cpus = float(machine_type.guest_cpus if machine_type else 0)
    metric = "PREEMPTIBLE_CPUS" if is_preemptible(instance.scheduling) else "CPUS"
    return {
        metric: cpus,
        "IN_USE_ADDRESSES": 0.0 if instance.access_config is None else 1.0,
    }
