"""Price increases that a landlord proposes for a running contract: accepted, rejected, or pending."""

from __future__ import annotations

from typing import Any

from simcloud.store import Store
from simcloud.vast.errors import VastError
from simcloud.vast.host import MONTH_HOURS
from simcloud.vast.instance import Instance
from simcloud.vast.roster import Roster


class PriceIncreases:
    """The account's pending proposals."""

    def __init__(self, store: Store, *, roster: Roster) -> None:
        self._store = store
        self._documents = store.collection("vast.price_increases")
        self._roster = roster

    def propose(self, instance: Instance, *, factor: float, now: float) -> dict[str, Any]:
        """Let the landlord ask `factor` times today's GPU price."""
        number = self._store.next_id("vast.price_increase", start=601)
        disk = instance.storage_cost / MONTH_HOURS / 3600
        row = {
            "pending_price_increase_id": number,
            "contract_id": instance.id,
            "host_id": self._roster.host_of(instance).host_id,
            "new_gpu_costpersec": instance.price * factor / 3600,
            "new_disk_ram_costpersec": disk,
            "new_bwu_cost": instance.inet_up_cost,
            "new_bwd_cost": instance.inet_down_cost,
            "new_platform_fee": None,
            "old_gpu_costpersec": instance.price / 3600,
            "old_disk_ram_costpersec": disk,
            "old_bwu_cost": instance.inet_up_cost,
            "old_bwd_cost": instance.inet_down_cost,
            "old_platform_fee": None,
            "contract_end_date": instance.end_date,
            "ask_end_date": instance.end_date,
            "created_at": now,
        }
        self._documents.put(str(number), row)
        return row

    def pending(self) -> list[dict[str, Any]]:
        """Return the proposals for instances that still exist."""
        existing = {each.id for each in self._roster.existing()}
        return [row for row in self._documents.list() if row["contract_id"] in existing]

    def decide(self, number: Any, *, accept: bool) -> dict[str, Any]:
        """Accept or reject a proposal.

        Raises:
            VastError: 404 `no_pending_price_increase` when there is none of that number.
        """
        row = next(
            (each for each in self.pending() if each["pending_price_increase_id"] == number), None
        )
        if row is None:
            raise VastError(404, "no_pending_price_increase", f"nothing is pending under {number}")
        self._documents.delete(str(number))
        if accept:
            instance = self._roster.get(row["contract_id"])
            self._roster.meter(instance)
            instance.price = round(row["new_gpu_costpersec"] * 3600, 6)
            self._roster.save(instance)
        return {
            "success": True,
            "pending_price_increase_id": number,
            "contract_id": row["contract_id"],
        }
