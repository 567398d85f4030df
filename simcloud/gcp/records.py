"""What the store keeps of instances, disks and operations: values, no behaviour."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

InstanceStatus = Literal[
    "PROVISIONING",
    "STAGING",
    "RUNNING",
    "STOPPING",
    "TERMINATED",
    "SUSPENDING",
    "SUSPENDED",
    "REPAIRING",
]


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Disk(Record):
    """A persistent disk."""

    id: str
    name: str
    zone: str
    type: str
    size_gb: int
    created: float
    description: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    image_project: str | None = None
    image: str | None = None
    user: str | None = None
    """Name of the instance it is attached to."""
    attached: float | None = None
    detached: float | None = None

    @property
    def machine(self) -> str:
        """Name, in the process engine, of the machine that boots from it."""
        return f"gcp-{self.id}"

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{self.zone}/{self.name}"


class Address(Record):
    """A reserved external address."""

    id: str
    name: str
    region: str
    address: str
    created: float
    description: str | None = None
    network_tier: str = "PREMIUM"
    labels: dict[str, str] = Field(default_factory=dict)
    user: str | None = None
    """Path of what uses it, from `projects/` on."""

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{self.region}/{self.name}"


class Attachment(Record):
    """A disk's place in an instance."""

    disk: str
    boot: bool
    auto_delete: bool
    mode: str
    device_name: str
    interface: str


class Instance(Record):
    """A virtual machine."""

    id: str
    name: str
    zone: str
    region: str
    created: float
    status: InstanceStatus
    status_message: str | None = None
    description: str | None = None
    machine_type: str
    min_cpu_platform: str | None = None
    hostname: str | None = None
    can_ip_forward: bool = False
    deletion_protection: bool = False
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: list[dict[str, str]] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    scheduling: dict[str, Any]
    disks: list[Attachment]
    network: str = "default"
    network_ip: str
    nic_type: str | None = None
    access_config: str | None = None
    """Name of its external address configuration; None means no external address."""
    network_tier: str = "PREMIUM"
    service_accounts: list[dict[str, Any]] = Field(default_factory=list)
    machine: str
    """Its name in the process engine: that of its boot disk, whose content the machine is."""
    address: str | None = None
    """The loopback address it listens on now; its external address if it has one."""
    retired_address: str | None = None
    """The address before; kept from reuse so that a restart is seen to change the address."""
    metadata_address: str | None = None
    """The loopback address of its own metadata server."""
    ssh_port: int | None = None
    login_user: str = "root"
    """The account that the engine set up at the last boot."""
    preempted: bool = False
    maintenance_event: str = "NONE"
    guest_attributes: dict[str, str] = Field(default_factory=dict)
    """`namespace/key` to value."""
    last_start: float | None = None
    last_stop: float | None = None
    last_suspended: float | None = None
    termination_time: float | None = None

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{self.zone}/{self.name}"

    @property
    def up(self) -> bool:
        """Whether it holds a machine: counted by quotas and billed as such."""
        return self.status not in ("TERMINATED", "SUSPENDED")

    @property
    def guest_attributes_enabled(self) -> bool:
        """Whether its guest may publish attributes."""
        return (self.metadata_value("enable-guest-attributes") or "").upper() == "TRUE"

    def metadata_value(self, key: str) -> str | None:
        """Return the value of one of its own metadata keys."""
        return next((item["value"] for item in self.metadata if item["key"] == key), None)


class Operation(Record):
    """A piece of work that a request or Google itself started."""

    id: str
    name: str
    scope: str
    """`zones/us-central1-a`, `regions/us-central1` or `global`."""
    type: str
    target: str
    """Path of the resource from `projects/` on."""
    target_id: str
    status: Literal["PENDING", "RUNNING", "DONE"]
    user: str
    inserted: float
    started: float | None = None
    ended: float | None = None
    status_message: str | None = None
    error: dict[str, str] | None = None
    """`code` and `message` of a failure."""
    http_status: int | None = None
    http_message: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What a restarted simcloud needs to go on with it."""
