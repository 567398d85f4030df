"""Letting a machine rest, and waking it."""

from __future__ import annotations

import uuid
from typing import Final

from fastapi import APIRouter

from api.auth import NEEDS_LOGIN, MachinesWriter, Parts
from api.errors import documented
from api.routes.machines import IdempotencyKey, Reference
from api.wishes import accepted, live, need_store, present
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
    row = await live(services, reference, principal)
    need_store(services.settings, what="the workspace")
    await accepted(
        row,
        services.commands.hibernate(
            row.spec.machine_id,
            HibernateRequest(actor=principal.actor, reason=body.reason),
            update_id=idempotency_key or str(uuid.uuid4()),
        ),
    )
    return await present(services, row)


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
    row = await live(services, reference, principal)
    await accepted(
        row,
        services.commands.wake(
            row.spec.machine_id,
            WakeRequest(actor=principal.actor),
            update_id=idempotency_key or str(uuid.uuid4()),
        ),
    )
    return await present(services, row)
