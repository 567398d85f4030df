"""A worker's own small HTTP server: is it polling, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@asynccontextmanager
async def health_server(
    port: int, state: Callable[[], dict[str, Any]], *, host: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """Serve `/health` (200 when `state()["ok"]`, else 503) and `/metrics` while the block runs."""

    async def health(_: Request) -> Response:
        body = state()
        return JSONResponse(body, status_code=200 if body.get("ok") else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(routes=[Route("/health", health), Route("/metrics", metrics)])
    server = _Server(uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Leaves signals to the worker."""

    def install_signal_handlers(self) -> None:
        """Nothing: the worker's own handlers stop both."""

    async def serve(self, sockets: Any = None) -> None:
        """As uvicorn, without capturing signals."""
        await self._serve(sockets)
