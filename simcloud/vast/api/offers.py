"""Searching and renting offers."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from simcloud import control_links
from simcloud.faults import FaultRule
from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.cloud import VastCloud
from simcloud.vast.errors import VastError, invalid, no_such_ask, unavailable
from simcloud.vast.host import Host, Slot
from simcloud.vast.instance import Instance
from simcloud.vast.offer_row import Row, offer_row
from simcloud.vast.ordering import Order, read_order
from simcloud.vast.search import parse_query

SEARCH_EFFECTS = frozenset({"empty_offers", "search_quota_exceeded"})
CREATE_EFFECTS = frozenset(
    {"offer_gone", "created_but_error", "born_stopped", "insufficient_credit"}
)
LATER_EFFECTS = frozenset({"outbid_after", "host_offline_after", "kill_after", "cut_after"})
"""Fault effects of searches, of creates, and of the time after a create."""


async def _search(call: Call) -> Any:
    return {"offers": _find(call, call.body)}


async def _search_get(call: Call) -> Any:
    return {"offers": _find(call, call.query_json("q", {}))}


async def _search_asks(call: Call) -> Any:
    body = call.fields()
    offers = _find(call, body.get("q") or {})
    columns = body.get("select_cols") or ["*"]
    if "*" not in columns:
        offers = [{key: row[key] for key in columns if key in row} for row in offers]
    return {"success": True, "offers": offers}


def _find(call: Call, body: Any) -> list[Row]:
    """Run a search."""
    cloud = call.cloud
    rule = cloud.context.faults.fire(
        provider="vast", operation="offers.search", effects=SEARCH_EFFECTS
    )
    if rule is not None and rule.effect == "search_quota_exceeded":
        cloud.quota.set_left(0)
    query = parse_query(body)
    cloud.quota.spend()
    if rule is not None and rule.effect == "empty_offers":
        return []
    market = cloud.market
    market.prolong()
    offers = [
        market.offer(host, slot, own_bid=cloud.tenancy.own_bid(host, slot))
        for host in market.hosts.values()
        if host.online and host.listed
        for slot in host.slots
    ]
    rows = [
        offer_row(
            offer,
            kind=query.kind,
            allocated_storage=query.allocated_storage,
            now=cloud.context.clock.now(),
            bid_prices=cloud.knobs.values.bid_search_shows_min_bid,
        )
        for offer in [*offers, *market.stale_offers()]
    ]
    limit = cloud.knobs.values.search_default_limit if query.limit is None else query.limit
    return query.sort([row for row in rows if query.matches(row)])[:limit]


async def _create(call: Call) -> Any:
    return await _rent(call.cloud, call.id, call.body)


async def _create_bulk(call: Call) -> Any:
    ids = call.fields().get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(each, int) for each in ids):
        raise invalid("ids: must be a list of offer ids")
    results: list[dict[str, Any]] = []
    for ask_id in ids:
        try:
            answer = await _rent(call.cloud, ask_id, call.body)
        except VastError as error:
            results.append({"ask_id": ask_id, **error.body})
        else:
            refused = isinstance(answer, JSONResponse)
            results.append(
                {"ask_id": ask_id, "success": not refused, **({} if refused else answer)}
            )
    created = [row["new_contract"] for row in results if row["success"]]
    return {"success": bool(created), "new_contracts": created, "results": results}


async def _launch(call: Call) -> Any:
    body = call.fields()
    offers = _find(call, body.get("q") or {})
    if not offers:
        raise VastError(404, "no_offers", "No offers found matching the search.")
    for row in offers:
        try:
            return await _rent(call.cloud, row["id"], body)
        except VastError as error:
            # the best offer may be stale; the next one is as good
            if error.status not in (404, 410):
                raise
    raise unavailable(offers[0]["id"])


async def _rent(cloud: VastCloud, ask_id: int, body: Any) -> Any:
    """Create an instance from an offer, or refuse, or do both."""
    order = read_order(body)
    faults = cloud.context.faults
    rule = faults.fire(
        provider="vast", operation="asks.create", effects=CREATE_EFFECTS, label=order.label
    )
    effect = None if rule is None else rule.effect
    if effect == "insufficient_credit" or cloud.billing.credit <= 0:
        raise cloud.fleet.no_credit()
    host, slot = _find_ask(cloud, ask_id)
    if rule is not None and effect == "offer_gone":
        cloud.market.take(host, slot, seconds=rule.number("seconds", 3600.0))
        raise _gone(ask_id, int(rule.number("status", 404)))
    if order.disk_gb > host.disk_space * slot.num_gpus / host.num_gpus:
        raise invalid(f"disk: {order.disk_gb:g} GB is more than the offer has")
    refusal = _low_bid_refusal(cloud, order, host, slot)
    if refusal is not None and cloud.knobs.values.low_bid_create == "error":
        raise refusal
    instance = await cloud.fleet.create(
        order,
        host=host,
        slot=slot,
        keys=cloud.account.attached(),
        born_stopped=effect == "born_stopped"
        or (
            rule is not None
            and effect == "created_but_error"
            and not rule.parameters.get("running")
        ),
    )
    _schedule(cloud, instance)
    if rule is not None and effect == "created_but_error":
        refusal = _spoiled(rule, ask_id)
    if refusal is not None:
        # the trap: a refusal that still carries an instance, which bills its disk
        body = {**refusal.body, "new_contract": instance.id}
        return JSONResponse(body, status_code=refusal.status)
    return {"success": True, "new_contract": instance.id, "instance_api_key": instance.api_key}


def _find_ask(cloud: VastCloud, ask_id: int) -> tuple[Host, Slot]:
    found = cloud.market.find_ask(ask_id)
    if found is None:
        raise no_such_ask(ask_id)
    host, slot = found
    if not (host.online and host.listed) or slot.rival_until is not None:
        raise no_such_ask(ask_id)
    return host, slot


def _gone(ask_id: int, status: int) -> VastError:
    if status == 410:
        return unavailable(ask_id)
    if status == 404:
        return no_such_ask(ask_id)
    return VastError(status, "no_such_ask", f"ask {ask_id} was rented by another user")


def _low_bid_refusal(cloud: VastCloud, order: Order, host: Host, slot: Slot) -> VastError | None:
    """Return the error that a bid below the minimum gets, if the knob says that it gets one."""
    knobs = cloud.knobs.values
    if order.price is None or order.cancel_unavail or knobs.low_bid_create == "stopped":
        return None
    least = cloud.market.min_bid(host, slot, own_bid=cloud.tenancy.own_bid(host, slot))
    if order.price >= least:
        return None
    return VastError(
        knobs.low_bid_status,
        knobs.low_bid_slug,
        f"error {knobs.low_bid_status}/3631: bid {order.price} is below min_bid {least}.",
    )


def _spoiled(rule: FaultRule, ask_id: int) -> VastError:
    return VastError(
        int(rule.number("status", 400)),
        rule.text("error", "invalid_args"),
        rule.text("msg", f"error 400/3612: ask {ask_id} could not be started."),
    )


def _schedule(cloud: VastCloud, instance: Instance) -> None:
    """Plan what a fault rule wants to happen to a new instance later."""
    rule = cloud.context.faults.fire(
        provider="vast",
        operation="asks.create",
        effects=LATER_EFFECTS,
        instance=str(instance.id),
        label=instance.label,
    )
    if rule is None:
        return
    later, seconds = cloud.roster.transitions.later, rule.number("seconds", 2.0)
    match rule.effect:
        case "outbid_after":
            later(seconds, lambda: cloud.tenancy.outbid_now(instance))
        case "host_offline_after":
            host = cloud.roster.host_of(instance)
            later(seconds, lambda: cloud.outages.go_offline(host, network_only=False))
        case "cut_after":
            fault = control_links.link_of(rule)
            later(seconds, lambda: cloud.context.machines.set_link(instance.name, fault))
        case _:
            later(seconds, lambda: cloud.context.machines.crash(instance.name))


ENDPOINTS = [
    Endpoint(operation="offers.search", method="POST", path="/api/v0/bundles", handler=_search),
    Endpoint(
        operation="offers.search_get", method="GET", path="/api/v0/bundles", handler=_search_get
    ),
    Endpoint(
        operation="offers.search_asks",
        method="PUT",
        path="/api/v0/search/asks",
        handler=_search_asks,
    ),
    Endpoint(
        operation="asks.bulk_create",
        method="POST",
        path="/api/v0/asks/bulk",
        handler=_create_bulk,
    ),
    Endpoint(operation="asks.create", method="PUT", path="/api/v0/asks/{id:int}", handler=_create),
    Endpoint(
        operation="asks.launch", method="PUT", path="/api/v0/launch_instance", handler=_launch
    ),
]
