"""From the body of an insert to a new instance with its disks: defaults and connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simcloud.gcp import bodies, catalog, checks, errors, metadata, scheduling, wire
from simcloud.gcp.disk_creation import DiskDraft
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.records import Disk, Instance
from simcloud.gcp.regions import ZONES


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
    checks.check_name(request.name)
    if inventory.has_instance(zone=zone, name=request.name):
        raise errors.already_exists(inventory.instance_path(zone=zone, name=request.name))
    machine_type = checks.resolve_machine_type(request.machine_type, zone=zone)
    draft = DiskDraft(request.name, zone=zone, project=project, inventory=inventory, now=now)
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
        labels=checks.check_labels(request.labels),
        metadata=checks.check_metadata(request.metadata),
        tags=checks.check_tags(request.tags),
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
