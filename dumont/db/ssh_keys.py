"""The owners' public SSH keys: what new machines let in by default."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.ids import new_id
from dumont.db.tables import ssh_keys
from dumont.domain.errors import NotFound
from dumont.domain.resources import SshKeyView


class SshKeys:
    """Public keys by user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, *, user_id: str, name: str, public_key: str, fingerprint: str, at: datetime
    ) -> tuple[SshKeyView, bool]:
        """Store a checked key; returns it and whether it is new. The same key is stored once."""
        mine = (ssh_keys.c.user_id == user_id, ssh_keys.c.fingerprint == fingerprint)
        async with self._database.transaction() as connection:
            added = await connection.execute(
                insert(ssh_keys)
                .values(
                    key_id=new_id("h"),
                    user_id=user_id,
                    name=name,
                    public_key=public_key,
                    fingerprint=fingerprint,
                    created_at=at,
                )
                .on_conflict_do_nothing()
                .returning(ssh_keys)
            )
            row = added.first()
            if row is not None:
                return _view(row), True
            return _view((await connection.execute(select(ssh_keys).where(*mine))).one()), False

    async def of_user(self, user_id: str) -> list[SshKeyView]:
        """A user's keys, oldest first."""
        query = (
            select(ssh_keys)
            .where(ssh_keys.c.user_id == user_id)
            .order_by(ssh_keys.c.created_at, ssh_keys.c.key_id)
        )
        async with self._database.reading() as connection:
            return [_view(row) for row in await connection.execute(query)]

    async def remove(self, key_id: str, *, user_id: str) -> None:
        """Forget a key. Machines that let it in already still do.

        Raises:
            NotFound: The user has no such key.
        """
        statement = delete(ssh_keys).where(
            ssh_keys.c.key_id == key_id, ssh_keys.c.user_id == user_id
        )
        async with self._database.transaction() as connection:
            if not (await connection.execute(statement)).rowcount:
                raise NotFound(f"there is no SSH key {key_id!r}", field="key_id")


def _view(row: Row[Any]) -> SshKeyView:
    return SshKeyView(
        key_id=row.key_id,
        name=row.name,
        public_key=row.public_key,
        fingerprint=row.fingerprint,
        created_at=row.created_at,
    )
