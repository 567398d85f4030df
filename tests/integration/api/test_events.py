"""The event stream: live, resumable, everybody's own, and patient with a database that comes and goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx_sse
import psycopg
import pytest
from httpx_sse import ServerSentEvent

from api import stream
from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.machine import MachinePhase
from tests.integration.api.conftest import COOKIE_LOGIN, Running, Session, Whole, order
from tests.integration.db.conftest import record, spec


def _event(key: str, machine_id: str = "m000000000001") -> MachineEvent:
    return MachineEvent(
        key=key,
        machine_id=machine_id,
        kind=EventKind.ALERT,
        at=datetime.now(UTC),
        summary=key,
    )


class Reader:
    """One open stream."""

    def __init__(self, messages: AsyncIterator[ServerSentEvent]) -> None:
        self._messages = messages
        self.last_id: str | None = None

    async def next(self, *, machines: bool = False) -> ServerSentEvent:
        """The next message; those about machines' rows only if asked for."""
        async with asyncio.timeout(30):
            while True:
                message = await anext(self._messages)
                if message.event == "machine" and not machines:
                    continue
                if not message.data:
                    continue
                self.last_id = message.id or self.last_id
                return message

    async def summaries(self, count: int) -> list[str]:
        return [json.loads((await self.next()).data)["summary"] for _ in range(count)]


@asynccontextmanager
async def reading(
    session: Session, *, last_id: str | None = None, **params: Any
) -> AsyncIterator[Reader]:
    headers = {"Authorization": f"Bearer {session.token}"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    async with httpx_sse.aconnect_sse(
        session.api.http, "GET", "/api/v1/events", params=params, headers=headers
    ) as source:
        assert source.response.status_code == 200, await source.response.aread()
        yield Reader(source.aiter_sse())


@pytest.fixture
async def me(owner: Session) -> str:
    user_id: str = (await owner.get("/auth/me")).json()["user_id"]
    return user_id


@pytest.fixture
def store(api: Running) -> PostgresMachineStore:
    return PostgresMachineStore(api.services.database)


async def test_a_machines_life_is_told_as_it_happens(whole: Whole):
    async with reading(whole.owner, after=0) as reader:
        machine_id = (await whole.owner.post("/machines", order())).json()["machine_id"]
        kinds: list[str] = []
        rows = []
        while "machine.ready" not in kinds or not rows or rows[-1]["phase"] != "running":
            message = await reader.next(machines=True)
            if message.event == "machine":
                rows.append(json.loads(message.data))
            else:
                kinds.append(message.event)
                assert json.loads(message.data)["kind"] == message.event
    assert kinds[0] == "machine.requested"
    assert "provision.rung" in kinds
    assert {row["machine_id"] for row in rows} == {machine_id}


async def test_a_reader_that_comes_back_misses_nothing(
    owner: Session, me: str, store: PostgresMachineStore
):
    await store.record(record(spec(owner=me), events=(_event("1"),)))
    async with reading(owner, after=0) as reader:
        await store.record_events([_event("2")])
        assert await reader.summaries(2) == ["1", "2"]
        last = reader.last_id
    await store.record_events([_event("3"), _event("4")])
    # A browser keeps the address it began with; the id it saw last wins.
    async with reading(owner, after=0, last_id=last) as reader:
        await store.record_events([_event("5")])
        assert await reader.summaries(3) == ["3", "4", "5"]


async def test_without_a_place_a_stream_starts_now(
    owner: Session, me: str, store: PostgresMachineStore
):
    await store.record(record(spec(owner=me), events=(_event("before"),)))
    async with reading(owner) as reader:
        await store.record_events([_event("after")])
        assert await reader.summaries(1) == ["after"]


async def test_nobody_hears_of_anothers_machines(
    api: Running, owner: Session, me: str, store: PostgresMachineStore
):
    other = await api.somebody_else()
    other_id = (await other.get("/auth/me")).json()["user_id"]
    theirs = spec(2, owner=other_id)
    await store.record(record(spec(1, owner=me)))
    await store.record(record(theirs))
    async with reading(owner, after=0) as mine, reading(other, after=0) as others:
        await store.record_events([_event("mine"), _event("theirs", theirs.machine_id)])
        await store.record_events([_event("nobody's", "m0000000000aa")])
        await store.record_events([_event("end", theirs.machine_id), _event("mine too")])
        # The owner of the deployment also hears of what nobody owns.
        assert await mine.summaries(3) == ["mine", "nobody's", "mine too"]
        assert await others.summaries(2) == ["theirs", "end"]


async def test_one_machines_stream_has_only_that_machine(
    owner: Session, me: str, store: PostgresMachineStore
):
    await store.record(record(spec(1, name="one", owner=me)))
    await store.record(record(spec(2, name="two", owner=me)))
    async with reading(owner, after=0, machine="two") as reader:
        await store.record_events([_event("1"), _event("2", "m000000000002")])
        assert await reader.summaries(1) == ["2"]


async def test_a_changed_row_is_sent_whole(owner: Session, me: str, store: PostgresMachineStore):
    await store.record(record(spec(owner=me), version=1))
    async with reading(owner) as reader:
        await store.record(record(spec(owner=me), MachinePhase.STUCK, version=2))
        while True:
            message = await reader.next(machines=True)
            shown = json.loads(message.data)
            if shown["phase"] == "stuck":
                break
    assert message.event == "machine"
    assert shown == (await owner.get("/machines/my-box")).json()


async def test_a_listener_that_lost_its_connection_misses_nothing(
    owner: Session, me: str, store: PostgresMachineStore, database_url: str
):
    await store.record(record(spec(owner=me)))
    async with reading(owner) as reader:
        await store.record_events([_event("1")])
        assert await reader.summaries(1) == ["1"]
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
            killed = await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
            assert killed.rowcount == 1
        await store.record_events([_event("2")])
        seen = []
        while "2" not in seen:
            message = await reader.next()
            seen.append(
                "reset" if message.event == "reset" else json.loads(message.data)["summary"]
            )
    # Rows that changed meanwhile were not heard of: the reader is told to look again.
    assert sorted(seen) == ["2", "reset"] or seen == ["2"]


async def test_a_reader_that_is_too_slow_starts_over_and_misses_no_event(
    api: Running, owner: Session, me: str, store: PostgresMachineStore
):
    await store.record(record(spec(owner=me)))
    start = await api.services.event_log.newest_seq()
    audience = stream.Audience(me, sees_unowned=False)
    frames = api.services.hub.follow(after=start, audience=audience)
    total = stream.QUEUE + 300
    await store.record_events([_event("0")])
    first = await anext(frames)
    batch = [_event(str(number)) for number in range(1, total)]
    for begin in range(0, len(batch), 200):
        await store.record_events(batch[begin : begin + 200])
    (attached,) = api.services.hub._streams
    async with asyncio.timeout(30):
        while not attached.overflown:
            await asyncio.sleep(0.01)
    seen, resets = [json.loads(first.data)["summary"]], 0
    async with asyncio.timeout(60):
        while len(seen) < total:
            frame = await anext(frames)
            if frame.event == "reset":
                resets += 1
            elif frame.seq is not None:
                seen.append(json.loads(frame.data)["summary"])
    await frames.aclose()
    assert seen == [str(number) for number in range(total)]
    assert resets == 1
    assert api.services.hub._streams == set()


async def test_a_place_beyond_the_end_is_reset(
    owner: Session, me: str, store: PostgresMachineStore
):
    await store.record(record(spec(owner=me), events=(_event("1"),)))
    async with reading(owner, after=1_000_000) as reader:
        assert (await reader.next()).event == "reset"
        await store.record_events([_event("2")])
        assert await reader.summaries(1) == ["2"]


async def test_the_dashboards_cookie_opens_the_stream(
    api: Running, owner: Session, me: str, store: PostgresMachineStore
):
    await store.record(record(spec(owner=me)))
    await api.http.post("/api/v1/auth/login", json=COOKIE_LOGIN)
    async with httpx_sse.aconnect_sse(api.http, "GET", "/api/v1/events") as source:
        assert source.response.status_code == 200
        assert source.response.headers["x-accel-buffering"] == "no"
        await store.record_events([_event("1")])
        assert await Reader(source.aiter_sse()).summaries(1) == ["1"]


async def test_a_stream_ends_so_that_credentials_are_checked_again(
    api: Running, owner: Session, monkeypatch: pytest.MonkeyPatch
):
    from api.routes import events as route

    original = route._messages
    monkeypatch.setattr(
        route, "_messages", lambda hub, **how: original(hub, **{**how, "life_s": 0.2})
    )
    async with asyncio.timeout(30):
        answer = await owner.get("/events")
    assert answer.status_code == 200
    assert "retry: 1000" in answer.text
