"""The schedules of snapshots on a real server: as policies want them, and no others."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError, RPCStatusCode

from dumont.domain.errors import DependencyUnavailable, InvalidInput
from dumont.domain.snapshots import SnapshotPolicy
from dumont.temporal.client import connect
from dumont.temporal.ids import snapshot_schedule_id
from dumont.temporal.queues import CONTROL
from dumont.temporal.snapshot_schedules import ScheduledSnapshot, align, apply, next_at
from tests.support.temporal import TemporalServer
from tests.workflows.conftest import KEYS
from workflows.snapshots import SnapshotInput

HALF_HOURLY = SnapshotPolicy()
EVERY_5 = SnapshotPolicy(every_minutes=5)
NIGHTLY = SnapshotPolicy(cron="0 3 * * *")
OFF = SnapshotPolicy(every_minutes=None)


@pytest.fixture(scope="module")
def server() -> Iterator[TemporalServer]:
    running = TemporalServer()
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def client(server: TemporalServer) -> Client:
    """A namespace without schedules: a sweep is for all of them."""
    name = f"test-{secrets.token_hex(4)}"
    anywhere = await connect(address=server.address, namespace="default", codec_keys=KEYS)
    order = RegisterNamespaceRequest(
        namespace=name, workflow_execution_retention_period=Duration(seconds=86_400)
    )
    await anywhere.workflow_service.register_namespace(order)
    async with asyncio.timeout(60):
        while True:
            try:
                made = await connect(address=server.address, namespace=name, codec_keys=KEYS)
                await made.count_workflows()
                await apply(made, "probe", None)
                return made
            except (RPCError, DependencyUnavailable):
                await asyncio.sleep(0.1)


async def listed(client: Client) -> set[str]:
    return {found.id async for found in await client.list_schedules()}


async def until_listed(client: Client, *ids: str) -> None:
    """Listings lag behind what was done."""
    async with asyncio.timeout(20):
        while await listed(client) != set(ids):
            await asyncio.sleep(0.05)


async def of(client: Client, machine_id: str) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(snapshot_schedule_id(machine_id)).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def gaps(client: Client, machine_id: str) -> set[float]:
    """Minutes between two runs that are planned."""
    found = await of(client, machine_id)
    assert found is not None
    times = found.info.next_action_times
    assert len(times) > 2
    # The server adds jitter of a twentieth.
    return {round((b - a) / timedelta(minutes=5)) * 5.0 for a, b in pairwise(times)}


async def test_a_schedule_starts_snapshots_of_its_machine(client: Client) -> None:
    await apply(client, "m1", HALF_HOURLY)
    found = await of(client, "m1")
    assert found is not None
    action = found.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert (action.workflow, action.task_queue) == ("Snapshot", CONTROL)
    [given] = await client.data_converter.decode([*action.args], [SnapshotInput])
    assert given == SnapshotInput(machine_id="m1"), "nobody asked for it, and nothing is flushed"
    assert ScheduledSnapshot(machine_id="m1").model_dump() == {"machine_id": "m1"}
    assert found.schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert found.schedule.policy.catchup_window == timedelta(minutes=30)
    assert await gaps(client, "m1") == {30.0}


async def test_another_interval_another_clock_and_none(client: Client) -> None:
    await apply(client, "m1", HALF_HOURLY)
    await apply(client, "m1", EVERY_5)
    assert await gaps(client, "m1") == {5.0}
    await apply(client, "m1", NIGHTLY)
    assert await gaps(client, "m1") == {24 * 60.0}
    night = await next_at(client, "m1")
    assert night is not None
    assert (night.hour, night.minute) in ((3, 0), (3, 1))
    await apply(client, "m1", OFF)
    assert await of(client, "m1") is None
    await apply(client, "m1", OFF)
    await apply(client, "m2", None)
    await apply(client, "m1", HALF_HOURLY)
    assert await gaps(client, "m1") == {30.0}


async def test_the_same_again_changes_nothing(client: Client) -> None:
    await apply(client, "m1", HALF_HOURLY)
    before = await of(client, "m1")
    await apply(client, "m1", HALF_HOURLY.model_copy(update={"excludes": ("*.tmp",)}))
    after = await of(client, "m1")
    assert before is not None
    assert after is not None
    assert after.info.created_at == before.info.created_at
    assert after.schedule.spec == before.schedule.spec


async def test_machines_do_not_all_begin_at_the_same_moment(client: Client) -> None:
    offsets = set()
    for machine_id in ("m1", "m2", "m3"):
        await apply(client, machine_id, HALF_HOURLY)
        found = await of(client, machine_id)
        assert found is not None
        offsets.add(found.schedule.spec.intervals[0].offset)
    assert len(offsets) == 3
    assert all(timedelta(0) <= each < timedelta(minutes=30) for each in offsets if each)


async def test_when_the_next_one_is_made(client: Client) -> None:
    assert await next_at(client, "m1") is None
    await apply(client, "m1", EVERY_5)
    due = await next_at(client, "m1")
    assert due is not None
    assert timedelta(0) <= due - datetime.now(UTC) <= timedelta(minutes=5.5)
    await apply(client, "m1", OFF)
    assert await next_at(client, "m1") is None


async def test_a_sweep_leaves_exactly_what_policies_want(client: Client) -> None:
    wanted = {"same": HALF_HOURLY, "new": NIGHTLY, "drifted": EVERY_5, "off": OFF}
    for machine_id in ("same", "drifted", "off", "orphan"):
        await apply(client, machine_id, HALF_HOURLY)
    ids = [snapshot_schedule_id(each) for each in ("same", "drifted", "off", "orphan")]
    await until_listed(client, *ids)
    before = await of(client, "same")

    assert await align(client, wanted) == 4
    assert await gaps(client, "new") == {24 * 60.0}
    assert await gaps(client, "drifted") == {5.0}
    assert await of(client, "off") is None
    assert await of(client, "orphan") is None
    same = await of(client, "same")
    assert before is not None
    assert same is not None
    assert same.info.last_updated_at == before.info.last_updated_at

    await until_listed(client, *(snapshot_schedule_id(each) for each in ("same", "new", "drifted")))
    assert await align(client, wanted) == 0


async def test_a_sweep_touches_no_other_schedules(client: Client) -> None:
    others = [
        "snapshot-schedules",
        "prune-repositories",
        "machine/m1",
        "machine/m1/other",
        "reconcile",
    ]
    for schedule_id in others:
        await client.create_schedule(
            schedule_id,
            Schedule(
                action=ScheduleActionStartWorkflow("Reconcile", id="x", task_queue="nobody"),
                spec=ScheduleSpec(cron_expressions=["0 0 1 1 *"]),
            ),
        )
    await until_listed(client, *others)
    assert await align(client, {}) == 0
    assert await listed(client) == set(others)


@pytest.mark.parametrize("cron", ["99 * * * *", "* * * * MOO", "*/0 * * * *"])
async def test_a_cron_line_that_means_nothing(client: Client, cron: str) -> None:
    """It looks like one: only the server knows. What there was stays, and nobody else pays for it."""
    for machine_id in ("m1", "orphan"):
        await apply(client, machine_id, HALF_HOURLY)
    await until_listed(client, *(snapshot_schedule_id(each) for each in ("m1", "orphan")))
    bad = SnapshotPolicy(cron=cron)
    with pytest.raises(InvalidInput) as caught:
        await apply(client, "m1", bad)
    assert cron in caught.value.message
    assert caught.value.field == "cron"
    assert await gaps(client, "m1") == {30.0}

    assert await align(client, {"m1": bad, "m2": HALF_HOURLY}) == 2
    assert await of(client, "m2") is not None
    assert await of(client, "orphan") is None
