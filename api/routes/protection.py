"""What people ask of a machine's protection: the barrier, a drill, the way back, and the receipts."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from api.auth import NEEDS_LOGIN, MachinesReader, MachinesWriter, Parts
from api.errors import documented
from api.protection_view import protection_detail
from api.routes.machines import IdempotencyKey, Reference
from api.views import machine_view
from api.wishes import accepted, live, present
from dumont.domain.errors import PreconditionFailed
from dumont.domain.protection import Barrier
from dumont.domain.protection_resources import ProtectionDetail
from dumont.domain.receipts import Receipt
from dumont.domain.resources import Accepted, DrillOrder, ReceiptList, ReceiptView
from workflows.failover_messages import DrillRequest, FailBackRequest

router = APIRouter(prefix="/machines/{machine}", tags=["protection"])

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Counts the machine's failovers.")]

_COMMAND: Final = (*NEEDS_LOGIN, "not_found", "conflict", "invalid_input")
_BARRIER_EXAMPLE: Final[dict[str, Any]] = {
    "epoch": 5,
    "sequence": 1412,
    "replicated_at": "2026-11-26T12:00:00.123Z",
    "files": 12,
    "bytes": 4194304,
    "hashed": 12,
    "seconds": 0.61,
}


@router.get("/protection", responses=documented(*NEEDS_LOGIN, "not_found"))
async def show_protection(
    reference: Reference, principal: MachinesReader, services: Parts
) -> ProtectionDetail:
    """Everything that is known about how safe a machine's work is, from what was heard last.

    `verdict` is what the agent and the standby's link together mean; no provider is asked for it.
    """
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    machine_id = row.spec.machine_id
    heard = await services.heartbeats.latest([machine_id])
    return protection_detail(row, heard.get(machine_id, {}), settings=services.settings)


@router.post("/drill", status_code=202, responses=documented(*_COMMAND))
async def drill_machine(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    body: DrillOrder = DrillOrder(),
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Fail over on purpose: the address moves to the standby, another GPU takes the place of this one.

    202 means that it is durable. Watch `GET /events`; the receipt is filed when the address leads to
    a GPU again. With `redirect_only` the GPU is kept and the address comes back to it.
    """
    row = await live(services, reference, principal)
    request = DrillRequest(
        flush=body.flush, redirect_only=body.redirect_only, actor=principal.actor
    )
    await accepted(
        row,
        services.commands.drill(
            row.spec.machine_id, request, update_id=idempotency_key or str(uuid.uuid4())
        ),
    )
    return await present(services, row)


@router.post("/fail-back", status_code=202, responses=documented(*_COMMAND))
async def fail_back_machine(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Return to the GPU as soon as it has everything, whoever is working on the standby.

    Sessions on the standby are cut when the address moves. Without this, the machine's policy says
    when it moves.
    """
    row = await live(services, reference, principal)
    await accepted(
        row,
        services.commands.fail_back(
            row.spec.machine_id,
            FailBackRequest(actor=principal.actor),
            update_id=idempotency_key or str(uuid.uuid4()),
        ),
    )
    return await present(services, row)


@router.post(
    "/flush",
    responses=documented(*NEEDS_LOGIN, "not_found", "conflict", "precondition_failed")
    | documented("conflict", "not_ready", "agent_refused")
    | {200: {"content": {"application/json": {"example": _BARRIER_EXAMPLE}}}},
)
async def flush_machine(
    reference: Reference, principal: MachinesWriter, services: Parts
) -> Barrier:
    """The barrier: answers when everything that was written before is on the standby, verified.

    Waits, at most about ten minutes: give your client as long. Any other answer than 200 promises
    nothing.
    """
    row = await live(services, reference, principal)
    if row.state.standby is None:
        view = machine_view(row, settings=services.settings)
        raise PreconditionFailed(
            f"{row.name} has no standby: {view.protection.reason or 'it is not protected'}",
            hint="there is nothing to flush to; machines get a standby when they are created",
        )
    return await services.commands.flush(row.spec.machine_id)


@router.get("/receipts", responses=documented(*NEEDS_LOGIN, "not_found"))
async def list_receipts(
    reference: Reference, principal: MachinesReader, services: Parts
) -> ReceiptList:
    """The receipts of a machine's failovers, newest first. They never change."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    receipts = await services.receipts.of_machine(row.spec.machine_id)
    return ReceiptList(items=[ReceiptView(digest=r.digest, receipt=r) for r in receipts])


@router.get(
    "/receipts/{number}",
    response_model=ReceiptView,
    responses=documented(*NEEDS_LOGIN, "not_found", "invalid_input"),
)
async def show_receipt(
    reference: Reference, number: Number, principal: MachinesReader, services: Parts
) -> Response:
    """One receipt, sent as canonical JSON: `digest` is the SHA-256 of the bytes of `receipt`."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    receipt = await services.receipts.find(row.spec.machine_id, number)
    return Response(_canonical(receipt), media_type="application/json")


def _canonical(receipt: Receipt) -> bytes:
    return b'{"digest":"%s","receipt":%s}' % (receipt.digest.encode(), receipt.canonical())
