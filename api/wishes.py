"""What every route shares that asks a machine's workflow for something, or the store."""

from __future__ import annotations

from collections.abc import Awaitable

from api.auth import Principal
from api.routes.machines import NO_WORKFLOW_HINT
from api.services import Services
from api.views import machine_view
from dumont.config import Settings
from dumont.db.machines import MachineRow
from dumont.domain.errors import Conflict, DependencyUnavailable, NotFound, PreconditionFailed
from dumont.domain.resources import Accepted


async def live(services: Services, reference: str, principal: Principal) -> MachineRow:
    """A machine of this owner that is not destroyed.

    Raises:
        NotFound: There is none.
        Conflict: It is destroyed.
    """
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    need_life(row)
    return row


def need_life(row: MachineRow, *, hint: str | None = None) -> None:
    """Refuse what a destroyed machine cannot do.

    Raises:
        Conflict: It is destroyed; `hint` says what can be done all the same.
    """
    if row.state.phase.final:
        raise Conflict(f"{row.name} is destroyed", hint=hint)


def need_store(settings: Settings, *, what: str) -> None:
    """Refuse what only a deployment with an object store can do.

    Raises:
        PreconditionFailed: It has none to keep `what` in.
    """
    if settings.s3_url is None:
        raise PreconditionFailed(
            f"this deployment has no object store to keep {what} in",
            field="S3_ENDPOINT_URL",
            hint="set S3_ENDPOINT_URL, S3_BUCKET and the account's keys, for workers and API",
        )


async def accepted(row: MachineRow, command: Awaitable[None]) -> None:
    """Wait until a machine's workflow has taken a wish.

    Raises:
        DependencyUnavailable: No workflow of it runs at this moment.
    """
    try:
        await command
    except NotFound:
        raise DependencyUnavailable(
            f"no workflow of {row.name} runs at this moment",
            dependency="worker",
            hint=NO_WORKFLOW_HINT,
        ) from None


async def present(services: Services, row: MachineRow) -> Accepted:
    """The machine as it is now that the wish is durable."""
    now = await services.machines.find(row.spec.machine_id, owner_id=row.spec.owner_id)
    return Accepted(machine=machine_view(now, settings=services.settings))
