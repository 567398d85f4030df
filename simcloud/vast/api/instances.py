"""Instances: showing, starting, stopping, bidding, restarting, destroying."""

from __future__ import annotations

from typing import Any

from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.errors import VastError, invalid, no_such_instance
from simcloud.vast.instance import Instance
from simcloud.vast.listing import page_of, parse_listing
from simcloud.vast.ordering import read_env, read_price

ROW_EFFECTS = frozenset({"metrics_null", "metrics_unknown", "trailing_newline"})
LIST_EFFECTS = frozenset({"empty_list", "truncated_list"})
"""Fault effects of rows, and of whole lists."""


def _row(call: Call, instance: Instance, operation: str) -> dict[str, Any]:
    fault = call.cloud.context.faults.fire(
        provider="vast",
        operation=operation,
        effects=ROW_EFFECTS,
        instance=str(instance.id),
        label=instance.label,
    )
    return call.cloud.row(instance, fault=fault)


def _listed(call: Call, operation: str) -> list[dict[str, Any]]:
    """Return all rows, or fewer when a fault hides some."""
    instances = call.cloud.roster.listed()
    rule = call.cloud.context.faults.fire(
        provider="vast", operation=operation, effects=LIST_EFFECTS
    )
    if rule is not None:
        instances = [] if rule.effect == "empty_list" else instances[: len(instances) // 2]
    return [_row(call, each, operation) for each in instances]


async def _show(call: Call) -> Any:
    instance = call.cloud.roster.instances.get(call.id)
    return {"instances": None if instance is None else _row(call, instance, "instances.show")}


async def _list_v0(call: Call) -> Any:
    return {"instances": _listed(call, "instances.list")}


async def _list_v1(call: Call) -> Any:
    listing = parse_listing(
        filters=call.query_json("select_filters", {}),
        order=call.query_json("order_by", None),
        columns=call.query_json("select_cols", None),
        limit=call.query_int("limit", 25),
        after=call.request.query_params.get("after_token"),
    )
    return page_of(_listed(call, "instances.list_v1"), listing)


async def _filters(call: Call) -> Any:
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (call.cloud.row(each) for each in call.cloud.roster.listed()):
        combination = {key: row[key] for key in ("actual_status", "verification", "gpu_name")}
        seen[tuple(combination.values())] = combination
    return {"success": True, "filters": list(seen.values())}


async def _update(call: Call) -> Any:
    _apply(call, call.cloud.roster.get(call.id))
    return {"success": True}


async def _update_many(call: Call) -> Any:
    instances, missing = _several(call, call.fields().get("ids"), "ids")
    for each in instances:
        _apply(call, each)
    return {"success": True, "updated": [each.id for each in instances], "not_found": missing}


def _apply(call: Call, instance: Instance) -> None:
    body = call.fields()
    cloud = call.cloud
    if "state" not in body and "label" not in body:
        raise invalid("state or label is required")
    if "label" in body:
        label = body["label"]
        if label is not None and not isinstance(label, str):
            raise invalid("label: must be text")
        if label is not None and len(label) > 1024:
            raise invalid("label: at most 1024 characters")
        instance.label = label
        cloud.roster.save(instance)
    match body.get("state"):
        case "running":
            cloud.fleet.start(instance)
        case "stopped":
            cloud.fleet.stop(instance)
        case None:
            pass
        case other:
            raise invalid(f"state: {other!r} is neither running nor stopped")


async def _destroy(call: Call) -> Any:
    await _end(call, call.cloud.roster.get(call.id))
    return {"success": True}


async def _destroy_many(call: Call) -> Any:
    instances, missing = _several(call, call.fields().get("instance_ids"), "instance_ids")
    for each in instances:
        await _end(call, each)
    return {"success": True, "destroyed": [each.id for each in instances], "not_found": missing}


async def _end(call: Call, instance: Instance) -> None:
    rule = call.cloud.context.faults.fire(
        provider="vast",
        operation="instances.destroy",
        effects={"destroyed_but_listed"},
        instance=str(instance.id),
        label=instance.label,
    )
    await call.cloud.fleet.destroy(
        instance, listed_s=0.0 if rule is None else rule.number("seconds", 10.0)
    )


def _several(call: Call, ids: Any, field: str) -> tuple[list[Instance], list[int]]:
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        raise invalid(f"{field}: must be a list of instance ids")
    known = call.cloud.roster.instances
    found = [known[each] for each in ids if each in known and known[each].exists()]
    if not found:
        slug = call.cloud.knobs.values.missing_instance_slug
        raise no_such_instance(ids[0] if ids else 0, slug)
    existing = {each.id for each in found}
    return found, [each for each in ids if each not in existing]


async def _change_bid(call: Call) -> Any:
    price = call.fields().get("price")
    instance = call.cloud.roster.get(call.id)
    call.cloud.fleet.change_bid(instance, read_price(price))
    return {"success": True}


async def _reboot(call: Call) -> Any:
    call.cloud.fleet.reboot(call.cloud.roster.get(call.id))
    return {"success": True}


async def _recycle(call: Call) -> Any:
    call.cloud.fleet.reboot(call.cloud.roster.get(call.id), recycle=True)
    return {"success": True}


async def _update_template(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    body = call.fields()
    if body.get("image"):
        instance.image = str(body["image"])
    if "onstart" in body:
        instance.onstart = None if body["onstart"] is None else str(body["onstart"])
    if "env" in body:
        instance.env = read_env(body["env"])
    call.cloud.roster.save(instance)
    if instance.cur_state == "running":
        call.cloud.fleet.reboot(instance, recycle=True)
    return {"success": True, "updated_instance": call.cloud.row(instance)}


async def _pending_increases(call: Call) -> Any:
    rows = call.cloud.price_increases.pending()
    return {
        "success": True,
        "count": len(rows),
        "truncated": False,
        "pending_price_increases": rows,
    }


async def _accept_increase(call: Call) -> Any:
    return call.cloud.price_increases.decide(_increase_id(call), accept=True)


async def _reject_increase(call: Call) -> Any:
    return call.cloud.price_increases.decide(_increase_id(call), accept=False)


def _increase_id(call: Call) -> Any:
    body = call.fields()
    if set(body) != {"pending_price_increase_id"}:
        raise invalid("the body must be exactly {pending_price_increase_id}")
    return body["pending_price_increase_id"]


async def _balance(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    raise VastError(400, "not_prepaid", f"instance {instance.id} has no deposit of its own")


_V0 = "/api/v0/instances"

ENDPOINTS = [
    Endpoint(operation="instances.list", method="GET", path=_V0, handler=_list_v0),
    Endpoint(
        operation="instances.list_v1", method="GET", path="/api/v1/instances", handler=_list_v1
    ),
    Endpoint(operation="instances.filters", method="GET", path=f"{_V0}/filters", handler=_filters),
    Endpoint(operation="instances.show", method="GET", path=f"{_V0}/{{id:int}}", handler=_show),
    Endpoint(operation="instances.update", method="PUT", path=f"{_V0}/{{id:int}}", handler=_update),
    Endpoint(operation="instances.bulk_update", method="PUT", path=_V0, handler=_update_many),
    Endpoint(
        operation="instances.destroy", method="DELETE", path=f"{_V0}/{{id:int}}", handler=_destroy
    ),
    Endpoint(operation="instances.bulk_destroy", method="DELETE", path=_V0, handler=_destroy_many),
    Endpoint(
        operation="instances.change_bid",
        method="PUT",
        path=f"{_V0}/bid_price/{{id:int}}",
        handler=_change_bid,
    ),
    Endpoint(
        operation="instances.reboot",
        method="PUT",
        path=f"{_V0}/reboot/{{id:int}}",
        handler=_reboot,
    ),
    Endpoint(
        operation="instances.recycle",
        method="PUT",
        path=f"{_V0}/recycle/{{id:int}}",
        handler=_recycle,
    ),
    Endpoint(
        operation="instances.update_template",
        method="PUT",
        path=f"{_V0}/update_template/{{id:int}}",
        handler=_update_template,
    ),
    Endpoint(
        operation="instances.balance",
        method="GET",
        path=f"{_V0}/balance/{{id:int}}",
        handler=_balance,
    ),
    Endpoint(
        operation="instances.price_increases",
        method="GET",
        path=f"{_V0}/pending-price-increases",
        handler=_pending_increases,
    ),
    Endpoint(
        operation="instances.accept_price_increase",
        method="PUT",
        path=f"{_V0}/accept-price-increase",
        handler=_accept_increase,
    ),
    Endpoint(
        operation="instances.reject_price_increase",
        method="PUT",
        path=f"{_V0}/reject-price-increase",
        handler=_reject_increase,
    ),
]
