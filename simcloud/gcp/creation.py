"""From the body of an insert to a new instance with its disks: checks, defaults, references."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from simcloud.gcp import bodies, catalog, errors, metadata, scheduling, wire
from simcloud.gcp.images import DISK_TYPES, Image, find_image, newest_in_family
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.machine_types import find_machine_type
from simcloud.gcp.records import Attachment, Disk, Instance
from simcloud.gcp.regions import ZONES

_NAME = re.compile(r"(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_LABELS_AT_MOST = 64
_METADATA_BYTES_AT_MOST = 512 * 1024


@dataclass(kw_only=True)
class Blueprint:
    """An instance that does not exist yet, and the disks to be made for it."""

    instance: Instance
    new_disks: list[Disk] = field(default_factory=list)
    existing_disks: list[Disk] = field(default_factory=list)

    def new_gb(self) -> dict[str, int]:
        """Return GB of new disks by disk type."""
        total: dict[str, int] = {}
        for disk in self.new_disks:
            total[disk.type] = total.get(disk.type, 0) + disk.size_gb
        return total


def check_name(name: str) -> None:
    """Refuse a name that Google would not take.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    if not _NAME.fullmatch(name):
        raise errors.invalid("resource.name", name, f"Must be a match of regex '{_NAME.pattern}'")


def check_labels(labels: dict[str, str] | None) -> dict[str, str]:
    """Return labels after checking them.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    found = labels or {}
    if len(found) > _LABELS_AT_MOST:
        raise errors.invalid("resource.labels", len(found), "At most 64 labels are allowed.")
    for key, value in found.items():
        if not _LABEL_KEY.fullmatch(key):
            raise errors.invalid(
                "resource.labels", key, f"Label key '{key}' violates format constraints."
            )
        if not _LABEL_VALUE.fullmatch(value):
            raise errors.invalid(
                "resource.labels", value, f"Label value '{value}' violates format constraints."
            )
    return found


def check_tags(tags: bodies.Tags | None) -> list[str]:
    """Return network tags after checking them.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    found = (tags.items if tags else None) or []
    for tag in found:
        if not _NAME.fullmatch(tag):
            raise errors.invalid(
                "resource.tags.items", tag, f"Must be a match of regex '{_NAME.pattern}'"
            )
    return sorted(set(found))


def check_metadata(requested: bodies.Metadata | None) -> list[dict[str, str]]:
    """Return metadata items after checking them.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    items = [
        {"key": item.key, "value": item.value or ""}
        for item in ((requested.items if requested else None) or [])
    ]
    keys = [item["key"] for item in items]
    for key in keys:
        if keys.count(key) > 1:
            raise errors.invalid("resource.metadata.items", key, f"Duplicate metadata key: {key}.")
    if sum(len(item["key"]) + len(item["value"]) for item in items) > _METADATA_BYTES_AT_MOST:
        raise errors.invalid(
            "resource.metadata", "", "The total size of all keys and values must be <= 512 KB."
        )
    return items


def resolve_machine_type(reference: str, *, zone: str) -> str:
    """Return the name of a machine type named by full or partial link.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    name = wire.segment_after(reference, "machineTypes")
    where = wire.segment_after(reference, "zones")
    if name is None or where is None:
        raise errors.invalid("resource.machineType", reference, "The URL is malformed.")
    if where != zone:
        raise errors.invalid(
            "resource.machineType", reference, f"The machine type must be in zone '{zone}'."
        )
    if find_machine_type(name) is None:
        raise errors.invalid(
            "resource.machineType",
            reference,
            f"Machine type with name '{name}' does not exist in zone '{zone}'.",
        )
    return name


def resolve_image(reference: str, *, field_name: str) -> Image:
    """Return the image named by a link: by name, by family, or by a family view of a zone.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    project = wire.segment_after(reference, "projects") or ""
    family = wire.segment_after(reference, "family") or wire.segment_after(
        reference, "imageFamilyViews"
    )
    found = (
        newest_in_family(project=project, family=family)
        if family is not None
        else find_image(project=project, name=wire.tail(reference))
    )
    if found is None:
        raise errors.invalid(
            field_name, reference, "The referenced image resource cannot be found."
        )
    return found


def draw_up(
    request: bodies.InsertInstance, *, zone: str, project: str, inventory: Inventory, now: float
) -> Blueprint:
    """Return what an insert would make.

    Args:
        request: The checked body.
        zone: An existing zone.
        project: The project.
        inventory: What there is already.
        now: Virtual time.

    Raises:
        errors.GoogleError: 400 `invalid` naming the field, 404, 409.
    """
    check_name(request.name)
    if inventory.has_instance(zone=zone, name=request.name):
        raise errors.already_exists(inventory.instance_path(zone=zone, name=request.name))
    machine_type = resolve_machine_type(request.machine_type, zone=zone)
    draft = _Disks(request.name, zone=zone, project=project, inventory=inventory, now=now)
    attachments = draft.draw_up(request.disks or [])
    instance = Instance(
        id=wire.numeric_id(),
        name=request.name,
        zone=zone,
        region=ZONES[zone].name,
        created=now,
        status="PROVISIONING",
        description=request.description,
        machine_type=machine_type,
        min_cpu_platform=request.min_cpu_platform,
        hostname=request.hostname,
        can_ip_forward=bool(request.can_ip_forward),
        deletion_protection=bool(request.deletion_protection),
        labels=check_labels(request.labels),
        metadata=check_metadata(request.metadata),
        tags=check_tags(request.tags),
        scheduling=scheduling.normalize(request.scheduling),
        disks=attachments,
        machine=draft.boot.machine,
        service_accounts=[
            service_account(account, project) for account in request.service_accounts or []
        ],
        network_ip="",
    )
    _connect(instance, request.network_interfaces, inventory)
    return Blueprint(instance=instance, new_disks=draft.new, existing_disks=draft.existing)


def default_service_account(project: str) -> str:
    """Return the e-mail of the project's Compute Engine default account."""
    return f"{metadata.project_number(project)}-compute@developer.gserviceaccount.com"


def service_account(account: bodies.ServiceAccount, project: str) -> dict[str, Any]:
    """Return the account of an instance; `default` is the project's own."""
    email = account.email or "default"
    return {
        "email": default_service_account(project) if email == "default" else email,
        "scopes": account.scopes or [],
    }


def _connect(
    instance: Instance,
    interfaces: list[bodies.NetworkInterface] | None,
    inventory: Inventory,
) -> None:
    if not interfaces:
        raise errors.invalid(
            "resource.networkInterfaces", "", "At least one network interface is required."
        )
    if len(interfaces) > 1:
        raise errors.invalid(
            "resource.networkInterfaces", len(interfaces), "Only one interface can be had here."
        )
    first = interfaces[0]
    prefix = "resource.networkInterfaces[0]"
    for name, reference in (("network", first.network), ("subnetwork", first.subnetwork)):
        if reference and wire.tail(reference) != catalog.NETWORK:
            raise errors.invalid(
                f"{prefix}.{name}",
                reference,
                f"The referenced {name} resource cannot be found.",
            )
    instance.nic_type = first.nic_type
    instance.network_ip = _internal_ip(instance, first.network_ip, inventory)
    if first.access_configs:
        access = first.access_configs[0]
        if access.nat_ip:
            raise errors.invalid(
                f"{prefix}.accessConfigs[0].natIP",
                access.nat_ip,
                "The specified external IP address was not found in the project.",
            )
        instance.access_config = access.name or "External NAT"
        instance.network_tier = access.network_tier or "PREMIUM"


def _internal_ip(instance: Instance, wanted: str | None, inventory: Inventory) -> str:
    used = {other.network_ip for other in inventory.instances()}
    prefix = catalog.subnet_prefix(instance.region)
    if wanted:
        if not wanted.startswith(prefix.rpartition(".")[0] + "."):
            raise errors.invalid(
                "resource.networkInterfaces[0].networkIP",
                wanted,
                "Requested internal IP address is outside the subnetwork range.",
            )
        if wanted in used:
            raise errors.GoogleError(
                code=400,
                reason="ipInUseByAnotherResource",
                message=f"IP '{wanted}' is already being used by another resource.",
            )
        return wanted
    network = prefix.rpartition(".")[0]
    # the /20's own, gateway and broadcast addresses are left out
    return next(
        address
        for address in (
            f"{network}.{third}.{fourth}" for third in range(16) for fourth in range(2, 254)
        )
        if address not in used
    )


class _Disks:
    """Draws up the disks of one instance."""

    def __init__(
        self, instance: str, *, zone: str, project: str, inventory: Inventory, now: float
    ) -> None:
        self._instance = instance
        self._zone = zone
        self._project = project
        self._inventory = inventory
        self._now = now
        self.new: list[Disk] = []
        self.existing: list[Disk] = []
        self._boot: Disk

    @property
    def boot(self) -> Disk:
        """The disk that the machine boots from."""
        return self._boot

    def draw_up(self, requested: list[bodies.AttachedDisk]) -> list[Attachment]:
        """Return the places of the disks asked for."""
        if not requested:
            raise errors.invalid("resource.disks", "", "No disks are specified.")
        if not requested[0].boot:
            raise errors.invalid(
                "resource.disks[0].boot", requested[0].boot, "The first disk must be a boot disk."
            )
        attachments = []
        for index, wanted in enumerate(requested):
            if index and wanted.boot:
                raise errors.invalid(
                    f"resource.disks[{index}].boot", "true", "Only one disk can be a boot disk."
                )
            disk = self._existing(wanted, index) if wanted.source else self._new(wanted, index)
            if index == 0:
                self._boot = disk
            attachments.append(
                Attachment(
                    disk=disk.name,
                    boot=index == 0,
                    auto_delete=bool(wanted.auto_delete),
                    mode=wanted.mode or "READ_WRITE",
                    device_name=wanted.device_name or f"persistent-disk-{index}",
                    interface=wanted.interface or "SCSI",
                )
            )
        return attachments

    def _existing(self, wanted: bodies.AttachedDisk, index: int) -> Disk:
        assert wanted.source is not None
        disk = self._inventory.disk(zone=self._zone, name=wire.tail(wanted.source))
        if disk.user is not None:
            path = f"projects/{self._project}/zones/{self._zone}"
            raise errors.GoogleError(
                code=400,
                reason="resourceInUseByAnotherResource",
                message=(
                    f"The disk resource '{path}/disks/{disk.name}' is already being used by "
                    f"'{path}/instances/{disk.user}'"
                ),
            )
        self.existing.append(disk)
        return disk

    def _new(self, wanted: bodies.AttachedDisk, index: int) -> Disk:
        prefix = f"resource.disks[{index}]"
        parameters = wanted.initialize_params
        if parameters is None:
            raise errors.invalid(prefix, "", "Either 'source' or 'initializeParams' must be given.")
        image = None
        if parameters.source_image:
            image = resolve_image(
                parameters.source_image, field_name=f"{prefix}.initializeParams.sourceImage"
            )
        elif index == 0:
            raise errors.invalid(
                f"{prefix}.initializeParams.sourceImage",
                "",
                "A boot disk must have a source image.",
            )
        default_name = self._instance if index == 0 else f"{self._instance}-{index}"
        disk = new_disk(
            name=parameters.disk_name or default_name,
            zone=self._zone,
            project=self._project,
            inventory=self._inventory,
            now=self._now,
            disk_type=parameters.disk_type,
            size_gb=parameters.disk_size_gb or wanted.disk_size_gb,
            image=image,
            labels=parameters.labels,
            description=parameters.description,
            prefix=f"{prefix}.initializeParams",
        )
        if any(other.name == disk.name for other in self.new):
            raise errors.already_exists(
                f"projects/{self._project}/zones/{self._zone}/disks/{disk.name}"
            )
        self.new.append(disk)
        return disk


def new_disk(
    *,
    name: str,
    zone: str,
    project: str,
    inventory: Inventory,
    now: float,
    disk_type: str | None,
    size_gb: int | None,
    image: Image | None,
    labels: dict[str, str] | None,
    description: str | None,
    prefix: str,
) -> Disk:
    """Return a disk that does not exist yet.

    Args:
        name: Its name.
        zone: Where it is to be.
        project: The project.
        inventory: What there is already.
        now: Virtual time.
        disk_type: Name or link of its type; None is `pd-standard`.
        size_gb: Its size; None is the image's, or the type's default.
        image: What is on it.
        labels: Its labels.
        description: Free text.
        prefix: Where the settings stand in the request, for error messages.

    Raises:
        errors.GoogleError: 400 `invalid`, 409.
    """
    check_name(name)
    if inventory.has_disk(zone=zone, name=name):
        raise errors.already_exists(f"projects/{project}/zones/{zone}/disks/{name}")
    type_name = wire.tail(disk_type) if disk_type else "pd-standard"
    known = DISK_TYPES.get(type_name)
    if known is None:
        raise errors.invalid(
            f"{prefix}.diskType", disk_type, "The referenced diskType resource cannot be found."
        )
    size = size_gb or (image.disk_size_gb if image else known.default_gb)
    if image is not None and size < image.disk_size_gb:
        raise errors.invalid(
            f"{prefix}.diskSizeGb",
            size,
            f"Requested disk size cannot be smaller than the image size ({image.disk_size_gb} GB)",
        )
    if not known.minimum_gb <= size <= known.maximum_gb:
        raise errors.invalid(
            f"{prefix}.diskSizeGb",
            size,
            f"Disk size must be between {known.minimum_gb} and {known.maximum_gb} GB.",
        )
    return Disk(
        id=wire.numeric_id(),
        name=name,
        zone=zone,
        type=type_name,
        size_gb=size,
        created=now,
        description=description,
        labels=check_labels(labels),
        image_project=image.project if image else None,
        image=image.name if image else None,
    )
