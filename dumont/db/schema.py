"""Bringing a database to this version's tables, and telling whether it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from dumont.db.engine import parse_url, translated

_LOCK: Final = 0x64756D6F6E74
"""Key of the advisory lock under which one process at a time migrates ("dumont" in ASCII)."""


def _config() -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%")
    )
    return config


def head() -> str:
    """The newest revision that this program knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def upgrade(url: str) -> None:
    """Migrate to `head`, in one transaction. Safe to run from several processes at once.

    Raises:
        DependencyUnavailable: The database cannot serve it.
        InvalidInput: `url` is no PostgreSQL URL.
    """
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with translated(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        run(connection)


def run(connection: Connection, *, revision: str = "head") -> None:
    """Migrate within an open transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def revision_of(connection: AsyncConnection) -> str | None:
    """The database's revision; None when it was never migrated."""
    exists = await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    if not exists:
        return None
    found: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
