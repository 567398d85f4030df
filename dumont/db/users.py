"""Users: who may log in."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.ids import new_id
from dumont.db.tables import users

_FIRST_USER_LOCK: Final = 0x6F776E6572


class User(NamedTuple):
    """One user, without the password."""

    user_id: str
    email: str
    is_admin: bool


class Users:
    """The users of the deployment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def exist(self) -> bool:
        """Whether there is anybody yet."""
        async with self._database.reading() as connection:
            return bool(await connection.scalar(select(select(users).exists())))

    async def create_first(self, *, email: str, password_hash: str, at: datetime) -> User | None:
        """Create the owner; None when somebody exists already. Of several processes one does it."""
        async with self._database.transaction() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": _FIRST_USER_LOCK}
            )
            if await connection.scalar(select(select(users).exists())):
                return None
            row = await connection.execute(
                insert(users)
                .values(
                    user_id=new_id("u"),
                    email=email.strip().lower(),
                    password_hash=password_hash,
                    is_admin=True,
                    created_at=at,
                )
                .returning(users)
            )
            return _user(row.one())

    async def by_email(self, email: str) -> tuple[User, str] | None:
        """A user and the stored password hash; None when there is no such user."""
        query = select(users).where(users.c.email == func.lower(email.strip()))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return (_user(row), row.password_hash) if row is not None else None

    async def set_password(self, user_id: str, *, password_hash: str) -> None:
        """Replace a user's password."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(users).where(users.c.user_id == user_id).values(password_hash=password_hash)
            )


def _user(row: Row[Any]) -> User:
    return User(row.user_id, row.email, row.is_admin)
