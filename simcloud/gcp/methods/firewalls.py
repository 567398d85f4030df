"""Firewall rules: read, made, changed, removed."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import bodies, listing
from simcloud.gcp.firewalls import Rule
from simcloud.gcp.records import Operation
from simcloud.gcp.web import Ask, Method


async def list_firewalls(ask: Ask) -> dict[str, Any]:
    """Answer `firewalls.list`."""
    return listing.page(
        ask.service.firewalls.list(),
        query=listing.ListQuery.parse(ask.query),
        kind="compute#firewallList",
        path=f"projects/{ask.service.project}/global/firewalls",
    )


async def get_firewall(ask: Ask) -> dict[str, Any]:
    """Answer `firewalls.get`."""
    return ask.service.firewalls.get(ask.path["firewall"])


async def insert_firewall(ask: Ask) -> dict[str, Any]:
    """Answer `firewalls.insert`."""
    body = bodies.parse(Rule, ask.body)
    repeated = _repeated(ask, body.name or "", "insert")
    if repeated is not None:
        return ask.render(repeated)
    rule = ask.service.firewalls.insert(body, now=ask.service.context.clock.now())
    return ask.render(_settled(ask, rule, "insert"))


async def patch_firewall(ask: Ask) -> dict[str, Any]:
    """Answer `firewalls.patch`."""
    repeated = _repeated(ask, ask.path["firewall"], "patch")
    if repeated is not None:
        return ask.render(repeated)
    rule = ask.service.firewalls.patch(ask.path["firewall"], bodies.parse(Rule, ask.body))
    return ask.render(_settled(ask, rule, "patch"))


async def delete_firewall(ask: Ask) -> dict[str, Any]:
    """Answer `firewalls.delete`."""
    repeated = _repeated(ask, ask.path["firewall"], "delete")
    if repeated is not None:
        return ask.render(repeated)
    rule = ask.service.firewalls.delete(ask.path["firewall"])
    return ask.render(_settled(ask, rule, "delete"))


def _repeated(ask: Ask, name: str, type: str) -> Operation | None:
    return ask.service.operations.repeated(
        request_id=ask.request_id, type=type, target=ask.service.firewalls.path(name)
    )


def _settled(ask: Ask, rule: dict[str, Any], type: str) -> Operation:
    operation = ask.service.operations.start(
        type=type,
        scope="global",
        target=ask.service.firewalls.path(rule["name"]),
        target_id=rule["id"],
        user=ask.user,
        request_id=ask.request_id,
    )
    ask.service.lifecycle.settle(operation)
    return operation


METHODS = (
    Method("firewalls.list", "GET", "global/firewalls", list_firewalls),
    Method("firewalls.insert", "POST", "global/firewalls", insert_firewall),
    Method("firewalls.get", "GET", "global/firewalls/{firewall}", get_firewall),
    Method("firewalls.patch", "PATCH", "global/firewalls/{firewall}", patch_firewall),
    Method("firewalls.delete", "DELETE", "global/firewalls/{firewall}", delete_firewall),
)
