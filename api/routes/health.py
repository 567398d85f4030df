"""Whether this process lives, and whether what it stands on does. Shows no secret, needs none."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.health import NEEDED, Checks
from dumont.domain.resources import Health

router = APIRouter(prefix="/health", tags=["health"])


def _checks_of(request: Request) -> Checks:
    checks: Checks = request.app.state.checks
    return checks


@router.get("/live", status_code=204)
async def live() -> None:
    """This process answers. Restart it when it does not."""


@router.get(
    "/ready",
    responses={503: {"model": Health, "description": "PostgreSQL or Temporal is away."}},
)
async def ready(response: Response, checks: Annotated[Checks, Depends(_checks_of)]) -> Health:
    """Each dependency's state.

    503 when PostgreSQL or Temporal is away, for then this API can do next to nothing; `degraded`
    with 200 when something else is.
    """
    health = await checks.health()
    if any(not health.dependencies[name].ok for name in NEEDED):
        response.status_code = 503
    return health
