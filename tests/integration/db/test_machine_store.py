"""The projection: repeats change nothing, late writes lose, nothing that costs money is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from dumont.db.engine import Database
from dumont.db.events import EventLog
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.tables import intents, machines
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.ladder import Rung
from dumont.domain.machine import MachinePhase
from dumont.ports import Intent, LadderRecord
from tests.integration.db.conftest import T0, record, spec


def _event(key: str, machine_id: str = "m000000000001") -> MachineEvent:
    return MachineEvent(
        key=key, machine_id=machine_id, kind=EventKind.READY, at=T0, summary=f"event {key}"
    )


async def _phase(store: PostgresMachineStore, machine_id: str = "m000000000001") -> str:
    (found,) = await store.owned_machines([machine_id])
    return found.state.phase


async def test_a_repeated_record_is_stored_once(store: PostgresMachineStore, database: Database):
    once = record(spec(), events=(_event("a"), _event("b")))
    await store.record(once)
    await store.record(once)
    assert [found.spec.machine_id for found in await store.live_machines()] == [
        once.spec.machine_id
    ]
    assert [e.view.summary for e in await EventLog(database).after(0)] == ["event a", "event b"]


@pytest.mark.parametrize(
    ("generation", "version", "wins"),
    [(1, 5, False), (1, 6, False), (1, 7, True), (2, 7, True), (2, 5, False)],
)
async def test_only_a_newer_state_overwrites(
    store: PostgresMachineStore, generation: int, version: int, wins: bool
):
    await store.record(record(spec(), MachinePhase.RUNNING, generation=1, version=6))
    await store.record(record(spec(), MachinePhase.STUCK, generation=generation, version=version))
    assert await _phase(store) == ("stuck" if wins else "running")


async def test_concurrent_writers_leave_the_newest_state(
    store: PostgresMachineStore, database: Database
):
    phases = [MachinePhase.PROVISIONING, MachinePhase.RUNNING, MachinePhase.STUCK]
    writes = [record(spec(), phases[v % 3], version=v) for v in range(1, 31)]
    await asyncio.gather(*(store.record(write) for write in reversed(writes)))
    assert await _phase(store) == phases[30 % 3]
    async with database.reading() as connection:
        # It met nobody but itself, so it keeps its name.
        assert list(await connection.scalars(select(machines.c.name))) == ["my-box"]


async def test_a_taken_name_does_not_hide_a_machine(
    store: PostgresMachineStore, database: Database
):
    await store.record(record(spec(1, name="my-box")))
    await store.record(record(spec(2, name="my-box"), version=1))
    await store.record(record(spec(2, name="my-box"), MachinePhase.RUNNING, version=2))
    async with database.transaction() as connection:
        rows = {row.machine_id: row for row in await connection.execute(select(machines))}
    assert rows["m000000000001"].name == "my-box"
    assert rows["m000000000002"].name == "my-box-m000000000002"
    assert rows["m000000000002"].phase == "running"


async def test_a_destroyed_machine_frees_its_name(store: PostgresMachineStore, database: Database):
    await store.record(record(spec(1), MachinePhase.DESTROYED, version=9))
    await store.record(record(spec(2)))
    async with database.transaction() as connection:
        names = list(await connection.scalars(select(machines.c.name)))
    assert names == ["my-box", "my-box"]
    assert [found.spec.machine_id for found in await store.live_machines()] == ["m000000000002"]


async def test_events_of_an_unknown_machine_are_kept(
    store: PostgresMachineStore, database: Database
):
    await store.record_events([_event("seen", "m0000000000ff")])
    (found,) = await EventLog(database).after(0)
    assert found.owner_id is None
    assert found.view.machine_name == "m0000000000ff"


async def test_the_ladder_shows_each_rung_once_and_makes_an_event(
    store: PostgresMachineStore, database: Database
):
    await store.record(record(spec()))
    rung = LadderRecord(
        machine_id="m000000000001", generation=1, attempt=2, rung=Rung.TCP, at=T0, detail="22"
    )
    await store.record_rung(rung)
    await store.record_rung(rung.model_copy(update={"at": T0 + timedelta(minutes=5)}))
    await store.record_rung(rung.model_copy(update={"generation": 0, "rung": Rung.AGENT}))
    async with database.transaction() as connection:
        ladder = await connection.scalar(select(machines.c.ladder))
    assert ladder == {"generation": 1, "attempts": {"2": {"tcp": "2026-01-01T12:00:00Z"}}}
    summaries = [e.view.summary for e in await EventLog(database).after(0)]
    assert summaries[0] == "port accepts connections: 22"


async def test_racing_attempts_both_keep_their_rungs(
    store: PostgresMachineStore, database: Database
):
    await store.record(record(spec()))
    await asyncio.gather(
        *(
            store.record_rung(
                LadderRecord(
                    machine_id="m000000000001", generation=1, attempt=attempt, rung=rung, at=T0
                )
            )
            for attempt in (1, 2)
            for rung in Rung
        )
    )
    async with database.transaction() as connection:
        ladder = await connection.scalar(select(machines.c.ladder))
    assert {a: len(rungs) for a, rungs in ladder["attempts"].items()} == {"1": 6, "2": 6}


async def test_an_intent_is_upserted_until_it_is_closed(
    store: PostgresMachineStore, database: Database
):
    intent = Intent(
        label="dmt-test-m000000000001-g1-a1",
        machine_id="m000000000001",
        generation=1,
        attempt=1,
        provider="vast",
        offer_id="7",
        host_id="h",
        usd_per_hour=0.4,
        at=T0,
    )
    await store.record_intent(intent)
    await store.record_intent(intent.model_copy(update={"offer_id": "8"}))
    await store.close_intent(intent.label, outcome="failed: taken")
    await store.record_intent(intent.model_copy(update={"offer_id": "9"}))
    async with database.transaction() as connection:
        (row,) = (await connection.execute(select(intents))).all()
    assert (row.offer_id, row.outcome) == ("8", "failed: taken")
    assert row.closed_at is not None


async def test_bad_hosts_are_remembered_for_as_long_as_asked(store: PostgresMachineStore):
    await store.record_bad_host(provider="vast", host_id="h1", reason="no ssh")
    await store.record_bad_host(provider="vast", host_id="h1", reason="no ssh again")
    await store.record_bad_host(provider="other", host_id="h2", reason="no ssh")
    assert await store.bad_hosts(provider="vast", since=T0) == ["h1"]
    assert await store.bad_hosts(provider="vast", since=T0 + timedelta(days=36500)) == []


async def test_a_sighting_counts_only_without_a_break(store: PostgresMachineStore):
    async def sweep(minute: int, *keys: str) -> dict[str, int]:
        at = T0 + timedelta(minutes=minute)
        seen = await store.record_sightings(provider="vast", keys=keys, at=at)
        return {key: int((first - T0).total_seconds() // 60) for key, first in seen.items()}

    assert await sweep(0, "x", "y") == {"x": 0, "y": 0}
    assert await sweep(1, "x") == {"x": 0}
    assert await sweep(2, "x", "y") == {"x": 0, "y": 2}
    assert await sweep(3) == {}
    assert await sweep(4, "x") == {"x": 4}


async def test_sightings_of_one_provider_do_not_end_those_of_another(store: PostgresMachineStore):
    await store.record_sightings(provider="vast", keys=["x"], at=T0)
    await store.record_sightings(provider="gcp", keys=["y"], at=T0)
    later = T0 + timedelta(minutes=1)
    assert await store.record_sightings(provider="vast", keys=["x"], at=later) == {"x": T0}


async def test_live_machines_come_complete_beyond_one_batch(store: PostgresMachineStore):
    for start in range(0, 1_100, 50):
        await asyncio.gather(
            *(store.record(record(spec(n, name=f"n{n}"))) for n in range(start, start + 50))
        )
    assert len(await store.live_machines()) == 1_100
