"""Reserved external addresses: made, listed, labelled, released."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import bodies, listing
from simcloud.gcp.addresses import InsertAddress
from simcloud.gcp.records import Address, Operation
from simcloud.gcp.regions import REGIONS
from simcloud.gcp.web import Ask, Method


async def list_addresses(ask: Ask) -> dict[str, Any]:
    """Answer `addresses.list`."""
    addresses = ask.service.addresses
    return listing.page(
        [addresses.render(address) for address in addresses.list(region=ask.region)],
        query=listing.ListQuery.parse(ask.query),
        kind="compute#addressList",
        path=f"projects/{ask.service.project}/regions/{ask.region}/addresses",
    )


async def aggregate_addresses(ask: Ask) -> dict[str, Any]:
    """Answer `addresses.aggregatedList`. There are no global ones."""
    addresses = ask.service.addresses
    scopes: dict[str, list[dict[str, Any]]] = {
        "global": [],
        **{f"regions/{name}": [] for name in REGIONS},
    }
    for address in addresses.list():
        scopes[f"regions/{address.region}"].append(addresses.render(address))
    return listing.aggregated_page(
        scopes,
        query=listing.ListQuery.parse(ask.query),
        kind="compute#addressAggregatedList",
        path=f"projects/{ask.service.project}/aggregated/addresses",
        member="addresses",
    )


async def get_address(ask: Ask) -> dict[str, Any]:
    """Answer `addresses.get`."""
    addresses = ask.service.addresses
    return addresses.render(addresses.get(region=ask.region, name=ask.path["address"]))


async def insert_address(ask: Ask) -> dict[str, Any]:
    """Answer `addresses.insert`."""
    body = bodies.parse(InsertAddress, ask.body)
    repeated = _repeated(ask, body.name, "insert")
    if repeated is not None:
        return ask.render(repeated)
    made = ask.service.addresses.insert(
        body, region=ask.region, now=ask.service.context.clock.now()
    )
    return ask.render(_settled(ask, made, "insert"))


async def delete_address(ask: Ask) -> dict[str, Any]:
    """Answer `addresses.delete`."""
    name = ask.path["address"]
    repeated = _repeated(ask, name, "delete")
    if repeated is not None:
        return ask.render(repeated)
    gone = ask.service.addresses.delete(region=ask.region, name=name)
    return ask.render(_settled(ask, gone, "delete"))


async def set_address_labels(ask: Ask) -> dict[str, Any]:
    """Answer `addresses.setLabels`."""
    body = bodies.parse(bodies.Labels, ask.body)
    changed = ask.service.addresses.label(region=ask.region, name=ask.path["address"], body=body)
    return ask.render(_settled(ask, changed, "setLabels"))


def _repeated(ask: Ask, name: str, type: str) -> Operation | None:
    return ask.service.operations.repeated(
        request_id=ask.request_id,
        type=type,
        target=ask.service.addresses.path(region=ask.region, name=name),
    )


def _settled(ask: Ask, address: Address, type: str) -> Operation:
    operation = ask.service.operations.start(
        type=type,
        scope=f"regions/{address.region}",
        target=ask.service.addresses.path(region=address.region, name=address.name),
        target_id=address.id,
        user=ask.user,
        request_id=ask.request_id,
    )
    ask.service.lifecycle.settle(operation)
    return operation


_ONE = "regions/{region}/addresses/{address}"

METHODS = (
    Method("addresses.aggregatedList", "GET", "aggregated/addresses", aggregate_addresses),
    Method("addresses.list", "GET", "regions/{region}/addresses", list_addresses),
    Method("addresses.insert", "POST", "regions/{region}/addresses", insert_address),
    Method("addresses.get", "GET", _ONE, get_address),
    Method("addresses.delete", "DELETE", _ONE, delete_address),
    Method("addresses.setLabels", "POST", f"{_ONE}/setLabels", set_address_labels),
)
