"""Savings as a person reads them: what is known and how, what is not, and nothing rounded up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from dumont.cli.tables import plain_table
from dumont.cli.text import UNKNOWN, number
from dumont.domain.savings import Bound
from dumont.domain.savings_lines import Known, Part
from dumont.domain.savings_resources import (
    FigureView,
    ReferencePriceList,
    ReturnView,
    SavingsView,
)
from dumont.domain.scenario import Scenario

_WORDS: Final[Mapping[Part, str]] = {
    Part.SPOT: "spot instead of on demand",
    Part.INTERRUPTIONS: "paid while nobody could use it",
    Part.HIBERNATION: "hours asleep, not paid for",
    Part.DOWNTIME: "downtime avoided",
    Part.STANDBY: "standby: VM, disk, address, egress",
    Part.STORAGE: "snapshots in the store",
    Part.TRAFFIC: "bytes at the GPU's host",
}

_BOUNDS: Final[Mapping[Bound, str]] = {
    Bound.EXACT: "",
    Bound.AT_LEAST: "at least ",
    Bound.AT_MOST: "at most ",
    Bound.EITHER: "of what is known ",
}


def dollars(usd: float | None) -> str:
    """`$12.40`, `-$0.31`; four decimals below a dime."""
    if usd is None:
        return UNKNOWN
    digits = 2 if abs(usd) >= 0.1 or usd == 0 else 4
    return f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}"


def bounded(usd: float, bound: Bound) -> str:
    """A sum, and which way it may be wrong."""
    return _BOUNDS[bound] + dollars(usd)


def figures_table(report: SavingsView) -> Table:
    """What was saved and what it cost, part by part."""
    table = plain_table("", ">USD", "KNOWN AS", "NOTE")
    for figure in report.figures:
        if figure.lines:
            table.add_row(
                _WORDS[figure.part],
                dollars(figure.usd),
                figure.known.value if figure.known else UNKNOWN,
                Text(_note(figure)),
            )
    table.add_row(
        Text("net", style="bold"), Text(bounded(report.net_usd, report.bound), style="bold"), "", ""
    )
    return table


def _note(figure: FigureView) -> str:
    parts = []
    if figure.minutes is not None:
        parts.append(f"{figure.minutes:,.1f} minutes")
    if figure.part is Part.DOWNTIME and figure.usd is None:
        parts.append("give --hour-value to have it in dollars")
    if figure.unknown:
        parts.append(f"{figure.unknown} of {figure.lines} unknown: {'; '.join(figure.whys)}")
    return "; ".join(parts)


def rows_table(report: SavingsView) -> Table:
    """The report by machine, day or GPU."""
    table = plain_table(
        report.by.upper(), ">SPOT", ">ASLEEP", ">DOWNTIME", ">COST", ">NET", ">UNKNOWN"
    )
    costs = [part for part in Part if part.is_cost]
    for row in report.rows:
        cost = [row.parts[part] for part in costs if part in row.parts]
        table.add_row(
            Text(row.name or row.key or "of none alone"),
            dollars(row.parts.get(Part.SPOT)),
            dollars(row.parts.get(Part.HIBERNATION)),
            number(row.minutes, unit=" min", digits=1) if row.minutes else UNKNOWN,
            dollars(sum(cost)) if cost else UNKNOWN,
            bounded(row.net_usd, row.bound),
            str(row.unknown) if row.unknown else "",
        )
    return table


def return_line(each: ReturnView) -> str:
    """What a standby, or everything, gave back."""
    name = "the standby alone" if each.name == "standby" else "everything"
    if each.percent is None:
        return f"return on {name}: unknown ({each.why_not})"
    payback = (
        f"thirty days of it are paid by {each.payback_days:,.1f} days of benefit"
        if each.payback_days is not None
        else each.why_not
    )
    return (
        f"return on {name}: {each.percent:,.0f} % of {dollars(each.cost_usd)}, against"
        f" {dollars(each.benefit_usd)} of benefit; {payback}"
    )


def has_estimates(report: SavingsView) -> bool:
    """Whether a figure rests on more than bills."""
    return any(figure.known not in (None, Known.BILLED) for figure in report.figures)


def references_table(prices: ReferencePriceList) -> Table:
    """Dated on-demand prices of one GPU."""
    table = plain_table("GPU", ">$/GPU-H", "SOLD BY", "AS OF", "SOURCE", "NOTE")
    for price in prices.items:
        note = price.note
        if price.sold_gpus > 1:
            sold = f"sold as {price.sold_gpus} at ${price.sold_usd_per_hour:g}/h"
            note = f"{sold}; {note}" if note else sold
        table.add_row(
            price.gpu,
            f"${price.usd_per_gpu_hour:.3f}",
            price.provider,
            price.as_of.isoformat(),
            Text(price.source),
            Text(note),
        )
    return table


def scenario_table(found: Scenario) -> Table:
    """The products of a scenario."""
    table = plain_table("A MONTH", ">USD", "FROM")
    for line in found.lines:
        table.add_row(line.name, dollars(line.usd_per_month), Text(line.formula))
    return table


def scenario_lines(found: Scenario) -> list[str]:
    """What follows, and what it leaves out."""
    roi = "unknown, for it costs nothing" if found.roi_percent is None else None
    payback = "none, for there is no benefit" if found.payback_days is None else None
    return [
        f"benefit a year  {dollars(found.benefit_usd_per_year)} (costs not taken off)",
        f"net a year      {dollars(found.net_usd_per_year)}",
        f"return          {roi or f'{found.roi_percent:,.0f} %'}",
        f"payback         {payback or f'{found.payback_days:.1f} days'}",
        "What it leaves out:",
        *(f"  - {each}" for each in found.leaves_out),
    ]
