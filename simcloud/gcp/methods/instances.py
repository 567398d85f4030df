"""The life of instances: made, listed, switched on and off, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simcloud.gcp import bodies, creation, errors, listing
from simcloud.gcp.methods.disks import open_meter
from simcloud.gcp.records import Instance, Operation
from simcloud.gcp.regions import ZONES
from simcloud.gcp.web import Ask, Method


def find(ask: Ask) -> Instance:
    """Return the instance in the path.

    Raises:
        errors.GoogleError: 404.
    """
    return ask.service.inventory.instance(zone=ask.zone, name=ask.path["instance"])


def repeated(ask: Ask, *, type: str, name: str) -> Operation | None:
    """Return the operation that this very request started before, if it did."""
    return ask.service.operations.repeated(
        request_id=ask.request_id,
        type=type,
        target=ask.service.inventory.instance_path(zone=ask.zone, name=name),
    )


async def list_instances(ask: Ask) -> dict[str, Any]:
    """Answer `instances.list`."""
    service = ask.service
    rows = service.inventory.instances(zone=ask.zone)
    return listing.page(
        [service.renderer.instance(instance) for instance in rows],
        query=listing.ListQuery.parse(ask.query),
        kind="compute#instanceList",
        path=f"projects/{service.project}/zones/{ask.zone}/instances",
    )


async def aggregate_instances(ask: Ask) -> dict[str, Any]:
    """Answer `instances.aggregatedList`."""
    service = ask.service
    scopes: dict[str, list[dict[str, Any]]] = {f"zones/{zone}": [] for zone in ZONES}
    for instance in service.inventory.instances():
        scopes[f"zones/{instance.zone}"].append(service.renderer.instance(instance))
    return listing.aggregated_page(
        scopes,
        query=listing.ListQuery.parse(ask.query),
        kind="compute#instanceAggregatedList",
        path=f"projects/{service.project}/aggregated/instances",
        member="instances",
    )


async def get_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.get`."""
    return ask.service.renderer.instance(find(ask))


async def insert_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.insert`: the instance is there at once, PROVISIONING."""
    service = ask.service
    request = bodies.parse_instance(ask.body)
    again = repeated(ask, type="insert", name=request.name)
    if again is not None:
        return ask.render(again)
    now = service.context.clock.now()
    blueprint = creation.draw_up(
        request,
        zone=ask.zone,
        project=service.project,
        inventory=service.inventory,
        now=now,
    )
    instance = blueprint.instance
    service.quotas.check(instance, new=True, new_disks=blueprint.new_gb())
    with service.context.store.transaction():
        for disk in [*blueprint.new_disks, *blueprint.existing_disks]:
            disk.user, disk.attached = instance.name, now
            service.inventory.save_disk(disk)
            open_meter(service, disk)
        service.inventory.save(instance)
        operation = service.lifecycle.begin(
            instance, type="insert", user=ask.user, request_id=ask.request_id
        )
    service.lifecycle.insert(instance, operation)
    return ask.render(operation)


async def delete_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.delete`."""
    again = repeated(ask, type="delete", name=ask.path["instance"])
    if again is not None:
        return ask.render(again)
    instance = find(ask)
    if instance.deletion_protection:
        path = ask.service.inventory.instance_path(zone=ask.zone, name=instance.name)
        raise errors.GoogleError(
            code=412,
            reason="conditionNotMet",
            message=(
                "Invalid resource usage: 'Resource cannot be deleted if it's protected against "
                f"deletion. Resource: {path}'."
            ),
        )
    operation = ask.service.lifecycle.begin(
        instance, type="delete", user=ask.user, request_id=ask.request_id
    )
    ask.service.lifecycle.delete(instance, operation)
    return ask.render(operation)


async def start_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.start`."""
    again = repeated(ask, type="start", name=ask.path["instance"])
    if again is not None:
        return ask.render(again)
    instance = find(ask)
    _require(ask, instance, "TERMINATED", "RUNNING", "PROVISIONING", "STAGING")
    if instance.status == "TERMINATED":
        ask.service.quotas.check(instance, new=False, new_disks={})
    return _begin(ask, instance, "start", ask.service.lifecycle.start)


async def stop_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.stop`."""
    return _transition(ask, "stop", ask.service.lifecycle.stop)


async def reset_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.reset`."""
    return _transition(ask, "reset", ask.service.lifecycle.reset, "RUNNING")


async def suspend_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.suspend`."""
    return _transition(ask, "suspend", ask.service.lifecycle.suspend, "RUNNING")


async def resume_instance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.resume`."""
    return _transition(ask, "resume", ask.service.lifecycle.resume, "SUSPENDED")


async def simulate_maintenance(ask: Ask) -> dict[str, Any]:
    """Answer `instances.simulateMaintenanceEvent`: a Spot instance is preempted."""
    again = repeated(ask, type="simulateMaintenanceEvent", name=ask.path["instance"])
    if again is not None:
        return ask.render(again)
    instance = find(ask)
    _require(ask, instance, "RUNNING")
    ask.service.lifecycle.maintain(instance)
    operation = ask.service.lifecycle.begin(
        instance, type="simulateMaintenanceEvent", user=ask.user, request_id=ask.request_id
    )
    ask.service.lifecycle.settle(operation)
    return ask.render(operation)


def _transition(
    ask: Ask,
    type: str,
    work: Callable[[Instance, Operation], None],
    *states: str,
) -> dict[str, Any]:
    again = repeated(ask, type=type, name=ask.path["instance"])
    if again is not None:
        return ask.render(again)
    instance = find(ask)
    _require(ask, instance, *states)
    return _begin(ask, instance, type, work)


def _begin(
    ask: Ask, instance: Instance, type: str, work: Callable[[Instance, Operation], None]
) -> dict[str, Any]:
    operation = ask.service.lifecycle.begin(
        instance, type=type, user=ask.user, request_id=ask.request_id
    )
    work(instance, operation)
    return ask.render(operation)


def _require(ask: Ask, instance: Instance, *states: str) -> None:
    if states and instance.status not in states:
        raise errors.not_ready(
            ask.service.inventory.instance_path(zone=ask.zone, name=instance.name)
        )


_ONE = "zones/{zone}/instances/{instance}"

METHODS = (
    Method("instances.aggregatedList", "GET", "aggregated/instances", aggregate_instances),
    Method("instances.list", "GET", "zones/{zone}/instances", list_instances),
    Method("instances.insert", "POST", "zones/{zone}/instances", insert_instance),
    Method("instances.get", "GET", _ONE, get_instance),
    Method("instances.delete", "DELETE", _ONE, delete_instance),
    Method("instances.start", "POST", f"{_ONE}/start", start_instance),
    Method("instances.stop", "POST", f"{_ONE}/stop", stop_instance),
    Method("instances.reset", "POST", f"{_ONE}/reset", reset_instance),
    Method("instances.suspend", "POST", f"{_ONE}/suspend", suspend_instance),
    Method("instances.resume", "POST", f"{_ONE}/resume", resume_instance),
    Method(
        "instances.simulateMaintenanceEvent",
        "POST",
        f"{_ONE}/simulateMaintenanceEvent",
        simulate_maintenance,
    ),
)
