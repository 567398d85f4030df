"""The ledger's stores in memory: what `PostgresRentals` and `PostgresLedger` promise, for quick tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from dumont.domain.bills import BillMark, Kept
from dumont.domain.ledger import Entry, Item, Rewrite
from dumont.domain.metering import RentalRecord, Seen
from dumont.domain.rental_events import RentalEvent

Key = tuple[str, str]
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class MemoryRentals:
    """Rentals, their timelines, and how far was read."""

    machines: dict[str, str] = field(default_factory=dict)
    """Owners by machine."""
    rentals: dict[Key, RentalRecord] = field(default_factory=dict)
    seen: dict[Key, list[Seen]] = field(default_factory=dict)
    events: list[RentalEvent] = field(default_factory=list)
    intents: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    marks: dict[str, BillMark] = field(default_factory=dict)
    _dirty: set[Key] = field(default_factory=set)
    _followed: int = 0

    async def see(self, seen: Sequence[tuple[RentalRecord, Sequence[Seen]]]) -> None:
        for rental, timeline in seen:
            key = (rental.provider, rental.resource_id)
            known = self.rentals.get(key)
            if known is not None:
                kept = {"first_seen_at": known.first_seen_at, "metered_at": known.metered_at}
                rental = rental.model_copy(update=kept)
            self.rentals[key] = rental
            self.seen.setdefault(key, []).extend(timeline)
            self._dirty.add(key)

    async def expect(self, rental: RentalRecord) -> None:
        key = (rental.provider, rental.resource_id)
        if key not in self.rentals:
            self.rentals[key] = rental
            self._dirty.add(key)

    async def miss(self, provider: str, resource_ids: Sequence[str], *, at: datetime) -> None:
        for resource_id in resource_ids:
            known = self.rentals[(provider, resource_id)]
            if known.missing_since is None:
                self._change((provider, resource_id), missing_since=at)

    async def end(self, provider: str, resource_id: str, *, at: datetime, by: str) -> None:
        known = self.rentals.get((provider, resource_id))
        if known is None or (known.ended_at is not None and by != "provider"):
            return
        if by != "provider" and known.missing_since is not None:
            at = min(at, known.missing_since)
        self._change((provider, resource_id), ended_at=at, ended_by=by)

    async def metered(self, written: Sequence[RentalRecord]) -> None:
        for rental in written:
            key = (rental.provider, rental.resource_id)
            self._change(key, metered_at=rental.last_seen_at or rental.first_seen_at)
            self._dirty.discard(key)

    async def unended(self, provider: str) -> list[RentalRecord]:
        return [r for r in self.rentals.values() if r.provider == provider and not r.ended_at]

    async def ended_by_us(self, provider: str, *, since: datetime) -> list[RentalRecord]:
        ended = [r for r in self.rentals.values() if r.ended_at is not None and r.ended_at >= since]
        return [r for r in ended if r.provider == provider and r.ended_by != "provider"]

    async def known(self, provider: str, resource_ids: Sequence[str]) -> dict[str, RentalRecord]:
        keys = [(provider, resource_id) for resource_id in resource_ids]
        return {key[1]: self.rentals[key] for key in keys if key in self.rentals}

    async def unmetered(self, *, limit: int) -> list[RentalRecord]:
        waiting = sorted(self._dirty, key=lambda k: (self.rentals[k].metered_at or _LONG_AGO, k))
        return [self.rentals[key] for key in waiting[:limit]]

    def touch(self, key: Key) -> None:
        """Have it metered again."""
        if key in self.rentals:
            self._dirty.add(key)

    async def timelines(self, keys: Sequence[Key]) -> dict[Key, list[Seen]]:
        return {key: list(self.seen.get(key, [])) for key in keys}

    async def newest_changes(self, provider: str, resource_ids: Sequence[str]) -> dict[str, Seen]:
        found = {each: self.seen.get((provider, each), []) for each in resource_ids}
        return {each: timeline[-1] for each, timeline in found.items() if timeline}

    async def first_day(self, provider: str) -> date | None:
        born = [r.born for r in self.rentals.values() if r.provider == provider]
        return min(born).date() if born else None

    async def owners(self, machine_ids: Sequence[str]) -> dict[str, str]:
        return {each: self.machines[each] for each in machine_ids if each in self.machines}

    async def new_events(self, *, limit: int) -> list[RentalEvent]:
        return [event for event in self.events if event.seq > self._followed][:limit]

    async def followed(self, seq: int) -> None:
        self._followed = seq

    async def intended(self, labels: Sequence[str]) -> dict[str, tuple[str, datetime]]:
        return {label: self.intents[label] for label in labels if label in self.intents}

    async def bill_mark(self, account: str) -> BillMark:
        return self.marks.get(account, BillMark(None, None))

    async def mark_bill(self, account: str, mark: BillMark) -> None:
        self.marks[account] = mark

    def _change(self, key: Key, **changes: object) -> None:
        self.rentals[key] = self.rentals[key].model_copy(update=changes)
        self._dirty.add(key)


@dataclass
class MemoryLedger:
    """Lines by their key."""

    lines: dict[tuple[str, str, Item, date], Entry] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    rentals: MemoryRentals | None = None
    """Those that bills touch."""

    async def put_bills(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self.lines.get(entry.key)
            kept = ("metered_seconds", "metered_usd", "region", "rental", "gpu", "gpu_count")
            mine = {name: getattr(entry, name) or getattr(known, name, None) for name in kept}
            self.lines[entry.key] = entry.model_copy(update=mine)
            if self.rentals is not None:
                self.rentals.touch(entry.key[:2])

    async def put(self, rewrites: Sequence[Rewrite]) -> int:
        return sum([self._put(*rewrite) for rewrite in rewrites])

    def _put(self, provider: str, resource_id: str, entries: Sequence[Entry], since: date) -> int:
        wanted = {entry.key: entry for entry in entries}
        mine = {key for key in self.lines if key[:2] == (provider, resource_id)}
        gone = {
            key
            for key in mine - wanted.keys()
            if key[3] >= since and self.lines[key].billed_at is None
        }
        for key in gone:
            del self.lines[key]
        changed = [key for key, entry in wanted.items() if self.lines.get(key) != entry]
        self.lines |= wanted
        return len(gone) + len(changed)

    async def bills(self, keys: Sequence[Key], *, since: date) -> dict[Key, list[Entry]]:
        found: dict[Key, list[Entry]] = {key: [] for key in keys}
        for (provider, resource_id, _, day), entry in self.lines.items():
            if (provider, resource_id) in found and day >= since and entry.billed_at is not None:
                found[(provider, resource_id)].append(entry)
        return found

    async def kept_snapshots(self, *, since: datetime) -> dict[str, list[Kept]]:
        return self.kept

    def of(self, resource_id: str, item: Item) -> list[Entry]:
        found = [e for e in self.lines.values() if (e.resource_id, e.item) == (resource_id, item)]
        return sorted(found, key=lambda e: e.day)
