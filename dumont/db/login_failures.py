"""Counting log-in attempts, for all API processes together."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import case, delete, update
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import login_failures


class LoginFailures:
    """Attempts per bucket and window that were not followed by a success."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, bucket: str, *, at: datetime, window: timedelta) -> tuple[int, datetime]:
        """Count one more attempt; returns how many there are, and when the window ends.

        Counted before the password is checked, so that parallel attempts cannot slip through.
        """
        t = login_failures
        new = insert(t).values(bucket=bucket, failures=1, window_ends_at=at + window)
        over = t.c.window_ends_at <= at
        statement = new.on_conflict_do_update(
            index_elements=[t.c.bucket],
            set_={
                "failures": case((over, 1), else_=t.c.failures + 1),
                "window_ends_at": case((over, at + window), else_=t.c.window_ends_at),
            },
        ).returning(t.c.failures, t.c.window_ends_at)
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).one()
            return row.failures, row.window_ends_at

    async def forgive(self, bucket: str, *, at: datetime) -> None:
        """Take one attempt back: it succeeded. Also drops buckets whose window is over."""
        t = login_failures
        async with self._database.transaction() as connection:
            await connection.execute(
                update(t).where(t.c.bucket == bucket).values(failures=t.c.failures - 1)
            )
            await connection.execute(
                delete(t).where((t.c.window_ends_at < at) | (t.c.failures <= 0))
            )
