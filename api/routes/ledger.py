"""What machines cost: the ledger's lines, their sums, and bills beside what was seen."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Response

from api.auth import NEEDS_LOGIN, MachinesReader, Parts
from api.errors import documented
from api.routes.machines import Limit, Reference
from api.services import Services
from dumont.db.ledger import LedgerCursor, LinesWanted
from dumont.domain.errors import InvalidInput
from dumont.domain.ledger import By, Item, audit, summarize, total
from dumont.domain.ledger_resources import (
    LedgerAudit,
    LedgerDifference,
    LedgerLine,
    LedgerPage,
    LedgerSum,
    LedgerSummary,
    as_csv,
    audit_view,
    line_view,
    summary_view,
)

router = APIRouter(tags=["ledger"])

_READ: Final = (*NEEDS_LOGIN, "not_found", "invalid_input")
_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "JSON, or CSV where it was asked for: of all lines, not of a page.",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
Since = Annotated[date | None, Query(alias="from", description="First day, of UTC.")]
Until = Annotated[date | None, Query(alias="to", description="Last day, included.")]
Machine = Annotated[str | None, Query(max_length=80, description="Only this one, by name or id.")]
Items = Annotated[list[Item], Query(alias="item", description="Only these; may be repeated.")]
Form = Annotated[
    Literal["json", "csv"] | None,
    Query(description="`csv`, as with `Accept: text/csv`."),
]
Accept = Annotated[str | None, Header(include_in_schema=False)]
Cursor = Annotated[str | None, Query(max_length=400)]


@router.get("/ledger", response_model=LedgerPage, responses=documented(*_READ) | _CSV)
async def list_ledger(
    principal: MachinesReader,
    services: Parts,
    machine: Machine = None,
    since: Since = None,
    until: Until = None,
    item: Items = [],  # noqa: B006 - FastAPI copies defaults
    cursor: Cursor = None,
    limit: Limit = 50,
    format: Form = None,
    accept: Accept = None,
) -> LedgerPage | Response:
    """Your ledger, newest day first: one line for each thing that is paid, item and day of UTC.

    `usd` null is an unknown price, never zero. A line changes until its day's bill is settled.
    """
    wanted = await _wanted(services, principal.user.user_id, machine, since, until, item)
    return await _lines(services, wanted, cursor, limit, csv=_is_csv(format, accept))


@router.get("/ledger/summary", response_model=LedgerSummary, responses=documented(*_READ) | _CSV)
async def summarize_ledger(
    principal: MachinesReader,
    services: Parts,
    by: Annotated[By, Query(description="What the sums are made of.")] = By.MACHINE,
    machine: Machine = None,
    since: Since = None,
    until: Until = None,
    item: Items = [],  # noqa: B006
    format: Form = None,
    accept: Accept = None,
) -> LedgerSummary | Response:
    """Sums of lines, with what is billed, metered and listed apart; unknown prices are counted beside.

    What has no lines because nobody measures it is named in `not_measured`.
    """
    wanted = await _wanted(services, principal.user.user_id, machine, since, until, item)
    entries = [entry async for entry in services.ledger.every(wanted)]
    names = await services.ledger.names(wanted.owner_id)
    found = summary_view(summarize(entries, by), total(entries), by=by, names=names)
    if _is_csv(format, accept):
        return _table(as_csv(found.items, LedgerSum), f"ledger-by-{by.value}")
    return found


@router.get("/ledger/audit", response_model=LedgerAudit, responses=documented(*_READ) | _CSV)
async def audit_ledger(
    principal: MachinesReader,
    services: Parts,
    machine: Machine = None,
    since: Since = None,
    until: Until = None,
    format: Form = None,
    accept: Accept = None,
) -> LedgerAudit | Response:
    """Every line that a bill has whole, beside what we saw ourselves: seconds and dollars.

    A difference of minutes at a beginning or an end is how late a listing showed it; anything else is
    worth a question to the provider.
    """
    wanted = await _wanted(services, principal.user.user_id, machine, since, until, [])
    entries = [entry async for entry in services.ledger.every(wanted)]
    found = audit_view(audit(entries), await services.ledger.names(wanted.owner_id))
    if _is_csv(format, accept):
        return _table(as_csv(found.items, LedgerDifference), "ledger-audit")
    return found


@router.get(
    "/machines/{machine}/ledger", response_model=LedgerPage, responses=documented(*_READ) | _CSV
)
async def list_machine_ledger(
    reference: Reference,
    principal: MachinesReader,
    services: Parts,
    since: Since = None,
    until: Until = None,
    item: Items = [],  # noqa: B006
    cursor: Cursor = None,
    limit: Limit = 50,
    format: Form = None,
    accept: Accept = None,
) -> LedgerPage | Response:
    """The lines of one machine: its GPUs, its standbys. What snapshots cost is the owner's, not its."""
    wanted = await _wanted(services, principal.user.user_id, reference, since, until, item)
    return await _lines(services, wanted, cursor, limit, csv=_is_csv(format, accept))


async def _wanted(
    services: Services,
    owner_id: str,
    machine: str | None,
    since: date | None,
    until: date | None,
    items: list[Item],
) -> LinesWanted:
    if since is not None and until is not None and since > until:
        raise InvalidInput(f"{since} is after {until}", field="from")
    machine_id = None
    if machine is not None:
        row = await services.machines.find(machine, owner_id=owner_id)
        machine_id = row.spec.machine_id
    return LinesWanted(owner_id, machine_id, since, until, tuple(items))


async def _lines(
    services: Services, wanted: LinesWanted, cursor: str | None, limit: int, *, csv: bool
) -> LedgerPage | Response:
    names = await services.ledger.names(wanted.owner_id)
    if csv:
        every = [line_view(entry, names) async for entry in services.ledger.every(wanted)]
        return _table(as_csv(every, LedgerLine), "ledger")
    after = LedgerCursor.decode(cursor) if cursor is not None else None
    entries, following = await services.ledger.page(wanted, after=after, limit=limit)
    return LedgerPage(
        items=[line_view(entry, names) for entry in entries],
        next_cursor=following.encode() if following is not None else None,
    )


def _is_csv(format: str | None, accept: str | None) -> bool:
    if format is not None:
        return format == "csv"
    return (accept or "").partition(",")[0].partition(";")[0].strip().lower() == "text/csv"


def _table(text: str, name: str) -> Response:
    return Response(
        text,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )
