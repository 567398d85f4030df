"""Migrations make exactly the tables that the code uses, however many processes start at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from dumont.db import schema
from dumont.db.engine import Database, parse_url
from dumont.db.tables import metadata
from dumont.domain.errors import DependencyUnavailable, InvalidInput


def test_migrations_make_the_tables_that_the_code_describes(database_url: str) -> None:
    engine = create_engine(parse_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == schema.head()
    engine.dispose()


def _upgrade(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dumont.db", "upgrade"],
        env=os.environ | {"DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_several_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    started = [_upgrade(empty_database_url) for _ in range(3)]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert schema.head() in out
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM machines").fetchone() == (0,)


def test_upgrade_of_an_absent_server_says_so_and_fails() -> None:
    process = _upgrade("postgresql://nobody@127.0.0.1:1/none")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "PostgreSQL does not answer" in err
    assert "Traceback" not in err


async def test_a_database_without_tables_says_how_to_make_them(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    async with database.transaction() as connection:
        assert await schema.revision_of(connection) is None
    with pytest.raises(DependencyUnavailable) as caught:
        async with database.transaction() as connection:
            await connection.exec_driver_sql("SELECT * FROM machines")
    assert caught.value.hint == "run: python -m dumont.db upgrade"
    await database.close()


async def test_a_full_disk_is_named(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(DependencyUnavailable, match="disk is full") as caught:
        async with database.transaction() as connection:
            await connection.exec_driver_sql(
                "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
            )
    assert caught.value.dependency == "postgres"
    await database.close()


def test_another_kind_of_database_is_refused_without_showing_the_password() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_url("mysql://me:hunter2@host/db")
    assert caught.value.field == "DATABASE_URL"
    assert "hunter2" not in caught.value.message


async def test_a_connection_that_the_server_closed_is_replaced(database_url: str) -> None:
    database = Database(database_url)
    async with database.transaction() as connection:
        pid = await connection.scalar(schema.text("SELECT pg_backend_pid()"))
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    async with database.transaction() as connection:
        assert await connection.scalar(schema.text("SELECT pg_backend_pid()")) != pid
    await database.close()
    await asyncio.sleep(0)
