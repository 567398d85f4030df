"""Receipts of failovers, filed once. Implements `ports.ReceiptStore`."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import receipts
from dumont.domain.errors import Conflict, NotFound
from dumont.domain.receipts import Receipt


class PostgresReceipts:
    """The receipts of all machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, receipt: Receipt) -> None:
        """File one by machine and number; the same one twice is one.

        Raises:
            Conflict: Another one has its number: what is filed is never changed.
            DependencyUnavailable: The database cannot serve it.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(receipts)
                .values(
                    machine_id=receipt.machine_id,
                    number=receipt.number,
                    detected_at=receipt.detected_at,
                    closed_at=receipt.closed_at,
                    digest=receipt.digest,
                    receipt=receipt.model_dump(mode="json"),
                )
                .on_conflict_do_nothing()
            )
            filed = await connection.execute(
                select(receipts.c.digest).where(
                    receipts.c.machine_id == receipt.machine_id,
                    receipts.c.number == receipt.number,
                )
            )
            if filed.scalar_one() != receipt.digest:
                raise Conflict(
                    f"receipt {receipt.number} of {receipt.machine_id} is filed already and is "
                    "another one"
                )

    async def of_machine(self, machine_id: str) -> list[Receipt]:
        """All of a machine's, newest first."""
        query = (
            select(receipts.c.receipt)
            .where(receipts.c.machine_id == machine_id)
            .order_by(receipts.c.number.desc())
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return [Receipt.model_validate(row.receipt) for row in rows]

    async def find(self, machine_id: str, number: int) -> Receipt:
        """One of them.

        Raises:
            NotFound: There is none by this number.
        """
        query = select(receipts.c.receipt).where(
            receipts.c.machine_id == machine_id, receipts.c.number == number
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).scalar()
        if found is None:
            raise NotFound(f"no receipt {number} of this machine")
        return Receipt.model_validate(found)
