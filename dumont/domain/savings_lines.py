"""What was saved and what it cost, line by line: each can be computed again from its own inputs. Pure.

A line is exact to a billionth of a dollar, so that sums are the same in whatever order and grouping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from pydantic import Field

from dumont.domain.instances import Model, Rental
from dumont.domain.ledger import Basis, Entry, Item
from dumont.domain.machine import MachinePhase
from dumont.domain.receipts import Receipt
from dumont.domain.reference_prices import (
    ReferenceKind,
    ReferencePrice,
    Rented,
    asked_at_rental,
    default_reference,
)
from dumont.domain.spans import SLACK_S, Days, PhaseSpan

HOUR_S: Final = 3600.0
_EXACT: Final = Decimal("0.000000001")


class Part(StrEnum):
    """What a line is about. Names are public and stable."""

    SPOT = "spot"
    """Seconds paid at spot prices, at the on-demand price, minus what was paid."""
    INTERRUPTIONS = "interruptions"
    """Of those seconds the ones in which nobody could use the GPU: on demand there are none to pay."""
    HIBERNATION = "hibernation"
    """Hours that nothing was rented, at the price that was paid before."""
    DOWNTIME = "downtime"
    """Minutes that people had a machine because there was a standby."""
    STANDBY = "standby"
    """The standby's cores, disk, address and egress: a cost."""
    STORAGE = "storage"
    """Snapshots in the object store: a cost."""
    TRAFFIC = "traffic"
    """What the GPU's host bills for bytes: a cost, for no bill says which were the mirror's."""

    @property
    def is_cost(self) -> bool:
        """It makes the net smaller: its lines are negative, and an unknown one makes the net too high."""
        return self not in (Part.SPOT, Part.HIBERNATION, Part.DOWNTIME)


FORMULAS: Final[Mapping[Part, str]] = {
    Part.SPOT: "paid_seconds / 3600 x gpus x reference_usd_per_gpu_hour - paid_usd",
    Part.INTERRUPTIONS: "-(paid_seconds - usable_seconds) / 3600 x reference_usd_per_hour",
    Part.HIBERNATION: "hibernated_seconds / 3600 x usd_per_hour_before",
    Part.DOWNTIME: "(without_minutes - with_minutes) / 60 x usd_per_hour_of_work",
    Part.STANDBY: "-paid_usd",
    Part.STORAGE: "-paid_usd",
    Part.TRAFFIC: "-paid_usd",
}


class Known(StrEnum):
    """How a figure is known, from the best to the weakest. Names are public and stable."""

    BILLED = "billed"
    METERED = "metered"
    """Time seen by us at the price seen at that time."""
    LISTED = "listed"
    """A dated list price or series has a part in it."""
    ESTIMATE = "estimate"
    """It rests on an assumption, which is named."""


_RANK: Final = {known: rank for rank, known in enumerate(Known)}


def weakest(known: Iterable[Known]) -> Known | None:
    """What a figure of several parts can claim; None for no parts."""
    return max(known, key=_RANK.__getitem__, default=None)


class Assumptions(Model):
    """What no record says. All of it is shown with the report."""

    usd_per_hour_of_work: float | None = Field(default=None, ge=0)
    """What an hour of the people at one machine is worth; None: time stays time."""
    minutes_without_standby: float | None = Field(default=None, ge=0)
    """How long a lost machine would have been away without a standby; None: as long as it took, by each
    receipt, until another GPU had its files, which is the least it would have been."""


class SavingsLine(Model):
    """One thing that was saved (positive) or that it cost (negative)."""

    part: Part
    machine_id: str | None
    """None: of an owner, not of one machine."""
    day: date
    """Of UTC."""
    gpu: str | None
    usd: Decimal | None
    """None: unknown, or time that nobody gave a price for."""
    minutes: float | None = None
    """Of downtime; None: unknown, or another part."""
    known: Known
    inputs: dict[str, float | str]
    """Enough to compute it again, with where each comes from."""
    why_unknown: str = ""


def recomputed(line: SavingsLine) -> Decimal | None:
    """A line's dollars again, from nothing but its inputs by the formula of its part."""
    if line.usd is None:
        return None
    value = {key: given for key, given in line.inputs.items() if isinstance(given, (int, float))}
    match line.part:
        case Part.SPOT:
            rate = value["gpus"] * value["reference_usd_per_gpu_hour"]
            return exact(value["paid_seconds"] / HOUR_S * rate - value["paid_usd"])
        case Part.INTERRUPTIONS:
            lost = value["paid_seconds"] - value["usable_seconds"]
            return exact(-lost / HOUR_S * value["reference_usd_per_hour"])
        case Part.HIBERNATION:
            return exact(value["hibernated_seconds"] / HOUR_S * value["usd_per_hour_before"])
        case Part.DOWNTIME:
            minutes = value["without_minutes"] - value["with_minutes"]
            return exact(minutes / 60 * value["usd_per_hour_of_work"])
        case Part.STANDBY | Part.STORAGE | Part.TRAFFIC:
            return exact(-value["paid_usd"])


def exact(usd: float) -> Decimal:
    """Dollars to a billionth; never a negative zero."""
    return Decimal(usd).quantize(_EXACT) + 0


Recorded = Mapping[str, Rented]
"""What the market showed of an instance when it was rented, by the instance's label."""

_COSTS: Final[Mapping[Item, Part]] = {
    Item.VM: Part.STANDBY,
    Item.VM_DISK: Part.STANDBY,
    Item.ADDRESS: Part.STANDBY,
    Item.EGRESS: Part.STANDBY,
    Item.STORAGE: Part.STORAGE,
    Item.TRAFFIC: Part.TRAFFIC,
}


def cost_lines(entries: Iterable[Entry]) -> list[SavingsLine]:
    """What protecting cost, one line for each of the ledger's."""
    return [
        SavingsLine(
            part=_COSTS[entry.item],
            machine_id=entry.machine_id,
            day=entry.day,
            gpu=entry.gpu,
            usd=None if entry.usd is None else exact(-entry.usd),
            known=Known(entry.basis.value),
            inputs=_of_entry(entry),
            why_unknown="" if entry.usd is not None else "what it cost is not known",
        )
        for entry in entries
        if entry.item in _COSTS
    ]


def reference_for(entry: Entry, recorded: Recorded) -> ReferencePrice | None:
    """What a GPU line is held against: what the market asked when it was rented, else a dated price."""
    rented = recorded.get(entry.label) if entry.label else None
    asked = asked_at_rental(rented) if rented is not None else None
    if asked is not None or entry.gpu is None:
        return asked
    memory_gb = rented.offer.gpu_memory_gb if rented is not None else None
    return default_reference(entry.gpu, provider=entry.provider, memory_gb=memory_gb)


def is_compared(entry: Entry) -> bool:
    """Whether a line is GPU time that may have been a bid: what is rented on demand saves nothing so."""
    paid = entry.seconds > 0 or entry.usd != 0
    return entry.item is Item.GPU and entry.rental != Rental.ON_DEMAND and paid


def spot_line(entry: Entry, recorded: Recorded) -> SavingsLine:
    """What one day of one instance would have cost on demand, minus what it cost."""
    price = reference_for(entry, recorded)
    why = _why_not_compared(entry, price)
    inputs = _of_entry(entry)
    usd = None
    known = Known(entry.basis.value)
    if price is not None:
        inputs |= {
            "reference_usd_per_gpu_hour": price.usd_per_gpu_hour,
            "reference": price.label,
            "reference_kind": price.kind.value,
        }
        met = Known.METERED if price.kind is ReferenceKind.AT_RENTAL else Known.LISTED
        known = max(known, met, key=_RANK.__getitem__)
    if not why and price is not None and entry.usd is not None:
        rate = (entry.gpu_count or 0) * price.usd_per_gpu_hour
        usd = exact(entry.seconds / HOUR_S * rate - entry.usd)
    return SavingsLine(
        part=Part.SPOT,
        machine_id=entry.machine_id,
        day=entry.day,
        gpu=entry.gpu,
        usd=usd,
        known=known,
        inputs=inputs,
        why_unknown=why,
    )


def _why_not_compared(entry: Entry, price: ReferencePrice | None) -> str:
    if entry.usd is None:
        return "what was paid is not known"
    if entry.seconds <= 0:
        return "for how long it was paid is not known"
    if entry.gpu is None or not entry.gpu_count:
        return "which GPUs they were is not known"
    if entry.rental != Rental.SPOT:
        return "whether it was rented as spot is not known"
    return "" if price is not None else f"no reference price is known for {entry.gpu}"


def interruption_lines(
    compared: Sequence[tuple[Entry, SavingsLine]], days: Days
) -> list[SavingsLine]:
    """The paid seconds in which nobody could use the GPU, taken out of what spot saved.

    Booting, restoring, attempts that lost a race, an instance behind a cut link, going to sleep: a
    machine on demand would not have been interrupted, so that it would not have paid for them.
    """
    groups: dict[tuple[str, date, str], list[tuple[Entry, SavingsLine]]] = {}
    for entry, line in compared:
        if line.usd is not None:
            key = (entry.machine_id or "", entry.day, entry.gpu or "")
            groups.setdefault(key, []).append((entry, line))
    found = (_lost(groups[key], days) for key in sorted(groups))
    return [line for line in found if line is not None]


def _lost(group: list[tuple[Entry, SavingsLine]], days: Days) -> SavingsLine | None:
    first = group[0][0]
    paid = math.fsum(entry.seconds for entry, _ in group)
    on_demand = math.fsum(
        entry.seconds / HOUR_S * _number(line, "gpus") * _number(line, "reference_usd_per_gpu_hour")
        for entry, line in group
    )
    usable = None
    # A line that lasted longer than from its start to its end does not say when it was paid.
    dated = all((e.end - e.start).total_seconds() + SLACK_S >= e.seconds for e, _ in group)
    if first.machine_id is not None and dated:
        when = [(entry.start, entry.end) for entry, _ in group]
        usable = days.seconds(first.machine_id, MachinePhase.RUNNING, when)
    inputs: dict[str, float | str] = {"paid_seconds": paid}
    usd, why = None, "when the machine could be used is not known"
    rate = on_demand / (paid / HOUR_S)
    inputs["reference_usd_per_hour"] = rate
    if usable is not None:
        usable = min(usable, paid)
        if usable == paid:
            return None
        inputs["usable_seconds"] = usable
        usd, why = exact(-(paid - usable) / HOUR_S * rate), ""
    known = weakest([Known.METERED, *(line.known for _, line in group)])
    return SavingsLine(
        part=Part.INTERRUPTIONS,
        machine_id=first.machine_id,
        day=first.day,
        gpu=first.gpu,
        usd=usd,
        known=known or Known.METERED,
        inputs=inputs,
        why_unknown=why,
    )


def hibernation_lines(entries: Sequence[Entry], days: Days, *, since: date) -> list[SavingsLine]:
    """Hours in which a machine slept and nothing was rented, at the price that it had been paying.

    Hours before it slept were paid, however idle: they are not in here.

    Args:
        entries: With those before the period: the price may lie there.
        days: The spans, up to the end of the period.
        since: The first day.
    """
    paid: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.item is Item.GPU and entry.machine_id is not None:
            paid.setdefault(entry.machine_id, []).append(entry)
    begin = datetime.combine(since, time(), tzinfo=UTC)
    return [
        _asleep(span, start, end, _price_before(paid.get(machine_id, []), span.start))
        for machine_id in days.machines
        for span in days.of_machine(machine_id)
        if span.phase is MachinePhase.HIBERNATED
        for start, end in days.pieces(span, begin)
    ]


def _price_before(entries: list[Entry], moment: datetime) -> Entry | None:
    before = [entry for entry in entries if entry.start < moment]
    return max(
        before,
        key=lambda each: (each.start, each.end, each.resource_id, each.seconds, each.usd or 0),
        default=None,
    )


def _asleep(span: PhaseSpan, start: datetime, end: datetime, last: Entry | None) -> SavingsLine:
    inputs: dict[str, float | str] = {"hibernated_seconds": (end - start).total_seconds()}
    usd, why = None, "what it had been paying is not known"
    if last is not None and last.usd is not None and last.seconds > 0:
        rate = last.usd / (last.seconds / HOUR_S)
        inputs |= {
            "usd_per_hour_before": rate,
            "price_from": f"{last.provider} {last.resource_id} on {last.day.isoformat()}",
        }
        usd, why = exact((end - start).total_seconds() / HOUR_S * rate), ""
    return SavingsLine(
        part=Part.HIBERNATION,
        machine_id=span.machine_id,
        day=start.astimezone(UTC).date(),
        gpu=last.gpu if last is not None else None,
        usd=usd,
        known=Known.ESTIMATE,
        inputs=inputs,
        why_unknown=why,
    )


def downtime_lines(
    receipts: Iterable[Receipt], assumed: Assumptions, *, since: date, until: date
) -> list[SavingsLine]:
    """Minutes that people went on working instead of waiting; dollars only at a value that was given.

    Drills and false alarms avoid nothing. What people had meanwhile is the standby: their files and a
    shell, and no GPU.
    """
    lines = []
    for receipt in sorted(receipts, key=lambda each: (each.machine_id, each.number)):
        day = receipt.detected_at.astimezone(UTC).date()
        if receipt.drill or receipt.false_alarm or not since <= day <= until:
            continue
        lines.append(_avoided(receipt, day, assumed))
    return lines


def _avoided(receipt: Receipt, day: date, assumed: Assumptions) -> SavingsLine:
    away = receipt.ms("redirected")
    inputs: dict[str, float | str] = {"receipt": receipt.receipt_id}
    without, said_by = assumed.minutes_without_standby, "assumption"
    if without is None:
        restored = receipt.ms("verified")
        without, said_by = (restored / 60_000 if restored is not None else None), "receipt"
    minutes = usd = None
    why = "the receipt does not say how long it took"
    if away is not None and without is not None:
        # Whoever assumes less than the redirect took has lost nothing by it.
        without = max(without, away / 60_000)
        inputs |= {
            "without_minutes": without,
            "without_by": said_by,
            "with_minutes": away / 60_000,
        }
        minutes, why = without - away / 60_000, ""
        if assumed.usd_per_hour_of_work is not None:
            inputs["usd_per_hour_of_work"] = assumed.usd_per_hour_of_work
            usd = exact(minutes / 60 * assumed.usd_per_hour_of_work)
    return SavingsLine(
        part=Part.DOWNTIME,
        machine_id=receipt.machine_id,
        day=day,
        gpu=receipt.former.gpu,
        usd=usd,
        minutes=minutes,
        known=Known.ESTIMATE,
        inputs=inputs,
        why_unknown=why,
    )


def end_of(day: date) -> datetime:
    """The first moment that is no longer of this day of UTC."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)


def _number(line: SavingsLine, name: str) -> float:
    value = line.inputs[name]
    assert isinstance(value, (int, float))
    return value


def _of_entry(entry: Entry) -> dict[str, float | str]:
    """A line of the ledger as inputs, with how it is known."""
    given: dict[str, float | str | None] = {
        "resource": f"{entry.provider} {entry.resource_id}",
        "item": entry.item.value,
        "paid_usd": entry.usd,
        "paid_seconds": entry.seconds or None,
        "quantity": entry.quantity,
        "gpus": entry.gpu_count,
        "paid_by": Basis(entry.basis).value,
        "price_source": entry.source,
    }
    return {name: value for name, value in given.items() if value is not None}
