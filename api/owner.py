"""The first start makes the first owner, and says how to log in."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from api.services import Services
from dumont.domain.errors import DependencyUnavailable
from dumont.security.passwords import new_password

log = structlog.get_logger(__name__)

_RETRY_S: Final = 1.0


async def ensure_owner(services: Services) -> None:
    """Create the owner unless there is a user; waits for the database for as long as it takes.

    A password that we made up is in the log once, and nowhere else.
    """
    while True:
        try:
            await _ensure(services)
            services.owner_known.set()
            return
        except DependencyUnavailable as error:
            log.warning("waiting_for_database", error=error.message, hint=error.hint)
            await asyncio.sleep(_RETRY_S)


async def _ensure(services: Services) -> None:
    if await services.users.exist():
        return
    given = services.settings.owner_password
    password = given.get_secret_value() if given is not None else new_password()
    owner = await services.users.create_first(
        email=services.settings.owner_email,
        password_hash=await services.passwords.hash(password),
        at=datetime.now(UTC),
    )
    if owner is None:
        return
    log.warning(
        "owner_created",
        email=owner.email,
        password=password if given is None else "as given in DUMONT_OWNER_PASSWORD",
        log_in=f"dumont login {services.settings.api_url}",
    )
