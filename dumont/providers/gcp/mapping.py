"""Google's VMs in our words, and our orders in Google's. Pure.

Facts: the Compute v1 discovery document. Enumerations arrive as names.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from dumont.domain.instances import Instance, InstanceState, Rental, SshAddress
from dumont.ports import VmOrder
from dumont.providers.gcp.errors import PROVIDER

SSH_USER = "dumont"
"""Google's guest agent makes this user, with sudo, from the `ssh-keys` of the metadata."""

STANDBY_TAG = "dumont-standby"
"""Network tag of every VM of ours: what the endpoint's firewall rule holds for."""

IMAGE = "projects/debian-cloud/global/images/family/debian-12"

_REQUESTS = uuid.UUID("0d4a5b0e-0a55-4f0c-8a0e-6f1b7d0c2a31")

_STATES = {
    "PENDING": InstanceState.STARTING,
    "PROVISIONING": InstanceState.STARTING,
    "STAGING": InstanceState.STARTING,
    "RUNNING": InstanceState.RUNNING,
    # Google moves it to another host after a fault: out of reach, and usually back.
    "REPAIRING": InstanceState.OFFLINE,
    "PENDING_STOP": InstanceState.STOPPED,
    "STOPPING": InstanceState.STOPPED,
    "STOPPED": InstanceState.STOPPED,
    "SUSPENDING": InstanceState.STOPPED,
    "SUSPENDED": InstanceState.STOPPED,
    "TERMINATED": InstanceState.STOPPED,
    "DEPROVISIONING": InstanceState.STOPPED,
}


def request_id(*, project: str, zone: str, name: str) -> str:
    """Google's idempotency key of an insert: the same VM, the same id."""
    return str(uuid.uuid5(_REQUESTS, f"insert {project}/{zone}/{name}"))


def instance_resource(order: VmOrder) -> dict[str, Any]:
    """The body of an insert. The VM gets no service account: it needs no right at Google."""
    scheduling: dict[str, Any] = (
        {
            "provisioning_model": "SPOT",
            "instance_termination_action": "STOP",
            "on_host_maintenance": "TERMINATE",
            "automatic_restart": False,
            "preemptible": True,
        }
        if order.spot
        else {
            "provisioning_model": "STANDARD",
            "on_host_maintenance": "MIGRATE",
            "automatic_restart": True,
        }
    )
    metadata = {
        "ssh-keys": "\n".join(f"{SSH_USER}:{key.strip()}" for key in order.ssh_keys),
        "startup-script": order.startup_script,
        "block-project-ssh-keys": "TRUE",
    }
    return {
        "name": order.name,
        "machine_type": f"zones/{order.zone}/machineTypes/{order.machine_type}",
        "labels": dict(order.labels),
        "tags": {"items": [STANDBY_TAG]},
        "scheduling": scheduling,
        "metadata": {"items": [{"key": k, "value": v} for k, v in metadata.items() if v]},
        "disks": [
            {
                "boot": True,
                "auto_delete": True,
                "initialize_params": {
                    "source_image": IMAGE,
                    "disk_size_gb": order.disk_gb,
                    "disk_type": f"zones/{order.zone}/diskTypes/{order.disk_type}",
                    # A disk that outlives its VM is found and known by them.
                    "labels": dict(order.labels),
                },
            }
        ],
        "network_interfaces": [
            {
                "network": "global/networks/default",
                "access_configs": [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}],
            }
        ],
    }


def instance_from(vm: Any) -> Instance:
    """The instance that a Compute v1 `Instance` describes. Its price is not in it: unknown."""
    status = str(vm.status)
    stops = (moment(vm.last_stop_timestamp), moment(vm.last_suspended_timestamp))
    sizes = [disk.disk_size_gb for disk in vm.disks]
    spot = vm.scheduling.provisioning_model == "SPOT" or vm.scheduling.preemptible
    return Instance(
        provider=PROVIDER,
        instance_id=str(vm.id),
        label=vm.name,
        state=_STATES.get(status, InstanceState.UNKNOWN),
        detail=f"{status} {vm.status_message}".strip(),
        ssh=_ssh(vm),
        rental=Rental.SPOT if spot else Rental.ON_DEMAND,
        region=tail(vm.zone),
        created_at=moment(vm.creation_timestamp),
        machine_type=tail(vm.machine_type) or None,
        disk_gb=float(sum(sizes)) if sizes and all(sizes) else None,
        started_at=moment(vm.last_start_timestamp),
        stopped_at=max((stop for stop in stops if stop is not None), default=None),
    )


def tail(link: str) -> str:
    """The last part of a resource link."""
    return link.rpartition("/")[2]


def moment(text: str) -> datetime | None:
    """An RFC 3339 time, or None when there is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _ssh(vm: Any) -> SshAddress | None:
    for interface in vm.network_interfaces:
        for access in interface.access_configs:
            if access.nat_i_p:
                return SshAddress(host=access.nat_i_p, port=22, user=SSH_USER)
    return None
