"""Vast's part of the control API: its instances, hosts, market, money and knobs from behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simcloud import control_links
from simcloud.control_body import read_body
from simcloud.vast.cloud import VastCloud
from simcloud.vast.errors import VastError
from simcloud.vast.instance import Instance
from simcloud.vast.instance_row import Metrics


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HostOffline(_Body):
    """How a host leaves."""

    network_only: bool = False
    """Its machines live on, cut off; otherwise the power is gone."""


class HostOnline(_Body):
    """How a host comes back."""

    new_address: bool | None = None
    """Null leaves it to the host: without a static address it has a new one."""


class Seconds(_Body):
    """A length of time."""

    seconds: float = Field(default=3600.0, gt=0)


class PriceFactor(_Body):
    """A price increase."""

    factor: float = Field(default=1.5, gt=0)


class Bandwidth(_Body):
    """Traffic to bill."""

    up_gb: float = Field(default=0.0, ge=0)
    down_gb: float = Field(default=0.0, ge=0)


class Credit(_Body):
    """Money on the account."""

    credit: float | None = None
    """Set it."""
    add: float | None = None
    """Or pay in, with an invoice."""


class SearchesLeft(_Body):
    """Today's remaining searches."""

    left: int = Field(ge=0)


class Ticks(_Body):
    """Moves of the market to make at once."""

    count: int = Field(default=1, ge=1, le=10_000)


class NewHost(_Body):
    """A host to bring to the market."""

    gpu: str
    sizes: list[int] = Field(default=[1], min_length=1)
    plain: bool = True


class Strictness(_Body):
    """Whether rate limits are enforced."""

    strict: bool


class NoBody(_Body):
    """An action without details."""


def control_routes(cloud: VastCloud) -> list[Route]:
    """Return the routes below `/vast`."""
    return [
        *_instance_routes(cloud),
        *_market_routes(cloud),
        *_account_routes(cloud),
        *_knob_routes(cloud),
    ]


def _instance_routes(cloud: VastCloud) -> list[Route]:
    roster = cloud.roster

    async def outbid(instance: Instance, body: NoBody) -> None:
        cloud.tenancy.outbid_now(instance)

    async def resume(instance: Instance, body: NoBody) -> None:
        cloud.tenancy.win_back(instance)

    async def preempt(instance: Instance, body: Seconds) -> None:
        host = roster.host_of(instance)
        cloud.market.take(host, host.slots[instance.slot], seconds=body.seconds)

    async def offline(instance: Instance, body: HostOffline) -> None:
        await cloud.outages.go_offline(roster.host_of(instance), network_only=body.network_only)

    async def online(instance: Instance, body: HostOnline) -> None:
        await cloud.outages.come_back(roster.host_of(instance), new_address=body.new_address)

    async def kill(instance: Instance, body: NoBody) -> None:
        await cloud.context.machines.crash(instance.name)

    async def freeze(instance: Instance, body: NoBody) -> None:
        await cloud.context.machines.freeze(instance.name)

    async def thaw(instance: Instance, body: NoBody) -> None:
        await cloud.context.machines.thaw(instance.name)

    async def link(instance: Instance, body: control_links.LinkChange) -> None:
        await control_links.change(cloud.context.machines, instance.name, body)

    async def metrics(instance: Instance, body: Metrics) -> None:
        fixed = body.model_dump(exclude_unset=True)
        instance.fixed_metrics = fixed or None
        roster.save(instance)

    async def increase(instance: Instance, body: PriceFactor) -> None:
        now = cloud.context.clock.now()
        cloud.price_increases.propose(instance, factor=body.factor, now=now)

    async def bandwidth(instance: Instance, body: Bandwidth) -> None:
        host = roster.host_of(instance)
        cloud.billing.traffic(
            instance,
            now=cloud.context.clock.now(),
            up_gb=body.up_gb,
            down_gb=body.down_gb,
            gpu_name=host.gpu,
            num_gpus=host.slots[instance.slot].num_gpus,
        )

    async def maintenance(instance: Instance, body: NoBody) -> None:
        cloud.webhooks.notify("maintenance", instance_id=instance.id, label=instance.label)

    actions: dict[str, tuple[type[BaseModel], Callable[[Instance, Any], Awaitable[None]]]] = {
        "outbid": (NoBody, outbid),
        "resume": (NoBody, resume),
        "preempt": (Seconds, preempt),
        "host-offline": (HostOffline, offline),
        "host-online": (HostOnline, online),
        "kill": (NoBody, kill),
        "freeze": (NoBody, freeze),
        "thaw": (NoBody, thaw),
        "link": (control_links.LinkChange, link),
        "metrics": (Metrics, metrics),
        "price-increase": (PriceFactor, increase),
        "bandwidth": (Bandwidth, bandwidth),
        "maintenance": (NoBody, maintenance),
    }

    async def listing(request: Request) -> Response:
        rows = [_inside(cloud, each) for each in roster.listed()]
        return JSONResponse({"instances": rows})

    async def act(request: Request) -> Response:
        name = request.path_params["action"]
        if name not in actions:
            raise HTTPException(404, f"action: {name!r} is none of {', '.join(actions)}")
        model, action = actions[name]
        body = await read_body(request, model)
        try:
            instance = roster.get(request.path_params["id"])
            await action(instance, body)
        except VastError as error:
            raise HTTPException(404, str(error)) from error
        except RuntimeError as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse(_inside(cloud, instance))

    return [
        Route("/instances", listing, methods=["GET"]),
        Route("/instances/{id:int}/{action}", act, methods=["POST"]),
    ]


def _inside(cloud: VastCloud, instance: Instance) -> dict[str, Any]:
    """Return an instance with what its provider alone knows."""
    host = cloud.roster.host_of(instance)
    slot = host.slots[instance.slot]
    return {
        **instance.model_dump(),
        "machine": instance.name,
        "machine_alive": cloud.context.machines.alive(instance.name),
        "machine_frozen": cloud.context.machines.frozen(instance.name),
        "machine_link": control_links.shown(cloud.context.machines, instance.name),
        "host_online": host.online,
        "gpu_name": host.gpu,
        "num_gpus": slot.num_gpus,
        "rival_bid": slot.rival_bid,
        "min_bid": cloud.market.min_bid(host, slot),
    }


def _market_routes(cloud: VastCloud) -> list[Route]:
    market = cloud.market

    async def show(request: Request) -> Response:
        hosts = [
            {
                **host.model_dump(),
                "geolocation": host.where.geolocation,
                "prices": [market.price(host, slot) for slot in host.slots],
                "min_bids": [market.min_bid(host, slot) for slot in host.slots],
            }
            for host in market.hosts.values()
        ]
        return JSONResponse({"hosts": hosts, "demand": market.demand})

    async def add_host(request: Request) -> Response:
        body = await read_body(request, NewHost)
        try:
            host = market.add_host(gpu=body.gpu, sizes=body.sizes, plain=body.plain)
        except KeyError:
            raise HTTPException(422, f"gpu: {body.gpu!r} is not in the catalogue") from None
        return JSONResponse(host.model_dump(), status_code=201)

    async def take(request: Request) -> Response:
        body = await read_body(request, Seconds)
        found = market.find_ask(request.path_params["id"])
        if found is None:
            raise HTTPException(404, f"nothing is offered under {request.path_params['id']}")
        market.take(*found, seconds=body.seconds)
        return JSONResponse({"taken": request.path_params["id"]})

    async def tick(request: Request) -> Response:
        for _ in range((await read_body(request, Ticks)).count):
            market.tick()
        return JSONResponse({"demand": market.demand})

    return [
        Route("/market", show, methods=["GET"]),
        Route("/market/hosts", add_host, methods=["POST"]),
        Route("/market/asks/{id:int}/take", take, methods=["POST"]),
        Route("/market/tick", tick, methods=["POST"]),
    ]


def _account_routes(cloud: VastCloud) -> list[Route]:
    def reading() -> dict[str, Any]:
        return {"credit": cloud.billing.credit, "searches_left": cloud.quota.left}

    async def show(request: Request) -> Response:
        return JSONResponse(reading())

    async def change(request: Request) -> Response:
        body = await read_body(request, Credit)
        if body.credit is not None:
            cloud.billing.set_credit(body.credit)
        if body.add is not None:
            now = cloud.context.clock.now()
            cloud.billing.pay(body.add, now=now, description="Credit added")
        cloud.fleet.bill_all()
        return JSONResponse(reading())

    async def searches(request: Request) -> Response:
        cloud.quota.set_left((await read_body(request, SearchesLeft)).left)
        return JSONResponse(reading())

    return [
        Route("/account", show, methods=["GET"]),
        Route("/account", change, methods=["PUT"]),
        Route("/account/searches", searches, methods=["PUT"]),
    ]


def _knob_routes(cloud: VastCloud) -> list[Route]:
    async def show(request: Request) -> Response:
        return JSONResponse(cloud.knobs.values.model_dump())

    async def change(request: Request) -> Response:
        try:
            changes = await request.json()
            values = cloud.knobs.change(changes)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HTTPException(422, f"{where}: {first['msg']}") from error
        except (ValueError, TypeError) as error:
            raise HTTPException(422, f"body: {error}") from error
        return JSONResponse(values.model_dump())

    async def strict(request: Request) -> Response:
        cloud.limits.strict = (await read_body(request, Strictness)).strict
        return JSONResponse({"strict": cloud.limits.strict})

    return [
        Route("/knobs", show, methods=["GET"]),
        Route("/knobs", change, methods=["PUT"]),
        Route("/strict", strict, methods=["PUT"]),
    ]
