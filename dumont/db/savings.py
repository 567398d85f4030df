"""What a savings report needs besides the ledger: receipts, names, and what was asked for on demand."""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import select

from dumont.db.engine import Database
from dumont.db.tables import events, machines, receipts
from dumont.domain.events import EventKind
from dumont.domain.labels import Label
from dumont.domain.offers import Offer
from dumont.domain.receipts import Receipt
from dumont.domain.reference_prices import Rented


class SavingsRecords:
    """The records of an owner's machines, destroyed ones among them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def receipts(self, owner_id: str, *, since: datetime, until: datetime) -> list[Receipt]:
        """Of failovers that were noticed within a period."""
        query = (
            select(receipts.c.receipt)
            .join(machines, machines.c.machine_id == receipts.c.machine_id)
            .where(
                machines.c.owner_id == owner_id,
                receipts.c.detected_at >= since,
                receipts.c.detected_at < until,
            )
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return [Receipt.model_validate(row.receipt) for row in rows]

    async def names(self, owner_id: str) -> dict[str, str]:
        """Of all machines that the owner ever had, by id."""
        query = select(machines.c.machine_id, machines.c.name).where(
            machines.c.owner_id == owner_id
        )
        async with self._database.reading() as connection:
            return {row.machine_id: row.name for row in await connection.execute(query)}

    async def rented(self, owner_id: str) -> dict[str, Rented]:
        """What the market showed of the owner's instances when they were rented, by label.

        Only of those whose event has the whole offer: older ones do not, and what an offer cost on
        demand then is not known.
        """
        query = (
            select(events, machines.c.spec["env"].astext.label("env"))
            .join(machines, machines.c.machine_id == events.c.machine_id)
            .where(
                machines.c.owner_id == owner_id,
                events.c.kind == EventKind.OFFER_CHOSEN.value,
                events.c.data.has_key("offer"),
            )
        )
        found: dict[str, Rented] = {}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                try:
                    offer = Offer.model_validate(row.data["offer"])
                except ValidationError:
                    continue  # a document of another version: nothing is known of it
                label = Label(row.env, row.machine_id, row.generation, row.data.get("attempt", 0))
                found[str(label)] = Rented(offer, row.at)
        return found
