"""A machine's keys are made once, kept sealed, and never readable in the database."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, update

from dumont.db.engine import Database
from dumont.db.secret_store import PostgresSecretStore
from dumont.db.tables import machine_secrets
from dumont.domain.errors import DependencyUnavailable
from dumont.security.keys import NamedKey
from dumont.security.ssh import new_machine_secrets
from dumont.security.vault import Vault

OLD = NamedKey(key_id="old", key=b"o" * 32)
NEW = NamedKey(key_id="new", key=b"n" * 32)


def _store(database: Database, *keys: NamedKey) -> PostgresSecretStore:
    return PostgresSecretStore(database, sealer=Vault(keys), make=new_machine_secrets)


async def test_concurrent_first_calls_agree(database: Database):
    store = _store(database, OLD)
    made = await asyncio.gather(*(store.ensure_machine_secrets("m1") for _ in range(8)))
    assert len({secrets.host_key_private for secrets in made}) == 1


async def test_nothing_private_lies_in_the_row(database: Database):
    secrets = await _store(database, OLD).ensure_machine_secrets("m1")
    async with database.transaction() as connection:
        row = (await connection.execute(select(machine_secrets))).one()
    body = "".join(secrets.host_key_private.splitlines()[1:-1]).encode()
    assert body[:24] not in bytes(row.sealed)
    assert b"PRIVATE" not in bytes(row.sealed)
    assert row.key_id == "old"
    assert row.host_key_public == secrets.host_key_public


async def test_a_rotated_key_still_opens_what_the_old_one_sealed(database: Database):
    before = await _store(database, OLD).ensure_machine_secrets("m1")
    assert await _store(database, NEW, OLD).ensure_machine_secrets("m1") == before
    with pytest.raises(DependencyUnavailable, match="'old'"):
        await _store(database, NEW).ensure_machine_secrets("m1")


async def test_a_secret_opens_only_where_it_belongs(database: Database):
    store = _store(database, OLD)
    await store.ensure_machine_secrets("m1")
    async with database.transaction() as connection:
        await connection.execute(update(machine_secrets).values(machine_id="m2"))
    with pytest.raises(DependencyUnavailable, match="machine/m2"):
        await store.ensure_machine_secrets("m2")


async def test_forgotten_secrets_are_made_anew(database: Database):
    store = _store(database, OLD)
    before = await store.ensure_machine_secrets("m1")
    await store.forget_machine_secrets("m1")
    await store.forget_machine_secrets("m1")
    assert (await store.ensure_machine_secrets("m1")).host_key_public != before.host_key_public
