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
from dumont.domain.snapshots import (
    LATEST,
    Retention,
    SnapshotHealth,
    SnapshotPolicy,
    SnapshotRecord,
)
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


async def test_a_machine_that_nothing_was_tried_for_is_well(snapshots: PostgresSnapshots):
    await snapshots.record_failure("m00000000000f", error="no", at=T0)
    assert await snapshots.health(M) == SnapshotHealth()


async def test_failures_begin_at_one_again_after_a_success(snapshots: PostgresSnapshots):
    await snapshots.record(record())
    for minute in (1, 2):
        await snapshots.record_failure(M, error="no", at=T0 + timedelta(minutes=minute))
    await snapshots.verified(M, record().snapshot_id, at=T0 + timedelta(minutes=3))
    again = T0 + timedelta(minutes=4)
    assert await snapshots.record_failure(M, error="no again", at=again) == 1
    health = await snapshots.health(M)
    assert (health.tried_at, health.error) == (again, "no again")
    assert health.newest_at == record().taken_at, "what there was is there still"


async def test_news_that_come_late_change_nothing(snapshots: PostgresSnapshots):
    await snapshots.record(record())
    await snapshots.record_failure(M, error="no", at=T0 + timedelta(minutes=2))
    await snapshots.verified(M, record().snapshot_id, at=T0 + timedelta(minutes=1))
    assert (await snapshots.health(M)).failures == 1, "it failed after that"
    assert await snapshots.record_failure(M, error="older", at=T0) == 1
    assert (await snapshots.health(M)).error == "no"


async def test_of_a_long_error_the_beginning_is_kept(snapshots: PostgresSnapshots):
    await snapshots.record_failure(M, error="no room " + "x" * 10_000, at=T0)
    error = (await snapshots.health(M)).error
    assert error.startswith("no room x")
    assert len(error) == 500


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
    for pattern in ("%", "2026112_", "20261126%1"):
        with pytest.raises(NotFound):
            await snapshots.find(M, pattern)


async def test_only_broken_ones_are_no_latest(snapshots: PostgresSnapshots):
    await snapshots.record(record(whole=False, unreadable=("a: no",)))
    with pytest.raises(NotFound):
        await snapshots.find(M, LATEST)
    assert (await snapshots.health(M)).newest_at is None
    assert (await snapshots.find(M, record().snapshot_id)).unreadable == ("a: no",)


async def test_what_is_deleted_is_neither_found_nor_the_latest(snapshots: PostgresSnapshots):
    for number in (1, 2):
        await snapshots.record(record(number))
        await snapshots.verified(M, record(number).snapshot_id, at=T0)
    await snapshots.forgotten(M, [record(2).snapshot_id])
    assert (await snapshots.find(M, LATEST)).snapshot_id == record(1).snapshot_id
    assert (await snapshots.health(M)).newest_at == record(1).taken_at
    assert await snapshots.find(M, "2026") == await snapshots.find(M, LATEST)
    with pytest.raises(NotFound):
        await snapshots.find(M, record(2).snapshot_id)
    await snapshots.forgotten(M, [])
    assert len(await snapshots.of_machine(M)) == 1, "nothing to forget forgets nothing"


async def test_what_becomes_of_one_is_told_of_that_one_only(snapshots: PostgresSnapshots):
    other = record(machine_id="m00000000000f")
    for each in (record(1), record(2), other):
        await snapshots.record(each)
    at = T0 + timedelta(hours=1)
    await snapshots.verified(M, record(1).snapshot_id, at=at)
    await snapshots.pinned(M, record(1).snapshot_id, pinned=True)
    changed = record(1, verified_at=at, pinned=True)
    assert await snapshots.of_machine(M) == [record(2), changed]
    await snapshots.pinned(M, record(1).snapshot_id, pinned=False)
    assert (await snapshots.find(M, record(1).snapshot_id)).pinned is False
    await snapshots.forgotten(M, [record(1).snapshot_id])
    assert await snapshots.of_machine(other.machine_id) == [other]
    assert await snapshots.before(M, record(2).snapshot_id) is None


async def test_made_again_it_keeps_what_became_of_it(snapshots: PostgresSnapshots):
    await snapshots.record(record())
    await snapshots.pinned(M, record().snapshot_id, pinned=True)
    await snapshots.verified(M, record().snapshot_id, at=T0)
    await snapshots.record(record())
    assert await snapshots.of_machine(M) == [record(pinned=True, verified_at=T0)]


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


async def test_the_one_before_is_the_neighbour(snapshots: PostgresSnapshots):
    for number in (1, 3, 2):
        await snapshots.record(record(number))
    assert await snapshots.before(M, record(3).snapshot_id) == record(2)
    assert await snapshots.before(M, record(2).snapshot_id) == record(1)


async def test_policies(snapshots: PostgresSnapshots):
    assert await snapshots.policy(M) == SnapshotPolicy()
    wanted = SnapshotPolicy(cron="0 */6 * * *", retention=Retention(daily=14), excludes=("x/",))
    await snapshots.set_policy(M, SnapshotPolicy(every_minutes=5))
    await snapshots.set_policy(M, wanted)
    assert await snapshots.policy(M) == wanted
    assert await snapshots.policies([M, "m00000000000f"]) == {M: wanted}
    assert await snapshots.policies([]) == {}
    assert await snapshots.policy("m00000000000f") == SnapshotPolicy(), "another's is its own"


async def test_owners_are_those_who_have_snapshots(
    snapshots: PostgresSnapshots, store: PostgresMachineStore
):
    state = MachineState(phase=MachinePhase.DESTROYED, version=1)
    for number, owner in ((1, "u1"), (2, "u2")):
        machine = spec(number, name=f"box-{number}", owner=owner)
        await store.record(MachineRecord(spec=machine, state=state, at=T0))
    assert await snapshots.owners() == []
    for number in (1, 2):
        await snapshots.record(record(number))
    assert await snapshots.owners() == ["u1"]
    await snapshots.forgotten(M, [record(1).snapshot_id, record(2).snapshot_id])
    assert await snapshots.owners() == ["u1"], "what they had is still to be pruned"
