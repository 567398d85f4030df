"""Request bodies: what clients send, checked. Defaults and meaning are decided elsewhere.

Clients differ: 64-bit integers come as text or as numbers, absent values as null (libcloud), links
in full or in part. Fields that exist at Google but mean nothing here are let pass; top-level names
that do not exist at Google are refused, as Google does.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from simcloud.gcp import errors

INSTANCE_FIELDS = frozenset(
    {
        "advancedMachineFeatures",
        "canIpForward",
        "confidentialInstanceConfig",
        "cpuPlatform",
        "creationTimestamp",
        "deletionProtection",
        "description",
        "disks",
        "displayDevice",
        "fingerprint",
        "guestAccelerators",
        "hostname",
        "id",
        "instanceEncryptionKey",
        "keyRevocationActionType",
        "kind",
        "labelFingerprint",
        "labels",
        "lastStartTimestamp",
        "lastStopTimestamp",
        "lastSuspendedTimestamp",
        "localSsdEncryptionMode",
        "machineType",
        "metadata",
        "minCpuPlatform",
        "name",
        "networkInterfaces",
        "networkPerformanceConfig",
        "params",
        "privateIpv6GoogleAccess",
        "reservationAffinity",
        "resourcePolicies",
        "resourceStatus",
        "satisfiesPzi",
        "satisfiesPzs",
        "scheduling",
        "selfLink",
        "serviceAccounts",
        "shieldedInstanceConfig",
        "shieldedInstanceIntegrityPolicy",
        "sourceMachineImage",
        "sourceMachineImageEncryptionKey",
        "startRestricted",
        "status",
        "statusMessage",
        "tags",
        "workloadIdentityConfig",
        "zone",
    }
)
"""Names that the v1 Instance resource has."""


class Body(BaseModel):
    """Base of all request bodies."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Duration(Body):
    """A span of time."""

    seconds: int = 0
    nanos: int = 0


class InitializeParams(Body):
    """A disk to be made together with the instance."""

    disk_name: str | None = None
    source_image: str | None = None
    disk_size_gb: int | None = Field(default=None, ge=1)
    disk_type: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None


class AttachedDisk(Body):
    """A disk of a new instance: an existing one (`source`) or a new one."""

    boot: bool | None = None
    auto_delete: bool | None = None
    type: str | None = None
    mode: str | None = None
    device_name: str | None = None
    source: str | None = None
    interface: str | None = None
    disk_size_gb: int | None = Field(default=None, ge=1)
    initialize_params: InitializeParams | None = None


class AccessConfig(Body):
    """An external address."""

    name: str | None = None
    type: str | None = None
    nat_ip: str | None = Field(default=None, alias="natIP")
    network_tier: str | None = None


class NetworkInterface(Body):
    """A network card."""

    network: str | None = None
    subnetwork: str | None = None
    network_ip: str | None = Field(default=None, alias="networkIP")
    access_configs: list[AccessConfig] | None = None
    nic_type: str | None = None
    stack_type: str | None = None


class MetadataItem(Body):
    """One key of an instance's or project's metadata."""

    key: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    value: str | None = Field(default=None, max_length=262144)


class Metadata(Body):
    """All metadata of an instance or project."""

    items: list[MetadataItem] | None = None
    fingerprint: str | None = None


class Tags(Body):
    """Network tags."""

    items: list[str] | None = None
    fingerprint: str | None = None


class Labels(Body):
    """Labels to set."""

    labels: dict[str, str] | None = None
    label_fingerprint: str | None = None


class ServiceAccount(Body):
    """The account that the instance acts as."""

    email: str | None = None
    scopes: list[str] | None = None


class Scheduling(Body):
    """How the instance may be moved, stopped, taken away."""

    automatic_restart: bool | None = None
    on_host_maintenance: str | None = None
    preemptible: bool | None = None
    provisioning_model: str | None = None
    instance_termination_action: str | None = None
    max_run_duration: Duration | None = None
    termination_time: str | None = None
    preemption_notice_duration: Duration | None = None
    skip_guest_os_shutdown: bool | None = None


class MachineTypeChange(Body):
    """A new machine type."""

    machine_type: str


class InsertInstance(Body):
    """A new instance."""

    name: str = ""
    description: str | None = None
    machine_type: str = ""
    min_cpu_platform: str | None = None
    hostname: str | None = None
    can_ip_forward: bool | None = None
    deletion_protection: bool | None = None
    labels: dict[str, str] | None = None
    metadata: Metadata | None = None
    tags: Tags | None = None
    scheduling: Scheduling | None = None
    disks: list[AttachedDisk] | None = None
    network_interfaces: list[NetworkInterface] | None = None
    service_accounts: list[ServiceAccount] | None = None


AnyBody = TypeVar("AnyBody", bound=Body)


def parse(model: type[AnyBody], body: Any, *, prefix: str = "resource") -> AnyBody:
    """Check a JSON body.

    Args:
        model: What it should be.
        body: The decoded JSON.
        prefix: Name of the body in error messages.

    Raises:
        errors.GoogleError: 400, naming the first bad field.
    """
    if not isinstance(body, dict):
        raise errors.bad_request("Invalid JSON payload received. Root element must be a message.")
    try:
        return model.model_validate(body)
    except ValidationError as refused:
        first = refused.errors()[0]
        path = ".".join([prefix, *(str(part) for part in first["loc"])])
        for index in (part for part in first["loc"] if isinstance(part, int)):
            path = path.replace(f".{index}", f"[{index}]", 1)
        raise errors.invalid(path, first.get("input"), f"{first['msg']}.") from refused


def parse_instance(body: Any) -> InsertInstance:
    """Check the body of `instances.insert`.

    Raises:
        errors.GoogleError: 400, naming the first bad field.
    """
    parsed = parse(InsertInstance, body)
    for name in body:
        if name not in INSTANCE_FIELDS:
            raise errors.bad_request(
                f"Invalid JSON payload received. Unknown name \"{name}\" at 'resource': "
                "Cannot find field."
            )
    return parsed
