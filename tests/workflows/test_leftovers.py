"""The sweep over leftovers: what it finds, tells, ends, and what it leaves alone."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from activities.leftovers import LeftoverActivities, LeftoverSurvey
from dumont.domain.errors import ProviderUnavailable, RequestRefused
from dumont.domain.instances import InstanceOrder, InstanceState
from dumont.domain.labels import MACHINE_KEY
from dumont.domain.leftovers import (
    CloudAddress,
    CloudDisk,
    Fate,
    Leftover,
    LeftoverKind,
    LeftoverLimits,
    LeftoverPlan,
    kept_snapshots,
    schedule,
)
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.reconcile import OwnerStatus
from dumont.ports import MachineRecord
from dumont.temporal.client import data_converter
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from dumont.temporal.search_attributes import register_search_attributes
from tests.support.binaries import binary
from tests.workflows.conftest import KEYS, Stage, now, spec
from worker.compose_leftovers import Source, gcp_source, vast_source
from worker.roles import control_worker, gcp_worker, leftovers_served, vast_worker
from workflows.leftovers import Leftovers, LeftoversInput

GONE, LIVE = "maaaaaaaaaaaa", "mbbbbbbbbbbbb"
EAGER = LeftoverLimits(confirm_s=0, unknown_owner_s=3600)


@dataclass
class FakeRemains:
    """A `CloudRemains` in memory."""

    disks: dict[str, CloudDisk] = field(default_factory=dict)
    addresses: dict[str, CloudAddress] = field(default_factory=dict)
    before_delete: Callable[[str], None] = lambda name: None

    async def list_disks(self, *, label_prefix: str) -> list[CloudDisk]:
        return [disk for name, disk in self.disks.items() if name.startswith(label_prefix)]

    async def list_addresses(self, *, label_prefix: str) -> list[CloudAddress]:
        return [one for name, one in self.addresses.items() if name.startswith(label_prefix)]

    async def delete_disk(self, *, zone: str, name: str, disk_id: str) -> None:
        self.before_delete(name)
        self.disks.pop(name, None)

    async def delete_address(self, *, region: str, name: str, address_id: str) -> None:
        self.before_delete(name)
        self.addresses.pop(name, None)


@dataclass
class Shown:
    """A `LeftoverStore` in memory."""

    plans: dict[str, LeftoverPlan] = field(default_factory=dict)

    async def record_survey(self, source: str, plan: LeftoverPlan, *, at: datetime) -> None:
        self.plans[source] = plan

    def fates(self) -> dict[str, Fate]:
        return {
            each.leftover.label or each.leftover.resource_id: each.fate
            for plan in self.plans.values()
            for each in plan.found
        }


@dataclass
class World:
    """The stage, and what was left on it."""

    stage: Stage
    remains: FakeRemains = field(default_factory=FakeRemains)
    shown: Shown = field(default_factory=Shown)
    schedules: list[str] = field(default_factory=list)
    snapshots: list[Leftover] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Machines whose workflow Temporal was asked about."""
    back_at: int | None = None
    """At which of these questions the machine is found to run again."""

    def activities(self, name: str, source: Source) -> LeftoverActivities:
        async def describe(machine_id: str) -> tuple[OwnerStatus, int | None]:
            self.asked.append(machine_id)
            if len(self.asked) == self.back_at:
                return OwnerStatus.RUNNING, 1
            return self.stage.owners.get(machine_id, (OwnerStatus.ABSENT, None))

        return LeftoverActivities(
            source=name,
            find=source.find,
            end=source.end,
            machines=self.stage.store,
            describe_owner=describe,
            store=self.shown,
        )

    def control_source(self) -> Source:
        async def find(env: str) -> list[Leftover]:
            found = [schedule(each, machine_id=each.split("/")[1]) for each in self.schedules]
            return [*found, *self.snapshots]

        async def end(leftover: Leftover) -> None:
            self.schedules.remove(leftover.resource_id)

        return Source(find, end)

    async def sweep(self, queue: str, limits: LeftoverLimits = EAGER) -> LeftoverPlan:
        plan = await self.stage.env.client.execute_workflow(
            Leftovers.run,
            LeftoversInput(
                survey=LeftoverSurvey(env="test", limits=limits), queue=queue, confirm_s=1
            ),
            id=f"leftovers-{queue}",
            task_queue=CONTROL,
        )
        await self.stage.env.sleep(timedelta(seconds=10))
        return plan

    def disk(self, machine_id: str = GONE, *, env: str = "test", number: int = 1) -> str:
        name = f"dmt-{env}-{machine_id}-g{number}-a1"
        self.remains.disks[name] = CloudDisk(
            name=name, disk_id=f"d{number}", zone="us-central1-a", size_gb=20,
            disk_type="pd-balanced", labels={MACHINE_KEY: machine_id},
        )  # fmt: skip
        return name

    def events(self, kind: str) -> list[str]:
        return [e.summary for e in self.stage.store.events.values() if e.kind.value == kind]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"),
        data_converter=data_converter(KEYS),
    ) as env:
        await register_search_attributes(env.client)
        made = World(Stage(env))
        stage = made.stage
        for machine_id, phase in ((GONE, MachinePhase.DESTROYED), (LIVE, MachinePhase.RUNNING)):
            state = MachineState(phase=phase, generation=1)
            stage.store.records[machine_id] = MachineRecord(
                spec=spec(machine_id), state=state, at=now()
            )
        stage.owners = {GONE: (OwnerStatus.CLOSED, None), LIVE: (OwnerStatus.RUNNING, 1)}
        control = made.activities("control", made.control_source())
        vast = made.activities("vast", vast_source(stage.cloud))
        gcp = made.activities("gcp", gcp_source(stage.vms, made.remains))
        async with (
            control_worker(
                env.client,
                dataclasses.replace(stage.control(), money=leftovers_served(control)),
            ),
            vast_worker(env.client, dataclasses.replace(stage.vast(), leftovers=vast)),
            gcp_worker(env.client, dataclasses.replace(stage.gcp(), leftovers=gcp)),
        ):
            yield made


async def test_a_destroyed_machines_disk_is_told_of_first_and_deleted_by_the_next_sweep(
    world: World,
) -> None:
    mine, living, foreign = world.disk(), world.disk(LIVE), world.disk(env="prod", number=2)
    world.remains.addresses[mine] = CloudAddress(
        name=mine, address_id="a", region="us-central1", address="203.0.113.9",
        labels={MACHINE_KEY: GONE}, in_use=False,
    )  # fmt: skip
    first = await world.sweep(PROVIDER_GCP)
    assert first.end == ()
    assert {each.leftover.label for each in first.watching} == {mine}
    assert len(world.events("leftover.found")) == 2
    assert world.shown.fates() == {mine: Fate.WATCHED, living: Fate.KEPT}

    second = await world.sweep(PROVIDER_GCP)
    assert [each.leftover.kind for each in second.end] == [
        LeftoverKind.ADDRESS, LeftoverKind.DETACHED_DISK,
    ]  # fmt: skip
    assert set(world.remains.disks) == {living, foreign}
    assert world.remains.addresses == {}
    assert len(world.events("leftover.found")) == 2
    (disk,) = [said for said in world.events("leftover.ended") if "disk" in said]
    assert f"{mine} in us-central1-a, 20 GB, $0.0027/h (estimate" in disk
    assert "owner ended" in disk

    await world.sweep(PROVIDER_GCP)
    assert world.shown.fates() == {living: Fate.KEPT}


async def test_a_deployment_that_only_wants_to_see_ends_nothing(world: World) -> None:
    mine = world.disk()
    for _ in range(2):
        await world.sweep(PROVIDER_GCP, EAGER.model_copy(update={"end": False}))
    assert world.shown.fates() == {mine: Fate.SHOWN}
    assert mine in world.remains.disks
    assert world.events("leftover.ended") == []


async def test_what_is_in_use_by_then_stays_and_the_others_go(world: World) -> None:
    first, second = world.disk(), world.disk(number=2)

    def attached(name: str) -> None:
        if name == first:
            raise RequestRefused(f"the disk {name} is used by somebody", provider="gcp")

    world.remains.before_delete = attached
    for _ in range(2):
        await world.sweep(PROVIDER_GCP)
    assert set(world.remains.disks) == {first}
    (ended,) = world.events("leftover.ended")
    assert second in ended
    (alert,) = world.events("alert")
    assert f"{first} is used by somebody" in alert


async def test_one_that_cannot_be_ended_delays_the_others_by_a_moment_and_is_told_of_daily(
    world: World,
) -> None:
    first, *_ = [world.disk(number=n) for n in (1, 2, 3)]

    def broken(name: str) -> None:
        if name == first:
            raise ProviderUnavailable(f"{name}: no answer", provider="gcp")

    await world.sweep(PROVIDER_GCP)
    world.remains.before_delete = broken
    await world.sweep(PROVIDER_GCP)
    swept = await world.stage.env.client.get_workflow_handle(f"leftovers-{PROVIDER_GCP}").describe()
    assert swept.close_time is not None
    assert swept.close_time - swept.start_time < timedelta(seconds=100)
    assert set(world.remains.disks) == {first}
    assert len(world.events("alert")) == 1
    assert f"{first}: no answer" in world.events("alert")[0]
    await world.sweep(PROVIDER_GCP)
    days = {e.at.date() for e in world.stage.store.events.values() if e.kind.value == "alert"}
    assert len(world.events("alert")) == len(days), "not at each sweep"
    for day in (1, 2):
        await world.stage.env.sleep(timedelta(days=1))
        await world.sweep(PROVIDER_GCP)
        assert len(world.events("alert")) == len(days) + day
    world.remains.before_delete = lambda name: None
    await world.sweep(PROVIDER_GCP)
    assert world.remains.disks == {}
    assert len(world.events("leftover.ended")) == 3


async def test_a_machine_that_is_back_by_then_keeps_its_disk(world: World) -> None:
    mine = world.disk()
    await world.sweep(PROVIDER_GCP)
    world.back_at = len(world.asked) + 2  # the survey asks first, and then whoever deletes
    plan = await world.sweep(PROVIDER_GCP)
    assert len(plan.end) == 1
    assert mine in world.remains.disks
    assert world.events("leftover.ended") == []
    world.stage.owners[GONE] = (OwnerStatus.RUNNING, 1)
    await world.sweep(PROVIDER_GCP)
    assert world.shown.fates() == {mine: Fate.KEPT}


async def test_many_at_once_are_held(world: World) -> None:
    names = {world.disk(number=n) for n in range(1, 6)}
    await world.sweep(PROVIDER_GCP)
    plan = await world.sweep(PROVIDER_GCP)
    assert "5 of 5" in (plan.blocked or "")
    assert set(world.remains.disks) == names


async def test_a_cloud_that_does_not_answer_decides_nothing(world: World) -> None:
    mine = world.disk()
    await world.sweep(PROVIDER_GCP)

    async def silent(*, label_prefix: str) -> list[CloudAddress]:
        raise ProviderUnavailable("no answer", provider="gcp")

    world.remains.list_addresses = silent  # type: ignore[method-assign]
    with pytest.raises(WorkflowFailureError):
        await world.sweep(PROVIDER_GCP)
    assert mine in world.remains.disks
    assert world.shown.fates() == {mine: Fate.WATCHED}


async def test_stopped_instances_bill_and_stay_while_their_machine_wants_them(
    world: World,
) -> None:
    cloud = world.stage.cloud
    for machine_id in (GONE, LIVE):
        label = f"dmt-test-{machine_id}-g1-a1"
        made = await cloud.create(
            InstanceOrder(offer_id="1001", label=label, image="i", disk_gb=1, onstart="true")
        )
        cloud.set_state(made, InstanceState.STOPPED)
    await world.sweep(PROVIDER_VAST)
    assert world.shown.fates() == {
        f"dmt-test-{GONE}-g1-a1": Fate.WATCHED, f"dmt-test-{LIVE}-g1-a1": Fate.KEPT,
    }  # fmt: skip
    await world.sweep(PROVIDER_VAST)
    assert cloud.alive() == [f"dmt-test-{LIVE}-g1-a1"]
    assert "being ended" in world.events("leftover.ended")[0]
    assert world.events("instance.ended")


async def test_schedules_without_a_machine_go_and_files_stay(world: World) -> None:
    world.schedules = [f"machine/{GONE}/snapshot", f"machine/{LIVE}/snapshot"]
    world.snapshots = [kept_snapshots(GONE, snapshots=2, stored_bytes=9, usd_per_gb_month=None)]
    for _ in range(2):
        await world.sweep(CONTROL)
    assert world.schedules == [f"machine/{LIVE}/snapshot"]
    assert world.shown.fates()[GONE] is Fate.KEPT
    assert LIVE not in world.asked
    (ended,) = world.events("leftover.ended")
    assert "costs nothing" in ended
