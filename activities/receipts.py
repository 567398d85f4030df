"""Filing receipts: one immutable record of each failover."""

from __future__ import annotations

from temporalio import activity

from dumont.domain.receipts import Receipt
from dumont.ports import ReceiptStore


class ReceiptActivities:
    """Writes receipts. Safe to repeat: the same one twice is one."""

    def __init__(self, *, store: ReceiptStore) -> None:
        self._store = store

    @activity.defn
    async def record_receipt(self, receipt: Receipt) -> None:
        """File a receipt.

        Raises:
            Conflict: Another one has its number: what is filed is never changed.
        """
        await self._store.record(receipt)
