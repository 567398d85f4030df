"""The control API and page: look into the clouds and make things go wrong.

For tests and people at a demo; no client of a real cloud knows it. Each cloud brings its own
routes (`app.state.control_routes`); this module holds what concerns both. docs/simcloud.md is its
reference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from simcloud import control_links
from simcloud.context import CloudContext
from simcloud.control_body import read_body
from simcloud.faults import FaultRule
from simcloud.machines import DisksUnavailable, processes


class ClockChange(BaseModel):
    """What to do to the virtual clock."""

    model_config = ConfigDict(extra="forbid")

    advance: float | None = None
    """Virtual seconds to jump forward."""
    rate: float | None = None
    """Virtual seconds for each real one from now on."""


class DiskRoom(BaseModel):
    """How much room to leave on a machine's own disk; null takes the ballast away."""

    model_config = ConfigDict(extra="forbid")

    free_mb: float | None = Field(default=None, ge=0)


class GpuOverride(BaseModel):
    """What a machine's nvidia-smi shall report; both null returns to the truth."""

    model_config = ConfigDict(extra="forbid")

    utilization: float | None = None
    memory_mb: float | None = None


def create_app(context: CloudContext, *, vast_app: Starlette, gcp_app: Starlette) -> Starlette:
    """Return the control application."""
    return Starlette(
        routes=[
            Route("/", _page),
            Route("/health", _health(context)),
            *_fault_routes(context),
            *_traffic_routes(context),
            *_clock_routes(context),
            *_machine_routes(context),
            Mount("/vast", routes=vast_app.state.control_routes),
            Mount("/gcp", routes=gcp_app.state.control_routes),
        ],
        exception_handlers={HTTPException: _problem},
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


async def _page(request: Request) -> Response:
    return HTMLResponse(resources.files("simcloud").joinpath("control.html").read_text())


def _health(context: CloudContext) -> Callable[[Request], Awaitable[Response]]:
    async def health(request: Request) -> Response:
        machines = context.machines
        return JSONResponse(
            {"ok": True, "links": machines.links, "links_reason": machines.links_reason}
        )

    return health


def _fault_routes(context: CloudContext) -> list[Route]:
    async def add(request: Request) -> Response:
        rule = await read_body(request, FaultRule)
        control_links.check_rule(context.machines, rule)
        return JSONResponse(context.faults.add(rule).model_dump(), status_code=201)

    async def listing(request: Request) -> Response:
        return JSONResponse({"faults": [rule.model_dump() for rule in context.faults.list()]})

    async def clear(request: Request) -> Response:
        return JSONResponse({"removed": context.faults.clear()})

    async def remove(request: Request) -> Response:
        if not context.faults.remove(request.path_params["id"]):
            raise HTTPException(404, f"no fault rule {request.path_params['id']}")
        return JSONResponse({"removed": 1})

    return [
        Route("/faults", add, methods=["POST"]),
        Route("/faults", listing, methods=["GET"]),
        Route("/faults", clear, methods=["DELETE"]),
        Route("/faults/{id}", remove, methods=["DELETE"]),
    ]


def _traffic_routes(context: CloudContext) -> list[Route]:
    async def listing(request: Request) -> Response:
        query = request.query_params
        entries = context.traffic.entries(
            provider=query.get("provider"),
            operation=query.get("operation"),
            after=int(query.get("after", 0)),
        )
        return JSONResponse({"requests": entries})

    async def totals(request: Request) -> Response:
        return JSONResponse(context.traffic.totals())

    async def reset(request: Request) -> Response:
        context.traffic.reset()
        return JSONResponse({"reset": True})

    return [
        Route("/requests", listing, methods=["GET"]),
        Route("/requests", reset, methods=["DELETE"]),
        Route("/requests/totals", totals, methods=["GET"]),
    ]


def _clock_routes(context: CloudContext) -> list[Route]:
    settings = context.store.collection("settings")

    def reading() -> dict[str, Any]:
        clock = context.clock
        return {"now": clock.now(), "offset": clock.offset, "rate": clock.rate}

    async def show(request: Request) -> Response:
        return JSONResponse(reading())

    async def change(request: Request) -> Response:
        wanted = await read_body(request, ClockChange)
        try:
            if wanted.advance is not None:
                context.clock.advance(seconds=wanted.advance)
            if wanted.rate is not None:
                context.clock.set_rate(rate=wanted.rate)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        settings.put("clock_offset", context.clock.offset)
        return JSONResponse(reading())

    return [
        Route("/clock", show, methods=["GET"]),
        Route("/clock", change, methods=["POST"]),
    ]


def _machine_routes(context: CloudContext) -> list[Route]:
    machines = context.machines
    actions: dict[str, Callable[[str], Awaitable[None]]] = {
        "kill": machines.crash,
        "freeze": machines.freeze,
        "thaw": machines.thaw,
    }

    async def listing(request: Request) -> Response:
        table = processes.snapshot()
        rows = []
        for name in machines.names():
            usage = machines.usage(name, table=table)
            rows.append(
                {
                    "name": name,
                    "frozen": machines.frozen(name),
                    "link": control_links.shown(machines, name),
                    "usage": None if usage is None else usage.__dict__,
                }
            )
        return JSONResponse({"isolation": machines.isolation, "machines": rows})

    async def act(request: Request) -> Response:
        name, action = request.path_params["name"], request.path_params["action"]
        if action not in actions:
            raise HTTPException(404, f"action: {action!r} is none of {', '.join(actions)}")
        if not machines.alive(name):
            raise HTTPException(404, f"no machine {name} is running")
        await actions[action](name)
        return JSONResponse({"name": name, "done": action})

    async def link(request: Request) -> Response:
        wanted = await read_body(request, control_links.LinkChange)
        name = request.path_params["name"]
        return JSONResponse(await control_links.change(machines, name, wanted))

    async def disk(request: Request) -> Response:
        wanted = await read_body(request, DiskRoom)
        name = request.path_params["name"]
        if not machines.alive(name):
            raise HTTPException(404, f"no machine {name} is running")
        try:
            free = await machines.set_free_disk(name, wanted.free_mb)
        except DisksUnavailable as error:
            raise HTTPException(501 if machines.disks_reason else 409, str(error)) from error
        return JSONResponse({"name": name, "free_mb": free})

    async def logs(request: Request) -> Response:
        tail = int(request.query_params.get("tail", 200))
        return JSONResponse({"log": machines.logs(request.path_params["name"], tail)})

    async def override(request: Request) -> Response:
        name = request.path_params["name"]
        wanted = await read_body(request, GpuOverride)
        directory = machines.directory(name)
        if not directory.exists():
            raise HTTPException(404, f"no machine {name}")
        directory.set_gpu_override(utilization=wanted.utilization, memory_mb=wanted.memory_mb)
        return JSONResponse(wanted.model_dump())

    return [
        Route("/machines", listing, methods=["GET"]),
        Route("/machines/{name}/logs", logs, methods=["GET"]),
        Route("/machines/{name}/gpu", override, methods=["PUT"]),
        Route("/machines/{name}/disk", disk, methods=["POST"]),
        Route("/machines/{name}/link", link, methods=["POST"]),
        Route("/machines/{name}/{action}", act, methods=["POST"]),
    ]
