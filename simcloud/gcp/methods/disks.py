"""Disks of their own: made, listed, deleted."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import bodies, checks, disk_creation, errors, listing, prices, wire
from simcloud.gcp.records import Disk, Operation
from simcloud.gcp.regions import ZONES
from simcloud.gcp.service import Service
from simcloud.gcp.web import Ask, Method


class InsertDisk(bodies.Body):
    """A new disk."""

    name: str = ""
    size_gb: int | None = None
    type: str | None = None
    source_image: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None


def open_meter(service: Service, disk: Disk) -> None:
    """Begin to bill a disk."""
    region = ZONES[disk.zone].name
    service.ledger.open(
        resource=f"disks/{disk.key}",
        resource_id=disk.id,
        region=region,
        sku="disk",
        model="STANDARD",
        quantity=float(disk.size_gb),
        unit_price=prices.disk_price(disk_type=disk.type, region=region),
    )


async def list_disks(ask: Ask) -> dict[str, Any]:
    """Answer `disks.list`."""
    service = ask.service
    return listing.page(
        [service.renderer.disk(disk) for disk in service.inventory.disks(zone=ask.zone)],
        query=listing.ListQuery.parse(ask.query),
        kind="compute#diskList",
        path=f"projects/{service.project}/zones/{ask.zone}/disks",
    )


async def aggregate_disks(ask: Ask) -> dict[str, Any]:
    """Answer `disks.aggregatedList`."""
    service = ask.service
    scopes: dict[str, list[dict[str, Any]]] = {f"zones/{zone}": [] for zone in ZONES}
    for disk in service.inventory.disks():
        scopes[f"zones/{disk.zone}"].append(service.renderer.disk(disk))
    return listing.aggregated_page(
        scopes,
        query=listing.ListQuery.parse(ask.query),
        kind="compute#diskAggregatedList",
        path=f"projects/{service.project}/aggregated/disks",
        member="disks",
    )


async def get_disk(ask: Ask) -> dict[str, Any]:
    """Answer `disks.get`."""
    disk = ask.service.inventory.disk(zone=ask.zone, name=ask.path["disk"])
    return ask.service.renderer.disk(disk)


async def insert_disk(ask: Ask) -> dict[str, Any]:
    """Answer `disks.insert`."""
    service = ask.service
    body = bodies.parse(InsertDisk, ask.body)
    repeated = service.operations.repeated(
        request_id=ask.request_id, type="insert", target=_path(ask, body.name)
    )
    if repeated is not None:
        return ask.render(repeated)
    reference = ask.query.get("sourceImage") or body.source_image
    disk = disk_creation.new_disk(
        name=body.name,
        zone=ask.zone,
        project=service.project,
        inventory=service.inventory,
        now=service.context.clock.now(),
        disk_type=body.type,
        size_gb=body.size_gb,
        image=(
            checks.resolve_image(reference, field_name="resource.sourceImage")
            if reference
            else None
        ),
        labels=body.labels,
        description=body.description,
        prefix="resource",
    )
    service.inventory.save_disk(disk)
    open_meter(service, disk)
    return ask.render(_settled(ask, disk, "insert"))


async def delete_disk(ask: Ask) -> dict[str, Any]:
    """Answer `disks.delete`."""
    service = ask.service
    target = _path(ask, ask.path["disk"])
    repeated = service.operations.repeated(request_id=ask.request_id, type="delete", target=target)
    if repeated is not None:
        return ask.render(repeated)
    disk = service.inventory.disk(zone=ask.zone, name=ask.path["disk"])
    if disk.user is not None:
        raise errors.GoogleError(
            code=400,
            reason="resourceInUseByAnotherResource",
            message=(
                f"The disk resource '{target}' is already being used by "
                f"'{service.inventory.instance_path(zone=disk.zone, name=disk.user)}'"
            ),
        )
    await service.power.discard_disk(disk.name, zone=disk.zone)
    return ask.render(_settled(ask, disk, "delete"))


async def set_disk_labels(ask: Ask) -> dict[str, Any]:
    """Answer `disks.setLabels`."""
    disk = ask.service.inventory.disk(zone=ask.zone, name=ask.path["disk"])
    body = bodies.parse(bodies.Labels, ask.body)
    if body.label_fingerprint != wire.fingerprint(disk.labels):
        raise errors.condition_not_met(
            "Labels fingerprint either invalid or resource labels have changed"
        )
    disk.labels = checks.check_labels(body.labels)
    ask.service.inventory.save_disk(disk)
    return ask.render(_settled(ask, disk, "setLabels"))


def _path(ask: Ask, name: str) -> str:
    return f"projects/{ask.service.project}/zones/{ask.zone}/disks/{name}"


def _settled(ask: Ask, disk: Disk, type: str) -> Operation:
    operation = ask.service.operations.start(
        type=type,
        scope=f"zones/{disk.zone}",
        target=_path(ask, disk.name),
        target_id=disk.id,
        user=ask.user,
        request_id=ask.request_id,
    )
    ask.service.lifecycle.settle(operation)
    return operation


METHODS = (
    Method("disks.aggregatedList", "GET", "aggregated/disks", aggregate_disks),
    Method("disks.list", "GET", "zones/{zone}/disks", list_disks),
    Method("disks.insert", "POST", "zones/{zone}/disks", insert_disk),
    Method("disks.get", "GET", "zones/{zone}/disks/{disk}", get_disk),
    Method("disks.delete", "DELETE", "zones/{zone}/disks/{disk}", delete_disk),
    Method("disks.setLabels", "POST", "zones/{zone}/disks/{disk}/setLabels", set_disk_labels),
)
