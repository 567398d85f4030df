"""What a provider runs for us, in words that no provider owns."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of all domain models: immutable, and loud about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(BaseModel):
    """Base of models that cross versions (workflow payloads, database documents).

    Unknown fields are ignored, so that an older worker can read what a newer one wrote; new fields
    need a default.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


class Rental(StrEnum):
    """How an instance is paid for."""

    SPOT = "spot"
    """Interruptible: a bid that can be outbid at any second."""
    ON_DEMAND = "on_demand"


class InstanceState(StrEnum):
    """What the provider says about an instance, reduced to what we act on."""

    STARTING = "starting"
    """Accepted; image loading or VM booting. Not usable yet."""
    RUNNING = "running"
    STOPPED = "stopped"
    """Exists and bills storage; nothing runs. Outbid, stopped by us or out of credit: the provider's
    row cannot tell these apart, our own intents can."""
    OFFLINE = "offline"
    """The provider lost contact with the host. Often temporary for an established instance."""
    FAILED = "failed"
    """The provider reports an error that it does not recover from."""
    UNKNOWN = "unknown"
    """The provider's words fit none of the above. No evidence."""


class SshAddress(Message):
    """Where an instance's sshd listens."""

    host: str
    port: int = Field(ge=1, le=65535)
    user: str = "root"


class Instance(Message):
    """One instance as its provider lists it."""

    provider: str
    instance_id: str
    label: str | None
    state: InstanceState
    detail: str = ""
    """The provider's own words about the state."""
    ssh: SshAddress | None = None
    rental: Rental | None = None
    """None when the provider did not say."""
    usd_per_hour: float | None = None
    """All-in price now, $/h, disk included, traffic not. None when unknown."""
    gpu: str | None = None
    gpu_count: int | None = None
    host_id: str | None = None
    """Physical host, for never renting the same bad one again."""
    region: str | None = None
    """The provider's location string, verbatim."""
    created_at: datetime | None = None
    disk_usd_per_hour: float | None = None
    """The disk's part of the price, $/h; None when unknown."""
    disk_gb: float | None = None
    machine_type: str | None = None
    """The provider's name of a VM's size."""
    started_at: datetime | None = None
    """When it last began to run, by the provider's own clock; None when the provider does not say."""
    stopped_at: datetime | None = None
    """When it last ceased to run, likewise."""


class InstanceOrder(Message):
    """What to rent: one offer, with everything the new instance needs to be recognised and entered."""

    offer_id: str
    label: str
    image: str
    disk_gb: float = Field(gt=0)
    onstart: str
    """Shell script run at every start of the instance; Vast.ai takes at most 4,048 characters."""
    bid_usd_per_hour: float | None = Field(default=None, gt=0)
    """The bid, $/h for the whole instance; None rents on demand."""
    env: dict[str, str] = Field(default_factory=dict)


class ProviderAccount(Message):
    """The account behind a provider key."""

    account_id: str
    credit_usd: float | None = None
    """Money left; None when the provider bills afterwards or did not say."""


class Charge(Message):
    """One line of a provider's bill."""

    instance_id: str
    kind: str
    """`gpu`, `disk`, `traffic`, ... as the provider names it."""
    usd: float | None
    """None: the line's amount cannot be read."""
    start: datetime
    end: datetime
    description: str = ""
    quantity: float | None = None
    """Hours or gigabytes, as the bill counts this kind; None when it does not say."""
    hours: float | None = None
    """What was paid for, where it is time that is paid; None when the bill does not say."""
    label: str | None = None
    """The instance's label, where the bill has it."""
    gpu: str | None = None
    gpu_count: int | None = None
