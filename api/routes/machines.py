"""Machines: creating, listing, showing and destroying them."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Header, Path, Query, Response

from api.auth import NEEDS_LOGIN, MachinesReader, MachinesWriter, Parts, Principal
from api.budget_view import need_room
from api.errors import documented
from api.services import Services
from api.views import machine_view
from dumont.db.machines import NEVER_STARTED, Cursor, MachineRow
from dumont.domain.errors import (
    BudgetExceeded,
    Conflict,
    DependencyUnavailable,
    DumontError,
    InvalidInput,
    NotFound,
    PreconditionFailed,
)
from dumont.domain.machine import MachinePhase, MachineSpec
from dumont.domain.names import machine_id_for
from dumont.domain.protection import ProtectionPolicy
from dumont.domain.resources import (
    Accepted,
    EventPage,
    LogText,
    MachineCreate,
    MachinePage,
    MachineView,
    ProtectionOrder,
)
from dumont.security.ssh import parse_public_key

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/machines", tags=["machines"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the client, one for each intent: the same key again is the same "
        "request, however often it is sent.",
    ),
]
Reference = Annotated[
    str, Path(alias="machine", max_length=80, description="Name or id.", examples=["my-box"])
]
Limit = Annotated[int, Query(ge=1, le=200, description="Length of the page.")]

NO_WORKFLOW_HINT: Final = "a sweep restores or closes it within two minutes; ask again then"


@router.post(
    "",
    status_code=201,
    responses=documented(
        *NEEDS_LOGIN, "conflict", "precondition_failed", "invalid_input", "budget_exceeded"
    )
    | {200: {"model": MachineView, "description": "This key made the machine already."}},
)
async def create_machine(
    body: MachineCreate,
    response: Response,
    principal: MachinesWriter,
    services: Parts,
    idempotency_key: IdempotencyKey = None,
) -> MachineView:
    """Create a machine and begin to look for a GPU for it.

    Answers at once; watch `GET /events` for the readiness ladder. It is protected by a standby where
    the deployment has them, unless `protection.enabled` is false. After 503 nothing was created,
    unless only the answer was lost: repeat with the same `Idempotency-Key` to be sure.
    """
    spec = await _spec(body, principal, services, idempotency_key or str(uuid.uuid4()))
    await _need_room(services, spec)
    row, created = await services.machines.request(spec, at=datetime.now(UTC))
    if not created and not _same_request(row.spec, spec):
        raise Conflict(
            "this Idempotency-Key was used for another request",
            field="Idempotency-Key",
            hint="use a new key for a new intent",
        )
    if row.state.version == NEVER_STARTED and row.state.phase is MachinePhase.REQUESTED:
        await _start(services, row)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/api/v1/machines/{spec.machine_id}"
    return machine_view(row, settings=services.settings)


@router.get("", response_model=MachinePage, responses=documented(*NEEDS_LOGIN, "invalid_input"))
async def list_machines(
    principal: MachinesReader,
    services: Parts,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    phase: Annotated[
        list[MachinePhase], Query(description="Only in these; all but destroyed when not given.")
    ] = [],  # noqa: B006 - FastAPI copies defaults
    name: Annotated[str | None, Query(max_length=80, description="Exactly this name.")] = None,
) -> Response:
    """Your machines, newest first."""
    rows, after = await services.machines.page(
        owner_id=principal.user.user_id,
        phases=phase,
        name=name,
        after=Cursor.decode(cursor) if cursor is not None else None,
        limit=limit,
    )
    page = MachinePage.model_construct(
        items=[machine_view(row, settings=services.settings) for row in rows],
        next_cursor=after.encode() if after is not None else None,
    )
    # Written as it is: a page was validated row by row and need not be parsed again.
    return Response(page.model_dump_json(), media_type="application/json")


@router.get("/{machine}", responses=documented(*NEEDS_LOGIN, "not_found"))
async def show_machine(
    reference: Reference, principal: MachinesReader, services: Parts
) -> MachineView:
    """One of your machines, by name or id."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    return machine_view(row, settings=services.settings)


@router.delete(
    "/{machine}", status_code=202, responses=documented(*NEEDS_LOGIN, "not_found", "invalid_input")
)
async def destroy_machine(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """End a machine and everything that it rents.

    202 means that the wish is durable: it is carried out however long the provider takes, through
    crashes of any of our parts. Asking again is harmless.
    """
    owner_id = principal.user.user_id
    row = await services.machines.find(reference, owner_id=owner_id)
    if not row.state.phase.final:
        await _destroy(services, row, principal, update_id=idempotency_key or str(uuid.uuid4()))
        row = await services.machines.find(row.spec.machine_id, owner_id=owner_id)
    return Accepted(machine=machine_view(row, settings=services.settings))


@router.get("/{machine}/events", responses=documented(*NEEDS_LOGIN, "not_found", "invalid_input"))
async def list_machine_events(
    reference: Reference,
    principal: MachinesReader,
    services: Parts,
    cursor: Annotated[str | None, Query(max_length=20)] = None,
    limit: Limit = 50,
) -> EventPage:
    """What happened to a machine, newest first."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
        raise InvalidInput("not a cursor of this list", field="cursor")
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    events = await services.event_log.page(
        row.spec.machine_id, before=int(cursor) if cursor is not None else None, limit=limit + 1
    )
    more = len(events) > limit
    items = events[:limit]
    return EventPage(items=items, next_cursor=str(items[-1].seq) if more else None)


@router.get(
    "/{machine}/logs",
    responses=documented(*NEEDS_LOGIN, "not_found", "conflict", "provider_unavailable")
    | documented("instance_gone", "conflict"),
)
async def read_machine_logs(
    reference: Reference, principal: MachinesReader, services: Parts
) -> LogText:
    """What the provider has of the instance's own output."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    if row.state.gpu is None:
        raise Conflict(
            f"{row.name} has no instance now ({row.state.phase.value})",
            hint=f"see what happened: dumont show {row.name}",
        )
    seen_at = datetime.now(UTC)
    text = await services.commands.fetch_logs(row.state.gpu.instance_id)
    return LogText(text=text, seen_at=seen_at)


async def _spec(
    body: MachineCreate, principal: Principal, services: Services, idempotency_key: str
) -> MachineSpec:
    owner_id = principal.user.user_id
    keys = [
        parse_public_key(key, field=f"ssh_keys.{n}").line for n, key in enumerate(body.ssh_keys)
    ] or [key.public_key for key in await services.ssh_keys.of_user(owner_id)]
    if not keys:
        raise PreconditionFailed(
            "no SSH key is stored, and none came with the request: nobody could log in",
            field="ssh_keys",
            hint="store one first: POST /api/v1/ssh-keys, or `dumont up` does it for you",
        )
    return MachineSpec(
        machine_id=machine_id_for(owner_id=owner_id, idempotency_key=idempotency_key),
        owner_id=owner_id,
        name=body.name,
        env=services.settings.env,
        requirement=body.requirement,
        authorized_keys=tuple(dict.fromkeys(keys)),
        setup_script=body.setup_script,
        protection=_policy(body.protection, services),
    )


async def _need_room(services: Services, spec: MachineSpec) -> None:
    """Say at once when budgets have no room; the same request of a machine that exists passes.

    Raises:
        BudgetExceeded: Which one, and by how much.
    """
    try:
        await need_room(services, owner_id=spec.owner_id, machine_id=None)
    except BudgetExceeded:
        if not await services.machines.by_ids([spec.machine_id]):
            raise


def _policy(order: ProtectionOrder, services: Services) -> ProtectionPolicy | None:
    """Protected by default; a deployment that cannot says so to whoever insists."""
    if order.enabled is False:
        return None
    if services.settings.has_standbys:
        return order.policy()
    if order.insists:
        raise PreconditionFailed(
            "this deployment rents no standbys: a machine cannot be protected here",
            field="protection",
            hint="set GCP_CREDENTIALS (and DUMONT_STANDBY_PROVIDER=gcp for the API), or create it "
            'with {"enabled": false}',
        )
    return None


def _same_request(stored: MachineSpec, asked: MachineSpec) -> bool:
    # Not the SSH keys: the owner's stored ones may have changed between two tries.
    def said(spec: MachineSpec) -> tuple[object, ...]:
        return spec.name, spec.requirement, spec.setup_script, spec.protection

    return said(stored) == said(asked)


async def _start(services: Services, row: MachineRow) -> None:
    """Start the workflow, or take the row back: nothing may be rented after an error was told."""
    try:
        await services.commands.start_machine(row.spec)
    except Exception:
        try:
            await asyncio.shield(services.machines.withdraw(row.spec.machine_id))
        except DumontError as error:
            # The sweep closes what was requested and never started.
            log.warning("request_not_withdrawn", machine=row.spec.machine_id, error=error.message)
        raise


async def _destroy(
    services: Services, row: MachineRow, principal: Principal, *, update_id: str
) -> None:
    machine_id = row.spec.machine_id
    try:
        await services.commands.destroy_machine(
            machine_id, update_id=update_id, reason=f"{principal.actor} asked for it"
        )
    except NotFound:
        now = await services.machines.find(machine_id, owner_id=row.spec.owner_id)
        if not now.state.phase.final:
            raise DependencyUnavailable(
                f"no workflow of {row.name} runs at this moment",
                dependency="worker",
                hint=NO_WORKFLOW_HINT,
            ) from None
