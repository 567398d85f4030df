"""Readers that resume by seq miss nothing, however the writers' commits interleave."""

from __future__ import annotations

import asyncio

import psycopg

from dumont.db.engine import Database
from dumont.db.events import EventLog, append
from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.events import EventKind, MachineEvent
from tests.integration.db.conftest import T0, record, spec


def _event(key: str) -> MachineEvent:
    return MachineEvent(
        key=key, machine_id="m000000000001", kind=EventKind.ALERT, at=T0, summary=key
    )


async def test_a_later_writer_cannot_become_visible_before_an_earlier_seq(database: Database):
    """The classic hole: seq 1 drawn, seq 2 committed and read, then seq 1 commits."""
    log = EventLog(database)
    drawn, release = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with database.transaction() as connection:
            await append(connection, [_event("slow")])
            drawn.set()
            await release.wait()

    async def fast() -> None:
        await drawn.wait()
        async with database.transaction() as connection:
            await append(connection, [_event("fast")])

    slow_task, fast_task = asyncio.create_task(slow()), asyncio.create_task(fast())
    await drawn.wait()
    done, _ = await asyncio.wait([fast_task], timeout=0.3)
    seen = [event.view for event in await log.after(0)]
    release.set()
    await asyncio.gather(slow_task, fast_task)
    resumed = await log.after(max((view.seq for view in seen), default=0))
    assert not done
    assert [*(v.summary for v in seen), *(e.view.summary for e in resumed)] == ["slow", "fast"]


async def test_a_polling_reader_sees_everything_of_many_writers(database: Database):
    log, seen, last = EventLog(database), [], 0

    async def write(writer: int) -> None:
        for number in range(20):
            async with database.transaction() as connection:
                await append(connection, [_event(f"{writer}.{number}")])
                await asyncio.sleep(0)

    writers = asyncio.gather(*(write(writer) for writer in range(8)))
    while True:
        finished = writers.done()
        for event in await log.after(last):
            last = event.view.seq
            seen.append(event.view.summary)
        if finished:
            break
    assert sorted(seen) == sorted(f"{w}.{n}" for w in range(8) for n in range(20))


async def test_the_log_is_filtered_by_owner(store: PostgresMachineStore, database: Database):
    log = EventLog(database)
    await store.record(record(spec(1, owner="u1"), events=(_event("mine"),)))
    theirs = _event("theirs").model_copy(update={"machine_id": "m000000000002"})
    await store.record(record(spec(2, owner="u2"), events=(theirs,)))
    nobodys = _event("nobody's").model_copy(update={"machine_id": "m0000000000aa"})
    await store.record_events([nobodys])

    async def read(**how: object) -> list[str]:
        return [e.view.summary for e in await log.after(0, **how)]

    assert await read(owner_id="u1", with_unowned=False) == ["mine"]
    assert await read(owner_id="u1", with_unowned=True) == ["mine", "nobody's"]
    assert await read(machine_id="m000000000002") == ["theirs"]
    assert await read() == ["mine", "theirs", "nobody's"]


async def test_pages_of_one_machine_run_from_new_to_old(
    store: PostgresMachineStore, database: Database
):
    log = EventLog(database)
    await store.record_events([_event(str(n)) for n in range(7)])
    first = await log.page("m000000000001", limit=4)
    rest = await log.page("m000000000001", limit=4, before=first[-1].seq)
    assert [e.summary for e in [*first, *rest]] == ["6", "5", "4", "3", "2", "1", "0"]


async def test_listeners_are_woken_by_committed_events_and_changes_only(
    store: PostgresMachineStore, database_url: str
):
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("LISTEN dumont_events")
        await listener.execute("LISTEN dumont_machines")
        once = record(spec(), events=(_event("a"),))
        await store.record(once)
        await store.record(once)
        await store.record_events([_event("last")])
        got = []
        async for notice in listener.notifies(timeout=30):
            got.append((notice.channel, notice.payload))
            if len(got) == 3:
                break
    assert [channel for channel, _ in got] == ["dumont_machines", "dumont_events", "dumont_events"]
    assert got[0][1] == "m000000000001"
