"""What the REST API gives of the ledger, and its lines as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final

from pydantic import Field

from dumont.domain.ledger import Basis, By, Difference, Entry, Item, Sum
from dumont.domain.resources import Resource
from dumont.domain.spreadsheets import cell

NOT_MEASURED: Final = (Item.EGRESS,)
"""What has no lines, because nobody measures it: unknown, not free."""


class LedgerLine(Resource):
    """One line: what one thing cost on one day."""

    day: date = Field(description="Of UTC.")
    machine_id: str | None = Field(description="Null: of yours, not of one machine.")
    machine: str | None = Field(description="Its name.")
    item: Item
    basis: Basis = Field(
        description="`billed`: the provider's bill has all of it. `metered`: time seen by us at the price "
        "seen then, beyond what a bill has. `listed`: time seen by us at a list price; no bill follows."
    )
    provider: str
    resource_id: str = Field(description="The provider's id of what is paid for.")
    label: str
    start: datetime = Field(description="When the first paid second of this day began.")
    end: datetime
    seconds: float = Field(description="Paid for; 0 where it is not time that is paid.")
    quantity: float | None = Field(description="Gigabytes, where those are paid.")
    usd: float | None = Field(description="Null: the price is unknown. Never counted as zero.")
    known_usd: float | None = Field(
        description="What is known of it where `usd` is null because a part is not: it was more."
    )
    gpu: str | None
    gpu_count: int | None
    region: str | None
    rental: str | None = Field(description="`spot` or `on_demand`.")
    source: str = Field(description="Where the price comes from.")
    billed_seconds: float | None = Field(description="What a bill has of it so far.")
    billed_usd: float | None
    metered_seconds: float | None = Field(description="What we saw ourselves.")
    metered_usd: float | None


class LedgerPage(Resource):
    """GET /ledger."""

    items: list[LedgerLine]
    next_cursor: str | None


class LedgerSum(Resource):
    """What some lines cost together; a lower bound as long as `unknown_lines` is not 0."""

    key: str | None = Field(description="Machine's id, day, GPU or item; null: lines without one.")
    machine: str | None = Field(description="The machine's name, in sums by machine.")
    lines: int
    gpu_seconds: float = Field(description="Seconds of GPU instances that ran.")
    usd: float = Field(description="All that is known, of whatever basis.")
    billed_usd: float = Field(description="Of it, what the providers' bills have.")
    metered_usd: float = Field(description="Of it, what we saw and no bill has yet.")
    listed_usd: float = Field(description="Of it, at list prices.")
    unknown_lines: int = Field(
        description="Lines whose price is unknown, at least of a part; sums have what is known of them."
    )
    unknown_seconds: float
    at_least: bool = Field(description="Whether it may be more, because a price is unknown.")


class LedgerSummary(Resource):
    """GET /ledger/summary."""

    by: By
    items: list[LedgerSum]
    total: LedgerSum
    not_measured: list[Item] = Field(description="What has no lines because it is not measured.")


class LedgerDifference(Resource):
    """A line that a bill has, beside what we saw."""

    day: date
    machine_id: str | None
    machine: str | None
    provider: str
    resource_id: str
    item: Item
    billed_seconds: float | None
    metered_seconds: float | None
    seconds: float | None = Field(description="How much more the bill has; null: one is unknown.")
    billed_usd: float | None
    metered_usd: float | None
    usd: float | None = Field(description="The same in dollars.")


class LedgerAudit(Resource):
    """GET /ledger/audit."""

    items: list[LedgerDifference]


Names = Mapping[str, str]
"""Machines' names by id."""


def line_view(entry: Entry, names: Names) -> LedgerLine:
    """A line as its owner sees it."""
    shown = entry.model_dump(include=set(LedgerLine.model_fields) - {"machine"})
    return LedgerLine.model_validate(shown | {"machine": names.get(entry.machine_id or "")})


def sum_view(found: Sum, by: By | None, names: Names) -> LedgerSum:
    """A sum as its owner sees it."""
    name = names.get(found.key or "") if by is By.MACHINE else None
    return LedgerSum.model_validate(
        found.model_dump() | {"machine": name, "at_least": found.at_least}
    )


def summary_view(sums: Sequence[Sum], all_of_it: Sum, *, by: By, names: Names) -> LedgerSummary:
    """Sums as their owner sees them."""
    return LedgerSummary(
        by=by,
        items=[sum_view(each, by, names) for each in sums],
        total=sum_view(all_of_it, None, names),
        not_measured=list(NOT_MEASURED),
    )


def audit_view(differences: Iterable[Difference], names: Names) -> LedgerAudit:
    """Bills beside what we saw."""
    return LedgerAudit(
        items=[
            LedgerDifference.model_validate(
                each.model_dump()
                | {
                    "machine": names.get(each.machine_id or ""),
                    "seconds": each.seconds,
                    "usd": each.usd,
                }
            )
            for each in differences
        ]
    )


def as_csv(rows: Iterable[Resource], kind: type[Resource]) -> str:
    """Rows as CSV with a head (RFC 4180). Unknown is empty, never 0; nothing is rounded."""
    text = io.StringIO()
    columns = list(kind.model_fields)
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        told = row.model_dump(mode="json")
        writer.writerow({column: cell(told[column]) for column in columns})
    return text.getvalue()
