"""What costs money although no machine runs on it."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import NEEDS_LOGIN, MachinesReader, Parts
from api.errors import documented
from dumont.domain.leftover_resources import (
    LeftoverList,
    SurveyView,
    leftover_list,
    leftover_view,
)

router = APIRouter(prefix="/leftovers", tags=["leftovers"])


@router.get("", responses=documented(*NEEDS_LOGIN))
async def list_leftovers(principal: MachinesReader, services: Parts) -> LeftoverList:
    """What the last sweeps found left: stopped instances, detached disks, addresses, schedules, files.

    Each with what it costs an hour, since when it is seen, and what becomes of it. Your own machines'
    alone; an administrator sees everybody's, and what belonged to machines that nobody knows.
    """
    surveys = await services.leftovers.surveys()
    found = [each for survey in surveys for each in survey.plan.found]
    whose = await services.leftovers.whose([each.leftover.machine_id for each in found])
    items = []
    for each in found:
        owner = whose.get(each.leftover.machine_id)
        mine = owner is not None and owner.owner_id == principal.user.user_id
        if mine or principal.user.is_admin:
            items.append(leftover_view(each, machine_name=owner.name if owner else None))
    return leftover_list(
        items,
        [
            SurveyView(
                source=survey.source,
                surveyed_at=survey.at,
                # It counts everybody's.
                blocked=survey.plan.blocked if principal.user.is_admin else None,
            )
            for survey in surveys
        ],
    )
