"""What is known of snapshots: recorded once, failures counted in a row, found by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.snapshots import PostgresSnapshots
from dumont.domain.errors import InvalidInput, NotFound
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.protection import AgentRole
from dumont.domain.snapshots import LATEST, Retention, SnapshotPolicy, SnapshotRecord
from dumont.ports import MachineRecord
from tests.integration.db.conftest import spec

M = spec().machine_id
T0 = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.fixture
def snapshots(database: Database) -> PostgresSnapshots:
    return PostgresSnapshots(database)


def record(number: int = 1, **changes: Any) -> SnapshotRecord:
    given = {
        "machine_id": M,
        "snapshot_id": f"20261126T12000{number}.000000Z-{number:08x}",
        "taken_at": T0 + timedelta(seconds=number),
        "source": AgentRole.STANDBY,
        "files": 3,
        "bytes": 3_000,
        "new_bytes": 300,
        "stored_bytes": 30,
        "seconds": 0.5,
    }
    return SnapshotRecord.model_validate(given | changes)


async def test_the_same_one_twice_is_one(snapshots: PostgresSnapshots):
    for _ in range(2):
        await snapshots.record(record())
    assert await snapshots.of_machine(M) == [record()]


async def test_newest_first_and_only_of_that_machine(snapshots: PostgresSnapshots):
    for number in (1, 3, 2):
        await snapshots.record(record(number))
    await snapshots.record(record(4, machine_id="m00000000000f"))
    assert [r.snapshot_id[-1] for r in await snapshots.of_machine(M)] == ["3", "2", "1"]


async def test_failures_count_in_a_row_until_one_is_found_in_the_store(
    snapshots: PostgresSnapshots,
):
    at = T0
    for count in (1, 2, 3):
        at = T0 + timedelta(minutes=count)
        assert await snapshots.record_failure(M, error=f"no {count}", at=at) == count
    assert await snapshots.record_failure(M, error="no 3", at=at) == 3, "told twice is one"
    assert (await snapshots.health(M)).error == "no 3"
    await snapshots.record(record())
    assert (await snapshots.health(M)).failures == 3, "made is not yet found"
    await snapshots.verified(M, record().snapshot_id, at=at + timedelta(seconds=1))
    health = await snapshots.health(M)
    assert (health.failures, health.error) == (0, "")
    assert health.newest_at == record().taken_at


async def test_found_by_name_by_a_beginning_and_as_the_latest(snapshots: PostgresSnapshots):
    with pytest.raises(NotFound, match="no snapshot yet"):
        await snapshots.find(M, LATEST)
    for number in (1, 2):
        await snapshots.record(record(number))
    await snapshots.record(record(3, whole=False, unreadable=("a: no",)))
    assert await snapshots.find(M, LATEST) == record(2), "the newest that is whole"
    assert await snapshots.find(M, record(1).snapshot_id) == record(1)
    assert await snapshots.find(M, "20261126T120001") == record(1)
    with pytest.raises(InvalidInput, match="several"):
        await snapshots.find(M, "20261126")
    with pytest.raises(NotFound):
        await snapshots.find(M, "2027")
    with pytest.raises(NotFound):
        await snapshots.find("m00000000000f", record(1).snapshot_id)


async def test_one_that_was_not_found_in_the_store_is_not_what_one_comes_back_from(
    snapshots: PostgresSnapshots,
):
    for number in (1, 2):
        await snapshots.record(record(number))
    await snapshots.verified(M, record(1).snapshot_id, at=T0)
    newest = await snapshots.newest(M)
    assert newest is not None
    assert newest.snapshot_id == record(1).snapshot_id


async def test_pinned_forgotten_and_the_one_before(snapshots: PostgresSnapshots):
    for number in (1, 2, 3):
        await snapshots.record(record(number))
    await snapshots.pinned(M, record(1).snapshot_id, pinned=True)
    await snapshots.forgotten(M, [record(2).snapshot_id])
    assert [(r.snapshot_id[-1], r.pinned) for r in await snapshots.of_machine(M)] == [
        ("3", False), ("1", True),
    ]  # fmt: skip
    before = await snapshots.before(M, record(3).snapshot_id)
    assert before is not None
    assert before.snapshot_id == record(1).snapshot_id
    assert await snapshots.before(M, record(1).snapshot_id) is None
    await snapshots.record(record(2))
    assert len(await snapshots.of_machine(M)) == 2, "what is deleted does not come back"


async def test_policies(snapshots: PostgresSnapshots):
    assert await snapshots.policy(M) == SnapshotPolicy()
    wanted = SnapshotPolicy(cron="0 */6 * * *", retention=Retention(daily=14), excludes=("x/",))
    await snapshots.set_policy(M, SnapshotPolicy(every_minutes=5))
    await snapshots.set_policy(M, wanted)
    assert await snapshots.policy(M) == wanted
    assert await snapshots.policies([M, "m00000000000f"]) == {M: wanted}


async def test_owners_are_those_who_have_snapshots(
    snapshots: PostgresSnapshots, store: PostgresMachineStore
):
    state = MachineState(phase=MachinePhase.DESTROYED, version=1)
    for number, owner in ((1, "u1"), (2, "u2")):
        machine = spec(number, name=f"box-{number}", owner=owner)
        await store.record(MachineRecord(spec=machine, state=state, at=T0))
    await snapshots.record(record())
    assert await snapshots.owners() == ["u1"]
