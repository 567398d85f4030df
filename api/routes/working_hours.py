"""When a machine wakes and hibernates by itself."""

from __future__ import annotations

from typing import Final

import structlog
from fastapi import APIRouter, Response

from api.auth import NEEDS_LOGIN, MachinesReader, MachinesWriter, Parts
from api.errors import documented
from api.routes.machines import Reference
from api.services import Services
from api.wishes import live, need_store
from dumont.db.machines import MachineRow
from dumont.domain.errors import DependencyUnavailable
from dumont.domain.hours_resources import PlannedActView, WorkingHoursOrder, WorkingHoursView
from dumont.domain.working_hours import WorkingHours, zone

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/machines/{machine}/working-hours", tags=["hibernation"])

_READ: Final = (*NEEDS_LOGIN, "not_found", "invalid_input")
_SHOWN: Final = 6
"""Acts to come."""


@router.get("", responses=documented(*_READ))
async def show_working_hours(
    reference: Reference, principal: MachinesReader, services: Parts
) -> WorkingHoursView:
    """A machine's working hours, and what comes next."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    hours = await services.working_hours.get(row.spec.machine_id)
    return await _view(services, row, hours)


@router.put("", responses=documented(*_READ, "conflict", "precondition_failed"))
async def set_working_hours(
    reference: Reference, principal: MachinesWriter, services: Parts, body: WorkingHoursOrder
) -> WorkingHoursView:
    """Wake and hibernate a machine by the clock. Its schedules are in force when this answers.

    People are told ten minutes before it hibernates, and a keep-alive postpones that. What somebody
    does by hand in between stays until the next hour.
    """
    row = await live(services, reference, principal)
    if body.hibernate is not None:
        need_store(services.settings, what="the workspace")
    hours = WorkingHours.model_validate(body.model_dump())
    try:
        # First, for it may turn out that Temporal does not know the time zone.
        await services.hours_commands.apply(row.spec.machine_id, hours)
    except DependencyUnavailable as error:
        # What is wanted is written down next: a sweep brings the schedules up to date.
        log.warning("hours_not_in_force_yet", machine=row.spec.machine_id, error=error.message)
    await services.working_hours.put(row.spec.machine_id, hours)
    return await _view(services, row, hours)


@router.delete("", status_code=204, responses=documented(*_READ))
async def remove_working_hours(
    reference: Reference, principal: MachinesWriter, services: Parts
) -> Response:
    """Wake and hibernate it only when somebody asks. Without hours this changes nothing."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    await services.working_hours.remove(row.spec.machine_id)
    try:
        await services.hours_commands.apply(row.spec.machine_id, None)
    except DependencyUnavailable as error:
        # Until a sweep deletes them, its schedules call for what nobody wants: nothing is done.
        log.warning("hours_not_deleted_yet", machine=row.spec.machine_id, error=error.message)
    return Response(status_code=204)


async def _view(
    services: Services, row: MachineRow, hours: WorkingHours | None
) -> WorkingHoursView:
    if hours is None or row.state.phase.final:
        return WorkingHoursView(hours=hours, next=[])
    try:
        acts = await services.hours_commands.next_acts(row.spec.machine_id, hours)
    except DependencyUnavailable as error:
        # What is wanted is known without Temporal.
        log.warning("next_acts_unknown", machine=row.spec.machine_id, error=error.message)
        return WorkingHoursView(hours=hours, next=None)
    where = zone(hours.timezone)
    coming = [
        PlannedActView(act=each.act, at=each.at, local=each.at.astimezone(where)) for each in acts
    ]
    return WorkingHoursView(hours=hours, next=coming[:_SHOWN])
