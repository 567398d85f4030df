"""What the control API can do to the Google side: cause what Google or a host would cause.

Mounted by `simcloud.control` under `/gcp`. Bodies and answers are plain JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simcloud import control_links
from simcloud.gcp import errors
from simcloud.gcp.quotas import DEFAULTS
from simcloud.gcp.records import Instance
from simcloud.gcp.regions import REGIONS, ZONES
from simcloud.gcp.service import Service


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Stockout(_Form):
    zone: str
    times: int | None = Field(default=None, ge=1)
    lift: bool = False


class _Quota(_Form):
    region: str
    metric: str
    limit: float = Field(ge=0)


class _Use(_Form):
    user: str | None
    """Path below the project, such as `regions/us-central1/forwardingRules/f`; null: nothing."""


class _Settings(_Form):
    anonymous_allowed: bool | None = None
    preempt_mean_hours: float | Literal["never"] | None = None


AnyForm = TypeVar("AnyForm", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def overview(request: Request) -> Response:
        return JSONResponse(
            {
                "project": service.project,
                "credentials": str(service.credentials_file),
                "anonymous_allowed": service.anonymous_allowed,
                "preempt_mean_hours": service.watch.preempt_mean_hours,
                "stockouts": service.stockouts.list(),
                "instances": [_summary(service, one) for one in service.inventory.instances()],
            }
        )

    async def preempt(request: Request) -> Response:
        operation = service.lifecycle.preempt(_instance(request, service))
        return JSONResponse(service.operations.render(operation))

    async def kill(request: Request) -> Response:
        operation = service.lifecycle.fail_host(_instance(request, service))
        return JSONResponse(service.operations.render(operation))

    async def freeze(request: Request) -> Response:
        instance = _running(request, service)
        await service.context.machines.freeze(instance.machine)
        return JSONResponse(_summary(service, instance))

    async def thaw(request: Request) -> Response:
        instance = _running(request, service)
        await service.context.machines.thaw(instance.machine)
        return JSONResponse(_summary(service, instance))

    async def link(request: Request) -> Response:
        instance = _running(request, service)
        form = await _form(request, control_links.LinkChange)
        await control_links.change(service.context.machines, instance.machine, form)
        return JSONResponse(_summary(service, instance))

    async def stockout(request: Request) -> Response:
        form = await _form(request, _Stockout)
        _known("zone", form.zone, ZONES)
        if form.lift:
            service.stockouts.lift(form.zone)
        else:
            service.stockouts.declare(form.zone, times=form.times)
        return JSONResponse({"stockouts": service.stockouts.list()})

    async def quota(request: Request) -> Response:
        form = await _form(request, _Quota)
        _known("region", form.region, REGIONS)
        _known("metric", form.metric, DEFAULTS)
        service.quotas.set_limit(region=form.region, metric=form.metric, limit=form.limit)
        return JSONResponse({"quotas": service.quotas.render(form.region)})

    async def use(request: Request) -> Response:
        form = await _form(request, _Use)
        place = request.path_params
        address = service.addresses.use(
            region=str(place["region"]), name=str(place["name"]), user=form.user
        )
        return JSONResponse(service.addresses.render(address))

    async def settings(request: Request) -> Response:
        form = await _form(request, _Settings)
        if form.anonymous_allowed is not None:
            service.allow_anonymous(form.anonymous_allowed)
        if form.preempt_mean_hours is not None:
            hours = None if form.preempt_mean_hours == "never" else form.preempt_mean_hours
            if hours is not None and hours <= 0:
                raise errors.invalid("preempt_mean_hours", hours, "Give hours > 0, or 'never'.")
            service.watch.set_preempt_mean_hours(hours)
        return await overview(request)

    async def ledger(request: Request) -> Response:
        return JSONResponse(service.ledger.report())

    one = "/instances/{zone}/{name}"
    return [
        Route("/", _guarded(overview)),
        Route("/instances", _guarded(overview)),
        Route(one + "/preempt", _guarded(preempt), methods=["POST"]),
        Route(one + "/kill", _guarded(kill), methods=["POST"]),
        Route(one + "/freeze", _guarded(freeze), methods=["POST"]),
        Route(one + "/thaw", _guarded(thaw), methods=["POST"]),
        Route(one + "/link", _guarded(link), methods=["POST"]),
        Route("/stockout", _guarded(stockout), methods=["POST"]),
        Route("/quota", _guarded(quota), methods=["POST"]),
        Route("/addresses/{region}/{name}/use", _guarded(use), methods=["POST"]),
        Route("/settings", _guarded(settings), methods=["POST"]),
        Route("/ledger", _guarded(ledger)),
    ]


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except errors.GoogleError as refused:
            return JSONResponse({"error": refused.message}, refused.code)

    return guarded


def _instance(request: Request, service: Service) -> Instance:
    return service.inventory.instance(
        zone=request.path_params["zone"], name=request.path_params["name"]
    )


def _running(request: Request, service: Service) -> Instance:
    instance = _instance(request, service)
    if not service.context.machines.alive(instance.machine):
        raise errors.not_ready(f"instances/{instance.key}")
    return instance


def _summary(service: Service, instance: Instance) -> dict[str, Any]:
    machines = service.context.machines
    return {
        "name": instance.name,
        "id": instance.id,
        "zone": instance.zone,
        "status": instance.status,
        "machine_type": instance.machine_type,
        "spot": instance.scheduling["preemptible"],
        "preempted": instance.preempted,
        "labels": instance.labels,
        "address": instance.address,
        "ssh_port": instance.ssh_port,
        "metadata_address": instance.metadata_address,
        "machine": instance.machine,
        "alive": machines.alive(instance.machine),
        "frozen": machines.frozen(instance.machine),
        "link": control_links.shown(machines, instance.machine),
    }


def _known(field: str, value: str, among: Any) -> None:
    if value not in among:
        raise errors.invalid(field, value, f"There is no such {field}.")


async def _form(request: Request, model: type[AnyForm]) -> AnyForm:
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as refused:
        first = refused.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise errors.invalid(field, first.get("input"), f"{first['msg']}.") from refused
