"""The ledger's lines: written as often as one likes, read by owner."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Row, and_, delete, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import ledger, machines, snapshots
from dumont.domain.bills import Kept
from dumont.domain.errors import InvalidInput
from dumont.domain.ledger import Entry, Item

_L: Final = ledger.c
_KEY: Final = (_L.provider, _L.resource_id, _L.item, _L.day)
_PAGE_ORDER: Final = (_L.day, _L.provider, _L.resource_id, _L.item)
_BATCH: Final = 2_000
_KEPT_BY_BILLS: Final = ("metered_seconds", "metered_usd", "region", "rental", "gpu", "gpu_count")
"""Columns where a bill that says nothing leaves what we saw."""


class LedgerCursor(NamedTuple):
    """Where a page ended."""

    day: date
    provider: str
    resource_id: str
    item: str

    def encode(self) -> str:
        """The cursor as clients carry it."""
        text = "\n".join((self.day.isoformat(), self.provider, self.resource_id, self.item))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> LedgerCursor:
        """The cursor that a client sent back.

        Raises:
            InvalidInput: It is none of ours.
        """
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            day, provider, resource_id, item = raw.split("\n")
            if "\0" in raw:
                raise ValueError(raw)
            return cls(date.fromisoformat(day), provider, resource_id, item)
        except (ValueError, binascii.Error):
            raise InvalidInput("not a cursor of this list", field="cursor") from None


class LinesWanted(NamedTuple):
    """Which lines. Days are UTC's, both inclusive."""

    owner_id: str
    machine_id: str | None = None
    since: date | None = None
    until: date | None = None
    items: tuple[Item, ...] = ()


class PostgresLedger:
    """The ledger of all owners."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_bills(self, entries: Sequence[Entry]) -> None:
        """Write lines as a bill has them; what we saw ourselves stays beside them."""
        if not entries:
            return
        new = insert(ledger)
        kept = {name: func.coalesce(new.excluded[name], _L[name]) for name in _KEPT_BY_BILLS}
        others = {c.name: new.excluded[c.name] for c in _L if c.name not in kept}
        statement = new.on_conflict_do_update(index_elements=list(_KEY), set_=others | kept)
        async with self._database.transaction() as connection:
            await connection.execute(statement, [_values(entry) for entry in entries])

    async def put(
        self, provider: str, resource_id: str, entries: Sequence[Entry], *, since: date
    ) -> int:
        """Have exactly these lines of a resource from a day on; returns how many had to be changed.

        Lines that a bill has, and that are not among these, stay as the bill has them.
        """
        new = insert(ledger)
        values = {c.name: new.excluded[c.name] for c in _L if c not in _KEY}
        differs = or_(*(_L[name].is_distinct_from(value) for name, value in values.items()))
        statement = new.on_conflict_do_update(
            index_elements=list(_KEY), set_=values, where=differs
        ).returning(_L.day)
        keys = [(entry.item.value, entry.day) for entry in entries]
        gone = delete(ledger).where(
            _L.provider == provider,
            _L.resource_id == resource_id,
            _L.day >= since,
            _L.billed_at.is_(None),
        )
        if keys:
            gone = gone.where(tuple_(_L.item, _L.day).not_in(keys))
        async with self._database.transaction() as connection:
            changed = (await connection.execute(gone)).rowcount
            if entries:
                written = await connection.execute(
                    statement.values([_values(entry) for entry in entries])
                )
                changed += len(written.all())
        return changed

    async def bills(
        self, keys: Sequence[tuple[str, str]], *, since: date
    ) -> dict[tuple[str, str], list[Entry]]:
        """Lines of these resources (provider and id) that a bill has, from a day on."""
        query = select(ledger).where(
            tuple_(_L.provider, _L.resource_id).in_(list(keys)),
            _L.day >= since,
            _L.billed_at.is_not(None),
        )
        found: dict[tuple[str, str], list[Entry]] = {key: [] for key in keys}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                found[(row.provider, row.resource_id)].append(_entry(row))
        return found

    async def page(
        self, wanted: LinesWanted, *, after: LedgerCursor | None, limit: int
    ) -> tuple[list[Entry], LedgerCursor | None]:
        """Lines, newest day first, and where the next page begins; None: there is none."""
        query = select(ledger).where(_where(wanted)).limit(limit + 1)
        query = query.order_by(*(column.desc() for column in _PAGE_ORDER))
        if after is not None:
            query = query.where(tuple_(*_PAGE_ORDER) < tuple(after))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        found = [_entry(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return found, None
        last = found[-1]
        return found, LedgerCursor(last.day, last.provider, last.resource_id, last.item.value)

    async def every(self, wanted: LinesWanted) -> AsyncIterator[Entry]:
        """All such lines, newest day first."""
        after: LedgerCursor | None = None
        while True:
            found, after = await self.page(wanted, after=after, limit=_BATCH)
            for entry in found:
                yield entry
            if after is None:
                return

    async def names(self, owner_id: str) -> dict[str, str]:
        """What an owner's machines are called, by id; destroyed ones too."""
        query = select(machines.c.machine_id, machines.c.name).where(
            machines.c.owner_id == owner_id
        )
        async with self._database.reading() as connection:
            return {row.machine_id: row.name for row in await connection.execute(query)}

    async def kept_snapshots(self, *, since: datetime) -> dict[str, list[Kept]]:
        """What snapshots added to the store, by owner: those that were there after a moment."""
        stored = snapshots.c.record["stored_bytes"].astext.cast(BigInteger)
        query = (
            select(
                machines.c.owner_id,
                stored.label("stored_bytes"),
                snapshots.c.taken_at,
                snapshots.c.forgotten_at,
            )
            .join(machines, machines.c.machine_id == snapshots.c.machine_id)
            .where(or_(snapshots.c.forgotten_at.is_(None), snapshots.c.forgotten_at > since))
        )
        found: dict[str, list[Kept]] = {}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                kept = Kept(row.stored_bytes, row.taken_at, row.forgotten_at)
                found.setdefault(row.owner_id, []).append(kept)
        return found


def _where(wanted: LinesWanted) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [_L.owner_id == wanted.owner_id]
    if wanted.machine_id is not None:
        parts.append(_L.machine_id == wanted.machine_id)
    if wanted.since is not None:
        parts.append(_L.day >= wanted.since)
    if wanted.until is not None:
        parts.append(_L.day <= wanted.until)
    if wanted.items:
        parts.append(_L.item.in_([item.value for item in wanted.items]))
    return and_(*parts)


def _values(entry: Entry) -> dict[str, Any]:
    return entry.model_dump() | {"item": entry.item.value, "basis": entry.basis.value}


def _entry(row: Row[Any]) -> Entry:
    return Entry.model_validate(row._mapping)
