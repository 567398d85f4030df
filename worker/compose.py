"""From settings to activities: the only place where adapters meet them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.accounts import AccountActivities
from activities.endings import EndingActivities
from activities.evidence import EvidenceActivities, ProviderEvidence
from activities.fleet import FleetActivities, Watch, primaries
from activities.instances import InstanceActivities
from activities.leftovers import LeftoverActivities
from activities.listing import SharedListing
from activities.market import MarketActivities
from activities.mirroring import AgentTools, MirrorActivities
from activities.readiness import ReadinessActivities
from activities.receipts import ReceiptActivities
from activities.records import RecordActivities
from activities.sweep import Survey, SweepActivities
from activities.takeover import TakeoverActivities
from dumont.config import Settings
from dumont.db.engine import Database
from dumont.db.heartbeats import PostgresHeartbeats
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.receipts import PostgresReceipts
from dumont.db.secret_store import PostgresSecretStore
from dumont.db.snapshots import PostgresSnapshots
from dumont.domain.agent_config import Beat
from dumont.domain.errors import PreconditionFailed
from dumont.domain.fleet import InstanceReport
from dumont.domain.labels import prefix
from dumont.domain.machine import ActiveInstance, MachineSpec, MachineState
from dumont.domain.protection import AgentRole
from dumont.domain.reconcile import Limits, OwnerStatus
from dumont.providers.vast.adapter import VastProvider
from dumont.remote.agent import SshAgent
from dumont.remote.onstart import build_onstart
from dumont.remote.shell import SshShell
from dumont.security.agent_tokens import agent_token
from dumont.security.keys import Keys
from dumont.security.ssh import new_machine_secrets
from dumont.security.sync_keys import sync_key
from dumont.security.vault import Vault
from dumont.temporal import search_attributes
from dumont.temporal.ids import machine_workflow_id, standby_workflow_id
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from worker.compose_ledger import vast_ledger_activities
from worker.roles import (
    ControlActivities,
    KeepingActivities,
    ProtectionActivities,
    VastActivities,
)
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
    def receipts(self) -> PostgresReceipts:
        """Receipts of failovers."""
        return PostgresReceipts(self.database)

    @property
    def snapshots(self) -> PostgresSnapshots:
        """What is known of snapshots."""
        return PostgresSnapshots(self.database)

    @property
    def heartbeats(self) -> PostgresHeartbeats:
        """What agents said last."""
        return PostgresHeartbeats(self.database)

    @property
    def secrets(self) -> PostgresSecretStore:
        """Key pairs of machines."""
        return PostgresSecretStore(
            self.database, sealer=Vault(self.keys.vault), make=new_machine_secrets
        )


def control_activities(
    parts: Parts,
    *,
    keeping: KeepingActivities | None = None,
    money: Sequence[Callable[..., Any]] = (),
) -> ControlActivities:
    """Records, and SSH to machines.

    Args:
        parts: What the process has.
        keeping: Snapshots, composed beside these.
        money: What watches over spending, composed beside these.
    """
    shell = SshShell(secrets=parts.secrets.ensure_machine_secrets)
    agent = SshAgent(shell)
    tools = agent_tools(parts)
    return ControlActivities(
        records=RecordActivities(store=parts.store),
        readiness=ReadinessActivities(shell=shell, store=parts.store),
        protection=ProtectionActivities(
            mirror=MirrorActivities(
                agent=agent, secrets=parts.secrets, store=parts.store, tools=tools
            ),
            takeover=TakeoverActivities(agent=agent, tools=tools),
            evidence=EvidenceActivities(agent=agent, shell=shell, heartbeats=parts.heartbeats),
            receipts=ReceiptActivities(store=parts.receipts),
        ),
        keeping=keeping,
        money=money,
    )


def agent_tools(parts: Parts) -> AgentTools:
    """What agents are configured with: tokens and keys that are derived, never stored."""
    settings = parts.settings
    root = parts.keys.vault[0].key
    url = f"{settings.agent_api_url or settings.api_url}/api/v1/agent/heartbeat"

    def beat(machine_id: str, role: AgentRole, epoch: int) -> Beat:
        token = agent_token(parts.keys, machine_id=machine_id, role=role, epoch=epoch)
        return Beat(url=url, token=token)

    def pair(machine_id: str, epoch: int) -> tuple[str, str]:
        return sync_key(root, machine_id=machine_id, epoch=epoch)

    def stop_call(instance: ActiveInstance) -> dict[str, Any]:
        # With the key that Vast.ai puts into each instance, which opens that instance alone.
        return {
            "method": "PUT",
            "url": f"{settings.vast_url}/api/v0/instances/{instance.instance_id}/",
            "body": {"state": "stopped"},
            "key_variable": "CONTAINER_API_KEY",
        }

    return AgentTools(beat=beat, sync_key=pair, stop_call=stop_call)


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


def vast_activities(
    parts: Parts, provider: VastProvider, *, leftovers: LeftoverActivities | None = None
) -> VastActivities:
    """Everything that talks to Vast.ai, around one listing of the account.

    Args:
        parts: What the process has.
        provider: The account.
        leftovers: The sweep over what is left there, composed beside these.
    """
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
        endings=EndingActivities(provider=provider, listing=listing),
        evidence=ProviderEvidence(provider=provider, listing=listing),
        market=MarketActivities(provider=provider, store=parts.store),
        accounts=AccountActivities(provider=provider),
        fleet=FleetActivities(
            provider=provider,
            listing=listing,
            homes=primaries(parts.store, provider=provider.name),
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
        leftovers=leftovers,
        ledger=vast_ledger_activities(parts, provider, listing),
    )


def watch_of(settings: Settings) -> Watch:
    """How the fleet is watched."""
    return Watch(env=settings.env, poll_s=settings.fleet_poll_s, confirm_s=settings.gone_confirm_s)


def sweep_of(settings: Settings, queue: str = PROVIDER_VAST) -> ReconcileInput:
    """How the sweep over one provider's account decides."""
    limits = Limits(confirm_s=settings.gone_confirm_s, unknown_owner_s=settings.create_window_s)
    body = AgentRole.STANDBY if queue == PROVIDER_GCP else AgentRole.PRIMARY
    return ReconcileInput(
        survey=Survey(env=settings.env, limits=limits, body=body),
        confirm_s=settings.gone_confirm_s,
        queue=queue,
    )


class Entities:
    """Machines' workflows, as activities need to reach them."""

    def __init__(self, parts: Parts) -> None:
        self._client = parts.client
        self._timing = parts.settings.timing

    async def report(self, machine_id: str, report: InstanceReport) -> None:
        """Signal a machine; one that has ended needs no news."""
        await self._signal(machine_workflow_id(machine_id), report)

    async def report_standby(self, machine_id: str, report: InstanceReport) -> None:
        """Signal the workflow of a machine's standby."""
        await self._signal(standby_workflow_id(machine_id), report)

    async def _signal(self, workflow_id: str, report: InstanceReport) -> None:
        try:
            await self._client.get_workflow_handle(workflow_id).signal("instance_changed", report)
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
