"""The Google side as one ASGI application: Compute v1, batch, OAuth, the price list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simcloud.context import CloudContext
from simcloud.gcp import batch, control, errors, oauth, pricelist
from simcloud.gcp.methods import ALL
from simcloud.gcp.service import Service
from simcloud.gcp.web import classifier, refuse
from simcloud.traffic import TrafficMiddleware

_GZIP_FROM_BYTES = 512


def create_app(context: CloudContext) -> Starlette:
    """Return the application.

    `app.state.start_line` is what its users need to log in, `app.state.control_routes` what the
    control API mounts.
    """
    service = Service(context)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    async def run_batch(request: Request) -> Response:
        return await batch.serve(request, app)

    async def unknown(request: Request, missing: Exception) -> Response:
        if request.url.path.startswith("/compute/v1/projects/"):
            return refuse(errors.not_implemented(f"{request.method} {request.url.path}"))
        return refuse(errors.not_found(request.url.path))

    app = Starlette(
        routes=[
            *(method.route(service) for method in ALL),
            Route("/batch/compute/v1", run_batch, methods=["POST"]),
            Route("/batch", run_batch, methods=["POST"]),
            *oauth.routes(service),
            *pricelist.routes(),
        ],
        middleware=[
            Middleware(
                TrafficMiddleware,
                provider="gcp",
                classify=classifier(ALL),
                faults=context.faults,
                traffic=context.traffic,
            ),
            Middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES),
        ],
        exception_handlers={404: unknown, 405: unknown},
        lifespan=lifespan,
    )
    app.state.start_line = {
        "project": service.project,
        "gcp_credentials": str(service.credentials_file),
    }
    app.state.control_routes = control.routes(service)
    return app
