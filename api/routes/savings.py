"""What was saved, what it is held against, and the calculator."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from api.auth import NEEDS_LOGIN, MachinesReader, Parts
from api.errors import documented
from dumont.domain.errors import InvalidInput
from dumont.domain.gpus import KNOWN_GPUS, canonical_gpu
from dumont.domain.reference_prices import DATED, ReferenceKind, of_gpu
from dumont.domain.savings import By
from dumont.domain.savings_lines import Assumptions
from dumont.domain.savings_resources import (
    RULE,
    ReferencePriceList,
    SavingsView,
    ScenarioOrder,
    lines_csv,
    reference_price_view,
    rows_csv,
    savings_view,
)
from dumont.domain.scenario import Scenario, scenario

router = APIRouter(prefix="/savings", tags=["savings"])

_READ: Final = (*NEEDS_LOGIN, "invalid_input")
_DAYS: Final = 30
_MAX_DAYS: Final = 400
_FIRST_YEAR: Final = 2020

_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The report; with `format=csv` its rows, or its lines.",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}


@router.get("", response_model=SavingsView, responses=documented(*_READ) | _CSV)
async def show_savings(
    principal: MachinesReader,
    services: Parts,
    since: Annotated[
        date | None, Query(alias="from", description="First day, of UTC; 29 days before the last.")
    ] = None,
    until: Annotated[
        date | None, Query(alias="to", description="Last day, included; today.")
    ] = None,
    by: Annotated[By, Query(description="What its rows are.")] = "machine",
    hour_value: Annotated[
        float | None,
        Query(
            ge=0,
            le=100_000,
            allow_inf_nan=False,
            description="Dollars that an hour of the people at a machine is worth; not given: downtime"
            " avoided stays minutes.",
        ),
    ] = None,
    minutes_without: Annotated[
        float | None,
        Query(
            ge=0,
            le=100_000,
            allow_inf_nan=False,
            description="Minutes that a lost machine would be away without a standby; not given: until"
            " another GPU had its files, by each receipt.",
        ),
    ] = None,
    lines: Annotated[bool, Query(description="Also every line that it is the sum of.")] = False,
    format: Annotated[
        Literal["json", "csv"], Query(description="`csv`: the rows; with `lines`, the lines.")
    ] = "json",
) -> SavingsView | Response:
    """What your machines saved and what that cost, each figure with how it is known.

    Unknown prices are counted beside the sums and never in them: `bound` says which way the net may be
    wrong. Nothing is extrapolated. Every figure is the sum of lines that can be computed again.
    """
    now = datetime.now(UTC)
    first, last = _period(since, until, today=now.date())
    owner_id = principal.user.user_id
    report = await services.savings.report(
        owner_id,
        since=first,
        until=last,
        now=now,
        assumed=Assumptions(
            usd_per_hour_of_work=hour_value, minutes_without_standby=minutes_without
        ),
    )
    names = await services.savings.records.names(owner_id)
    if format == "csv":
        text = lines_csv(report, names=names) if lines else rows_csv(report, by=by, names=names)
        name = f"savings-{first}-{last}{'-lines' if lines else ''}.csv"
        return Response(
            text,
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
    return savings_view(report, by=by, names=names, with_lines=lines)


@router.get("/reference-prices", responses=documented(*_READ))
async def list_reference_prices(
    principal: MachinesReader,
    gpu: Annotated[
        str | None, Query(max_length=60, description="Only this model.", examples=["4090"])
    ] = None,
) -> ReferencePriceList:
    """On-demand prices of ONE GPU, each with its source and date, and the models that have none."""
    wanted = canonical_gpu(gpu) if gpu else None
    known = {price.gpu for price in DATED if price.kind is ReferenceKind.SAME_MARKET}
    return ReferencePriceList(
        items=[
            reference_price_view(price) for price in (DATED if wanted is None else of_gpu(wanted))
        ],
        unknown=[model for model in KNOWN_GPUS if model not in known and wanted in (None, model)],
        rule=RULE,
    )


@router.post("/scenario", responses=documented(*_READ))
async def calculate_scenario(
    principal: MachinesReader, body: ScenarioOrder = ScenarioOrder()
) -> Scenario:
    """Multiply out what would be saved if the inputs were true. Measures nothing.

    Without inputs it is the claim of the product's first description, with what that leaves out.
    """
    try:
        return scenario(body.inputs())
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else None
        raise InvalidInput(first["msg"], field=field) from None


def _period(since: date | None, until: date | None, *, today: date) -> tuple[date, date]:
    """The days asked for, both included.

    Raises:
        InvalidInput: There is no such period, or nothing can be known of it.
    """
    for field, day in (("from", since), ("to", until)):
        if day is not None and not _FIRST_YEAR <= day.year <= today.year + 1:
            raise InvalidInput(f"nothing is known of {day.isoformat()}", field=field)
    last = until or today
    first = since or last - timedelta(days=_DAYS - 1)
    if first > last:
        raise InvalidInput("the first day is after the last", field="from")
    if first > today:
        raise InvalidInput("nothing has been saved yet on days to come", field="from")
    if (last - first).days >= _MAX_DAYS:
        raise InvalidInput(f"at most {_MAX_DAYS} days at once", field="from")
    return first, last
