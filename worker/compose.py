"""From settings to activities: the only place where adapters meet them."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.accounts import AccountActivities
from activities.fleet import FleetActivities, Watch
from activities.instances import InstanceActivities
from activities.listing import SharedListing
from activities.market import MarketActivities
from activities.readiness import ReadinessActivities
from activities.records import RecordActivities
from activities.sweep import Survey, SweepActivities
from dumont.config import Settings
from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.secret_store import PostgresSecretStore
from dumont.domain.errors import PreconditionFailed
from dumont.domain.fleet import InstanceReport
from dumont.domain.labels import prefix
from dumont.domain.machine import MachineSpec, MachineState, Timing
from dumont.domain.reconcile import Limits, OwnerStatus
from dumont.providers.vast.adapter import VastProvider
from dumont.remote.onstart import build_onstart
from dumont.remote.shell import SshShell
from dumont.security.keys import Keys
from dumont.security.ssh import new_machine_secrets
from dumont.security.vault import Vault
from dumont.temporal import search_attributes
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.queues import CONTROL
from worker.roles import ControlActivities, VastActivities
from workflows.machine import Machine, MachineInput
from workflows.reconcile import ReconcileInput


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the roles of one process share."""

    settings: Settings
    keys: Keys
    client: Client
    database: Database

    @property
    def store(self) -> PostgresMachineStore:
        """Records and events."""
        return PostgresMachineStore(self.database)

    @property
    def secrets(self) -> PostgresSecretStore:
        """Key pairs of machines."""
        return PostgresSecretStore(
            self.database, sealer=Vault(self.keys.vault), make=new_machine_secrets
        )


def control_activities(parts: Parts) -> ControlActivities:
    """Records, and SSH to machines."""
    shell = SshShell(secrets=parts.secrets.ensure_machine_secrets)
    return ControlActivities(
        records=RecordActivities(store=parts.store),
        readiness=ReadinessActivities(shell=shell, store=parts.store),
    )


def vast_provider(settings: Settings) -> VastProvider:
    """The Vast.ai account.

    Raises:
        PreconditionFailed: There is no key for it.
    """
    if settings.vast_api_key is None:
        raise PreconditionFailed(
            "the role provider-vast needs a Vast.ai key",
            field="VAST_API_KEY",
            hint="set VAST_API_KEY, or leave the role out",
        )
    return VastProvider(url=settings.vast_url, api_key=settings.vast_api_key.get_secret_value())


def vast_activities(parts: Parts, provider: VastProvider) -> VastActivities:
    """Everything that talks to Vast.ai, around one listing of the account."""
    listing = SharedListing(provider, label_prefix=prefix(env=parts.settings.env))
    entities = Entities(parts)
    return VastActivities(
        instances=InstanceActivities(
            provider=provider,
            listing=listing,
            store=parts.store,
            secrets=parts.secrets,
            onstart=build_onstart,
        ),
        market=MarketActivities(provider=provider, store=parts.store),
        accounts=AccountActivities(provider=provider),
        fleet=FleetActivities(
            provider=provider,
            listing=listing,
            store=parts.store,
            send_report=entities.report,
        ),
        sweep=SweepActivities(
            provider=provider,
            listing=listing,
            store=parts.store,
            describe_owner=entities.describe,
            running_machines=entities.running,
            start_machine=entities.start,
        ),
    )


def watch_of(settings: Settings) -> Watch:
    """How the fleet is watched."""
    return Watch(env=settings.env, poll_s=settings.fleet_poll_s, confirm_s=settings.gone_confirm_s)


def sweep_of(settings: Settings) -> ReconcileInput:
    """How the sweep decides."""
    limits = Limits(confirm_s=settings.gone_confirm_s, unknown_owner_s=settings.create_window_s)
    return ReconcileInput(
        survey=Survey(env=settings.env, limits=limits), confirm_s=settings.gone_confirm_s
    )


class Entities:
    """Machines' workflows, as activities need to reach them."""

    def __init__(self, parts: Parts) -> None:
        self._client = parts.client
        self._timing = Timing(gone_confirm_s=parts.settings.gone_confirm_s)

    async def report(self, machine_id: str, report: InstanceReport) -> None:
        """Signal a machine; one that has ended needs no news."""
        handle = self._client.get_workflow_handle(machine_workflow_id(machine_id))
        try:
            await handle.signal(Machine.instance_changed, report)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def describe(self, machine_id: str) -> tuple[OwnerStatus, int | None]:
        """Whether a machine's workflow runs, and at which generation."""
        handle = self._client.get_workflow_handle(machine_workflow_id(machine_id))
        try:
            found = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return OwnerStatus.ABSENT, None
            raise
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return OwnerStatus.CLOSED, None
        return (
            OwnerStatus.RUNNING,
            found.typed_search_attributes.get(search_attributes.GENERATION),
        )

    async def running(self) -> set[str]:
        """Machines whose workflow runs, from Temporal's index."""
        query = "WorkflowType = 'Machine' AND ExecutionStatus = 'Running'"
        own = machine_workflow_id("")
        return {found.id.removeprefix(own) async for found in self._client.list_workflows(query)}

    async def start(self, spec: MachineSpec, state: MachineState) -> None:
        """Start a machine's workflow from its record, unless it runs."""
        await self._client.start_workflow(
            Machine.run,
            MachineInput(spec=spec, timing=self._timing, state=state),
            id=machine_workflow_id(spec.machine_id),
            task_queue=CONTROL,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
