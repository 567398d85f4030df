"""Instances and disks as they go over the wire."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import wire
from simcloud.gcp.images import Image, find_image
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.records import Attachment, Disk, Instance

_GUEST_OS_FEATURES = [
    {"type": "UEFI_COMPATIBLE"},
    {"type": "VIRTIO_SCSI_MULTIQUEUE"},
    {"type": "GVNIC"},
]


class Renderer:
    """Writes resources of one project."""

    def __init__(self, *, project: str, inventory: Inventory) -> None:
        self._project = project
        self._inventory = inventory

    def instance(self, instance: Instance) -> dict[str, Any]:
        """Return a `compute#instance`."""
        zone = wire.project_link(self._project, "zones", instance.zone)
        body: dict[str, Any] = {
            "kind": "compute#instance",
            "id": instance.id,
            "creationTimestamp": wire.timestamp(instance.created),
            "name": instance.name,
            "tags": self._tags(instance),
            "machineType": f"{zone}/machineTypes/{instance.machine_type}",
            "status": instance.status,
            "zone": zone,
            "canIpForward": instance.can_ip_forward,
            "networkInterfaces": [self._interface(instance)],
            "disks": [
                self._attachment(instance, attachment, index)
                for index, attachment in enumerate(instance.disks)
            ],
            "metadata": metadata_body(instance.metadata),
            "selfLink": f"{zone}/instances/{instance.name}",
            "scheduling": instance.scheduling,
            "cpuPlatform": "Intel Broadwell" if instance.up else "Unknown CPU Platform",
            "labelFingerprint": wire.fingerprint(instance.labels),
            "startRestricted": False,
            "deletionProtection": instance.deletion_protection,
            "shieldedInstanceConfig": {
                "enableSecureBoot": False,
                "enableVtpm": True,
                "enableIntegrityMonitoring": True,
            },
            "shieldedInstanceIntegrityPolicy": {"updateAutoLearnPolicy": True},
        }
        if instance.labels:
            body["labels"] = instance.labels
        if instance.service_accounts:
            body["serviceAccounts"] = instance.service_accounts
        for name, text in (
            ("description", instance.description),
            ("hostname", instance.hostname),
            ("minCpuPlatform", instance.min_cpu_platform),
            ("statusMessage", instance.status_message),
        ):
            if text:
                body[name] = text
        for name, moment in (
            ("lastStartTimestamp", instance.last_start),
            ("lastStopTimestamp", instance.last_stop),
            ("lastSuspendedTimestamp", instance.last_suspended),
        ):
            if moment is not None:
                body[name] = wire.timestamp(moment)
        if instance.termination_time is not None and instance.up:
            body["resourceStatus"] = {
                "scheduling": {"terminationTimestamp": wire.timestamp(instance.termination_time)}
            }
        # over what a concurrent writer may change; not over the status
        body["fingerprint"] = wire.fingerprint(
            [instance.labels, instance.metadata, instance.tags, instance.scheduling]
        )
        return body

    def disk(self, disk: Disk) -> dict[str, Any]:
        """Return a `compute#disk`."""
        zone = wire.project_link(self._project, "zones", disk.zone)
        body: dict[str, Any] = {
            "kind": "compute#disk",
            "id": disk.id,
            "creationTimestamp": wire.timestamp(disk.created),
            "name": disk.name,
            "sizeGb": str(disk.size_gb),
            "zone": zone,
            "status": "READY",
            "selfLink": f"{zone}/disks/{disk.name}",
            "type": f"{zone}/diskTypes/{disk.type}",
            "labelFingerprint": wire.fingerprint(disk.labels),
            "physicalBlockSizeBytes": "4096",
            "architecture": "X86_64",
            "enableConfidentialCompute": False,
        }
        if disk.labels:
            body["labels"] = disk.labels
        if disk.description:
            body["description"] = disk.description
        image = _image_of(disk)
        if image is not None:
            body["sourceImage"] = wire.link(
                "projects", image.project, "global", "images", image.name
            )
            body["sourceImageId"] = wire.stable_id("image", image.project, image.name)
            body["licenses"] = [license_link(image)]
            body["guestOsFeatures"] = _GUEST_OS_FEATURES
        if disk.user is not None:
            body["users"] = [f"{zone}/instances/{disk.user}"]
        if disk.attached is not None:
            body["lastAttachTimestamp"] = wire.timestamp(disk.attached)
        if disk.detached is not None:
            body["lastDetachTimestamp"] = wire.timestamp(disk.detached)
        return body

    def _tags(self, instance: Instance) -> dict[str, Any]:
        tags: dict[str, Any] = {"fingerprint": wire.fingerprint(instance.tags)}
        return {"items": instance.tags, **tags} if instance.tags else tags

    def _interface(self, instance: Instance) -> dict[str, Any]:
        interface: dict[str, Any] = {
            "kind": "compute#networkInterface",
            "network": wire.project_link(self._project, "global", "networks", instance.network),
            "subnetwork": wire.project_link(
                self._project, "regions", instance.region, "subnetworks", instance.network
            ),
            "networkIP": instance.network_ip,
            "name": "nic0",
            "fingerprint": wire.fingerprint([instance.network_ip, instance.access_config]),
            "stackType": "IPV4_ONLY",
        }
        if instance.nic_type is not None:
            interface["nicType"] = instance.nic_type
        if instance.access_config is not None:
            access: dict[str, Any] = {
                "kind": "compute#accessConfig",
                "type": "ONE_TO_ONE_NAT",
                "name": instance.access_config,
                "networkTier": instance.network_tier,
            }
            if instance.address is not None:
                access["natIP"] = instance.address
            interface["accessConfigs"] = [access]
        return interface

    def _attachment(self, instance: Instance, attachment: Attachment, index: int) -> dict[str, Any]:
        disk = self._inventory.disk(zone=instance.zone, name=attachment.disk)
        body: dict[str, Any] = {
            "kind": "compute#attachedDisk",
            "type": "PERSISTENT",
            "mode": attachment.mode,
            "source": wire.project_link(
                self._project, "zones", instance.zone, "disks", attachment.disk
            ),
            "deviceName": attachment.device_name,
            "index": index,
            "boot": attachment.boot,
            "autoDelete": attachment.auto_delete,
            "interface": attachment.interface,
            "diskSizeGb": str(disk.size_gb),
            "architecture": "X86_64",
        }
        image = _image_of(disk)
        if image is not None:
            body["licenses"] = [license_link(image)]
            body["guestOsFeatures"] = _GUEST_OS_FEATURES
        return body


def metadata_body(items: list[dict[str, str]]) -> dict[str, Any]:
    """Return a `compute#metadata`."""
    body: dict[str, Any] = {"kind": "compute#metadata", "fingerprint": wire.fingerprint(items)}
    return {**body, "items": items} if items else body


def license_link(image: Image) -> str:
    """Return the link of an image's licence."""
    return wire.link("projects", image.project, "global", "licenses", image.license)


def _image_of(disk: Disk) -> Image | None:
    if disk.image is None or disk.image_project is None:
        return None
    return find_image(project=disk.image_project, name=disk.image)
