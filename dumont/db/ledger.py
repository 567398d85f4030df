"""The ledger's lines: written as often as one likes, read by owner."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    and_,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from dumont.db.engine import Database
from dumont.db.tables import ledger, machines, rentals, snapshots
from dumont.domain.bills import Kept
from dumont.domain.errors import InvalidInput
from dumont.domain.ledger import Entry, Item, Rewrite

_L: Final = ledger.c
_R: Final = rentals.c
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
        """Write lines as a bill has them; what we saw ourselves stays beside them.

        What we saw beyond a bill that lags is no longer in such a line: its rental counts as changed,
        ended or not, so that the next metering puts it back.
        """
        if not entries:
            return
        new = insert(ledger)
        kept = {name: func.coalesce(new.excluded[name], _L[name]) for name in _KEPT_BY_BILLS}
        others = {c.name: new.excluded[c.name] for c in _L if c.name not in kept}
        statement = new.on_conflict_do_update(index_elements=list(_KEY), set_=others | kept)
        async with self._database.transaction() as connection:
            await connection.execute(statement, [_values(entry) for entry in entries])
            await connection.execute(
                update(rentals)
                .where(_of(_R, {entry.key[:2] for entry in entries}))
                .values(changed_at=func.clock_timestamp())
            )

    async def put(self, rewrites: Sequence[Rewrite]) -> int:
        """Have exactly these lines of these resources; returns how many had to be changed.

        One transaction. Lines that a bill has, and that are not among these, stay as the bill has them.
        """
        if not rewrites:
            return 0
        since = {(each.provider, each.resource_id): each.since for each in rewrites}
        wanted = {entry.key: entry for each in rewrites for entry in each.entries}
        known = select(ledger).where(_of(_L, since), _L.day >= min(since.values()))
        async with self._database.transaction() as connection:
            gone = []
            for row in await connection.execute(known):
                key = (row.provider, row.resource_id, Item(row.item), row.day)
                if key in wanted:
                    if _values(wanted[key]) == dict(row._mapping):
                        del wanted[key]
                elif row.billed_at is None and row.day >= since.get(key[:2], date.max):
                    gone.append(key)
            if gone:
                await connection.execute(
                    delete(ledger).where(tuple_(*_KEY).in_(gone), _L.billed_at.is_(None))
                )
            changed = [_values(entry) for entry in wanted.values()]
            if changed:
                await connection.execute(_upsert(), changed)
        return len(gone) + len(changed)

    async def bills(
        self, keys: Sequence[tuple[str, str]], *, since: date
    ) -> dict[tuple[str, str], list[Entry]]:
        """Lines of these resources (provider and id) that a bill has, from a day on."""
        query = select(ledger).where(_of(_L, keys), _L.day >= since, _L.billed_at.is_not(None))
        found: dict[tuple[str, str], list[Entry]] = {key: [] for key in keys}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                key = (row.provider, row.resource_id)
                if key in found:
                    found[key].append(_entry(row))
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


def _of(
    columns: ReadOnlyColumnCollection[str, Any], keys: Collection[tuple[str, str]]
) -> ColumnElement[bool]:
    """Of these resources (provider and id). One with another's provider and id may come along: thousands
    of pairs are much slower to look for than two lists."""
    return and_(
        columns.provider.in_(sorted({provider for provider, _ in keys})),
        columns.resource_id.in_(sorted({resource_id for _, resource_id in keys})),
    )


def _upsert() -> Insert:
    new = insert(ledger)
    values = {c.name: new.excluded[c.name] for c in _L if c not in _KEY}
    return new.on_conflict_do_update(index_elements=list(_KEY), set_=values)


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
