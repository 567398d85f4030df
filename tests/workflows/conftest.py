"""Workflows on the time-skipping server, over real activities and ports in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.accounts import AccountActivities
from activities.endings import EndingActivities
from activities.evidence import EvidenceActivities, ProviderEvidence
from activities.fleet import FleetActivities, primaries, standbys
from activities.instances import InstanceActivities
from activities.listing import SharedListing
from activities.market import MarketActivities
from activities.mirroring import AgentTools, MirrorActivities
from activities.orders import OrderActivities
from activities.readiness import ReadinessActivities
from activities.receipts import ReceiptActivities
from activities.records import RecordActivities
from activities.repository import RepositoryActivities
from activities.snapshot_upkeep import UpkeepActivities
from activities.snapshots import SnapshotActivities
from activities.sweep import SweepActivities
from activities.takeover import TakeoverActivities
from activities.vms import VmActivities, ZonePick
from dumont.domain.fleet import InstanceReport, Presence
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState, Timing
from dumont.domain.offers import GpuRequirement
from dumont.domain.reconcile import OwnerStatus
from dumont.domain.snapshots import SnapshotPolicy
from dumont.providers.gcp.fleet import VmFleet
from dumont.temporal.client import data_converter
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import machine_workflow_id, standby_workflow_id
from dumont.temporal.queues import CONTROL
from dumont.temporal.search_attributes import register_search_attributes
from tests.support.binaries import binary
from tests.support.bodies import FakeAgents, FakeVms, MemoryReceipts
from tests.support.budgets import MemoryBudgets
from tests.support.fakes import FakeCloud, FakeShell, MemoryStore
from tests.support.snapshots import FakeEngine, FakeRepositories, FakeSnapshots
from worker.machine_orders import MachineOrders
from worker.roles import (
    ControlActivities,
    GcpActivities,
    KeepingActivities,
    ProtectionActivities,
    VastActivities,
    control_worker,
    gcp_worker,
    vast_worker,
)
from workflows.machine import DestroyRequest, Machine, MachineInput

KEYS = [CodecKey(key_id="test", key=b"k" * 32)]
TIMING = Timing(attempt_s=120, race_stagger_s=30, race_width=1)


def spec(machine_id: str = "m0123456789ab", **need: Any) -> MachineSpec:
    requirement = {"gpu": "RTX 4090", "max_usd_per_hour": 0.6, **need}
    return MachineSpec(
        machine_id=machine_id,
        owner_id="owner",
        name="my-box",
        env="test",
        requirement=GpuRequirement(**requirement),
        authorized_keys=("ssh-ed25519 AAAA me",),
    )


@dataclass
class Stage:
    """A Temporal server, two workers, and the world they touch."""

    env: WorkflowEnvironment
    cloud: FakeCloud = field(default_factory=FakeCloud)
    store: MemoryStore = field(default_factory=MemoryStore)
    shell: FakeShell = field(default_factory=FakeShell)
    owners: dict[str, tuple[OwnerStatus, int | None]] = field(default_factory=dict)
    revived: list[str] = field(default_factory=list)
    vms: FakeVms = field(default_factory=FakeVms)
    agents: FakeAgents = field(default_factory=FakeAgents)
    receipts: MemoryReceipts = field(default_factory=MemoryReceipts)
    repositories: FakeRepositories = field(default_factory=FakeRepositories)
    snapshots: FakeSnapshots = field(default_factory=FakeSnapshots)

    def __post_init__(self) -> None:
        self.engine = FakeEngine(self.repositories)
        self.budgets = MemoryBudgets(self.store)

    async def start(
        self, *, machine: MachineSpec | None = None, timing: Timing = TIMING
    ) -> WorkflowHandle[Machine, MachineState]:
        machine = machine or spec()
        return await self.env.client.start_workflow(
            Machine.run,
            MachineInput(spec=machine, timing=timing),
            id=machine_workflow_id(machine.machine_id),
            task_queue=CONTROL,
        )

    async def until(
        self, handle: WorkflowHandle[Machine, MachineState], phase: MachinePhase
    ) -> MachineState:
        """Let time pass until the machine is in a phase; at most an hour of the server's time."""
        for _ in range(600):
            state = await handle.query(Machine.status)
            if state.phase is phase:
                return state
            await self.env.sleep(timedelta(seconds=1))
        raise AssertionError(f"never {phase}: {state.phase} because {state.reason!r}")

    async def destroy(self, handle: WorkflowHandle[Machine, MachineState]) -> MachineState:
        await handle.execute_update(Machine.destroy, DestroyRequest())
        return await handle.result()

    def control(self) -> ControlActivities:
        tools = AgentTools(
            beat=lambda machine_id, role, epoch: None,
            sync_key=lambda machine_id, epoch: (f"private {epoch}", f"public {epoch}"),
            stop_call=lambda instance: None,
        )
        orders = OrderActivities(give=MachineOrders(self.env.client).give)
        return ControlActivities(
            records=RecordActivities(store=self.store),
            readiness=ReadinessActivities(shell=self.shell, store=self.store),
            protection=ProtectionActivities(
                mirror=MirrorActivities(
                    agent=self.agents, secrets=self.store, store=self.store, tools=tools
                ),
                takeover=TakeoverActivities(agent=self.agents, tools=tools),
                evidence=EvidenceActivities(
                    agent=self.agents, shell=self.shell, heartbeats=self.receipts
                ),
                receipts=ReceiptActivities(store=self.receipts),
            ),
            keeping=self.keeping(),
            money=[*self.budgets.served(), orders.order_machine],
        )

    def keeping(self) -> KeepingActivities:
        async def owners() -> list[str]:
            return ["owner"]

        async def align(wanted: Mapping[str, SnapshotPolicy]) -> int:
            return 0

        return KeepingActivities(
            snapshots=SnapshotActivities(
                engine=self.engine,
                repositories=self.repositories,
                store=self.store,
                snapshots=self.snapshots,
            ),
            repository=RepositoryActivities(
                repositories=self.repositories, snapshots=self.snapshots
            ),
            upkeep=UpkeepActivities(
                store=self.store,
                repositories=self.repositories,
                policies=self.snapshots.policies,
                owners=owners,
                align=align,
            ),
        )

    def gcp(self) -> GcpActivities:
        fleet = VmFleet(self.vms, account="test")
        listing = SharedListing(fleet, label_prefix="dmt-test-")

        async def send(machine_id: str, report: Any) -> None:
            handle = self.env.client.get_workflow_handle(standby_workflow_id(machine_id))
            await handle.signal("instance_changed", report)

        async def nobody(_: str) -> tuple[OwnerStatus, int | None]:
            return OwnerStatus.ABSENT, None

        async def none(*_: object) -> set[str]:
            return set()

        async def ignore(*_: object) -> None:
            return None

        return GcpActivities(
            vms=VmActivities(
                provider=self.vms,
                secrets=self.store,
                place=lambda ask, zones: [ZonePick(zone=zone) for zone in zones],
                start_script=lambda keys, authorized: "true",
                poll_s=0.05,
            ),
            endings=EndingActivities(provider=fleet, listing=listing),
            fleet=FleetActivities(
                provider=fleet,
                listing=listing,
                homes=standbys(self.store, provider="gcp"),
                send_report=send,
            ),
            sweep=SweepActivities(
                provider=fleet,
                listing=listing,
                store=self.store,
                describe_owner=nobody,
                running_machines=none,
                start_machine=ignore,
            ),
        )

    def vast(self) -> VastActivities:
        listing = SharedListing(self.cloud, label_prefix="dmt-test-")

        async def send(machine_id: str, report: Any) -> None:
            handle = self.env.client.get_workflow_handle(machine_workflow_id(machine_id))
            await handle.signal(Machine.instance_changed, report)

        async def describe(machine_id: str) -> tuple[OwnerStatus, int | None]:
            return self.owners.get(machine_id, (OwnerStatus.ABSENT, None))

        async def running() -> set[str]:
            return {m for m, (s, _) in self.owners.items() if s is OwnerStatus.RUNNING}

        async def revive(machine: MachineSpec, state: MachineState) -> None:
            self.revived.append(machine.machine_id)

        return VastActivities(
            instances=InstanceActivities(
                provider=self.cloud,
                listing=listing,
                store=self.store,
                secrets=self.store,
                onstart=lambda **_: "true",
                poll_s=0.05,
            ),
            endings=EndingActivities(provider=self.cloud, listing=listing),
            evidence=ProviderEvidence(provider=self.cloud, listing=listing),
            market=MarketActivities(provider=self.cloud, store=self.store),
            accounts=AccountActivities(provider=self.cloud),
            fleet=FleetActivities(
                provider=self.cloud,
                listing=listing,
                homes=primaries(self.store, provider=self.cloud.name),
                send_report=send,
            ),
            sweep=SweepActivities(
                provider=self.cloud,
                listing=listing,
                store=self.store,
                describe_owner=describe,
                running_machines=running,
                start_machine=revive,
            ),
        )


@asynccontextmanager
async def on_stage() -> AsyncIterator[Stage]:
    """A fresh server with both workers polling."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"),
        data_converter=data_converter(KEYS),
    ) as env:
        await register_search_attributes(env.client)
        made = Stage(env)
        control = control_worker(env.client, made.control())
        vast, gcp = vast_worker(env.client, made.vast()), gcp_worker(env.client, made.gcp())
        async with control, vast, gcp:
            yield made


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with on_stage() as made:
        yield made


def now() -> datetime:
    return datetime.now(UTC)


def report(cloud: FakeCloud, instance_id: str) -> InstanceReport:
    instance = cloud.instances.get(instance_id)
    return InstanceReport(
        label="",
        instance_id=instance_id,
        presence=Presence.LISTED if instance else Presence.GONE,
        instance=instance,
        at=now() + timedelta(days=400),
    )
