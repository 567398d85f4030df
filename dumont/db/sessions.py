"""Sessions: one per log-in. A session has a browser cookie and a chain of refresh tokens.

A refresh token is good for one exchange. When a used one comes again, somebody else has a copy of
it, and nobody can tell who is the thief: the whole session ends. The one exception is a client that
never got our answer and asks again at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.ids import new_id
from dumont.db.tables import refresh_tokens, sessions, users
from dumont.db.users import User
from dumont.domain.errors import Unauthenticated

RETRY_GRACE: Final = timedelta(seconds=10)
"""A token may be exchanged again this soon, as long as nothing it was exchanged for was used."""

_KEPT_AFTER_END: Final = timedelta(days=7)


class Session(NamedTuple):
    """A session that is good now."""

    session_id: str
    user: User


class Sessions:
    """Log-ins and their refresh tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self,
        user: User,
        *,
        cookie_digest: bytes,
        refresh_digest: bytes,
        at: datetime,
        life: timedelta,
    ) -> Session:
        """Start a session with its cookie and its first refresh token."""
        session_id = new_id("s")
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(sessions).where(sessions.c.expires_at < at - _KEPT_AFTER_END)
            )
            await connection.execute(
                insert(sessions).values(
                    session_id=session_id,
                    user_id=user.user_id,
                    cookie_digest=cookie_digest,
                    created_at=at,
                    expires_at=at + life,
                )
            )
            await _add_refresh(connection, session_id, refresh_digest, parent=None, at=at)
        return Session(session_id, user)

    async def by_id(self, session_id: str, *, at: datetime) -> Session | None:
        """The session behind an access token, if it was neither ended nor has expired."""
        return await self._find(sessions.c.session_id == session_id, at=at)

    async def by_cookie(self, cookie_digest: bytes, *, at: datetime) -> Session | None:
        """The session behind a browser's cookie."""
        return await self._find(sessions.c.cookie_digest == cookie_digest, at=at)

    async def exchange(
        self, refresh_digest: bytes, *, new_digest: bytes, at: datetime, life: timedelta
    ) -> Session:
        """Exchange a refresh token for a new one; the session lives on for `life`.

        Raises:
            Unauthenticated: Unknown, expired, ended, or used before (which ends the session).
        """
        async with self._database.transaction() as connection:
            query = (
                select(sessions, users)
                .join(refresh_tokens, refresh_tokens.c.session_id == sessions.c.session_id)
                .join(users, users.c.user_id == sessions.c.user_id)
                .where(refresh_tokens.c.digest == refresh_digest)
                .with_for_update(of=sessions)
            )
            row = (await connection.execute(query)).first()
            good = row is not None and row.revoked_at is None and row.expires_at > at
            if row is not None and good:
                # Read only now: another exchange of the same token may have held the row lock.
                used_at = await connection.scalar(
                    select(refresh_tokens.c.used_at).where(
                        refresh_tokens.c.digest == refresh_digest
                    )
                )
                if used_at is None or await _is_retry(connection, refresh_digest, used_at, at=at):
                    await _rotate(connection, row, refresh_digest, new=new_digest, at=at, life=life)
                    return _session(row)
                await _revoke(
                    connection,
                    sessions.c.session_id == row.session_id,
                    at=at,
                    why="a refresh token was used twice",
                )
        raise Unauthenticated(
            "the refresh token is unknown, was used before, or its session has ended",
            hint="log in again: dumont login",
        )

    async def end(self, session_id: str, *, at: datetime) -> None:
        """Log out: nothing of the session is good any more."""
        async with self._database.transaction() as connection:
            await _revoke(connection, sessions.c.session_id == session_id, at=at, why="logged out")

    async def end_others(self, user_id: str, *, keep: str, at: datetime) -> None:
        """Log a user out everywhere but here."""
        others = and_(sessions.c.user_id == user_id, sessions.c.session_id != keep)
        async with self._database.transaction() as connection:
            await _revoke(connection, others, at=at, why="the password was changed")

    async def end_by_refresh(self, refresh_digest: bytes, *, at: datetime) -> None:
        """Log out by refresh token; an unknown one is nobody's session."""
        mine = exists().where(
            and_(
                refresh_tokens.c.session_id == sessions.c.session_id,
                refresh_tokens.c.digest == refresh_digest,
            )
        )
        async with self._database.transaction() as connection:
            await _revoke(connection, mine, at=at, why="logged out")

    async def _find(self, which: ColumnElement[bool], *, at: datetime) -> Session | None:
        query = (
            select(sessions.c.session_id, users)
            .join(users, users.c.user_id == sessions.c.user_id)
            .where(which, sessions.c.revoked_at.is_(None), sessions.c.expires_at > at)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return _session(row) if row is not None else None


async def _is_retry(
    connection: AsyncConnection, refresh_digest: bytes, used_at: datetime, *, at: datetime
) -> bool:
    if at - used_at > RETRY_GRACE:
        return False
    used_child = select(
        exists().where(
            refresh_tokens.c.parent == refresh_digest, refresh_tokens.c.used_at.is_not(None)
        )
    )
    return not await connection.scalar(used_child)


async def _rotate(
    connection: AsyncConnection,
    row: Row[Any],
    old: bytes,
    *,
    new: bytes,
    at: datetime,
    life: timedelta,
) -> None:
    await connection.execute(
        update(refresh_tokens)
        .where(refresh_tokens.c.digest == old, refresh_tokens.c.used_at.is_(None))
        .values(used_at=at)
    )
    await _add_refresh(connection, row.session_id, new, parent=old, at=at)
    await connection.execute(
        update(sessions).where(sessions.c.session_id == row.session_id).values(expires_at=at + life)
    )


async def _add_refresh(
    connection: AsyncConnection,
    session_id: str,
    token_digest: bytes,
    *,
    parent: bytes | None,
    at: datetime,
) -> None:
    await connection.execute(
        insert(refresh_tokens).values(
            digest=token_digest, session_id=session_id, parent=parent, created_at=at
        )
    )


async def _revoke(
    connection: AsyncConnection, which: ColumnElement[bool], *, at: datetime, why: str
) -> None:
    await connection.execute(
        update(sessions)
        .where(which, sessions.c.revoked_at.is_(None))
        .values(revoked_at=at, revoked_because=why)
    )


def _session(row: Row[Any]) -> Session:
    return Session(row.session_id, User(row.user_id, row.email, row.is_admin))
