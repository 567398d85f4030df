"""Settings of an existing instance, and what its guest says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simcloud.gcp import bodies, checks, creation, errors, scheduling, wire
from simcloud.gcp.methods.instances import find, repeated
from simcloud.gcp.records import Instance
from simcloud.gcp.web import Ask, Method

Change = Callable[[Ask, Instance], None]


def _changing(type: str, change: Change) -> Callable[[Ask], Any]:
    """Return a handler that applies `change` at once and reports it as an operation."""

    async def handler(ask: Ask) -> dict[str, Any]:
        again = repeated(ask, type=type, name=ask.path["instance"])
        if again is not None:
            return ask.render(again)
        instance = find(ask)
        change(ask, instance)
        ask.service.inventory.save(instance)
        if type == "setMetadata":
            await ask.service.power.refresh_keys(instance)
        operation = ask.service.lifecycle.begin(
            instance, type=type, user=ask.user, request_id=ask.request_id
        )
        ask.service.lifecycle.settle(operation)
        return ask.render(operation)

    return handler


def _set_labels(ask: Ask, instance: Instance) -> None:
    body = bodies.parse(bodies.Labels, ask.body)
    if body.label_fingerprint != wire.fingerprint(instance.labels):
        raise errors.condition_not_met(
            "Labels fingerprint either invalid or resource labels have changed"
        )
    instance.labels = checks.check_labels(body.labels)


def _set_metadata(ask: Ask, instance: Instance) -> None:
    body = bodies.parse(bodies.Metadata, ask.body)
    if body.fingerprint != wire.fingerprint(instance.metadata):
        raise errors.condition_not_met(
            "Supplied fingerprint does not match current metadata fingerprint."
        )
    instance.metadata = checks.check_metadata(body)


def _set_tags(ask: Ask, instance: Instance) -> None:
    body = bodies.parse(bodies.Tags, ask.body)
    if body.fingerprint != wire.fingerprint(instance.tags):
        raise errors.condition_not_met(
            "Supplied fingerprint does not match current tags fingerprint."
        )
    instance.tags = checks.check_tags(body)


def _set_scheduling(ask: Ask, instance: Instance) -> None:
    body = bodies.parse(bodies.Scheduling, ask.body)
    settings = scheduling.normalize(body)
    changes_model = any(
        settings[name] != instance.scheduling[name] for name in ("preemptible", "provisioningModel")
    )
    if changes_model and instance.status != "TERMINATED":
        raise errors.invalid(
            "resource.scheduling.preemptible",
            body.preemptible,
            "It can only be changed while the instance is stopped.",
        )
    instance.scheduling = settings


def _set_machine_type(ask: Ask, instance: Instance) -> None:
    body = bodies.parse(bodies.MachineTypeChange, ask.body)
    if instance.status != "TERMINATED":
        raise errors.GoogleError(
            code=400,
            reason="invalidUsage",
            message="Invalid resource usage: 'Machine type can only be changed while the instance "
            "is stopped.'.",
        )
    instance.machine_type = checks.resolve_machine_type(body.machine_type, zone=instance.zone)


def _set_service_account(ask: Ask, instance: Instance) -> None:
    body = bodies.parse(bodies.ServiceAccount, ask.body)
    instance.service_accounts = (
        [creation.service_account(body, ask.service.project)] if body.email else []
    )


def _set_deletion_protection(ask: Ask, instance: Instance) -> None:
    instance.deletion_protection = _flag(ask, "deletionProtection", default="true")


def _set_disk_auto_delete(ask: Ask, instance: Instance) -> None:
    device = ask.query.get("deviceName", "")
    wanted = _flag(ask, "autoDelete", default="")
    for attachment in instance.disks:
        if attachment.device_name == device:
            attachment.auto_delete = wanted
            return
    raise errors.invalid("deviceName", device, "No such device is attached to the instance.")


def _flag(ask: Ask, name: str, *, default: str) -> bool:
    # gcloud writes Python's True
    text = ask.query.get(name, default).lower()
    if text not in ("true", "false"):
        raise errors.invalid(name, text, "Must be 'true' or 'false'.")
    return text == "true"


async def get_serial_port_output(ask: Ask) -> dict[str, Any]:
    """Answer `instances.getSerialPortOutput`: the machine's console from byte `start` on."""
    instance = find(ask)
    port, start = ask.query.get("port", "1"), ask.query.get("start", "0")
    if port not in ("1", "2", "3", "4"):
        raise errors.invalid("port", port, "Must be between 1 and 4.")
    if not start.lstrip("-").isdecimal():
        raise errors.invalid("start", start, "Must be an integer.")
    # only the first port has anything attached to it
    text = ask.service.context.machines.logs(instance.machine, 100_000) if port == "1" else ""
    console = text.encode()
    # a negative position counts from the end
    begin = int(start) if int(start) >= 0 else max(0, len(console) + int(start))
    path = ask.service.inventory.instance_path(zone=instance.zone, name=instance.name)
    return {
        "kind": "compute#serialPortOutput",
        "selfLink": f"{wire.link(path)}/serialPort",
        "start": str(begin),
        "next": str(max(begin, len(console))),
        "contents": console[begin:].decode(errors="replace"),
    }


async def get_guest_attributes(ask: Ask) -> dict[str, Any]:
    """Answer `instances.getGuestAttributes`."""
    instance = find(ask)
    query = ask.query.get("queryPath", "") or ask.query.get("variableKey", "")
    namespace, _, key = query.partition("/")
    items = []
    for path, value in instance.guest_attributes.items():
        found_namespace, _, found_key = path.partition("/")
        if namespace in ("", found_namespace) and key in ("", found_key):
            items.append({"namespace": found_namespace, "key": found_key, "value": value})
    path = ask.service.inventory.instance_path(zone=instance.zone, name=instance.name)
    if not items:
        # gcloud goes by this very wording to tell "none yet" from a failure
        raise errors.GoogleError(
            code=404,
            reason="notFound",
            message=f"The resource '{query}' of type 'Guest Attribute' was not found.",
        )
    return {
        "kind": "compute#guestAttributes",
        "queryPath": query,
        "selfLink": f"{wire.link(path)}/guestAttributes/{query}",
        "queryValue": {"items": items},
    }


_ONE = "zones/{zone}/instances/{instance}"


def _post(name: str, change: Change) -> Method:
    return Method(f"instances.{name}", "POST", f"{_ONE}/{name}", _changing(name, change))


METHODS = (
    _post("setLabels", _set_labels),
    _post("setMetadata", _set_metadata),
    _post("setTags", _set_tags),
    _post("setScheduling", _set_scheduling),
    _post("setMachineType", _set_machine_type),
    _post("setServiceAccount", _set_service_account),
    _post("setDeletionProtection", _set_deletion_protection),
    _post("setDiskAutoDelete", _set_disk_auto_delete),
    Method("instances.getSerialPortOutput", "GET", f"{_ONE}/serialPort", get_serial_port_output),
    Method(
        "instances.getGuestAttributes", "GET", f"{_ONE}/getGuestAttributes", get_guest_attributes
    ),
)
