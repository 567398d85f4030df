"""From what we saw of what is rented to lines of the ledger: pure, and the same for every provider.

A rental's life is a timeline of changes: its state and prices from a moment on. Time between two
changes is paid at the price seen at its beginning. What was never seen is not counted as nothing: a
line of an unknown price says so. Days are UTC's, where no day is longer than another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from dumont.domain.instances import Instance, InstanceState, Message
from dumont.domain.ledger import Basis, Entry, Item

VM_MINIMUM: Final = timedelta(seconds=60)
"""Google bills each run of a VM for a minute at least; its disk and address by the second."""

SEEN_SOURCE: Final = "the provider's own listings, at the price listed then"
_DAY: Final = timedelta(days=1)
_TICK: Final = timedelta(microseconds=1)
_BILL_SLACK: Final = timedelta(seconds=120)
"""A bill that goes so far has all of it: we see an end up to two listings late."""
_BILL_PATIENCE: Final = timedelta(days=1)
"""A bill that was read so much later has all that there will be."""


class Role(StrEnum):
    """What something was rented as."""

    GPU = "gpu"
    STANDBY = "standby"


class RentalRecord(Message):
    """One thing of ours that a provider bills, from its first second to its last."""

    provider: str
    resource_id: str
    machine_id: str
    owner_id: str
    label: str
    role: Role
    gpu: str | None = None
    gpu_count: int | None = None
    host_id: str | None = None
    region: str | None = None
    """The provider's location string, verbatim; a zone at Google."""
    rental: str | None = None
    """`spot` or `on_demand`."""
    machine_type: str | None = None
    disk_gb: float | None = None
    created_at: datetime | None = None
    """By the provider's clock where it said so, else when we intended it."""
    first_seen_at: datetime
    last_seen_at: datetime | None = None
    """In the newest listing that shows it; None: no listing ever did."""
    missing_since: datetime | None = None
    """Since when complete listings do not show it: no proof of anything yet."""
    ended_at: datetime | None = None
    """None: nobody has verified that it is gone."""
    ended_by: str | None = None
    """How that is known: `event`, `missing` (listings and its own page), or `provider` (its clock)."""
    changed_at: datetime | None = None
    """When anything of this was noted last."""
    metered_at: datetime | None = None
    """The `changed_at` up to which its lines are written."""

    @property
    def born(self) -> datetime:
        """The first second that anything of it is paid."""
        return self.created_at or self.first_seen_at


class Prices(NamedTuple):
    """Dollars per hour of one rental now; None is unknown."""

    usd_per_hour: float | None
    """Of a GPU instance all it costs now, its disk included; of a VM its cores and memory alone."""
    disk_usd_per_hour: float | None
    address_usd_per_hour: float | None = None
    source: str = SEEN_SOURCE


class Seen(Message):
    """A change: this state and these prices from a moment on."""

    at: datetime
    state: InstanceState
    usd_per_hour: float | None
    disk_usd_per_hour: float | None
    address_usd_per_hour: float | None = None
    source: str = SEEN_SOURCE

    @property
    def prices(self) -> Prices:
        """Its prices."""
        return Prices(
            self.usd_per_hour, self.disk_usd_per_hour, self.address_usd_per_hour, self.source
        )


def changes(
    last: Seen | None, instance: Instance, *, at: datetime, prices: Prices
) -> tuple[Seen, ...]:
    """What a listing adds to a timeline; nothing when it shows what was known.

    A state that says nothing is no change. Where the provider dates starts and stops itself, changes
    have its times; a run, or a stop, that fell between two listings is not lost then.

    Args:
        last: The newest change that is known.
        instance: As listed.
        at: When the listing was asked for.
        prices: Now.
    """
    turns = _own_turns(last, instance)
    if turns is None:
        known = last.state if last is not None else None
        state = instance.state if instance.state is not InstanceState.UNKNOWN else known
        turns = [(at, state)] if state is not None and state is not known else []
    added: list[Seen] = []
    newest = last
    for moment, state in turns:
        # A provider's clock that is behind ours must not put a change before one that is known.
        when = moment if newest is None else max(moment, newest.at + _TICK)
        newest = Seen(at=when, state=state, **prices._asdict())
        added.append(newest)
    if not added and last is not None and last.prices[:3] != prices[:3] and at > last.at:
        added.append(Seen(at=at, state=last.state, **prices._asdict()))
    return tuple(added)


def _own_turns(
    last: Seen | None, instance: Instance
) -> list[tuple[datetime, InstanceState]] | None:
    """Starts and stops that the provider dates and the timeline lacks; None: it dates none."""
    started, stopped = instance.started_at, instance.stopped_at
    if started is None:
        return None
    start = (started, InstanceState.RUNNING)
    if last is None or last.state is not InstanceState.RUNNING:
        runs_now = stopped is None or stopped < started
        if last is not None and not runs_now and started <= last.at:
            return []
        return [start] if runs_now or stopped is None else [start, (stopped, InstanceState.STOPPED)]
    if stopped is None:
        return []
    stop = (stopped, InstanceState.STOPPED)
    if stopped > started:
        return [stop]
    return [stop, start] if started > last.at else []


class _Piece(NamedTuple):
    item: Item
    start: datetime
    end: datetime
    rate: float | None
    source: str


def meter(
    rental: RentalRecord,
    seen: Sequence[Seen],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Entry]:
    """The lines of one rental by what was seen of it, one for each item and day.

    GPU time is paid while it runs, its disk as long as it exists and its host is online; a VM while it
    runs, a minute at least, its address likewise, its disk as long as it exists. (Vast.ai's and
    Google's rules: `docs/ledger.md`.) Time after the last listing that shows a rental is not counted
    before another one shows it, or its end is known.

    Args:
        rental: Whose.
        seen: Its timeline, oldest first; all of it.
        since: Nothing before this moment.
        until: Nothing after it.
    """
    known = rental.ended_at or rental.last_seen_at
    if known is None:
        return []
    end = known if until is None else min(known, until)
    find = _gpu_pieces if rental.role is Role.GPU else _vm_pieces
    by_line: dict[tuple[Item, date], list[_Piece]] = {}
    for piece in find(rental, seen, end):
        begin = piece.start if since is None else max(piece.start, since)
        for part in _by_day(piece._replace(start=begin)):
            by_line.setdefault((part.item, part.start.date()), []).append(part)
    return [_line(rental, item, day, parts) for (item, day), parts in sorted(by_line.items())]


def _segments(seen: Sequence[Seen], end: datetime) -> Iterator[tuple[Seen, datetime, Seen | None]]:
    """Each change with when it was over and what came then; None: nothing yet."""
    for position, change in enumerate(seen):
        following = seen[position + 1] if position + 1 < len(seen) else None
        if following is not None and following.at >= end:
            following = None
        stop = following.at if following is not None else end
        if change.at < stop:
            yield change, stop, following


def _gpu_pieces(rental: RentalRecord, seen: Sequence[Seen], end: datetime) -> Iterator[_Piece]:
    if not seen:
        # It was rented, and nobody saw it: something of it may have been paid.
        yield _Piece(Item.DISK, rental.born, end, None, SEEN_SOURCE)
        return
    first = seen[0]
    if rental.born < first.at:
        # While it was not seen it did load, as a rule: that costs its disk alone.
        yield _Piece(Item.DISK, rental.born, min(first.at, end), _disk_price(first), SEEN_SOURCE)
    for change, stop, _ in _segments(seen, end):
        if change.state is InstanceState.RUNNING:
            yield _Piece(Item.GPU, change.at, stop, _gpu_price(change), change.source)
        if change.state is not InstanceState.OFFLINE:
            yield _Piece(Item.DISK, change.at, stop, _disk_price(change), change.source)


def _gpu_price(change: Seen) -> float | None:
    if change.usd_per_hour is None:
        return None
    return max(0.0, change.usd_per_hour - (change.disk_usd_per_hour or 0.0))


def _disk_price(change: Seen) -> float | None:
    if change.disk_usd_per_hour is None and change.state is InstanceState.STOPPED:
        return change.usd_per_hour  # there is nothing else to pay
    return change.disk_usd_per_hour


def _vm_pieces(rental: RentalRecord, seen: Sequence[Seen], end: datetime) -> Iterator[_Piece]:
    disk_from, price = rental.born, (seen[0] if seen else None)
    if price is None:
        yield _Piece(Item.VM, rental.born, end, None, SEEN_SOURCE)
        yield _Piece(Item.VM_DISK, rental.born, end, None, SEEN_SOURCE)
        return
    run_began: datetime | None = None
    for change, stop, following in _segments(seen, end):
        yield _Piece(Item.VM_DISK, disk_from, stop, change.disk_usd_per_hour, change.source)
        disk_from = stop
        if change.state is not InstanceState.RUNNING:
            run_began = None
            continue
        run_began = run_began or change.at
        yield _Piece(Item.ADDRESS, change.at, stop, change.address_usd_per_hour, change.source)
        goes_on = following is not None and following.state is InstanceState.RUNNING
        paid_until = stop if goes_on else max(stop, run_began + VM_MINIMUM)
        yield _Piece(Item.VM, change.at, paid_until, change.usd_per_hour, change.source)


def _by_day(piece: _Piece) -> Iterator[_Piece]:
    start = piece.start.astimezone(UTC)
    end = piece.end.astimezone(UTC)
    while start < end:
        stop = min(end, midnight(start.date() + _DAY))
        yield piece._replace(start=start, end=stop)
        start = stop


def midnight(day: date) -> datetime:
    """The first moment of a day of UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _line(rental: RentalRecord, item: Item, day: date, parts: Sequence[_Piece]) -> Entry:
    spans = [(part.end - part.start).total_seconds() for part in parts]
    rates = [part.rate for part in parts]
    amounts = [
        span / 3600 * rate for span, rate in zip(spans, rates, strict=True) if rate is not None
    ]
    seconds = math.fsum(spans)
    known = math.fsum(amounts) if amounts else None
    usd = known if len(amounts) == len(parts) else None
    return Entry(
        provider=rental.provider,
        resource_id=rental.resource_id,
        item=item,
        day=day,
        machine_id=rental.machine_id,
        owner_id=rental.owner_id,
        label=rental.label,
        basis=Basis.METERED if rental.role is Role.GPU else Basis.LISTED,
        start=parts[0].start,
        end=max(part.end for part in parts),
        seconds=seconds,
        quantity=rental.disk_gb if item in (Item.DISK, Item.VM_DISK) else None,
        usd=usd,
        known_usd=known if usd is None else None,
        gpu=rental.gpu,
        gpu_count=rental.gpu_count,
        region=rental.region,
        rental=rental.rental,
        source=parts[-1].source,
        metered_seconds=seconds,
        metered_usd=usd,
    )


def lines(
    rental: RentalRecord,
    seen: Sequence[Seen],
    bills: Mapping[tuple[Item, date], Entry],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Entry]:
    """What the ledger should have of a rental: bills as far as they go, and what we saw beyond.

    Args:
        rental: Whose.
        seen: Its timeline.
        bills: Its lines that a bill has, by item and day.
        since: The midnight from which lines are wanted.
        until: As for `meter`.
    """
    metered = {
        (line.item, line.day): line for line in meter(rental, seen, since=since, until=until)
    }
    found = []
    for key, line in metered.items():
        bill = bills.get(key)
        if bill is None:
            found.append(line)
            continue
        tail = None
        if bill.billed_until is not None and not _has_all(bill, rental.ended_at):
            beyond = meter(rental, seen, since=bill.billed_until, until=until)
            tail = next((each for each in beyond if (each.item, each.day) == key), None)
        found.append(_with_bill(line, bill, tail))
    return found


def _has_all(bill: Entry, ended_at: datetime | None) -> bool:
    """Whether a bill has all of its line."""
    last = midnight(bill.day + _DAY)
    if ended_at is not None:
        last = min(last, ended_at)
    assert bill.billed_until is not None
    reaches = bill.billed_until + _BILL_SLACK >= last
    read_later = bill.billed_at is not None and bill.billed_at >= last + _BILL_PATIENCE
    # One that is read before the line is over reaches to then at most.
    return read_later or (reaches and bill.billed_at is not None and bill.billed_at >= last)


def _with_bill(metered: Entry, bill: Entry, tail: Entry | None) -> Entry:
    seconds = bill.billed_seconds if bill.billed_seconds is not None else metered.seconds
    shown = bill.model_copy(
        update={
            "basis": Basis.BILLED,
            "seconds": seconds,
            "usd": bill.billed_usd,
            "known_usd": None,
            "end": bill.billed_until or bill.end,
            "source": BILL_SOURCE,
            "gpu": bill.gpu or metered.gpu,
            "gpu_count": bill.gpu_count or metered.gpu_count,
            "region": metered.region,
            "rental": metered.rental,
            "metered_seconds": metered.seconds,
            "metered_usd": metered.usd,
        }
    )
    if tail is None:
        return shown
    all_known = bill.billed_usd is not None and tail.usd is not None
    known = [usd for usd in (bill.billed_usd, tail.usd, tail.known_usd) if usd is not None]
    return shown.model_copy(
        update={
            "basis": metered.basis,
            "seconds": seconds + tail.seconds if bill.billed_seconds is not None else seconds,
            "usd": math.fsum(known) if all_known else None,
            "known_usd": math.fsum(known) if known and not all_known else None,
            "end": tail.end,
            "source": f"{BILL_SOURCE} so far, then {metered.source}",
        }
    )


BILL_SOURCE: Final = "the provider's bill"
