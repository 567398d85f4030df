"""What an instance can ask about itself: the tree below `/computeMetadata/v1/`.

Only the content and its two notations; the server around it is `metadata_server.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from simcloud.gcp.images import find_image
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.records import Instance
from simcloud.gcp.wire import stable_id

Tree = dict[str, Any]
"""Directories are dicts, lists are directories of their indexes, leaves are text or numbers."""

# below these, so many levels of names are the user's: they keep their spelling in JSON too
_FREE_LEVELS = {"attributes": 1, "guest-attributes": 2, "service-accounts": 1}
_DISK_KINDS = {"pd-standard": "PERSISTENT", "pd-balanced": "PERSISTENT-BALANCED"}


def project_number(project: str) -> str:
    """Return the numeric name of a project: twelve digits."""
    return stable_id("project", project)[:12]


def build(instance: Instance, *, inventory: Inventory, project: str) -> Tree:
    """Return the whole tree for one instance, keys spelled as in paths."""
    number = project_number(project)
    return {
        "instance": _instance(instance, inventory=inventory, project=project, number=number),
        "project": {
            "attributes": _attributes(inventory.metadata),
            "numeric-project-id": int(number),
            "project-id": project,
        },
        "oslogin": {"authenticate": {"sessions": {}}},
    }


def _attributes(items: Iterable[dict[str, str]]) -> Tree:
    return {item["key"]: item["value"] for item in items}


def _instance(instance: Instance, *, inventory: Inventory, project: str, number: str) -> Tree:
    boot = inventory.disk(zone=instance.zone, name=next(a.disk for a in instance.disks if a.boot))
    spot = bool(instance.scheduling["preemptible"])
    image = (
        find_image(project=boot.image_project, name=boot.image)
        if boot.image_project and boot.image
        else None
    )
    return {
        "attributes": _attributes(instance.metadata),
        "cpu-platform": "Intel Broadwell",
        "description": instance.description or "",
        "disks": [
            {
                "device-name": attachment.device_name,
                "index": index,
                "interface": attachment.interface,
                "mode": attachment.mode,
                "type": _DISK_KINDS.get(
                    inventory.disk(zone=instance.zone, name=attachment.disk).type,
                    "PERSISTENT-SSD",
                ),
            }
            for index, attachment in enumerate(instance.disks)
        ],
        "guest-attributes": _nested(instance.guest_attributes),
        "hostname": instance.hostname or f"{instance.name}.{instance.zone}.c.{project}.internal",
        "id": int(instance.id),
        "image": f"projects/{image.project}/global/images/{image.name}" if image else "",
        "licenses": [],
        "machine-type": f"projects/{number}/machineTypes/{instance.machine_type}",
        "maintenance-event": instance.maintenance_event,
        "name": instance.name,
        "network-interfaces": [
            {
                "access-configs": (
                    []
                    if instance.access_config is None
                    else [{"external-ip": instance.address or "", "type": "ONE_TO_ONE_NAT"}]
                ),
                "dns-servers": ["169.254.169.254"],
                "gateway": instance.network_ip.rpartition(".")[0] + ".1",
                "ip": instance.network_ip,
                "ip-aliases": [],
                "mac": _mac(instance.network_ip),
                "mtu": 1460,
                "network": f"projects/{number}/networks/{instance.network}",
                "subnetmask": "255.255.240.0",
            }
        ],
        "preempted": "TRUE" if instance.preempted else "FALSE",
        "remaining-cpu-time": -1,
        "scheduling": {
            "automatic-restart": "TRUE" if instance.scheduling["automaticRestart"] else "FALSE",
            "on-host-maintenance": instance.scheduling["onHostMaintenance"],
            "preemptible": "TRUE" if spot else "FALSE",
        },
        "service-accounts": _service_accounts(instance),
        "tags": instance.tags,
        "virtual-clock": {"drift-token": "0"},
        "zone": f"projects/{number}/zones/{instance.zone}",
    }


def _service_accounts(instance: Instance) -> Tree:
    tree: Tree = {}
    for account in instance.service_accounts:
        entry = {
            "aliases": ["default"],
            "email": account["email"],
            "scopes": account["scopes"],
        }
        tree["default"] = entry
        tree[account["email"]] = entry
    return tree


def _nested(flat: dict[str, str]) -> Tree:
    tree: Tree = {}
    for path, value in flat.items():
        namespace, _, key = path.partition("/")
        tree.setdefault(namespace, {})[key] = value
    return tree


def _mac(ip: str) -> str:
    # Google derives the card's address from the internal IP in just this way
    return "42:01:" + ":".join(f"{int(part):02x}" for part in ip.split("."))


def find(tree: Any, path: str) -> Any:
    """Return what stands at a slash-separated path.

    Raises:
        KeyError: If nothing does.
    """
    node = tree
    for segment in (part for part in path.split("/") if part):
        if isinstance(node, dict):
            node = node[segment]
        elif isinstance(node, list) and segment.isdecimal() and int(segment) < len(node):
            node = node[int(segment)]
        else:
            raise KeyError(path)
    return node


def is_directory(node: Any) -> bool:
    """Whether the node has named or numbered entries (a list of texts is a leaf)."""
    return isinstance(node, dict) or (
        isinstance(node, list) and any(isinstance(entry, dict | list) for entry in node)
    )


def listing(node: Any) -> str:
    """Return a directory as text: one name a line, directories with a slash."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    return "".join(f"{name}/\n" if is_directory(child) else f"{name}\n" for name, child in entries)


def leaf_text(node: Any) -> str:
    """Return a leaf as text."""
    return "\n".join(map(str, node)) + "\n" if isinstance(node, list) and node else _plain(node)


def _plain(node: Any) -> str:
    return "" if isinstance(node, list) else str(node)


def as_json(node: Any) -> str:
    """Return a node as the server's JSON: fixed names in camelCase, users' names as they are."""
    return json.dumps(_camel_keys(node), separators=(",", ":"))


def as_flat_text(node: Any, prefix: str = "") -> str:
    """Return a whole directory as lines of `path value`."""
    if not is_directory(node):
        return f"{prefix} {leaf_text(node).strip()}\n"
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    return "".join(
        as_flat_text(child, f"{prefix}/{name}" if prefix else str(name)) for name, child in entries
    )


def _camel_keys(node: Any, *, free: int = 0) -> Any:
    """Rename keys, except on the next `free` levels."""
    if isinstance(node, list):
        return [_camel_keys(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        (key if free else _camel(key)): _camel_keys(
            value, free=max(free - 1, _FREE_LEVELS.get(key, 0))
        )
        for key, value in node.items()
    }


def _camel(name: str) -> str:
    head, *rest = name.split("-")
    return head + "".join(part.capitalize() for part in rest)
