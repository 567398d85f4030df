"""What machines were seen doing is kept by the minute, and what owners want of idleness."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from dumont.db.activity import PostgresActivity
from dumont.db.engine import Database
from dumont.db.tables import activity, activity_readings
from dumont.domain.idle import IdlePolicy, IdleState, KeepAlive
from dumont.domain.idle_watch import reading_of
from tests.integration.db.conftest import T0

M, N = "m000000000001", "m000000000002"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def watched(database: Database) -> PostgresActivity:
    return PostgresActivity(database)


async def heard_ago(database: Database, ago: timedelta) -> None:
    """Let what was noted until now have been noted so long ago."""
    async with database.transaction() as connection:
        for column in (activity_readings.c.at, activity.c.minute):
            table = column.table
            await connection.execute(update(table).values({column.name: column - ago}))


async def count(database: Database, table: object) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def test_a_minute_is_what_was_heard_in_it(watched: PostgresActivity, database: Database):
    await watched.add(M, reading_of({"gpu_percent": 3.0, "ssh_sessions": 1}))
    now = await watched.now()
    [sample] = (await watched.samples([M], since=now - 2 * MINUTE))[M]
    assert (sample.heard, sample.gpu_percent, sample.ssh_sessions) == (1, 3.0, 1)
    assert now - 2 * MINUTE < sample.minute <= now
    assert sample.minute.second == 0
    assert await watched.samples([N], since=now - 2 * MINUTE) == {}


async def test_what_was_heard_stays_itself_when_it_is_merged(
    watched: PostgresActivity, database: Database
):
    for gpu in (3.0, 97.0, 0.0):
        await watched.add(M, reading_of({"gpu_percent": gpu, "user_processes": 2}))
        await heard_ago(database, timedelta(seconds=1))
    await watched.add(N, reading_of({}))
    await heard_ago(database, 5 * MINUTE)
    since = await watched.now() - 10 * MINUTE
    before = await watched.samples([M, N], since=since)
    assert sum(sample.heard for sample in before[M]) == 3
    assert max(sample.gpu_percent or 0 for sample in before[M]) == 97.0

    assert await watched.settle() >= 1
    assert await watched.samples([M, N], since=since) == before
    assert await count(database, activity_readings) == 0
    assert await watched.settle() == 0


async def test_the_minute_that_runs_is_not_merged_yet(
    watched: PostgresActivity, database: Database
):
    await watched.add(M, reading_of({"gpu_percent": 1.0}))
    assert await watched.settle() == 0
    assert await count(database, activity_readings) == 1


async def test_a_minute_is_merged_once(watched: PostgresActivity, database: Database):
    """A straggler must not take the place of a whole minute."""
    await watched.add(M, reading_of({"gpu_percent": 97.0}))
    await heard_ago(database, 5 * MINUTE)
    await watched.settle()
    async with database.transaction() as connection:
        minute = (await connection.execute(select(activity.c.minute))).scalar_one()
        late = {"machine_id": M, "at": minute, "reading": reading_of({"gpu_percent": 0.0})}
        await connection.execute(activity_readings.insert().values(late))
    await watched.settle()
    [sample] = (await watched.samples([M], since=minute))[M]
    assert sample.gpu_percent == 97.0


async def test_many_at_once_are_one_row_a_second(watched: PostgresActivity, database: Database):
    await asyncio.gather(*(watched.add(M, reading_of({"gpu_percent": n})) for n in range(20)))
    assert await count(database, activity_readings) < 20


async def test_nothing_is_kept_for_ever(watched: PostgresActivity, database: Database):
    await watched.add(M, reading_of({"gpu_percent": 1.0}))
    await heard_ago(database, 5 * MINUTE)
    await watched.settle()
    await heard_ago(database, timedelta(days=7, hours=23))
    await watched.settle()
    assert await count(database, activity) == 1
    await heard_ago(database, timedelta(hours=2))
    await watched.settle()
    assert await count(database, activity) == 0


async def test_who_is_silent(watched: PostgresActivity, database: Database):
    assert await watched.last_heard([M]) == {}
    await watched.add(M, reading_of({}))
    assert (await watched.last_heard([M, N]))[M] < 30
    await heard_ago(database, timedelta(seconds=60))
    assert 59 < (await watched.last_heard([M]))[M] < 100
    await heard_ago(database, 2 * MINUTE)
    assert await watched.last_heard([M]) == {}


async def test_what_owners_want(watched: PostgresActivity):
    assert await watched.policy(M) == IdlePolicy()
    await watched.set_policy(M, IdlePolicy(warn_s=600))
    await watched.set_policy(M, IdlePolicy(warn_s=900))
    assert (await watched.policies([M, N])) == {M: IdlePolicy(warn_s=900)}

    wish = KeepAlive(until=T0, by="ana", reason="long run")
    assert await watched.keep_alive(M) is None
    await watched.set_keep_alive(M, wish)
    assert await watched.keep_alive(M) == wish
    await watched.set_keep_alive(M, None)
    await watched.set_keep_alive(M, None)
    assert await watched.keep_alive(M) is None


async def test_another_generation_begins_anew(watched: PostgresActivity):
    warned = IdleState(warned_at=T0, act_at=T0 + 5 * MINUTE)
    await watched.set_state(M, warned, generation=3)
    assert await watched.state(M, generation=3) == warned
    assert await watched.state(M, generation=4) == IdleState()
    assert await watched.states({M: 4, N: 1}) == {}
    await watched.set_state(M, IdleState(), generation=4)
    assert await watched.state(M, generation=3) == IdleState()


@pytest.mark.parametrize(
    "nonsense", [-1, float("nan"), float("inf"), 10**400, 1e300, True, "0", None, [0]]
)
def test_nonsense_of_a_host_is_unknown(nonsense: object):
    found = reading_of({"gpu_percent": nonsense, "ssh_sessions": nonsense, "x" * 9: 1})
    assert found["gpu_percent"] is None
    assert found["ssh_sessions"] is None
    assert "x" * 9 not in found


def test_counts_are_whole_numbers():
    assert reading_of({"gpu_memory_mb": 811.6, "cpu_cores": 0.25})["gpu_memory_mb"] == 812
    assert reading_of({"cpu_cores": 0.25})["cpu_cores"] == 0.25
