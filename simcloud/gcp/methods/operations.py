"""Asking about operations: of a zone, of a region, of the project, of all."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import listing
from simcloud.gcp.records import Operation
from simcloud.gcp.regions import REGIONS, ZONES
from simcloud.gcp.web import Ask, Method

_LONGEST_WAIT_S = 120.0


def _scope(ask: Ask) -> str:
    if "zone" in ask.path:
        return f"zones/{ask.zone}"
    return f"regions/{ask.region}" if "region" in ask.path else "global"


def _named(ask: Ask) -> Operation:
    return ask.service.operations.get(scope=_scope(ask), name=ask.path["operation"])


async def get_operation(ask: Ask) -> dict[str, Any]:
    """Answer `get`."""
    return ask.render(_named(ask))


async def wait_operation(ask: Ask) -> dict[str, Any]:
    """Answer `wait`: as soon as it is done, or as it is after two minutes."""
    return ask.render(await ask.service.operations.wait(_named(ask), seconds=_LONGEST_WAIT_S))


async def delete_operation(ask: Ask) -> None:
    """Answer `delete`."""
    ask.service.operations.delete(_named(ask))


async def list_operations(ask: Ask) -> dict[str, Any]:
    """Answer `list`."""
    scope = _scope(ask)
    return listing.page(
        [ask.render(operation) for operation in ask.service.operations.list(scope=scope)],
        query=listing.ListQuery.parse(ask.query),
        kind="compute#operationList",
        path=f"projects/{ask.service.project}/{scope}/operations",
    )


async def aggregate_operations(ask: Ask) -> dict[str, Any]:
    """Answer `globalOperations.aggregatedList`."""
    scopes: dict[str, list[dict[str, Any]]] = {"global": []}
    scopes |= {f"regions/{name}": [] for name in REGIONS}
    scopes |= {f"zones/{name}": [] for name in ZONES}
    for operation in ask.service.operations.list():
        scopes[operation.scope].append(ask.render(operation))
    return listing.aggregated_page(
        scopes,
        query=listing.ListQuery.parse(ask.query),
        kind="compute#operationAggregatedList",
        path=f"projects/{ask.service.project}/aggregated/operations",
        member="operations",
    )


def _methods(collection: str, template: str) -> tuple[Method, ...]:
    one = template + "/{operation}"
    return (
        Method(f"{collection}.list", "GET", template, list_operations),
        Method(f"{collection}.get", "GET", one, get_operation),
        Method(f"{collection}.delete", "DELETE", one, delete_operation),
        Method(f"{collection}.wait", "POST", one + "/wait", wait_operation),
    )


METHODS = (
    Method("globalOperations.aggregatedList", "GET", "aggregated/operations", aggregate_operations),
    *_methods("zoneOperations", "zones/{zone}/operations"),
    *_methods("regionOperations", "regions/{region}/operations"),
    *_methods("globalOperations", "global/operations"),
)
