"""The project itself and its common metadata."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import bodies, checks, creation, errors, wire
from simcloud.gcp.metadata import project_number
from simcloud.gcp.render import metadata_body
from simcloud.gcp.web import Ask, Method

_GLOBAL_QUOTAS = {"NETWORKS": 5.0, "FIREWALLS": 100.0, "SNAPSHOTS": 1000.0, "IMAGES": 100.0}


async def get_project(ask: Ask) -> dict[str, Any]:
    """Answer `projects.get`."""
    project = ask.service.project
    return {
        "kind": "compute#project",
        "id": project_number(project),
        "creationTimestamp": "2026-01-05T02:00:00.000-08:00",
        "name": project,
        "commonInstanceMetadata": metadata_body(ask.service.inventory.metadata),
        "quotas": [
            {"metric": metric, "limit": limit, "usage": 0.0}
            for metric, limit in _GLOBAL_QUOTAS.items()
        ],
        "selfLink": wire.project_link(project),
        "defaultServiceAccount": creation.default_service_account(project),
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        "defaultNetworkTier": "PREMIUM",
        "vmDnsSetting": "ZONAL_ONLY",
    }


async def set_common_metadata(ask: Ask) -> dict[str, Any]:
    """Answer `projects.setCommonInstanceMetadata`; SSH keys reach running instances at once."""
    service = ask.service
    target = f"projects/{service.project}"
    repeated = service.operations.repeated(
        request_id=ask.request_id, type="setMetadata", target=target
    )
    if repeated is not None:
        return ask.render(repeated)
    body = bodies.parse(bodies.Metadata, ask.body)
    if body.fingerprint and body.fingerprint != wire.fingerprint(service.inventory.metadata):
        raise errors.condition_not_met(
            "Supplied fingerprint does not match current metadata fingerprint."
        )
    service.inventory.set_metadata(checks.check_metadata(body))
    for instance in service.inventory.instances():
        await service.power.refresh_keys(instance)
    operation = service.operations.start(
        type="setMetadata",
        scope="global",
        target=target,
        target_id=project_number(service.project),
        user=ask.user,
        request_id=ask.request_id,
    )
    service.lifecycle.settle(operation)
    return ask.render(operation)


METHODS = (
    Method("projects.get", "GET", "", get_project),
    Method(
        "projects.setCommonInstanceMetadata",
        "POST",
        "setCommonInstanceMetadata",
        set_common_metadata,
    ),
)
