"""API keys: long-lived credentials with scopes. Only a digest of the secret is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, insert, or_, select, update

from dumont.db.engine import Database
from dumont.db.ids import new_id
from dumont.db.tables import api_keys, users
from dumont.db.users import User
from dumont.domain.errors import NotFound
from dumont.domain.resources import ApiKeyView

_USE_NOTED_EVERY: Final = timedelta(minutes=1)


class KeyHolder(NamedTuple):
    """Whom a key speaks for, and how far."""

    key_id: str
    user: User
    scopes: frozenset[str]


class ApiKeys:
    """The API keys of all users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        *,
        user_id: str,
        name: str,
        scopes: Sequence[str],
        digest: bytes,
        expires_at: datetime | None,
        at: datetime,
    ) -> ApiKeyView:
        """Store a new key."""
        async with self._database.transaction() as connection:
            row = await connection.execute(
                insert(api_keys)
                .values(
                    key_id=new_id("k"),
                    user_id=user_id,
                    name=name,
                    digest=digest,
                    scopes=sorted(set(scopes)),
                    created_at=at,
                    expires_at=expires_at,
                )
                .returning(api_keys)
            )
            return _view(row.one())

    async def of_user(self, user_id: str) -> list[ApiKeyView]:
        """A user's keys that were not revoked, newest first."""
        query = (
            select(api_keys)
            .where(api_keys.c.user_id == user_id, api_keys.c.revoked_at.is_(None))
            .order_by(api_keys.c.created_at.desc(), api_keys.c.key_id)
        )
        async with self._database.reading() as connection:
            return [_view(row) for row in await connection.execute(query)]

    async def revoke(self, key_id: str, *, user_id: str, at: datetime) -> None:
        """End a key at once.

        Raises:
            NotFound: The user has no such key.
        """
        statement = (
            update(api_keys)
            .where(api_keys.c.key_id == key_id, api_keys.c.user_id == user_id)
            .where(api_keys.c.revoked_at.is_(None))
            .values(revoked_at=at)
        )
        async with self._database.transaction() as connection:
            if not (await connection.execute(statement)).rowcount:
                raise NotFound(f"there is no API key {key_id!r}", field="key_id")

    async def by_digest(self, digest: bytes, *, at: datetime) -> KeyHolder | None:
        """Whom a secret belongs to, if the key is good now; notes its use, once a minute."""
        query = (
            select(api_keys, users)
            .join(users, users.c.user_id == api_keys.c.user_id)
            .where(api_keys.c.digest == digest, api_keys.c.revoked_at.is_(None))
            .where(or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > at))
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            if row.last_used_at is None or at - row.last_used_at >= _USE_NOTED_EVERY:
                await connection.execute(
                    update(api_keys).where(api_keys.c.key_id == row.key_id).values(last_used_at=at)
                )
        user = User(row.user_id, row.email, row.is_admin)
        return KeyHolder(row.key_id, user, frozenset(row.scopes))


def _view(row: Row[Any]) -> ApiKeyView:
    return ApiKeyView(
        key_id=row.key_id,
        name=row.name,
        scopes=row.scopes,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
    )
