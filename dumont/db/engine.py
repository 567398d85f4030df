"""The connection pool, and the database's troubles in our own words.

Nothing outside this package sees a driver's exception: a database that is away, full or not migrated
becomes `DependencyUnavailable`, which says what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import psycopg
import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dumont.domain.errors import DependencyUnavailable, InvalidInput

DEPENDENCY: Final = "postgres"

_HINTS: Final = {
    "53100": ("its disk is full", "free space on the database's volume"),
    "53200": ("it is out of memory", None),
    "53300": ("it has no connection left", "raise max_connections or run fewer processes"),
    "28P01": ("it does not accept the password", "check DATABASE_URL"),
    "28000": ("it does not accept the user", "check DATABASE_URL"),
    "3D000": ("the database does not exist", "create it, or check DATABASE_URL"),
    "42P01": ("its tables are missing", "run: python -m dumont.db upgrade"),
    "42703": ("its tables are of another version", "run: python -m dumont.db upgrade"),
    "25006": ("it is read-only", "DATABASE_URL has to name the primary"),
    "57014": ("a statement took too long", None),
    "57P03": ("it is starting or stopping", None),
}
"""SQLSTATE -> what is wrong, what to do."""

_STATEMENT_TIMEOUT_S: Final = 15
_TRANSACTION_TIMEOUT_S: Final = 30


def parse_url(url: str) -> URL:
    """The URL as SQLAlchemy takes it, with our driver.

    Raises:
        InvalidInput: Not a PostgreSQL URL; the message does not repeat it (it holds a password).
    """
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise InvalidInput(
            "DATABASE_URL is not a URL like postgresql://user:password@host:5432/name",
            field="DATABASE_URL",
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise InvalidInput(
            f"DATABASE_URL must be postgresql://..., not {parsed.drivername}://...",
            field="DATABASE_URL",
        )
    return parsed.set(drivername="postgresql+psycopg")


@contextmanager
def translated() -> Iterator[None]:
    """Turn a driver's exception about the database's state into `DependencyUnavailable`."""
    try:
        yield
    except sqlalchemy.exc.TimeoutError as error:
        raise DependencyUnavailable(
            "PostgreSQL: all connections of this process are busy", dependency=DEPENDENCY
        ) from error
    except sqlalchemy.exc.DBAPIError as error:
        found = describe(error.orig)
        if found is None:
            raise
        raise found from error
    except psycopg.Error as error:
        found = describe(error)
        if found is None:
            raise
        raise found from error


def describe(error: BaseException | None) -> DependencyUnavailable | None:
    """The trouble behind a driver's exception; None when it is a fault of the statement."""
    state = getattr(error, "sqlstate", None)
    what, hint = _HINTS.get(state or "", (None, None))
    if what is not None:
        return DependencyUnavailable(f"PostgreSQL: {what}", dependency=DEPENDENCY, hint=hint)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        line = (str(error).strip().splitlines() or ["connection lost"])[0]
        return DependencyUnavailable(
            f"PostgreSQL does not answer: {line}",
            dependency=DEPENDENCY,
            hint="is it started? check DATABASE_URL",
        )
    return None


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        with translated():
            async with asyncio.timeout(_TRANSACTION_TIMEOUT_S):
                yield
    except TimeoutError as error:
        raise DependencyUnavailable(
            f"PostgreSQL did not answer within {_TRANSACTION_TIMEOUT_S} s", dependency=DEPENDENCY
        ) from error


class Database:
    """A pool of connections.

    Args:
        url: `postgresql://...`.
        pool_size: Connections kept; as many again may be opened for a moment.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = parse_url(url)
        self._engine: AsyncEngine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 5,
                "application_name": "dumont",
                "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_S}s -c timezone=UTC",
            },
        )
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end, rolled back on any exception.

        Raises:
            DependencyUnavailable: The database cannot serve it.
        """
        async with _in_time(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """For a single query: no transaction around it, which saves two round trips.

        Raises:
            DependencyUnavailable: The database cannot serve it.
        """
        async with _in_time(), self._reader.connect() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
