"""The savings report: what was saved, what it cost, what is left, and how each figure is known. Pure.

Everything comes from the ledger's lines, the event log, receipts of failovers and dated prices; what none
of them says is an assumption that the report shows. A figure that is not known is counted as unknown
beside the sum, never as zero in it. Nothing is extrapolated: a week's figure is not a year's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal

from dumont.domain.instances import Model, Rental
from dumont.domain.ledger import Entry, Item
from dumont.domain.receipts import Receipt
from dumont.domain.savings_lines import (
    FORMULAS,
    Assumptions,
    Known,
    Part,
    Recorded,
    SavingsLine,
    cost_lines,
    downtime_lines,
    end_of,
    exact,
    hibernation_lines,
    interruption_lines,
    is_compared,
    spot_line,
    weakest,
)
from dumont.domain.spans import Days, PhaseSpan

By = Literal["machine", "day", "gpu"]

NOTHING: Final = Decimal(0)
MONTH_DAYS: Final = 30


class Bound(StrEnum):
    """What a sum says when a part of it is unknown. Names are public and stable."""

    EXACT = "exact"
    """Nothing is unknown."""
    AT_LEAST = "at_least"
    """Some saving is unknown."""
    AT_MOST = "at_most"
    """Some cost is unknown."""
    EITHER = "either"
    """Both are."""


class Figure(Model):
    """One part of the report: the sum of its lines."""

    part: Part
    usd: Decimal | None
    """Of the lines that are known; None: of none of them, or not in dollars."""
    minutes: float | None = None
    """Of downtime."""
    known: Known | None
    """As its weakest line is; None: it has no line."""
    lines: int
    unknown: int
    """Lines that are not in the sum."""
    whys: tuple[str, ...]
    """Why they are not, each reason once."""
    formula: str


class Paid(Model):
    """What the ledger says was paid for one item: where the report's sums can be held against it."""

    item: Item
    usd: Decimal
    lines: int
    unknown: int


class Return(Model):
    """Benefit against cost. There is nothing to buy in advance, so payback is of running cost."""

    name: Literal["standby", "everything"]
    benefit_usd: Decimal | None
    cost_usd: Decimal | None
    percent: float | None
    """(benefit - cost) / cost."""
    payback_days: float | None
    """Days of benefit that pay for thirty days of cost."""
    why_not: str
    """Why there is none; empty when there is."""


class Row(Model):
    """A part of the report: of one machine, day or GPU."""

    key: str | None
    """None: what belongs to no single one."""
    parts: dict[Part, Decimal]
    """Those with a line in the net; others are not named."""
    minutes: float
    net_usd: Decimal
    bound: Bound
    unknown: int


class SavingsReport(Model):
    """What was saved from one day to another, both included, of UTC."""

    since: date
    until: date
    as_of: datetime
    """What goes on is counted until then."""
    assumptions: Assumptions
    figures: tuple[Figure, ...]
    net_usd: Decimal
    bound: Bound
    returns: tuple[Return, ...]
    paid: tuple[Paid, ...]
    coverage: float | None
    """Share of the spot GPU seconds that could be compared; None: there were none."""
    left_out: tuple[str, ...]
    """What was paid or done and is in no figure, and why."""
    lines: tuple[SavingsLine, ...]


def savings_report(
    entries: Sequence[Entry],
    spans: Iterable[PhaseSpan],
    receipts: Iterable[Receipt],
    *,
    since: date,
    until: date,
    now: datetime,
    recorded: Recorded | None = None,
    assumptions: Assumptions | None = None,
) -> SavingsReport:
    """Everything about the days from `since` to `until`, both included.

    Args:
        entries: Of the ledger; those before `since` only lend their price to what slept since.
        spans: Phases of machines, from the event log.
        receipts: Of failovers.
        since: First day, of UTC.
        until: Last day.
        now: What goes on is counted until then.
        recorded: What the market showed of instances when they were rented.
        assumptions: What no record says.
    """
    assumed = assumptions or Assumptions()
    end = min(now, end_of(until))
    days = Days(spans, until=end)
    within = [entry for entry in entries if since <= entry.day <= until]
    compared = [(entry, spot_line(entry, recorded or {})) for entry in within if is_compared(entry)]
    lines = sorted(
        (
            *(line for _, line in compared),
            *interruption_lines(compared, days),
            *hibernation_lines(entries, days, since=since),
            *downtime_lines(receipts, assumed, since=since, until=until),
            *cost_lines(within),
        ),
        key=_place,
    )
    figures = tuple(_figure(part, lines, assumed) for part in Part)
    counted = [line for line in lines if _counts(line, assumed)]
    period = (end - datetime.combine(since, time(), tzinfo=UTC)).total_seconds() / 86_400
    return SavingsReport(
        since=since,
        until=until,
        as_of=end,
        assumptions=assumed,
        figures=figures,
        net_usd=_sum(counted),
        bound=_bound(counted),
        returns=_returns(figures, assumed, period),
        paid=_paid(within),
        coverage=_coverage(compared),
        left_out=_left_out(within),
        lines=tuple(lines),
    )


def breakdown(report: SavingsReport, by: By) -> list[Row]:
    """The same lines by machine, day or GPU; the rows add up to the report exactly."""
    groups: dict[str | None, list[SavingsLine]] = {}
    for line in report.lines:
        key = {"machine": line.machine_id, "day": line.day.isoformat(), "gpu": line.gpu}[by]
        groups.setdefault(key, []).append(line)
    return [
        _row(key, groups[key], report.assumptions)
        for key in sorted(groups, key=lambda key: (key is None, key or ""))
    ]


def _row(key: str | None, lines: list[SavingsLine], assumed: Assumptions) -> Row:
    counted = [line for line in lines if _counts(line, assumed)]
    parts: dict[Part, Decimal] = {}
    for line in counted:
        if line.usd is not None:
            parts[line.part] = parts.get(line.part, NOTHING) + line.usd
    return Row(
        key=key,
        parts=parts,
        minutes=sum(line.minutes or 0 for line in lines),
        net_usd=_sum(counted),
        bound=_bound(counted),
        unknown=sum(bool(line.why_unknown) for line in lines),
    )


def _figure(part: Part, lines: list[SavingsLine], assumed: Assumptions) -> Figure:
    mine = [line for line in lines if line.part is part]
    known = [line for line in mine if line.usd is not None]
    minutes = None
    if part is Part.DOWNTIME:
        minutes = sum((line.minutes or 0.0 for line in mine), 0.0)
        if any(line.minutes is None for line in mine) and not minutes:
            minutes = None
    worth = part is not Part.DOWNTIME or assumed.usd_per_hour_of_work is not None
    return Figure(
        part=part,
        usd=_sum(known) if worth and (known or not mine) else None,
        minutes=minutes,
        known=weakest(line.known for line in mine),
        lines=len(mine),
        unknown=sum(bool(line.why_unknown) for line in mine),
        whys=tuple(sorted({line.why_unknown for line in mine if line.why_unknown})),
        formula=FORMULAS[part],
    )


def _counts(line: SavingsLine, assumed: Assumptions) -> bool:
    """Whether a line belongs in the net: time that nobody gave a value does not, known or not."""
    return line.part is not Part.DOWNTIME or assumed.usd_per_hour_of_work is not None


def _sum(lines: Iterable[SavingsLine]) -> Decimal:
    return sum((line.usd for line in lines if line.usd is not None), NOTHING)


def _bound(lines: Iterable[SavingsLine]) -> Bound:
    unknown = [line.part.is_cost for line in lines if line.usd is None]
    if not unknown:
        return Bound.EXACT
    if any(unknown):
        return Bound.AT_MOST if all(unknown) else Bound.EITHER
    return Bound.AT_LEAST


def _returns(figures: tuple[Figure, ...], assumed: Assumptions, days: float) -> tuple[Return, ...]:
    of = {figure.part: figure for figure in figures}
    priced = assumed.usd_per_hour_of_work is not None
    everything = [Part.SPOT, Part.INTERRUPTIONS, Part.HIBERNATION, Part.TRAFFIC]
    return (
        _return(
            "standby",
            [of[Part.DOWNTIME]],
            [of[Part.STANDBY]],
            days,
            why_not=""
            if priced
            else "what a standby saves is time: give the value of an hour to have it in dollars",
        ),
        _return(
            "everything",
            [of[part] for part in [*everything, *([Part.DOWNTIME] if priced else [])]],
            [of[Part.STANDBY], of[Part.STORAGE]],
            days,
        ),
    )


def _return(
    name: Literal["standby", "everything"],
    benefits: list[Figure],
    costs: list[Figure],
    days: float,
    *,
    why_not: str = "",
) -> Return:
    benefit = None if why_not else _whole(benefits)
    cost = _whole(costs)
    cost = None if cost is None else -cost + 0
    if not why_not:
        why_not = _why_no_return(benefit, cost)
    percent = payback = None
    if benefit is not None and cost is not None and cost > 0:
        percent = float((benefit - cost) / cost * 100)
        if benefit > 0 and days > 0:
            payback = float(MONTH_DAYS * cost / benefit)
        elif not why_not:
            why_not = "nothing was saved that could pay for it"
    return Return(
        name=name,
        benefit_usd=benefit,
        cost_usd=cost,
        percent=percent,
        payback_days=payback,
        why_not=why_not,
    )


def _whole(figures: list[Figure]) -> Decimal | None:
    """Their sum; None as soon as one line of it is unknown."""
    if any(figure.unknown for figure in figures):
        return None
    return sum((figure.usd for figure in figures if figure.usd is not None), NOTHING)


def _why_no_return(benefit: Decimal | None, cost: Decimal | None) -> str:
    if benefit is None:
        return "a part of what was saved is not known"
    if cost is None:
        return "a part of what it cost is not known"
    return "it cost nothing in this time" if cost <= 0 else ""


def _paid(entries: Sequence[Entry]) -> tuple[Paid, ...]:
    found = []
    for item in Item:
        mine = [entry for entry in entries if entry.item is item]
        if mine:
            usd = sum((exact(each.least_usd) for each in mine), NOTHING)
            unknown = sum(each.usd is None for each in mine)
            found.append(Paid(item=item, usd=usd, lines=len(mine), unknown=unknown))
    return tuple(found)


def _coverage(compared: Sequence[tuple[Entry, SavingsLine]]) -> float | None:
    seconds = sum(exact(entry.seconds) for entry, _ in compared)
    known = sum(exact(entry.seconds) for entry, line in compared if line.usd is not None)
    return float(known / seconds) if seconds else None


def _left_out(entries: Sequence[Entry]) -> tuple[str, ...]:
    said = []
    fixed = [e for e in entries if e.item is Item.GPU and e.rental == Rental.ON_DEMAND]
    if fixed:
        said.append(f"GPUs rented on demand: {_dollars(fixed)}; no spot price, nothing to compare")
    for item, what in (
        (Item.DISK, "the GPU instances' disks: {}; they cost the same on demand"),
        (Item.OTHER, "lines of a bill that name nothing we know: {}"),
    ):
        mine = [entry for entry in entries if entry.item is item]
        if mine:
            said.append(what.format(_dollars(mine)))
    return tuple(said)


def _dollars(entries: Sequence[Entry]) -> str:
    usd = sum((exact(each.least_usd) for each in entries), NOTHING)
    unknown = sum(each.usd is None for each in entries)
    return f"${usd:.2f}" + (f" and {unknown} lines of unknown price" if unknown else "")


def _place(line: SavingsLine) -> tuple[object, ...]:
    """An order that does not depend on the order of what came in."""
    return (
        list(Part).index(line.part),
        line.day,
        line.machine_id or "",
        line.gpu or "",
        sorted((name, str(value)) for name, value in line.inputs.items()),
    )
