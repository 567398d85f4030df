"""What the API takes and gives about savings: `/savings` and what belongs to it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal

from pydantic import Field

from dumont.domain.ledger import Item
from dumont.domain.reference_prices import ReferenceKind, ReferencePrice
from dumont.domain.resources import Request, Resource
from dumont.domain.savings import Bound, By, SavingsReport, breakdown
from dumont.domain.savings_lines import Assumptions, Known, Part, SavingsLine
from dumont.domain.scenario import CLAIMED, ScenarioInputs
from dumont.domain.spreadsheets import cell


class FigureView(Resource):
    """One part of the report."""

    part: Part
    usd: float | None = Field(
        description="Of what is known; a cost is negative. Null: nothing of it is known, or it is time"
        " that nobody gave a value for."
    )
    minutes: float | None = Field(description="Of downtime avoided.")
    known: Known | None = Field(description="As its weakest line is. Null: it has no line.")
    lines: int
    unknown: int = Field(description="Lines that are not in the sum.")
    whys: list[str] = Field(description="Why they are not.")
    formula: str


class PaidView(Resource):
    """What the ledger says was paid for one item."""

    item: Item
    usd: float
    lines: int
    unknown: int


class ReturnView(Resource):
    """Benefit against cost."""

    name: Literal["standby", "everything"]
    benefit_usd: float | None
    cost_usd: float | None
    percent: float | None = Field(description="(benefit - cost) / cost. Null: see `why_not`.")
    payback_days: float | None = Field(
        description="Days of benefit that pay for thirty days of cost. Null: see `why_not`."
    )
    why_not: str


class RowView(Resource):
    """The report for one machine, day or GPU."""

    key: str | None = Field(description="Machine id, day or GPU; null: of no single one.")
    name: str | None = Field(description="The machine's name, where rows are machines.")
    parts: dict[Part, float]
    minutes: float = Field(description="Of downtime avoided.")
    net_usd: float
    bound: Bound
    unknown: int


class LineView(Resource):
    """One line that the report is the sum of."""

    part: Part
    machine_id: str | None
    machine: str | None = Field(description="Its name.")
    day: date
    gpu: str | None
    usd: float | None
    minutes: float | None
    known: Known
    inputs: dict[str, float | str] = Field(
        description="Enough to compute it again by the formula of its part."
    )
    why_unknown: str


class SavingsView(Resource):
    """GET /savings."""

    since: date
    until: date = Field(description="Included. Days are of UTC.")
    as_of: datetime = Field(description="What goes on is counted until then.")
    by: By
    assumptions: Assumptions
    figures: list[FigureView]
    net_usd: float
    bound: Bound = Field(
        description="`at_least`: a saving is unknown; `at_most`: a cost is; `either`: both are."
    )
    returns: list[ReturnView]
    paid: list[PaidView]
    coverage: float | None = Field(
        description="Share of the spot GPU seconds that could be compared. Null: there were none."
    )
    left_out: list[str]
    rows: list[RowView]
    lines: list[LineView] = Field(description="With `lines=true`; empty otherwise.")


class ReferencePriceView(Resource):
    """One dated on-demand price of one GPU."""

    gpu: str
    memory_gb: int | None = Field(description="It is of the model with so much memory.")
    kind: ReferenceKind
    provider: str
    usd_per_gpu_hour: float = Field(description="For ONE GPU.")
    sold_usd_per_hour: float = Field(description="As sold, for `sold_gpus` GPUs.")
    sold_gpus: int
    as_of: date
    source: str
    note: str


class ReferencePriceList(Resource):
    """GET /savings/reference-prices."""

    items: list[ReferencePriceView]
    unknown: list[str] = Field(description="Models that no dated source gives a price for.")
    rule: str


RULE: Final = (
    "A spot rental is held against the on-demand price that the market asked for the same offer when it"
    " was rented, where that was recorded; else against the same market's dated price of the model. Another"
    " provider's price is shown and used for no figure. Where there is neither, the saving is unknown."
)


class ScenarioOrder(Request):
    """POST /savings/scenario: inputs that differ from the claim's; without any it is the claim."""

    machines: int | None = None
    gpus_per_machine: int | None = None
    usd_saved_per_gpu_hour: float | None = None
    hours_per_month: float | None = None
    failovers_per_month: float | None = None
    downtime_minutes: float | None = None
    usd_per_downtime_hour: float | None = None
    egress_avoided_gb_per_month: float | None = None
    usd_per_avoided_gb: float | None = None
    unexplained_usd_per_month: float | None = None
    standby_usd_per_hour: float | None = None
    standby_hours_per_month: float | None = None
    standby_disk_usd_per_month: float | None = None
    standby_address_usd_per_hour: float | None = None
    egress_paid_gb_per_month: float | None = None
    usd_per_paid_gb: float | None = None
    storage_usd_per_month: float | None = None

    def inputs(self) -> ScenarioInputs:
        """All inputs. The claim's unexplained sum belongs to the claim alone: any other scenario has it
        only when it is asked for.

        Raises:
            pydantic.ValidationError: One is impossible.
        """
        given = self.model_dump(exclude_none=True)
        return ScenarioInputs.model_validate(given) if given else CLAIMED


def savings_view(
    report: SavingsReport, *, by: By, names: Mapping[str, str], with_lines: bool
) -> SavingsView:
    """The report as the API gives it.

    Args:
        report: All of it.
        by: What its rows are.
        names: Of machines, by id.
        with_lines: Whether each line is told.
    """
    rows = [
        RowView(
            key=row.key,
            name=names.get(row.key or "") if by == "machine" else None,
            parts={part: float(usd) for part, usd in row.parts.items()},
            minutes=row.minutes,
            net_usd=float(row.net_usd),
            bound=row.bound,
            unknown=row.unknown,
        )
        for row in breakdown(report, by)
    ]
    return SavingsView(
        since=report.since,
        until=report.until,
        as_of=report.as_of,
        by=by,
        assumptions=report.assumptions,
        figures=[FigureView(**_plain(figure.model_dump())) for figure in report.figures],
        net_usd=float(report.net_usd),
        bound=report.bound,
        returns=[ReturnView(**_plain(each.model_dump())) for each in report.returns],
        paid=[PaidView(**_plain(each.model_dump())) for each in report.paid],
        coverage=report.coverage,
        left_out=list(report.left_out),
        rows=rows,
        lines=[line_view(line, names) for line in report.lines] if with_lines else [],
    )


def line_view(line: SavingsLine, names: Mapping[str, str]) -> LineView:
    """One line as the API gives it."""
    name = names.get(line.machine_id) if line.machine_id is not None else None
    return LineView(**_plain(line.model_dump()), machine=name)


def reference_price_view(price: ReferencePrice) -> ReferencePriceView:
    """A dated price as the API gives it."""
    return ReferencePriceView(
        gpu=price.gpu,
        memory_gb=price.memory_gb,
        kind=price.kind,
        provider=price.provider,
        usd_per_gpu_hour=price.usd_per_gpu_hour,
        sold_usd_per_hour=price.usd_per_hour,
        sold_gpus=price.gpus,
        as_of=price.as_of,
        source=price.source,
        note=price.note,
    )


def rows_csv(report: SavingsReport, *, by: By, names: Mapping[str, str]) -> str:
    """The rows and their total as CSV. Dollars have nine decimals, so that they add up."""
    head = [by, "name", *(f"{part.value}_usd" for part in Part), "downtime_minutes"]
    table: list[Sequence[object]] = [[*head, "net_usd", "bound", "unknown_lines"]]
    for row in breakdown(report, by):
        sums = [row.parts.get(part, "") for part in Part]
        name = names.get(row.key or "", "") if by == "machine" else ""
        known = [row.minutes, row.net_usd, row.bound.value, row.unknown]
        table.append([row.key or "", name, *sums, *known])
    sums = [figure.usd if figure.usd is not None else "" for figure in report.figures]
    minutes = sum(figure.minutes or 0 for figure in report.figures)
    unknown = sum(figure.unknown for figure in report.figures)
    table.append(["total", "", *sums, minutes, report.net_usd, report.bound.value, unknown])
    return _csv(table)


def lines_csv(report: SavingsReport, *, names: Mapping[str, str]) -> str:
    """Every line as CSV; its inputs are JSON."""
    head = ["day", "machine_id", "machine", "gpu", "part", "usd", "minutes", "known"]
    table: list[Sequence[object]] = [[*head, "why_unknown", "inputs"]]
    for line in report.lines:
        what = [line.day, line.machine_id or "", names.get(line.machine_id or "", "")]
        usd = "" if line.usd is None else line.usd
        minutes = "" if line.minutes is None else line.minutes
        inputs = json.dumps(line.inputs, sort_keys=True, ensure_ascii=False)
        how = [line.known.value, line.why_unknown, inputs]
        table.append([*what, line.gpu or "", line.part.value, usd, minutes, *how])
    return _csv(table)


def _csv(table: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([cell(value) for value in row] for row in table)
    return out.getvalue()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Exact dollars as JSON numbers."""
    return {
        name: float(value) if name.endswith("usd") and value is not None else value
        for name, value in values.items()
    }
