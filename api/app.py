"""The application: routes, errors, middleware and what lives as long as the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from starlette.routing import Route

from api import docs_ui, errors, middleware
from api.health import Checks
from api.metrics import CONTENT_TYPE
from api.openapi import DESCRIPTION, TAGS, describe
from api.owner import ensure_owner
from api.routes import (
    agent,
    api_keys,
    auth,
    budgets,
    codec,
    health,
    hibernation,
    idle,
    ledger,
    leftovers,
    machines,
    meta,
    offers,
    protection,
    savings,
    snapshots,
    ssh_keys,
    webhooks,
    working_hours,
)
from api.routes import events as event_routes
from api.services import Services, compose
from api.version import VERSION
from api.web import Dashboard
from dumont.config import Settings

PREFIX: Final = "/api/v1"


def create_app(settings: Settings) -> FastAPI:
    """The API of one process. Opens no connection before it is started.

    Raises:
        DependencyUnavailable: The keys file cannot be used.
        InvalidInput: A URL of the settings is malformed.
    """
    services = compose(settings)
    checks = Checks(services, version=VERSION)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        await services.hub.start()
        tasks = [
            asyncio.create_task(ensure_owner(services)),
            asyncio.create_task(checks.watch_providers()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await services.hub.stop()
            await services.database.close()

    app = FastAPI(
        title="Dumont Cloud",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    app.state.checks = checks
    _add_routes(app, services)
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(middleware.CodecCors, origin=settings.temporal_ui_url)
    app.add_middleware(middleware.BodyLimit)
    app.add_middleware(middleware.RequestContext, metrics=services.metrics)
    describe(app)
    return app


def _add_routes(app: FastAPI, services: Services) -> None:
    v1 = APIRouter(prefix=PREFIX)
    for part in (
        machines, protection, hibernation, idle, working_hours, snapshots, ledger, savings, event_routes, budgets, offers, auth, api_keys, ssh_keys, leftovers,
    ):  # fmt: skip
        v1.include_router(part.router)
    for part in (agent, webhooks, codec, health, meta):
        v1.include_router(part.router)
    app.include_router(v1)
    app.include_router(docs_ui.router)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(services.metrics.text(), media_type=CONTENT_TYPE)

    dashboard = Dashboard(services.settings.web_dir)
    app.router.routes.append(Route("/{path:path}", dashboard.__call__, methods=["GET", "HEAD"]))
