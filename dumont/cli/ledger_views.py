"""The ledger as tables for people. Rounded here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from dumont.cli.text import UNKNOWN, gpus, span, usd
from dumont.domain.ledger_resources import (
    LedgerDifference,
    LedgerLine,
    LedgerSum,
    LedgerSummary,
)


def line_table(lines: Sequence[LedgerLine]) -> Table:
    """`dumont ledger`."""
    table = _table("DAY", "MACHINE", "ITEM", "WHAT", ">TIME", ">USD", "KNOWN AS", "SOURCE")
    for line in lines:
        table.add_row(
            line.day.isoformat(),
            line.machine or line.machine_id or UNKNOWN,
            line.item.value,
            _what(line),
            span(line.seconds) if line.seconds else UNKNOWN,
            _paid(line),
            line.basis.value,
            Text(line.source),
        )
    return table


def sum_table(summary: LedgerSummary) -> Table:
    """`dumont ledger --by`."""
    head = summary.by.value.upper()
    table = _table(head, ">GPU TIME", ">USD", ">BILLED", ">METERED", ">LISTED", ">UNKNOWN")
    for found in summary.items:
        table.add_row(found.machine or found.key or "(none)", *_sum(found))
    table.add_section()
    table.add_row("all", *_sum(summary.total))
    return table


def audit_table(differences: Sequence[LedgerDifference]) -> Table:
    """`dumont ledger --audit`."""
    table = _table(
        "DAY", "MACHINE", "ITEM", "RESOURCE", ">BILLED", ">SEEN", ">DIFFERENCE", ">BILLED USD",
        ">SEEN USD", ">DIFFERENCE USD",
    )  # fmt: skip
    for each in differences:
        table.add_row(
            each.day.isoformat(),
            each.machine or each.machine_id or UNKNOWN,
            each.item.value,
            each.resource_id,
            _seconds(each.billed_seconds),
            _seconds(each.metered_seconds),
            UNKNOWN if each.seconds is None else f"{each.seconds:+,.0f} s",
            _amount(each.billed_usd),
            _amount(each.metered_usd),
            UNKNOWN if each.usd is None else f"{each.usd:+.4f}",
        )
    return table


def not_measured(summary: LedgerSummary) -> str:
    """What a sum leaves out, in a sentence."""
    words = ", ".join(item.value for item in summary.not_measured)
    return f"Not measured, so in no sum: {words}. Metered and listed sums are estimates."


def _sum(found: LedgerSum) -> tuple[str | Text, ...]:
    known = _amount(found.usd)
    unknown = UNKNOWN
    if found.unknown_lines:
        unknown = f"{found.unknown_lines} lines" if found.unknown_lines > 1 else "1 line"
    return (
        span(found.gpu_seconds) if found.gpu_seconds else UNKNOWN,
        Text(f"at least {known}", style="yellow") if found.at_least else known,
        _amount(found.billed_usd),
        _amount(found.metered_usd),
        _amount(found.listed_usd),
        unknown,
    )


def _what(line: LedgerLine) -> str:
    if line.gpu is not None and line.item.value == "gpu":
        return gpus(count=line.gpu_count or 1, model=line.gpu)
    if line.quantity is not None:
        return f"{line.quantity:,.1f} GB"
    return line.region or UNKNOWN


def _paid(line: LedgerLine) -> str:
    if line.usd is None and line.known_usd:
        return f"at least {_amount(line.known_usd)}"
    return _amount(line.usd)


def _amount(amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return "<$0.0001" if 0 < amount < 0.0001 else usd(amount)  # little is not nothing


def _seconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds:,.0f} s"


def _table(*heads: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for head in heads:
        right = head.startswith(">")
        table.add_column(head.removeprefix(">"), justify="right" if right else "left")
    return table
