"""Letting a machine rest, and waking it."""

from __future__ import annotations

import uuid
from typing import Final

from fastapi import APIRouter

from activities.market import Browse
from api.auth import NEEDS_LOGIN, MachinesReader, MachinesWriter, Parts
from api.budget_view import need_room
from api.errors import documented
from api.routes.machines import IdempotencyKey, Reference
from api.wishes import accepted, live, need_store, present
from dumont.domain.errors import Conflict
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import Asleep
from dumont.domain.resources import Accepted, HibernateOrder, WakeQuoteView
from dumont.domain.wake_quote import quote_wake
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
    it rests, only its snapshots cost anything, and its standby if that stays: then the stable address
    leads there.
    """
    row = await live(services, reference, principal)
    need_store(services.settings, what="the workspace")
    if body.standby is Asleep.KEEP and row.spec.protection is None:
        raise Conflict(
            f"{row.name} has no standby that could stay",
            field="standby",
            hint="leave it out: everything is given back, and a wake brings it back",
        )
    await accepted(
        row,
        services.commands.hibernate(
            row.spec.machine_id,
            HibernateRequest(actor=principal.actor, reason=body.reason, standby=body.standby),
            update_id=idempotency_key or str(uuid.uuid4()),
        ),
    )
    return await present(services, row)


@router.post("/wake", status_code=202, responses=documented(*_COMMAND, "budget_exceeded"))
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
    if row.state.phase is MachinePhase.HIBERNATED:
        await need_room(services, owner_id=row.spec.owner_id, machine_id=row.spec.machine_id)
    await accepted(
        row,
        services.commands.wake(
            row.spec.machine_id,
            WakeRequest(actor=principal.actor),
            update_id=idempotency_key or str(uuid.uuid4()),
        ),
    )
    return await present(services, row)


@router.get(
    "/wake-quote",
    responses=documented(*NEEDS_LOGIN, "not_found", "conflict", "provider_unavailable")
    | documented("dependency_unavailable", "provider_rate_limited"),
)
async def quote_wake_of_machine(
    reference: Reference, principal: MachinesReader, services: Parts
) -> WakeQuoteView:
    """What waking the machine would cost per hour at the market of this moment, and about how long it
    would take. Nothing is rented or reserved by asking.
    """
    row = await live(services, reference, principal)
    need = row.spec.requirement
    ask = Browse(
        gpu=need.gpu,
        gpu_count=need.gpu_count,
        rental=need.rental,
        max_usd_per_hour=need.max_usd_per_hour,
        disk_gb=need.disk_gb,
        limit=200,
    )
    found = await services.offers.get(ask, lambda: services.commands.browse_offers(ask))
    newest = await services.snapshots.newest(row.spec.machine_id)
    quote = quote_wake(
        found.offers,
        need,
        await services.event_log.page(row.spec.machine_id, limit=500),
        seen_at=found.seen_at,
        size=newest.bytes if newest is not None else None,
    )
    return WakeQuoteView(machine_id=row.spec.machine_id, name=row.name, **quote.model_dump())
