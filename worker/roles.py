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
from activities.fleet import FleetActivities
from activities.instances import InstanceActivities
from activities.market import MarketActivities
from activities.readiness import ReadinessActivities
from activities.records import RecordActivities
from activities.sweep import SweepActivities
from dumont.domain.errors import DumontError
from dumont.temporal.failures import ErrorInterceptor
from dumont.temporal.queues import CONTROL, PROVIDER_VAST
from workflows.end_instances import EndInstances
from workflows.fleet_watch import FleetWatch
from workflows.lookups import BrowseOffers, FetchLogs, ProviderAccounts
from workflows.machine import Machine
from workflows.provision import Provision
from workflows.reconcile import Reconcile

WORKFLOWS: Final[tuple[type, ...]] = (
    Machine,
    Provision,
    EndInstances,
    FleetWatch,
    Reconcile,
    BrowseOffers,
    FetchLogs,
    ProviderAccounts,
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
class ControlActivities:
    """What the `control` queue serves."""

    records: RecordActivities
    readiness: ReadinessActivities


@dataclass(frozen=True, kw_only=True)
class VastActivities:
    """What the `provider-vast` queue serves."""

    instances: InstanceActivities
    market: MarketActivities
    accounts: AccountActivities
    fleet: FleetActivities
    sweep: SweepActivities


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
            acts.instances.wait_until_running,
            acts.instances.destroy_instances,
            acts.instances.look_for_instances,
            acts.instances.fetch_logs,
            acts.market.rank_offers,
            acts.market.browse_offers,
            acts.accounts.account_status,
            acts.fleet.watch_provider,
            acts.sweep.survey,
            acts.sweep.revive_machine,
            acts.sweep.drop_request,
        ],
        interceptors=interceptors,
    )


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
