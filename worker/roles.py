"""Roles of a worker: which task queue it polls, with which workflows and activities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client
from temporalio.worker import Interceptor, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.accounts import AccountActivities
from activities.endings import EndingActivities
from activities.evidence import EvidenceActivities, ProviderEvidence
from activities.fleet import FleetActivities
from activities.instances import InstanceActivities
from activities.leftovers import LeftoverActivities
from activities.market import MarketActivities
from activities.mirroring import MirrorActivities
from activities.readiness import ReadinessActivities
from activities.receipts import ReceiptActivities
from activities.records import RecordActivities
from activities.repository import RepositoryActivities
from activities.snapshot_upkeep import UpkeepActivities
from activities.snapshots import SnapshotActivities
from activities.sweep import SweepActivities
from activities.takeover import TakeoverActivities
from activities.vms import VmActivities
from dumont.domain.errors import DumontError
from dumont.temporal.failures import ErrorInterceptor
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from workflows.budgets import EnforceBudgets
from workflows.end_instances import EndInstances
from workflows.failover import Failover
from workflows.fleet_watch import FleetWatch
from workflows.idle import IdleSweep
from workflows.ledger import KeepLedger
from workflows.leftovers import Leftovers
from workflows.lookups import BrowseOffers, FetchLogs, Flush, ProviderAccounts
from workflows.machine import Machine
from workflows.provision import Provision
from workflows.reconcile import Reconcile
from workflows.repository_lookups import ForgetSnapshot, ListChanges, ListFiles, PinSnapshot
from workflows.retire import Retire
from workflows.snapshot_upkeep import PruneRepositories, SnapshotSchedules
from workflows.snapshots import PruneRepository, RestoreSnapshot, Snapshot
from workflows.standby import Standby
from workflows.working_hours import HourSchedules, KeepHours

WORKFLOWS: Final[tuple[type, ...]] = (
    Machine,
    Provision,
    EndInstances,
    FleetWatch,
    Reconcile,
    BrowseOffers,
    FetchLogs,
    ProviderAccounts,
    Standby,
    Failover,
    Retire,
    Flush,
    Snapshot,
    RestoreSnapshot,
    PruneRepository,
    ListFiles,
    ListChanges,
    PinSnapshot,
    ForgetSnapshot,
    SnapshotSchedules,
    PruneRepositories,
    IdleSweep,
    Leftovers,
    KeepHours,
    HourSchedules,
    EnforceBudgets,
    KeepLedger,
)

PASSTHROUGH: Final = (
    # Our own modules hold no state that a workflow could change; importing them afresh in each of
    # ten thousand sandboxes would cost gigabytes.
    "dumont",
    "activities",
    "workflows",
    # Pure libraries that those import.
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "cryptography",
)

GRACE: Final = timedelta(seconds=10)
"""How long running activities may finish after a stop was asked for."""

STICKY: Final = timedelta(seconds=2)
"""How long the server waits for the worker that has a workflow in its cache. After a worker's death
each of its workflows is delayed by this much once."""


@dataclass(frozen=True, kw_only=True)
class ProtectionActivities:
    """What protected machines need besides."""

    mirror: MirrorActivities
    takeover: TakeoverActivities
    evidence: EvidenceActivities
    receipts: ReceiptActivities

    def served(self) -> list[Callable[..., Any]]:
        """All of them."""
        return [
            self.mirror.apply_guard,
            self.mirror.move_guard,
            self.mirror.apply_mirror,
            self.mirror.measure_rtt,
            self.mirror.wait_until_mirrored,
            self.mirror.flush,
            self.mirror.barrier,
            self.takeover.redirect,
            self.takeover.fence,
            self.takeover.restore,
            self.takeover.wait_until_idle,
            self.takeover.hand_back,
            self.takeover.rescue,
            self.evidence.look_at_bodies,
            self.receipts.record_receipt,
        ]


@dataclass(frozen=True, kw_only=True)
class KeepingActivities:
    """Snapshots."""

    snapshots: SnapshotActivities
    repository: RepositoryActivities
    upkeep: UpkeepActivities

    def served(self) -> list[Callable[..., Any]]:
        """All of them."""
        return [
            self.snapshots.choose_body,
            self.snapshots.take_snapshot,
            self.snapshots.record_snapshot,
            self.snapshots.newest_snapshot,
            self.snapshots.note_failure,
            self.snapshots.verify_snapshot,
            self.snapshots.retire_snapshots,
            self.snapshots.restore_snapshot,
            self.snapshots.prune_repository,
            self.repository.list_files,
            self.repository.list_changes,
            self.repository.pin_snapshot,
            self.repository.forget_snapshot,
            self.upkeep.align_schedules,
            self.upkeep.repository_owners,
            self.upkeep.prune_owner,
        ]


@dataclass(frozen=True, kw_only=True)
class ControlActivities:
    """What the `control` queue serves."""

    records: RecordActivities
    readiness: ReadinessActivities
    protection: ProtectionActivities | None = None
    """None: machines of this deployment have no standbys."""
    keeping: KeepingActivities | None = None
    """None: nothing is kept in an object store."""
    money: Sequence[Callable[..., Any]] = ()
    """What watches over idleness, hours, spending and budgets, composed beside these."""


@dataclass(frozen=True, kw_only=True)
class VastActivities:
    """What the `provider-vast` queue serves."""

    instances: InstanceActivities
    endings: EndingActivities
    evidence: ProviderEvidence
    market: MarketActivities
    accounts: AccountActivities
    fleet: FleetActivities
    sweep: SweepActivities
    leftovers: LeftoverActivities | None = None
    ledger: Sequence[Callable[..., Any]] = ()
    """What the ledger reads there."""


@dataclass(frozen=True, kw_only=True)
class GcpActivities:
    """What the `provider-gcp` queue serves."""

    vms: VmActivities
    endings: EndingActivities
    fleet: FleetActivities
    sweep: SweepActivities
    leftovers: LeftoverActivities | None = None
    ledger: Sequence[Callable[..., Any]] = ()
    """What the ledger reads there."""


def control_worker(
    client: Client,
    acts: ControlActivities,
    *,
    cached_workflows: int = 10_000,
    interceptors: Sequence[Interceptor] = (),
) -> Worker:
    """Workflows, records and SSH probes."""
    return _worker(
        client,
        CONTROL,
        activities=[
            acts.records.record_machine,
            acts.records.record_events,
            acts.records.record_intent,
            acts.records.close_intent,
            acts.records.record_bad_host,
            acts.readiness.wait_until_usable,
            acts.readiness.wait_until_reachable,
            *(acts.protection.served() if acts.protection is not None else []),
            *(acts.keeping.served() if acts.keeping is not None else []),
            *acts.money,
        ],
        interceptors=interceptors,
        workflows=WORKFLOWS,
        max_cached_workflows=cached_workflows,
        workflow_runner=sandbox(),
        workflow_failure_exception_types=[DumontError],
        sticky_queue_schedule_to_start_timeout=STICKY,
    )


def vast_worker(
    client: Client, acts: VastActivities, *, interceptors: Sequence[Interceptor] = ()
) -> Worker:
    """Everything that talks to Vast.ai."""
    return _worker(
        client,
        PROVIDER_VAST,
        activities=[
            acts.instances.ensure_instance,
            acts.instances.start_instance,
            acts.instances.wait_until_running,
            acts.endings.destroy_instances,
            acts.endings.look_for_instances,
            acts.evidence.provider_view,
            acts.instances.fetch_logs,
            acts.market.rank_offers,
            acts.market.browse_offers,
            acts.accounts.account_status,
            acts.fleet.watch_provider,
            acts.fleet.look_now,
            acts.sweep.survey,
            acts.sweep.revive_machine,
            acts.sweep.drop_request,
            *leftovers_served(acts.leftovers),
            *acts.ledger,
        ],
        interceptors=interceptors,
    )


def gcp_worker(
    client: Client, acts: GcpActivities, *, interceptors: Sequence[Interceptor] = ()
) -> Worker:
    """Everything that talks to Google Compute."""
    return _worker(
        client,
        PROVIDER_GCP,
        activities=[
            acts.vms.pick_zones,
            acts.vms.ensure_vm,
            acts.vms.start_vm,
            acts.vms.stop_vm,
            acts.vms.wait_until_vm_runs,
            acts.endings.destroy_instances,
            acts.endings.look_for_instances,
            acts.fleet.watch_provider,
            acts.fleet.look_now,
            acts.sweep.survey,
            *leftovers_served(acts.leftovers),
            *acts.ledger,
        ],
        interceptors=interceptors,
    )


def leftovers_served(acts: LeftoverActivities | None) -> list[Callable[..., Any]]:
    """All of them, as each queue serves them for its own source."""
    return [] if acts is None else [acts.survey_leftovers, acts.end_leftover]


def sandbox() -> SandboxedWorkflowRunner:
    """The workflow sandbox: what catches a `datetime.now()` before it breaks a replay."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSTHROUGH)
    )


def _worker(
    client: Client,
    queue: str,
    *,
    activities: Sequence[Callable[..., Any]],
    interceptors: Sequence[Interceptor],
    **options: Any,
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        activities=activities,
        interceptors=[ErrorInterceptor(), *interceptors],
        graceful_shutdown_timeout=GRACE,
        max_heartbeat_throttle_interval=timedelta(seconds=5),
        max_concurrent_activities=500,
        **options,
    )
