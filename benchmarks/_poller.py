"""The usual design, for comparison: a loop that polls a row for each machine.

In the manner of today's orchestrators without a workflow engine: rows that are due are locked in
batches, each is looked at, written and unlocked on its own, and is due again some seconds later. It
is the least such a loop can be: it asks no provider, keeps no state in memory and has no retries.

    python -m benchmarks._poller DATABASE_URL ROWS EVERY_SECONDS
"""

from __future__ import annotations

import asyncio
import secrets
import sys

from psycopg_pool import AsyncConnectionPool

_TABLE = """
CREATE TABLE IF NOT EXISTS polled (
    id bigint PRIMARY KEY, status text NOT NULL, due_at timestamptz NOT NULL,
    lock_token text, lock_expires_at timestamptz
);
CREATE INDEX IF NOT EXISTS polled_due ON polled (due_at);
TRUNCATE polled;
"""
_LOCK = """
UPDATE polled SET lock_token = %(token)s, lock_expires_at = now() + interval '30 s'
WHERE id IN (
    SELECT id FROM polled
    WHERE due_at <= now() AND (lock_expires_at IS NULL OR lock_expires_at < now())
    ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED
) RETURNING id, status
"""
_DONE = """
UPDATE polled SET status = %(status)s, due_at = now() + make_interval(secs => %(every)s),
    lock_token = NULL, lock_expires_at = NULL
WHERE id = %(id)s AND lock_token = %(token)s
"""


async def _poll(url: str, rows: int, every: float) -> None:
    token = secrets.token_hex(8)
    async with AsyncConnectionPool(url, min_size=10, max_size=10, open=False) as pool:
        async with pool.connection() as connection:
            await connection.execute(_TABLE)
            await connection.execute(
                "INSERT INTO polled SELECT n, 'running', now() + random() * make_interval(secs => %s)"
                " FROM generate_series(1, %s) n",
                (every, rows),
            )

        async def process(number: int, status: str) -> None:
            async with pool.connection() as connection:
                await connection.execute(
                    _DONE, {"status": status, "every": every, "id": number, "token": token}
                )

        while True:
            async with pool.connection() as connection:
                cursor = await connection.execute(_LOCK, {"token": token})
                due = await cursor.fetchall()
            await asyncio.gather(*(process(number, status) for number, status in due))
            if len(due) < 100:
                await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(_poll(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
