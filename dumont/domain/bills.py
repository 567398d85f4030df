"""From a provider's bill to lines of the ledger, and from stored snapshots to what storing them costs.

Only what is known to be ours becomes a line. A part of a bill that spans days is shared out by time,
so that it does not matter in which portions a bill is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from dumont.domain.instances import Charge
from dumont.domain.ledger import Basis, Entry, Item
from dumont.domain.metering import BILL_SOURCE, RentalRecord, midnight

_ITEMS: Final = {"gpu": Item.GPU, "disk": Item.DISK, "bwu": Item.TRAFFIC, "bwd": Item.TRAFFIC}
"""Vast.ai's kinds. Any other one is `other`: it is paid for, whatever it is."""
_TIMED: Final = (Item.GPU, Item.DISK)
_DAY: Final = timedelta(days=1)
_BYTES_PER_GB: Final = 1e9
HOURS_PER_MONTH: Final = 730.0


def bill_lines(
    charges: Iterable[Charge],
    *,
    provider: str,
    day: date,
    read_at: datetime,
    ours: Mapping[str, RentalRecord],
) -> list[Entry]:
    """The lines of one day that a bill has of what is ours.

    Args:
        charges: The bill of at least that day; what is of other days is left out.
        provider: Whose bill.
        day: Of UTC.
        read_at: When the bill was asked for.
        ours: Rentals by the provider's id.
    """
    parts: dict[tuple[str, Item], list[_Part]] = {}
    for charge in charges:
        part = _part(charge, day)
        if charge.instance_id in ours and part is not None:
            item = _ITEMS.get(charge.kind, Item.OTHER)
            parts.setdefault((charge.instance_id, item), []).append(part)
    return [
        _entry(ours[resource_id], item, day, found, provider=provider, read_at=read_at)
        for (resource_id, item), found in sorted(parts.items())
    ]


class _Part(NamedTuple):
    charge: Charge
    share: float
    start: datetime
    end: datetime


def _part(charge: Charge, day: date) -> _Part | None:
    first, last = midnight(day), midnight(day + _DAY)
    start, end = charge.start, max(charge.start, charge.end)
    if end == start:
        return _Part(charge, 1.0, start, end) if first <= start < last else None
    begin, stop = max(start, first), min(end, last)
    if begin >= stop:
        return None
    return _Part(charge, (stop - begin) / (end - start), begin, stop)


def _entry(
    rental: RentalRecord,
    item: Item,
    day: date,
    parts: Sequence[_Part],
    *,
    provider: str,
    read_at: datetime,
) -> Entry:
    amounts = [part.charge.usd for part in parts]
    usd = (
        math.fsum(part.share * (part.charge.usd or 0.0) for part in parts)
        if None not in amounts
        else None
    )
    start, end = min(p.start for p in parts), max(p.end for p in parts)
    seconds = _shared([p.charge.hours for p in parts], parts) if item in _TIMED else None
    seconds = seconds * 3600 if seconds is not None else None
    if seconds is not None:
        # A bill that does not say how far it goes goes as far as what it has lasted.
        day_end = midnight(day + _DAY)
        end = min(day_end, max(end, start + timedelta(seconds=seconds)))
    model = parts[-1].charge
    return Entry(
        provider=provider,
        resource_id=rental.resource_id,
        item=item,
        day=day,
        machine_id=rental.machine_id,
        owner_id=rental.owner_id,
        label=rental.label,
        basis=Basis.BILLED,
        start=start,
        end=end,
        seconds=seconds or 0.0,
        quantity=_shared([p.charge.quantity for p in parts], parts)
        if item is Item.TRAFFIC
        else rental.disk_gb
        if item is Item.DISK
        else None,
        usd=usd,
        gpu=rental.gpu or model.gpu,
        gpu_count=rental.gpu_count or model.gpu_count,
        region=rental.region,
        rental=rental.rental,
        source=BILL_SOURCE,
        billed_seconds=seconds,
        billed_usd=usd,
        billed_until=end,
        billed_at=read_at,
    )


def _shared(values: Sequence[float | None], parts: Sequence[_Part]) -> float | None:
    """The sum of a figure over parts; None when one of them does not say."""
    known = [
        value * part.share for value, part in zip(values, parts, strict=True) if value is not None
    ]
    return math.fsum(known) if len(known) == len(parts) else None


class BillMark(NamedTuple):
    """How far the bills of one account are read."""

    settled: date | None
    """The last day that was over when its bill was read."""
    read_at: datetime | None
    """When a bill was read last."""


class Kept(NamedTuple):
    """A snapshot in the object store."""

    stored_bytes: int
    """What making it added to the store."""
    taken_at: datetime
    forgotten_at: datetime | None


def storage_lines(
    owner_id: str,
    snapshots: Sequence[Kept],
    *,
    since: datetime,
    until: datetime,
    usd_per_gb_month: float | None,
    source: str,
) -> list[Entry]:
    """What an owner's snapshots cost to store, a line a day: an estimate.

    A snapshot counts with what it added, from when it was made until it was deleted; what deleting
    really frees (other snapshots may need the same blocks) is known to the store alone.

    Args:
        owner_id: Whose repository.
        snapshots: All that were there at some time between the two moments.
        since: A midnight of UTC.
        until: Now.
        usd_per_gb_month: Of 730 hours and 10^9 bytes; None is unknown.
        source: Where the price comes from.
    """
    found = []
    day = since.date()
    while (first := midnight(day)) < until:
        last = min(until, midnight(day + _DAY))
        spans = [
            (kept, max(first, kept.taken_at), min(last, kept.forgotten_at or last))
            for kept in snapshots
        ]
        there = [(kept, start, end) for kept, start, end in spans if start < end]
        if there:
            start, end = min(s for _, s, _ in there), max(e for _, _, e in there)
            seconds = (end - start).total_seconds()
            gb_seconds = math.fsum(
                kept.stored_bytes / _BYTES_PER_GB * (e - s).total_seconds() for kept, s, e in there
            )
            found.append(
                Entry(
                    provider="store",
                    resource_id=owner_id,
                    item=Item.STORAGE,
                    day=day,
                    machine_id=None,
                    owner_id=owner_id,
                    basis=Basis.LISTED,
                    start=start,
                    end=end,
                    seconds=seconds,
                    quantity=gb_seconds / seconds,
                    usd=None
                    if usd_per_gb_month is None
                    else gb_seconds / 3600 / HOURS_PER_MONTH * usd_per_gb_month,
                    source=source,
                )
            )
        day += _DAY
    return found
