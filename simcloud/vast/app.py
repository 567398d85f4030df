"""The Vast.ai application: every request authorized, limited, answered in Vast's own words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from simcloud.context import CloudContext
from simcloud.traffic import Call as TrafficCall
from simcloud.traffic import Classify, TrafficMiddleware
from simcloud.vast.api import inside, instances, keys, market, money, offers, ssh_keys, webhooks
from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.auth import authorize, presented_key
from simcloud.vast.cloud import VastCloud
from simcloud.vast.control import control_routes
from simcloud.vast.errors import VastError

log = logging.getLogger(__name__)

ENDPOINTS: list[Endpoint] = [
    *offers.ENDPOINTS,
    *instances.ENDPOINTS,
    *inside.ENDPOINTS,
    *ssh_keys.ENDPOINTS,
    *money.ENDPOINTS,
    *keys.ENDPOINTS,
    *webhooks.ENDPOINTS,
    *market.ENDPOINTS,
]
"""Everything that is served."""


def create_app(context: CloudContext) -> Starlette:
    """Return the application; see server.py for what it leaves on its state."""
    cloud = VastCloud(context)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        background = asyncio.create_task(cloud.run())
        try:
            yield
        finally:
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
            await cloud.close()

    app = Starlette(
        routes=[_route(cloud, endpoint) for endpoint in ENDPOINTS],
        middleware=[
            Middleware(
                TrafficMiddleware,
                provider="vast",
                classify=_classifier(cloud),
                faults=context.faults,
                traffic=context.traffic,
            ),
            Middleware(_NoTrailingSlash),
        ],
        exception_handlers={
            VastError: _vast_error,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )
    # a redirect would lose the Authorization header in some clients
    app.router.redirect_slashes = False
    app.state.start_line = {"vast_api_key": cloud.keys.main}
    app.state.control_routes = control_routes(cloud)
    return app


def _route(cloud: VastCloud, endpoint: Endpoint) -> Route:
    async def handle(request: Request) -> Response:
        authorize(
            request,
            endpoint.operation,
            keys=cloud.keys,
            instances=[each for each in cloud.roster.listed() if each.exists()],
        )
        refusal = cloud.limits.check(endpoint.operation, _identity(request))
        if refusal is not None:
            return refusal
        call = Call(cloud=cloud, request=request, body=await _json_body(request))
        answer = await endpoint.handler(call)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(endpoint.path, handle, methods=[endpoint.method])


def _identity(request: Request) -> str:
    address = request.client.host if request.client is not None else ""
    return f"{presented_key(request)} {address}"


async def _json_body(request: Request) -> Any:
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        return json.loads(raw)
    except ValueError:
        raise VastError(400, "invalid_request", "the request body is not JSON") from None


class _NoTrailingSlash:
    """Serves `/path/` as `/path`, without a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


def _classifier(cloud: VastCloud) -> Classify:
    compiled = [(each.method, compile_path(each.path)[0], each.operation) for each in ENDPOINTS]

    def classify(scope: Scope, body: bytes) -> TrafficCall:
        path = scope["path"].rstrip("/")
        for method, pattern, operation in compiled:
            match = pattern.match(path) if method == scope["method"] else None
            if match is None:
                continue
            number = match.groupdict().get("id")
            if operation.startswith("asks.") or number is None:
                return TrafficCall(operation=operation, label=_label(body))
            instance = cloud.roster.instances.get(int(number))
            if operation.startswith("instances."):
                label = None if instance is None else instance.label
                return TrafficCall(operation=operation, instance=number, label=label)
            return TrafficCall(operation=operation)
        return TrafficCall(operation="unknown")

    return classify


def _label(body: bytes) -> str | None:
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    label = parsed.get("label") if isinstance(parsed, dict) else None
    return label if isinstance(label, str) else None


async def _vast_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, VastError)
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = "method_not_allowed" if error.status_code == 405 else "not_found"
    message = f"simcloud serves no {request.method} {request.url.path}"
    body = {"success": False, "error": slug, "msg": message}
    return JSONResponse(body, status_code=error.status_code)


async def _internal_error(request: Request, error: Exception) -> Response:
    # the traceback is in the log; a client sees what a real outage looks like
    return Response("Internal Server Error", status_code=500, media_type="text/plain")
