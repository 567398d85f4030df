"""What the REST API takes and gives: the resources of `/api/v1`.

The API serves these models and the command line reads them: one definition for both ends.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dumont.domain.events import EventKind
from dumont.domain.instances import Rental, SshAddress
from dumont.domain.ladder import Rung
from dumont.domain.machine import MachinePhase
from dumont.domain.names import check_machine_name
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import Asleep, ProtectionPolicy, ProtectionStatus
from dumont.domain.receipts import Receipt


class Request(BaseModel):
    """Base of request bodies: an unknown field is an error, not a silent nothing."""

    model_config = ConfigDict(extra="forbid")


class Resource(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(frozen=True)


class ProtectionOrder(ProtectionPolicy):
    """Whether a new machine gets a standby, and which."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool | None = Field(
        default=None,
        description="Whether the machine gets a standby. When this is not given: yes where the "
        "deployment rents standbys, no where it cannot. `true` where it cannot is an error.",
    )

    @property
    def insists(self) -> bool:
        """Whether a deployment without standbys must refuse, not ignore it."""
        special = self.policy() != ProtectionPolicy()
        return self.enabled is True or (self.enabled is None and special)

    def policy(self) -> ProtectionPolicy:
        """What the machine keeps of it."""
        return ProtectionPolicy.model_validate(self.model_dump(exclude={"enabled"}))


class MachineCreate(Request):
    """POST /machines."""

    name: str = Field(examples=["my-box"])
    requirement: GpuRequirement = Field(
        examples=[{"gpu": "RTX 4090", "max_usd_per_hour": 0.6, "disk_gb": 20}]
    )
    ssh_keys: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="Public keys that may log in; the owner's stored keys when empty.",
    )
    setup_script: str = Field(default="", max_length=2_000)
    protection: ProtectionOrder = Field(
        default_factory=ProtectionOrder,
        description='The standby that keeps the work safe; `{"enabled": false}` for none.',
        examples=[{"failback": "when_idle", "excludes": ["*.pyc"]}],
    )

    @field_validator("protection", mode="before")
    @classmethod
    def _protection(cls, value: object) -> object:
        if value is None:
            # Generated clients send null for "not given": that must not switch safety off.
            raise ValueError('say {"enabled": false} for no protection, or leave the field out')
        return value

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_machine_name(value)


class RungView(Resource):
    """One rung of the ladder as far as the current attempt climbed it."""

    rung: Rung
    sentence: str
    reached_at: datetime | None


class InstanceView(Resource):
    """The instance behind a machine."""

    provider: str
    instance_id: str
    label: str
    gpu: str
    gpu_count: int
    host_id: str | None
    region: str | None
    usd_per_hour: float | None
    ready_at: datetime | None


class ProtectionView(Resource):
    """How safe the workspace of a machine is."""

    status: ProtectionStatus = ProtectionStatus.UNPROTECTED
    reason: str = Field(default="", description="Why it is not protected, in one sentence.")
    lag_s: float | None = Field(
        default=None,
        description="Age of the newest write that is not on the standby yet, as the machine's agent "
        "measured it last; null: unknown.",
    )
    replicated_at: datetime | None = Field(
        default=None,
        description="Everything written before was on the standby, by the instance's clock; null: "
        "unknown.",
    )
    policy: ProtectionPolicy | None = Field(default=None, description="Null: no standby is wanted.")


class StandbyView(Resource):
    """The VM that mirrors a machine and carries its stable address."""

    provider: str
    zone: str
    label: str
    instance_id: str
    usd_per_hour: float | None = Field(
        description="VM, disk and address together; an estimate from list prices."
    )
    rtt_ms: float | None = Field(
        description="Round trip from the GPU as measured over SSH; null: not measured yet."
    )
    endpoint: SshAddress = Field(description="The machine's stable address.")
    ready_at: datetime | None


class MachineView(Resource):
    """A machine as its owner sees it."""

    machine_id: str
    name: str
    owner_id: str
    phase: MachinePhase
    reason: str
    generation: int
    requirement: GpuRequirement
    instance: InstanceView | None
    ladder: list[RungView] = Field(
        default_factory=list, description="Readiness of the attempt under way or of the last one."
    )
    ssh: SshAddress | None = Field(
        default=None,
        description="Where to connect now: the stable address once the standby has everything, the "
        "instance's own before; null while nothing is reachable.",
    )
    direct: SshAddress | None = Field(
        default=None, description="The GPU instance itself, while it is the one that may write."
    )
    protection: ProtectionView = ProtectionView()
    standby: StandbyView | None = None
    failovers: int = Field(default=0, description="How many were begun; numbers the receipts.")
    host_key: str | None = Field(
        default=None, description="The machine's public SSH host key, the same for its whole life."
    )
    next_try_at: datetime | None
    created_at: datetime
    updated_at: datetime
    workflow_url: str | None = Field(
        default=None, description="The machine's workflow in Temporal's Web UI."
    )


class Page(Resource):
    """Base of cursor-paged lists: pass `next_cursor` back as `cursor`; None ends the list."""

    next_cursor: str | None = None


class MachinePage(Page):
    """GET /machines."""

    items: list[MachineView]


class OfferView(Resource):
    """One offer of the market. $/h for the whole offer, disk included."""

    offer_id: str
    provider: str
    gpu: str
    gpu_count: int
    gpu_memory_gb: float | None
    rental: Rental
    usd_per_hour: float
    on_demand_usd_per_hour: float | None
    reliability: float | None
    region: str | None
    download_mbps: float | None
    upload_mbps: float | None
    disk_gb: float | None
    cpu_cores: float | None
    memory_gb: float | None
    cuda: float | None


class OfferList(Resource):
    """GET /offers. `seen_at` is when the provider answered."""

    items: list[OfferView]
    seen_at: datetime


class EventView(Resource):
    """One event; `seq` orders all events of the deployment and resumes a stream."""

    seq: int
    machine_id: str
    machine_name: str
    kind: EventKind
    at: datetime
    generation: int
    summary: str
    data: dict[str, Any]


class EventPage(Page):
    """GET /machines/{id}/events, newest first."""

    items: list[EventView]


class Accepted(Resource):
    """A command was accepted; watch the machine for its effect."""

    machine: MachineView


class HibernateOrder(Request):
    """POST /machines/{machine}/hibernate."""

    reason: str = Field(default="", max_length=200, description="For the event log.")
    standby: Asleep | None = Field(
        default=None,
        description="`keep`: the standby stays, as a shell with every file; `end`: it is given back as "
        "well. Null: as the machine's policy says.",
    )


class WakeQuoteView(Resource):
    """GET /machines/{machine}/wake-quote."""

    machine_id: str
    name: str
    usd_per_hour: float | None = Field(
        description="Of the offer that would be tried first, disk included; null: none fits now."
    )
    gpu: str
    gpu_count: int
    region: str | None
    reliability: float | None
    fitting: int = Field(description="Offers that fit, of different hosts.")
    seen_at: datetime = Field(description="When the market was asked.")
    seconds: float | None = Field(description="Until it is usable; null: nothing was measured yet.")
    basis: str = Field(description="What the estimate of the time is made of.")
    bytes: int | None = Field(description="What has to come back; null: unknown.")


class DrillOrder(Request):
    """POST /machines/{machine}/drill."""

    flush: bool = Field(
        default=True, description="Wait for the barrier first, so that nothing at all is lost."
    )
    redirect_only: bool = Field(
        default=False, description="Keep the GPU: only the address moves, and moves back."
    )


class ReceiptView(Resource):
    """A receipt and the SHA-256 of its canonical JSON, which is how it is sent."""

    digest: str
    receipt: Receipt


class ReceiptList(Resource):
    """GET /machines/{machine}/receipts, newest first."""

    items: list[ReceiptView]


class HeartbeatAnswer(Resource):
    """POST /agent/heartbeat."""

    ok: Literal[True] = True
    fenced: bool = Field(description="This body may not write any more: stop mirroring for good.")


class Webhooks(Resource):
    """GET /webhooks: addresses to give to providers. Each holds a secret."""

    vast: str


class LogText(Resource):
    """GET /machines/{id}/logs: what the provider has of the instance's output."""

    text: str
    seen_at: datetime


class Health(Resource):
    """GET /health/ready: one line for each dependency."""

    status: Literal["ok", "degraded"]
    dependencies: dict[str, DependencyHealth]
    version: str


class DependencyHealth(Resource):
    """How one dependency answered just now."""

    ok: bool
    latency_ms: float | None = None
    error: str | None = None


class Login(Request):
    """POST /auth/login."""

    email: str = Field(max_length=254)
    password: str = Field(min_length=1, max_length=1024)


class Refresh(Request):
    """POST /auth/refresh and /auth/logout."""

    refresh_token: str


class PasswordChange(Request):
    """POST /auth/password."""

    current_password: str = Field(min_length=1, max_length=1024)
    new_password: str = Field(min_length=12, max_length=1024)


class Tokens(Resource):
    """A short-lived access token and the token that renews it."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds until the access token expires.")


class UserView(Resource):
    """GET /auth/me."""

    user_id: str
    email: str
    is_admin: bool


Scope = Literal["machines:read", "machines:write", "offers:read", "account:write", "codec:decode"]


class ApiKeyCreate(Request):
    """POST /api-keys."""

    name: str = Field(min_length=1, max_length=80)
    scopes: list[Scope] = Field(min_length=1)
    expires_at: datetime | None = None


class ApiKeyView(Resource):
    """An API key without its secret."""

    key_id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class ApiKeyCreated(ApiKeyView):
    """The only time a key's secret is shown."""

    secret: str


class SshKeyCreate(Request):
    """POST /ssh-keys."""

    name: str = Field(min_length=1, max_length=80)
    public_key: str = Field(max_length=16_384)


class SshKeyView(Resource):
    """One of the owner's public keys."""

    key_id: str
    name: str
    public_key: str
    fingerprint: str
    created_at: datetime


class Problem(BaseModel):
    """An error, as RFC 9457 problem details (`application/problem+json`)."""

    type: str = Field(examples=["https://dumont.cloud/problems/invalid_input"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable name of the error, see docs/errors.md.")
    field: str | None = None
    hint: str | None = None
    request_id: str | None = None


Health.model_rebuild()
