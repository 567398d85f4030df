"""How each dependency answers just now, by the cheapest call that proves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx
import structlog

from api.services import Services
from dumont.db import schema
from dumont.domain.errors import DependencyUnavailable, DumontError
from dumont.domain.resources import DependencyHealth, Health

log = structlog.get_logger(__name__)

NEEDED: Final = frozenset({"postgres", "temporal"})
"""Without these nothing works; without the others something still does."""

_PATIENCE_S: Final = 3.0
_ACCOUNTS_EVERY_S: Final = 300.0
_ACCOUNTS_RETRY_S: Final = 30.0


class Checks:
    """The checks of one API process, and what providers last said."""

    def __init__(self, services: Services, *, version: str) -> None:
        self._services = services
        self._version = version
        self._providers: dict[str, DependencyHealth] = {}

    async def health(self) -> Health:
        """Ask everybody at once."""
        checks: dict[str, Callable[[], Awaitable[None]]] = {
            "postgres": self._postgres,
            "temporal": self._temporal,
            "worker": self._worker,
        }
        if self._services.settings.s3_url is not None:
            checks["object_store"] = self._object_store
        answers = await asyncio.gather(*(_timed(check) for check in checks.values()))
        dependencies = dict(zip(checks, answers, strict=True)) | self._providers
        well = all(answer.ok for answer in dependencies.values())
        return Health(
            status="ok" if well else "degraded", dependencies=dependencies, version=self._version
        )

    async def watch_providers(self) -> None:
        """Keep what providers say about our accounts, for ever. Costs nothing there."""
        while True:
            try:
                accounts = await self._services.commands.provider_accounts()
            except DumontError as error:
                log.debug("provider_accounts_unknown", error=error.message)
                await asyncio.sleep(_ACCOUNTS_RETRY_S)
                continue
            self._providers = {
                f"provider {found.provider}": DependencyHealth(
                    ok=found.account is not None, error=found.error
                )
                for found in accounts
            }
            await asyncio.sleep(_ACCOUNTS_EVERY_S)

    async def _postgres(self) -> None:
        async with self._services.database.reading() as connection:
            found = await schema.revision_of(connection)
        if found != schema.head():
            raise DependencyUnavailable(
                f"its tables are at revision {found or 'none'}, this program needs {schema.head()}",
                dependency="postgres",
                hint="run: python -m dumont.db upgrade",
            )
        if not self._services.owner_known.is_set():
            raise DependencyUnavailable("nobody can log in yet", dependency="postgres")

    async def _temporal(self) -> None:
        await self._services.commands.workers()

    async def _worker(self) -> None:
        if not await self._services.commands.workers():
            raise DependencyUnavailable("none has asked for work lately", dependency="worker")

    async def _object_store(self) -> None:
        url = self._services.settings.s3_url or ""
        async with httpx.AsyncClient(timeout=_PATIENCE_S) as client:
            answer = await client.head(url)
        if answer.status_code >= 500:
            raise DependencyUnavailable(
                f"it answers with status {answer.status_code}", dependency="object_store"
            )


async def _timed(check: Callable[[], Awaitable[None]]) -> DependencyHealth:
    started = time.perf_counter()
    error: str | None = None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await check()
    except TimeoutError:
        error = f"no answer within {_PATIENCE_S:g} s"
    except DumontError as failure:
        error = f"{failure.message}; {failure.hint}" if failure.hint else failure.message
    except httpx.HTTPError as failure:
        error = f"no answer ({type(failure).__name__})"
    return DependencyHealth(
        ok=error is None, latency_ms=round((time.perf_counter() - started) * 1000, 1), error=error
    )
