"""The protocols between what the product does and what it touches.

Activities receive these; adapters implement them; they meet in `worker/compose.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import Field

from dumont.domain.events import MachineEvent
from dumont.domain.idle import IdlePolicy, IdleState, KeepAlive, Sample
from dumont.domain.idle_watch import Reading
from dumont.domain.instances import (
    Charge,
    Instance,
    InstanceOrder,
    Message,
    ProviderAccount,
    Rental,
    SshAddress,
)
from dumont.domain.ladder import AgentHello, Rung
from dumont.domain.leftovers import CloudAddress, CloudDisk, LeftoverPlan
from dumont.domain.machine import MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement, Offer
from dumont.domain.protection import AgentRole, ProtectionReport
from dumont.domain.receipts import Receipt
from dumont.domain.snapshots import (
    ChangeTotals,
    FileChange,
    FileEntry,
    PruneResult,
    SnapshotHealth,
    SnapshotPolicy,
    SnapshotRecord,
)


class InstanceProvider(Protocol):
    """What every cloud can do with what we rent there: list it, look at one, end one.

    Every method may raise `ProviderUnavailable`, `RateLimited`, `AuthFailed` and `RequestRefused`.
    """

    @property
    def name(self) -> str:
        """Short name, for example `vast`."""
        ...

    @property
    def account(self) -> str:
        """Stable, non-secret id of the provider account (for workflow ids and metrics)."""
        ...

    async def get(self, instance_id: str) -> Instance | None:
        """The instance, or None when the provider says that it does not exist."""
        ...

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        """Every instance of the account whose label starts so. Complete, or it raises."""
        ...

    async def destroy(self, instance_id: str) -> None:
        """End an instance and its billing. An instance that is gone already is success."""
        ...


class GpuProvider(InstanceProvider, Protocol):
    """A marketplace that rents GPU instances by offers. Same errors as `InstanceProvider`."""

    async def search_offers(self, requirement: GpuRequirement, *, limit: int = 64) -> list[Offer]:
        """What the market rents now that could fit, cheapest first. May be seconds old.

        Only GPU model, count, rental, disk and price ceiling narrow the search.
        """
        ...

    async def browse_offers(
        self, *, gpu: str | None, gpu_count: int | None, rental: Rental, disk_gb: float, limit: int
    ) -> list[Offer]:
        """What the market rents now, cheapest first, for a person who looks around."""
        ...

    async def create(self, order: InstanceOrder) -> str:
        """Rent an offer; returns the instance id.

        Not idempotent: look for `order.label` first, and again after `OutcomeUnknown`.

        Raises:
            OfferGone: Taken or withdrawn. Check `instance_id`: a refusal can leave an instance.
            InsufficientCredit: No money.
            OutcomeUnknown: The answer was lost; the instance may exist.
        """
        ...

    async def start(self, instance_id: str) -> None:
        """Start a stopped instance. Raises InstanceGone."""
        ...

    async def stop(self, instance_id: str) -> None:
        """Stop a running instance (its disk goes on billing). Raises InstanceGone."""
        ...

    async def change_bid(self, instance_id: str, *, usd_per_hour: float) -> None:
        """Place a new bid, GPU $/h for the whole instance. Raises InstanceGone."""
        ...

    async def attach_key(self, instance_id: str, *, public_key: str) -> None:
        """Let one more SSH key in. Raises InstanceGone."""
        ...

    async def logs(self, instance_id: str, *, tail: int = 200) -> str:
        """The last lines of the instance's own output. Raises InstanceGone."""
        ...

    async def account_status(self) -> ProviderAccount:
        """Who we are there and how much money is left. Costs nothing."""
        ...

    async def charges(self, *, since: datetime, until: datetime) -> list[Charge]:
        """The bill for a period."""
        ...


class VmOrder(Message):
    """A CPU VM to create."""

    name: str
    """Unique in its zone; the label is used as is."""
    zone: str
    machine_type: str = "e2-small"
    disk_gb: int = Field(default=20, ge=10, le=65_536)
    disk_type: Literal["pd-standard", "pd-balanced", "pd-ssd"] = "pd-balanced"
    spot: bool = True
    ssh_keys: tuple[str, ...] = ()
    startup_script: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class VmProvider(Protocol):
    """A cloud that runs CPU VMs by name and zone. Same errors as `GpuProvider`."""

    @property
    def name(self) -> str:
        """Short name, for example `gcp`."""
        ...

    async def insert(self, order: VmOrder) -> Instance:
        """Create a VM and wait for the operation; idempotent by name."""
        ...

    async def get(self, *, zone: str, name: str) -> Instance | None:
        """The VM, or None when it does not exist."""
        ...

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        """Every VM in all zones whose name starts so."""
        ...

    async def start(self, *, zone: str, name: str) -> None:
        """Start a terminated VM. Raises InstanceGone, QuotaExceeded, ProviderUnavailable (stock-out)."""
        ...

    async def stop(self, *, zone: str, name: str) -> None:
        """Stop a VM. Raises InstanceGone."""
        ...

    async def delete(self, *, zone: str, name: str) -> None:
        """End a VM. One that is gone already is success."""
        ...

    async def preemptions(self, *, zone: str, since: datetime) -> list[str]:
        """Names of VMs that were preempted in a zone since then, from its operations."""
        ...

    async def zones(self) -> list[str]:
        """The zones the project may use. Costs nothing."""
        ...


class CloudRemains(Protocol):
    """What VMs can leave behind in a cloud: disks and addresses. Same errors as `InstanceProvider`."""

    async def list_disks(self, *, label_prefix: str) -> list[CloudDisk]:
        """Every disk whose name starts so, attached or not. Complete, or it raises."""
        ...

    async def list_addresses(self, *, label_prefix: str) -> list[CloudAddress]:
        """Every reserved address whose name starts so, used or not. Complete, or it raises."""
        ...

    async def delete_disk(self, *, zone: str, name: str, disk_id: str) -> None:
        """Delete a disk that no instance has; looked at right before. One that is gone is success.

        Raises:
            RequestRefused: An instance has it.
        """
        ...

    async def delete_address(self, *, region: str, name: str, address_id: str) -> None:
        """Release an address that nothing uses; looked at right before. One that is gone is success.

        Raises:
            RequestRefused: Something uses it.
        """
        ...


class LeftoverStore(Protocol):
    """What the last sweep over leftovers found, for who looks."""

    async def record_survey(self, source: str, plan: LeftoverPlan, *, at: datetime) -> None:
        """Replace what was found there before; an older sweep does not."""
        ...


class MachineShell(Protocol):
    """SSH to a machine, with its known host key and our access key."""

    async def probe_tcp(self, address: SshAddress) -> None:
        """One TCP connection. Raises NotReady."""
        ...

    async def probe_ssh(self, address: SshAddress, *, machine_id: str) -> None:
        """One full SSH login that insists on the machine's host key.

        Raises:
            NotReady: Refused, timed out, not our host key (yet), or our key is not accepted (yet).
        """
        ...

    async def hello(self, address: SshAddress, *, machine_id: str) -> AgentHello:
        """Push the agent and run its `hello`. Raises NotReady."""
        ...


class MachineAgent(Protocol):
    """The agent on a machine, reached over SSH with the machine's own host key.

    The commands and their answers are those of `docs/protection.md`.
    """

    async def call(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        words: Sequence[str],
        stdin: bytes = b"",
        timeout_s: float = 30.0,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Run one command; the newest agent is pushed there first.

        Args:
            address: Where its sshd listens.
            machine_id: Whose host key it must prove.
            words: The command and its options.
            stdin: What it reads.
            timeout_s: Longest run.
            on_progress: Called with each line of progress.

        Raises:
            NotReady: It cannot be reached, or did not end in time. No evidence about the machine.
            AgentRefused: It answered that it will not.
        """
        ...

    async def fetch(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        paths: Sequence[str],
        to: SshAddress,
        folder: str,
        timeout_s: float = 300.0,
    ) -> int:
        """Copy files of one body's workspace into a folder of the other's; returns the bytes.

        Args:
            address: Whose files.
            machine_id: Both bodies' machine.
            paths: Relative to the workspace, as the agent writes them.
            to: Where to put them.
            folder: Below that body's workspace.
            timeout_s: Longest run.

        Raises:
            NotReady: One of them cannot be reached, or it did not end in time.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class EngineGrant:
    """What a machine's snapshot engine may use, for a while. Secret: it goes into no payload or log."""

    environment: dict[str, str] = field(repr=False)
    """Where the repository is and what opens it, as `dumont-snap` reads it from its environment."""
    credentials: dict[str, Any] | None = field(repr=False)
    """For the store; None where it needs none."""
    lasts_s: float
    """When they expire, seconds from now."""


@dataclass(frozen=True, kw_only=True)
class EngineOrder:
    """One command of `dumont-snap`."""

    words: tuple[str, ...]
    folder: str | None = None
    """Its last argument: a folder of the workspace, relative; empty for the workspace itself."""


class MachineEngine(Protocol):
    """The snapshot engine on a machine, reached over SSH with the machine's own host key."""

    async def run(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        order: EngineOrder,
        grant: EngineGrant,
        renew: Callable[[], Awaitable[EngineGrant]] | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Run one command; the newest engine is put there first. Returns its result.

        Args:
            address: Where its sshd listens.
            machine_id: Whose host key it must prove.
            order: The command.
            grant: What it may use.
            renew: Gives a newer grant before that one expires.
            on_progress: Called with each line of progress.

        Raises:
            NotReady: It cannot be reached or did not end; what it has sent is not sent again.
            AgentRefused: It cannot be done there, or asking again will not help.
        """
        ...


class Repositories(Protocol):
    """The repositories of owners in the object store: one each, shared by the owner's machines.

    Every method may raise `DependencyUnavailable` (the store does not answer), `StorageError` (it refuses,
    or the repository is damaged) and `PreconditionFailed` (this deployment has no store).
    """

    async def grant(self, owner_id: str, *, holder: str, writes: bool) -> EngineGrant:
        """Let a machine reach its owner's repository, which is made at the first call."""
        ...

    async def snapshots(self, owner_id: str) -> list[str]:
        """Ids of all snapshots that the repository has, oldest first."""
        ...

    async def verify(self, owner_id: str, snapshot_id: str) -> None:
        """See that the store holds all that a snapshot needs, as long as it should be.

        Raises:
            StorageError: It does not; names what is lost.
        """
        ...

    async def files(
        self, owner_id: str, snapshot_id: str, *, folder: str, after: str | None, limit: int
    ) -> list[FileEntry]:
        """What is in one folder of a snapshot, in the order of names; at most `limit`."""
        ...

    async def changes(
        self, owner_id: str, old: str, new: str, *, limit: int
    ) -> tuple[ChangeTotals, list[FileChange]]:
        """What changed between two snapshots: how much in all, and the first of it."""
        ...

    async def pin(self, owner_id: str, snapshot_id: str, *, pinned: bool) -> None:
        """Let no rule delete a snapshot, or let rules decide again."""
        ...

    async def forget(self, owner_id: str, snapshot_ids: Sequence[str]) -> None:
        """Delete snapshots; `prune` frees their space."""
        ...

    async def retire(self, owner_id: str, machine_id: str, policy: SnapshotPolicy) -> list[str]:
        """Delete those of a machine's snapshots that its policy keeps no longer; returns their ids."""
        ...

    async def prune(self, owner_id: str, *, dry_run: bool) -> PruneResult:
        """Free what no snapshot needs."""
        ...


class SnapshotStore(Protocol):
    """What is known of machines' snapshots. The repository is the truth; this is what is shown of it."""

    async def record(self, record: SnapshotRecord) -> None:
        """Note one that was made; the same twice is one."""
        ...

    async def record_failure(self, machine_id: str, *, error: str, at: datetime) -> int:
        """Note a try that failed; returns how many did so in a row. The same time twice is one."""
        ...

    async def verified(self, machine_id: str, snapshot_id: str, *, at: datetime) -> None:
        """Note that one was found whole in the store: only then has making it succeeded."""
        ...

    async def pinned(self, machine_id: str, snapshot_id: str, *, pinned: bool) -> None:
        """Note that no rule deletes one, or that rules decide again."""
        ...

    async def forgotten(self, machine_id: str, snapshot_ids: Sequence[str]) -> None:
        """Note that some are deleted."""
        ...

    async def newest(self, machine_id: str) -> SnapshotRecord | None:
        """The newest whole one, of those that were found in the store if any was; None: there is none."""
        ...

    async def find(self, machine_id: str, name: str) -> SnapshotRecord:
        """One by its id, the beginning of it, or `latest`. Raises NotFound."""
        ...

    async def policy(self, machine_id: str) -> SnapshotPolicy:
        """What the owner wants; the default where nothing was said."""
        ...

    async def health(self, machine_id: str) -> SnapshotHealth:
        """How it is going."""
        ...


class MachineSecrets(Message):
    """The key pairs of one machine. Private halves never leave our process and its instance."""

    host_key_private: str
    host_key_public: str
    access_key_private: str
    access_key_public: str


class SecretStore(Protocol):
    """Encrypted at rest, looked up by id: secrets never travel through workflow payloads."""

    async def ensure_machine_secrets(self, machine_id: str) -> MachineSecrets:
        """The machine's key pairs, made at the first call."""
        ...

    async def forget_machine_secrets(self, machine_id: str) -> None:
        """Delete them; a later `ensure` makes new ones."""
        ...


class OnStart(Protocol):
    """Writes the script that an instance runs at every start to become the machine."""

    def __call__(
        self, *, keys: MachineSecrets, authorized_keys: Sequence[str], setup_script: str
    ) -> str:
        """The script: installs the host key, lets the keys in, runs the owner's set-up lines."""
        ...


class MachineRecord(Message):
    """One write of a machine's projection, from its workflow."""

    spec: MachineSpec
    state: MachineState
    at: datetime
    events: tuple[MachineEvent, ...] = ()


class LadderRecord(Message):
    """A rung reached by an attempt."""

    machine_id: str
    generation: int
    attempt: int
    rung: Rung
    at: datetime
    detail: str = ""


class Intent(Message):
    """What we are about to rent; the searchable copy of the workflow's own history."""

    label: str
    machine_id: str
    generation: int
    attempt: int
    provider: str
    offer_id: str
    host_id: str | None
    usd_per_hour: float
    at: datetime


class OwnedMachine(Message):
    """What Reconcile needs to know of a machine's owner record."""

    spec: MachineSpec
    state: MachineState
    updated_at: datetime


class ReceiptStore(Protocol):
    """Receipts, filed once."""

    async def record(self, receipt: Receipt) -> None:
        """File one by machine and number.

        Raises:
            Conflict: Another one has its number: what is filed is never changed.
        """
        ...


class HeartbeatTimes(Protocol):
    """When agents were last heard."""

    async def last_heard(
        self, machine_id: str, role: AgentRole, *, instance_id: str
    ) -> datetime | None:
        """By the database's clock; None: never."""
        ...

    async def last_report(self, machine_id: str, *, instance_id: str) -> ProtectionReport | None:
        """What an instance's agent said last of its mirror; None: nothing."""
        ...


class ActivityStore(Protocol):
    """What machines were seen doing by the minute, what owners want of idleness, and what was done."""

    async def now(self) -> datetime:
        """Its clock: the only one that counts here."""
        ...

    async def add(self, machine_id: str, reading: Reading) -> None:
        """Note one look at a machine, at this moment."""
        ...

    async def samples(
        self, machine_ids: Sequence[str], *, since: datetime
    ) -> dict[str, list[Sample]]:
        """Each machine's minutes since then, oldest first; a minute without a word is not there."""
        ...

    async def last_heard(self, machine_ids: Sequence[str]) -> dict[str, float]:
        """Seconds since each machine was last seen, of those that were within two minutes."""
        ...

    async def settle(self) -> int:
        """Put minutes that are over in order and delete what is too old."""
        ...

    async def policies(self, machine_ids: Sequence[str]) -> dict[str, IdlePolicy]:
        """Of those machines whose owner said something."""
        ...

    async def keep_alives(self, machine_ids: Sequence[str]) -> dict[str, KeepAlive]:
        """Of those machines that somebody wanted kept up."""
        ...

    async def states(self, generations: Mapping[str, int]) -> dict[str, IdleState]:
        """How far idleness is with machines of these generations; those of earlier ones are over."""
        ...

    async def set_state(self, machine_id: str, state: IdleState, *, generation: int) -> None:
        """Note how far it is."""
        ...


class MachineStore(Protocol):
    """The read model and the event log. A projection of the workflows, never their judge."""

    async def record(self, record: MachineRecord) -> None:
        """Upsert the projection and append events, in one transaction.

        A state with a lower `version` than the stored one does not overwrite it; its events are
        stored all the same.
        """
        ...

    async def record_events(self, events: Sequence[MachineEvent]) -> None:
        """Append events alone; the same key is stored once."""
        ...

    async def record_rung(self, rung: LadderRecord) -> None:
        """Note a rung of the ladder, with its event."""
        ...

    async def record_intent(self, intent: Intent) -> None:
        """Upsert an intent by its label."""
        ...

    async def close_intent(self, label: str, *, outcome: str) -> None:
        """Mark an intent as finished: `ready`, `failed: ...`, `destroyed`."""
        ...

    async def record_bad_host(self, *, provider: str, host_id: str, reason: str) -> None:
        """Remember that a host failed us."""
        ...

    async def bad_hosts(self, *, provider: str, since: datetime) -> list[str]:
        """Hosts that failed us since then."""
        ...

    async def owned_machines(self, machine_ids: Sequence[str]) -> list[OwnedMachine]:
        """Records of these machines; unknown ids are left out."""
        ...

    async def live_machines(self) -> list[OwnedMachine]:
        """Records of all machines that are not destroyed."""
        ...

    async def record_sightings(
        self, *, provider: str, keys: Sequence[str], at: datetime
    ) -> dict[str, datetime]:
        """Note suspicious things seen by a sweep; returns when each was first seen without a break.

        Keys not named in this call are forgotten: a sighting must be uninterrupted to count.
        """
        ...
