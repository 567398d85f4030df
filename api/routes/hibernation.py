"""Letting a machine rest, and waking it."""

from __future__ import annotations

import uuid
from typing import Final

from fastapi import APIRouter

from api.auth import NEEDS_LOGIN, MachinesWriter, Parts, Principal
from api.errors import documented
from api.routes.machines import NO_WORKFLOW_HINT, IdempotencyKey, Reference
from api.services import Services
from api.views import machine_view
from dumont.db.machines import MachineRow
from dumont.domain.errors import Conflict, DependencyUnavailable, NotFound, PreconditionFailed
from dumont.domain.resources import Accepted, HibernateOrder
from workflows.rest import HibernateRequest, WakeRequest

router = APIRouter(prefix="/machines/{machine}", tags=["hibernation"])

_COMMAND: Final = (*NEEDS_LOGIN, "not_found", "conflict", "invalid_input")


@router.post("/hibernate", status_code=202, responses=documented(*_COMMAND, "precondition_failed"))
async def hibernate_machine(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    body: HibernateOrder = HibernateOrder(),
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Keep the workspace in the object store, see that it is whole, and give back what is rented.

    Nothing is given back before two snapshots in a row found nothing new and the store has all of the
    last one; whatever fails before that leaves the machine running, and the event log says why. While
    it rests, only its snapshots cost anything.
    """
    row = await _live(services, reference, principal)
    if services.settings.s3_url is None:
        raise PreconditionFailed(
            "this deployment has no object store to keep the workspace in",
            field="S3_ENDPOINT_URL",
            hint="set S3_ENDPOINT_URL, S3_BUCKET and the account's keys, for workers and API",
        )
    try:
        await services.commands.hibernate(
            row.spec.machine_id,
            HibernateRequest(actor=principal.actor, reason=body.reason),
            update_id=idempotency_key or str(uuid.uuid4()),
        )
    except NotFound:
        raise _no_workflow(row) from None
    return await _present(services, row)


@router.post("/wake", status_code=202, responses=documented(*_COMMAND))
async def wake_machine(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Rent a GPU again and give it the workspace back, verified. Asking again changes nothing.

    A machine that is still on its way to sleep stays awake.
    """
    row = await _live(services, reference, principal)
    try:
        await services.commands.wake(
            row.spec.machine_id,
            WakeRequest(actor=principal.actor),
            update_id=idempotency_key or str(uuid.uuid4()),
        )
    except NotFound:
        raise _no_workflow(row) from None
    return await _present(services, row)


async def _live(services: Services, reference: str, principal: Principal) -> MachineRow:
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    if row.state.phase.final:
        raise Conflict(f"{row.name} is destroyed")
    return row


async def _present(services: Services, row: MachineRow) -> Accepted:
    now = await services.machines.find(row.spec.machine_id, owner_id=row.spec.owner_id)
    return Accepted(machine=machine_view(now, settings=services.settings))


def _no_workflow(row: MachineRow) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"no workflow of {row.name} runs at this moment", dependency="worker", hint=NO_WORKFLOW_HINT
    )
