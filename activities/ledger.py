"""Keeping the ledger: bills as providers have them, what we saw where no bill is yet, and what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from temporalio import activity

from activities.heartbeat import heartbeating
from dumont.domain import labels
from dumont.domain.bills import BillMark, Kept, bill_lines, storage_lines
from dumont.domain.errors import AuthFailed, ProviderError, ProviderUnavailable, RateLimited
from dumont.domain.instances import Charge, Message
from dumont.domain.ledger import Entry, Rewrite
from dumont.domain.metering import RentalRecord, Role, Seen, lines, midnight

READ_AGAIN: Final = timedelta(days=2)
"""A bill may still change so long after its day."""
MOST_DAYS: Final = 31
"""Days of bills caught up with in one run, beside the newest ones; the next run goes on."""
MOST_FAILURES: Final = 3
"""After so many failures in a row it is the provider that does not answer, not a day that is bad."""
METER_FOR_S: Final = 40.0
"""Seconds in which a run begins to meter rentals; the rest is the next run's."""
_DAY: Final = timedelta(days=1)
_AT_ONCE: Final = 300
"""Rentals whose lines are written in one transaction."""


class Bills(Protocol):
    """A provider account that has a bill."""

    @property
    def name(self) -> str:
        """Of the provider."""
        ...

    @property
    def account(self) -> str:
        """Of the account."""
        ...

    async def charges(self, *, since: datetime, until: datetime) -> list[Charge]:
        """The bill for a period, whole. Raises ProviderError."""
        ...


class Rentals(Protocol):
    """What is known of rentals."""

    async def known(self, provider: str, resource_ids: Sequence[str]) -> dict[str, RentalRecord]:
        """Those of these ids that are ours."""
        ...

    async def owners(self, machine_ids: Sequence[str]) -> dict[str, str]:
        """Whose machines these are."""
        ...

    async def first_day(self, provider: str) -> date | None:
        """The day on which we first rented something there."""
        ...

    async def bill_mark(self, account: str) -> BillMark:
        """How far the bills of an account are read."""
        ...

    async def mark_bill(self, account: str, mark: BillMark) -> None:
        """Note it."""
        ...

    async def unmetered(self, *, limit: int) -> list[RentalRecord]:
        """Those that changed since their lines were written: what has none yet, then the longest ago."""
        ...

    async def timelines(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Seen]]:
        """What was seen of these rentals, oldest first."""
        ...

    async def metered(self, written: Sequence[RentalRecord]) -> None:
        """Note that their lines are as they were read."""
        ...


class Lines(Protocol):
    """The ledger."""

    async def put_bills(self, entries: Sequence[Entry]) -> None:
        """Write lines as a bill has them; their rentals are metered again."""
        ...

    async def put(self, rewrites: Sequence[Rewrite]) -> int:
        """Have exactly these lines of these resources; returns how many had to be changed."""
        ...

    async def bills(
        self, keys: Sequence[tuple[str, str]], *, since: date
    ) -> dict[tuple[str, str], list[Entry]]:
        """Lines of these resources that a bill has, from a day on."""
        ...

    async def kept_snapshots(self, *, since: datetime) -> dict[str, list[Kept]]:
        """What snapshots added to the store, by owner."""
        ...


class ImportBills(Message):
    """Input of `import_bills`."""

    env: str
    every_s: float = 600.0
    """A bill that was read so recently is not read again,"""
    at_once: bool = False
    """unless something has ended."""
    now: datetime | None = None
    """Instead of the clock's, for tests that move a provider's time."""


class Imported(Message):
    """What `import_bills` did."""

    days: int = 0
    lines: int = 0


class BillActivities:
    """Reads the bills of one provider account."""

    def __init__(self, *, bills: Bills, rentals: Rentals, ledger: Lines) -> None:
        self._bills = bills
        self._rentals = rentals
        self._ledger = ledger

    @activity.defn
    async def import_bills(self, ask: ImportBills) -> Imported:
        """Write what the bill has of ours, day by day, from two days before the last settled one.

        Safe to repeat: a day's lines are the bill's, however often it is read. What is not known to be
        ours is dropped here; nothing of it is stored, logged or returned. A day that cannot be read keeps
        no other one from being read; the bill counts as read when none has failed.

        Raises:
            ProviderError: A day of it cannot be had; those that can are written.
        """
        now = ask.now or datetime.now(UTC)
        account = f"{self._bills.name}/{self._bills.account}"
        async with heartbeating():
            mark = await self._rentals.bill_mark(account)
            fresh = mark.read_at is not None and now - mark.read_at < timedelta(seconds=ask.every_s)
            if fresh and not ask.at_once:
                return Imported()
            return await self._read(account, mark, now, ask.env)

    async def _read(self, account: str, mark: BillMark, now: datetime, env: str) -> Imported:
        first, days = await self._days(mark, now)
        read: set[date] = set()
        failed: dict[date, Exception] = {}
        in_a_row = written = 0
        for day in days:
            try:
                written += await self._import_day(day, now, env)
            except (ProviderError, ValueError) as error:
                failed[day] = error
                in_a_row += 1
                if in_a_row == MOST_FAILURES or isinstance(error, RateLimited | AuthFailed):
                    break
                continue
            in_a_row = 0
            read.add(day)
            settled = _settled(first, read, mark.settled, now)
            if settled != mark.settled:
                mark = BillMark(settled, mark.read_at)
                await self._rentals.mark_bill(account, mark)
        if failed:
            raise self._unread(failed)
        await self._rentals.mark_bill(account, BillMark(mark.settled, now))
        return Imported(days=len(read), lines=written)

    async def _days(self, mark: BillMark, now: datetime) -> tuple[date, list[date]]:
        """From which day on days are settled, and those to read: the newest ones, which are waited for,
        then the older ones in their order."""
        first = await self._rentals.first_day(self._bills.name)
        if mark.settled is not None:
            first = mark.settled - READ_AGAIN
        today = now.astimezone(UTC).date()
        first = min(first, today) if first is not None else today
        recent = max(first, today - READ_AGAIN)
        caught_up = min(recent, first + MOST_DAYS * _DAY)
        return first, [*_range(recent, today + _DAY), *_range(first, caught_up)]

    def _unread(self, failed: dict[date, Exception]) -> ProviderError:
        days = ", ".join(day.isoformat() for day in sorted(failed))
        first = failed[min(failed)]
        why = first.message if isinstance(first, ProviderError) else f"{type(first).__name__}"
        return ProviderUnavailable(
            f"the bill of {days} is not read: {why}", provider=self._bills.name
        )

    async def _import_day(self, day: date, now: datetime, env: str) -> int:
        last_second = midnight(day + _DAY) - timedelta(seconds=1)
        charges = await self._bills.charges(since=midnight(day), until=last_second)
        ours = await self._ours(charges, env)
        entries = bill_lines(charges, provider=self._bills.name, day=day, read_at=now, ours=ours)
        await self._ledger.put_bills(entries)
        return len(entries)

    async def _ours(self, charges: Sequence[Charge], env: str) -> dict[str, RentalRecord]:
        """What is ours of a bill: what we recorded, or what has a label of a machine that we know."""
        ids = list(dict.fromkeys(charge.instance_id for charge in charges))
        ours = await self._rentals.known(self._bills.name, ids)
        unseen = {}
        for charge in charges:
            label = labels.parse(charge.label, env=env)
            if charge.instance_id not in ours and label is not None:
                unseen[charge.instance_id] = (charge, label.machine_id)
        owners = await self._rentals.owners([machine_id for _, machine_id in unseen.values()])
        for resource_id, (charge, machine_id) in unseen.items():
            if machine_id in owners:
                ours[resource_id] = RentalRecord(
                    provider=self._bills.name,
                    resource_id=resource_id,
                    machine_id=machine_id,
                    owner_id=owners[machine_id],
                    label=charge.label or "",
                    role=Role.GPU,
                    gpu=charge.gpu,
                    gpu_count=charge.gpu_count,
                    first_seen_at=charge.start,
                )
        return ours


class StoragePrice(NamedTuple):
    """What the object store costs."""

    usd_per_gb_month: float | None
    source: str


class Metered(Message):
    """What `meter_lines` did."""

    rentals: int = 0
    lines: int = 0
    """That had to be changed."""
    unfinished: bool = False
    """There was no time for all; the next run goes on."""


class LedgerActivities:
    """Writes lines from what we saw.

    Args:
        rentals: What was seen.
        ledger: Where lines go.
        storage: What the object store costs.
        clock: Seconds that only go on.
    """

    def __init__(
        self,
        *,
        rentals: Rentals,
        ledger: Lines,
        storage: StoragePrice,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rentals = rentals
        self._ledger = ledger
        self._storage = storage
        self._clock = clock

    @activity.defn
    async def meter_lines(self) -> Metered:
        """Bring the lines of all rentals that changed up to what is known of them.

        Safe to repeat: lines are computed anew, never added to. Those that wait longest come first, so
        that a run which has not the time for all of them leaves none behind for good.
        """
        began = self._clock()
        rentals = 0
        async with heartbeating():
            changed = await self._store_lines(datetime.now(UTC))
            while found := await self._rentals.unmetered(limit=_AT_ONCE):
                if self._clock() - began >= METER_FOR_S:
                    activity.logger.warning("%d rentals metered, others wait", rentals)
                    return Metered(rentals=rentals, lines=changed, unfinished=True)
                changed += await self._write(found)
                rentals += len(found)
                if len(found) < _AT_ONCE:
                    break
        return Metered(rentals=rentals, lines=changed)

    async def _write(self, rentals: Sequence[RentalRecord]) -> int:
        keys = [(rental.provider, rental.resource_id) for rental in rentals]
        timelines = await self._rentals.timelines(keys)
        starts = {key: _since(rental) for key, rental in zip(keys, rentals, strict=True)}
        bills = await self._ledger.bills(keys, since=min(starts.values()))
        rewrites = [
            Rewrite(
                *key,
                lines(
                    rental,
                    timelines[key],
                    {(bill.item, bill.day): bill for bill in bills[key]},
                    since=midnight(starts[key]),
                ),
                since=starts[key],
            )
            for key, rental in zip(keys, rentals, strict=True)
        ]
        changed = await self._ledger.put(rewrites)
        await self._rentals.metered(rentals)
        return changed

    async def _store_lines(self, now: datetime) -> int:
        since = midnight(now.date() - _DAY)
        kept = await self._ledger.kept_snapshots(since=since)
        return await self._ledger.put(
            [
                Rewrite(
                    "store",
                    owner_id,
                    storage_lines(
                        owner_id,
                        snapshots,
                        since=since,
                        until=now,
                        usd_per_gb_month=self._storage.usd_per_gb_month,
                        source=self._storage.source,
                    ),
                    since=since.date(),
                )
                for owner_id, snapshots in kept.items()
            ]
        )


def _range(first: date, end: date) -> list[date]:
    return [first + n * _DAY for n in range((end - first).days)]


def _settled(
    first: date, read: Collection[date], before: date | None, now: datetime
) -> date | None:
    """The last day up to which every one was over when it was read."""
    day = first
    while day in read and midnight(day + _DAY) <= now:
        before = max(filter(None, (before, day)))
        day += _DAY
    return before


def _since(rental: RentalRecord) -> date:
    """From which day on a rental's lines may have changed."""
    earliest = rental.born
    if rental.metered_at is None:
        return earliest.date()
    # An end may be dated back to before the lines that were written last.
    newest = min(rental.metered_at, rental.ended_at or rental.metered_at)
    return max(earliest, newest - _DAY).date()
