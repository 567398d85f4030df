"""The ledger's line: what one thing cost on one day, and how we know.

A day is a day of UTC, as providers bill. One resource has one line for each item and day, so that
reading a bill again changes a line and never doubles it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from dumont.domain.instances import Message


class Item(StrEnum):
    """What is paid for. Names are public and stable."""

    GPU = "gpu"
    """The GPU instance while it runs."""
    DISK = "disk"
    """The GPU instance's disk, in any state of the instance."""
    TRAFFIC = "traffic"
    """What the GPU's host bills for bytes."""
    VM = "vm"
    """The standby's cores and memory."""
    VM_DISK = "vm_disk"
    ADDRESS = "address"
    """The standby's public address."""
    EGRESS = "egress"
    """Bytes that leave Google."""
    STORAGE = "storage"
    """Snapshots in the object store."""
    OTHER = "other"
    """A line of a provider's bill that is none of these."""


class Basis(StrEnum):
    """How a line is known."""

    BILLED = "billed"
    """The provider's own bill says so."""
    METERED = "metered"
    """Time seen by us at the price seen at that time: an estimate until there is a bill."""
    LISTED = "listed"
    """Time seen by us at a dated list price: an estimate, and no bill follows."""


class Entry(Message):
    """One line of the ledger."""

    provider: str
    resource_id: str
    """The provider's id of what is paid for; an owner's repository for `storage`."""
    item: Item
    day: date
    """Of UTC."""
    machine_id: str | None
    """None: of an owner, not of one machine."""
    owner_id: str
    label: str = ""
    basis: Basis
    start: datetime
    """When the first second that is paid for on this day began."""
    end: datetime
    seconds: float = Field(default=0.0, ge=0)
    """Seconds paid for; 0 where it is not time that is paid."""
    quantity: float | None = None
    """Gigabytes, where those are paid."""
    usd: float | None
    """None: the price is unknown, of all of it or of a part. Never counted as zero."""
    known_usd: float | None = None
    """What is known of `usd` where that is unknown: less than was paid. None: nothing."""
    gpu: str | None = None
    gpu_count: int | None = None
    region: str | None = None
    rental: str | None = None
    """`spot` or `on_demand`."""
    source: str
    """Where the price comes from, for people: a bill, or a list with its date."""
    billed_seconds: float | None = None
    """What a bill says of it so far; None: no bill, or it names no time."""
    billed_usd: float | None = None
    billed_until: datetime | None = None
    """How far that bill goes. A line that is METERED beyond it has both parts in `seconds` and `usd`."""
    billed_at: datetime | None = None
    """When the bill was read; None: no bill has it yet."""
    metered_seconds: float | None = None
    """What we saw ourselves, kept beside a bill so that the two can be compared."""
    metered_usd: float | None = None

    @property
    def key(self) -> tuple[str, str, Item, date]:
        """What makes it this line and no other."""
        return self.provider, self.resource_id, self.item, self.day

    @property
    def least_usd(self) -> float:
        """What was paid at least: all of it where the price is known, else what is known of it."""
        if self.usd is not None:
            return self.usd
        return self.known_usd or self.billed_usd or 0.0


class Rewrite(NamedTuple):
    """All lines that a resource should have from a day on."""

    provider: str
    resource_id: str
    entries: Sequence[Entry]
    since: date


class By(StrEnum):
    """What sums are made of."""

    MACHINE = "machine"
    DAY = "day"
    GPU = "gpu"
    ITEM = "item"


class Sum(Message):
    """What some lines cost together. Of a line of unknown price they have what is known of it, and
    are lower bounds then."""

    key: str | None
    """The machine's id, day, GPU model or item; None: lines that have none, or the sum of all."""
    lines: int
    gpu_seconds: float
    """Seconds of GPU instances that ran, however many GPUs one has."""
    usd: float
    """What is known of it."""
    billed_usd: float
    metered_usd: float
    listed_usd: float
    unknown_lines: int
    """Lines whose price is unknown, or was for a part of the day."""
    unknown_seconds: float
    """Their seconds."""

    @property
    def at_least(self) -> bool:
        """Whether it may be more."""
        return self.unknown_lines > 0


def summarize(entries: Iterable[Entry], by: By) -> list[Sum]:
    """Sums of lines, in the order of their keys; lines without the key come last."""
    groups: dict[str | None, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_key(entry, by), []).append(entry)
    ordered = sorted(groups.items(), key=lambda group: (group[0] is None, group[0] or ""))
    return [_sum(key, lines) for key, lines in ordered]


def total(entries: Iterable[Entry]) -> Sum:
    """The sum of all of them."""
    return _sum(None, list(entries))


def _key(entry: Entry, by: By) -> str | None:
    match by:
        case By.MACHINE:
            return entry.machine_id
        case By.DAY:
            return entry.day.isoformat()
        case By.GPU:
            return entry.gpu
        case By.ITEM:
            return entry.item.value


def _sum(key: str | None, lines: list[Entry]) -> Sum:
    parts: dict[Basis, list[float]] = {basis: [] for basis in Basis}
    unknown: list[Entry] = []
    for line in lines:
        billed = _known_by_bill(line)
        parts[Basis.BILLED].append(billed)
        parts[line.basis].append(line.least_usd - billed)
        if line.usd is None:
            unknown.append(line)
    sums = {basis: math.fsum(amounts) for basis, amounts in parts.items()}
    return Sum(
        key=key,
        lines=len(lines),
        gpu_seconds=math.fsum(line.seconds for line in lines if line.item is Item.GPU),
        usd=math.fsum(amount for amounts in parts.values() for amount in amounts),
        billed_usd=sums[Basis.BILLED],
        metered_usd=sums[Basis.METERED],
        listed_usd=sums[Basis.LISTED],
        unknown_lines=len(unknown),
        unknown_seconds=math.fsum(line.seconds for line in unknown),
    )


def _known_by_bill(line: Entry) -> float:
    if line.billed_usd is not None:
        return line.billed_usd
    return line.usd if line.basis is Basis.BILLED and line.usd is not None else 0.0


class Difference(Message):
    """A bill's line beside what we saw ourselves."""

    provider: str
    resource_id: str
    machine_id: str | None
    item: Item
    day: date
    billed_seconds: float | None
    metered_seconds: float | None
    billed_usd: float | None
    metered_usd: float | None

    @property
    def seconds(self) -> float | None:
        """How much more the bill has; None: one of them is unknown."""
        return _difference(self.billed_seconds, self.metered_seconds)

    @property
    def usd(self) -> float | None:
        """The same in dollars."""
        return _difference(self.billed_usd, self.metered_usd)


def audit(entries: Iterable[Entry]) -> list[Difference]:
    """Every line that a bill has whole, beside what we saw; what nobody saw is None, not zero."""
    return [
        Difference(
            provider=line.provider,
            resource_id=line.resource_id,
            machine_id=line.machine_id,
            item=line.item,
            day=line.day,
            billed_seconds=line.billed_seconds,
            metered_seconds=line.metered_seconds,
            billed_usd=line.billed_usd,
            metered_usd=line.metered_usd,
        )
        for line in entries
        if line.basis is Basis.BILLED
    ]


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
