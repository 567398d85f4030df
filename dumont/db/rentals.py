"""What is rented, since when, until when, at which prices: what the ledger's lines are made from.

Several processes write here, each its own columns, so that nobody undoes what another one found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Row, bindparam, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from dumont.db.engine import Database
from dumont.db.tables import events, intents, ledger_marks, machines, price_changes, rentals
from dumont.domain.bills import BillMark
from dumont.domain.events import EventKind
from dumont.domain.metering import RentalRecord, Seen
from dumont.domain.rental_events import RentalEvent

_R: Final = rentals.c
_P: Final = price_changes.c
_FOLLOWED: Final = (EventKind.RUNG.value, EventKind.INSTANCE_ENDED.value)
_EVENTS_MARK: Final = "events"

_LASTING: Final = (
    "gpu", "gpu_count", "host_id", "region", "rental", "machine_type", "disk_gb", "created_at",
)  # fmt: skip
"""Columns where a newer answer that says nothing does not undo an older one that did."""


class PostgresRentals:
    """The rentals of all machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Writing ----------------------------------------------------------------------------------

    async def see(self, seen: Sequence[tuple[RentalRecord, Sequence[Seen]]]) -> None:
        """Note rentals as a listing shows them, with what changed; one that is shown has not ended."""
        if not seen:
            return
        new = insert(rentals).values(changed_at=func.clock_timestamp())
        shown_later = _R.ended_at < new.excluded.last_seen_at
        found = {name: func.coalesce(new.excluded[name], _R[name]) for name in _LASTING}
        statement = new.on_conflict_do_update(
            index_elements=[_R.provider, _R.resource_id],
            set_=found
            | {
                "label": new.excluded.label,
                "last_seen_at": func.greatest(_R.last_seen_at, new.excluded.last_seen_at),
                "missing_since": None,
                "ended_at": case((shown_later, None), else_=_R.ended_at),
                "ended_by": case((shown_later, None), else_=_R.ended_by),
                "changed_at": func.clock_timestamp(),
            },
        )
        changes = [
            {"provider": r.provider, "resource_id": r.resource_id, **change.model_dump()}
            for r, timeline in seen
            for change in timeline
        ]
        async with self._database.transaction() as connection:
            await connection.execute(statement, [_values(rental) for rental, _ in seen])
            if changes:
                await connection.execute(insert(price_changes).on_conflict_do_nothing(), changes)

    async def expect(self, rental: RentalRecord) -> None:
        """Note one that was rented and that no listing has shown yet; a known one is left alone."""
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(rentals)
                .values(**_values(rental), changed_at=func.clock_timestamp())
                .on_conflict_do_nothing()
            )

    async def miss(self, provider: str, resource_ids: Sequence[str], *, at: datetime) -> None:
        """Note that a complete listing does not show them."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(rentals)
                .where(_R.provider == provider, _R.resource_id.in_(resource_ids))
                .where(_R.missing_since.is_(None))
                .values(missing_since=at)
            )

    async def end(self, provider: str, resource_id: str, *, at: datetime, by: str) -> None:
        """Note when one ended. The provider's own clock overrules us; we do not overrule ourselves.

        Args:
            provider: Where.
            resource_id: Which.
            at: When it was gone at the latest; since it is missing, it was gone before.
            by: `event`, `missing` or `provider`.
        """
        exact = by == "provider"
        when = at if exact else func.least(at, func.coalesce(_R.missing_since, at))
        change = (
            update(rentals)
            .where(_R.provider == provider, _R.resource_id == resource_id)
            .values(ended_at=when, ended_by=by, changed_at=func.clock_timestamp())
        )
        async with self._database.transaction() as connection:
            await connection.execute(change if exact else change.where(_R.ended_at.is_(None)))

    async def metered(self, written: Sequence[RentalRecord]) -> None:
        """Note that their lines are as they were read; what changed since is metered again."""
        if not written:
            return
        statement = (
            update(rentals)
            .where(
                _R.provider == bindparam("of_provider"), _R.resource_id == bindparam("of_resource")
            )
            .values(metered_at=bindparam("as_read"))
        )
        as_read = [
            {"of_provider": r.provider, "of_resource": r.resource_id, "as_read": r.changed_at}
            for r in written
        ]
        async with self._database.transaction() as connection:
            await connection.execute(statement, as_read)

    # Reading ----------------------------------------------------------------------------------

    async def unended(self, provider: str) -> list[RentalRecord]:
        """Those that nobody has verified to be gone."""
        query = select(rentals).where(_R.provider == provider, _R.ended_at.is_(None))
        return await self._rentals(query)

    async def ended_by_us(self, provider: str, *, since: datetime) -> list[RentalRecord]:
        """Those that ended since then by our word, not yet by the provider's clock."""
        query = select(rentals).where(
            _R.provider == provider, _R.ended_at >= since, _R.ended_by != "provider"
        )
        return await self._rentals(query)

    async def known(self, provider: str, resource_ids: Sequence[str]) -> dict[str, RentalRecord]:
        """Those of these ids that are ours."""
        query = select(rentals).where(
            _R.provider == provider, _R.resource_id.in_(list(resource_ids))
        )
        return {rental.resource_id: rental for rental in await self._rentals(query)}

    async def unmetered(self, *, limit: int) -> list[RentalRecord]:
        """Those that changed since their lines were written: what has none yet, then the longest ago."""
        query = (
            select(rentals)
            .where(or_(_R.metered_at.is_(None), _R.metered_at < _R.changed_at))
            .order_by(_R.metered_at.asc().nulls_first(), _R.provider, _R.resource_id)
            .limit(limit)
        )
        return await self._rentals(query)

    async def timelines(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Seen]]:
        """What was seen of these rentals (provider and id), oldest first."""
        query = (
            select(price_changes)
            .where(
                # Two lists are found much faster than pairs; what is of no such pair is left out below.
                _P.provider.in_(sorted({provider for provider, _ in keys})),
                _P.resource_id.in_(sorted({resource_id for _, resource_id in keys})),
            )
            .order_by(_P.provider, _P.resource_id, _P.at)
        )
        found: dict[tuple[str, str], list[Seen]] = {key: [] for key in keys}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                key = (row.provider, row.resource_id)
                if key in found:
                    found[key].append(_seen(row))
        return found

    async def newest_changes(self, provider: str, resource_ids: Sequence[str]) -> dict[str, Seen]:
        """The last change of each."""
        query = (
            select(price_changes)
            .ext(distinct_on(_P.resource_id))
            .where(_P.provider == provider, _P.resource_id.in_(list(resource_ids)))
            .order_by(_P.resource_id, _P.at.desc())
        )
        async with self._database.reading() as connection:
            return {row.resource_id: _seen(row) for row in await connection.execute(query)}

    async def first_day(self, provider: str) -> date | None:
        """The day on which we first rented something there."""
        query = select(func.min(func.coalesce(_R.created_at, _R.first_seen_at))).where(
            _R.provider == provider
        )
        async with self._database.reading() as connection:
            first: datetime | None = await connection.scalar(query)
        return first.date() if first is not None else None

    async def owners(self, machine_ids: Sequence[str]) -> dict[str, str]:
        """Whose machines these are; those that nobody knows are left out."""
        query = select(machines.c.machine_id, machines.c.owner_id).where(
            machines.c.machine_id.in_(list(machine_ids))
        )
        async with self._database.reading() as connection:
            return {row.machine_id: row.owner_id for row in await connection.execute(query)}

    # How far was read -------------------------------------------------------------------------

    async def new_events(self, *, limit: int) -> list[RentalEvent]:
        """Events of rentals beginning and ending that were not followed yet, in their order."""
        query = (
            select(events, machines.c.owner_id, machines.c.spec["env"].astext.label("env"))
            .join(machines, machines.c.machine_id == events.c.machine_id)
            .where(
                events.c.seq
                > select(func.coalesce(func.max(ledger_marks.c.seq), 0))
                .where(ledger_marks.c.name == _EVENTS_MARK)
                .scalar_subquery()
            )
            .where(events.c.kind.in_(_FOLLOWED))
            .order_by(events.c.seq)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [
                RentalEvent(
                    seq=row.seq,
                    key=row.key,
                    kind=EventKind(row.kind),
                    at=row.at,
                    machine_id=row.machine_id,
                    owner_id=row.owner_id,
                    env=row.env,
                    generation=row.generation,
                    data=row.data,
                )
                for row in await connection.execute(query)
            ]

    async def followed(self, seq: int) -> None:
        """Note that all events up to this one are followed."""
        await self._mark(_EVENTS_MARK, seq=seq)

    async def intended(self, labels: Sequence[str]) -> dict[str, tuple[str, datetime]]:
        """Provider and time of our intents, by label; those of standbys begin with `standby/`."""
        query = select(intents.c.label, intents.c.provider, intents.c.at).where(
            intents.c.label.in_(list(labels))
        )
        async with self._database.reading() as connection:
            return {row.label: (row.provider, row.at) for row in await connection.execute(query)}

    async def bill_mark(self, account: str) -> BillMark:
        """How far the bills of an account are read."""
        query = select(ledger_marks).where(ledger_marks.c.name == _bills(account))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return BillMark(row.day, row.at) if row is not None else BillMark(None, None)

    async def mark_bill(self, account: str, mark: BillMark) -> None:
        """Note it."""
        await self._mark(_bills(account), day=mark.settled, at=mark.read_at)

    async def _mark(self, name: str, **values: Mapping[str, Any] | Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(ledger_marks)
                .values(name=name, **values)
                .on_conflict_do_update(index_elements=[ledger_marks.c.name], set_=values)
            )

    async def _rentals(self, query: Any) -> list[RentalRecord]:
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return [RentalRecord.model_validate(row._mapping) for row in rows]


def _bills(account: str) -> str:
    return f"bills/{account}"


def _values(rental: RentalRecord) -> dict[str, Any]:
    return rental.model_dump(exclude={"metered_at", "changed_at"}) | {"role": rental.role.value}


def _seen(row: Row[Any]) -> Seen:
    return Seen.model_validate(row._mapping)
