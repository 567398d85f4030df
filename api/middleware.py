"""What surrounds every request: an id, a log line, a metric, limits and headers."""

from __future__ import annotations

import re
import time
import uuid
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.metrics import Metrics

log = structlog.get_logger("api.access")

MAX_BODY: Final = 1 << 20
MAX_CODEC_BODY: Final = 16 << 20
"""Temporal's Web UI sends whole histories of payloads."""
MAX_MACHINE_BODY: Final = 64 << 10
"""Agents and providers have little to say, and are not trusted with more."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_CODEC: Final = "/api/v1/codec/"
_AGENT: Final = "/api/v1/agent/"
_WEBHOOKS: Final = "/api/v1/webhooks/"


class RequestContext:
    """Gives a request its id, tells how it went, and answers what nobody caught.

    The id comes from the client's `X-Request-Id` when that is usable, and goes back in the answer,
    into every log line and into problem documents.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status, streaming = 0, False

        async def send_on(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
                streaming = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            log.exception("unexpected_error", method=scope["method"], path=_shown(scope["path"]))
            if status:
                raise
            await errors.unexpected(Request(scope))(scope, receive, send_on)
        finally:
            self._tell(scope, status, time.perf_counter() - started, streaming=streaming)

    def _tell(self, scope: Scope, status: int, seconds: float, *, streaming: bool) -> None:
        # Whether it holds the prefix depends on the version of FastAPI.
        route = getattr(scope.get("route"), "path", "none").removeprefix("/api/v1")
        if not streaming:
            self._metrics.requests.labels(scope["method"], route, str(status)).observe(seconds)
        log.debug(
            "request",
            method=scope["method"],
            path=_shown(scope["path"]),
            status=status,
            ms=round(seconds * 1000, 1),
        )


class BodyLimit:
    """Refuses bodies that are too large, before they are in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope["path"])
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await errors.too_large(Request(scope), limit=limit)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                # FastAPI passes this one on to the error handlers; any other becomes a 400.
                raise HTTPException(413, f"the body is larger than {limit:,} bytes")
            return message

        await self._app(scope, counted, send)


def _limit(path: str) -> int:
    if path.startswith(_CODEC):
        return MAX_CODEC_BODY
    return MAX_MACHINE_BODY if path.startswith((_AGENT, _WEBHOOKS)) else MAX_BODY


def _shown(path: str) -> str:
    """A path as logs may have it: what follows in a webhook's is its secret."""
    return f"{_WEBHOOKS}..." if path.startswith(_WEBHOOKS) else path


class CodecCors:
    """Lets Temporal's Web UI, and nothing else, call the codec from its own origin."""

    def __init__(self, app: ASGIApp, *, origin: str | None) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=[origin] if origin else [],
            allow_methods=["POST"],
            allow_headers=["authorization", "content-type", "x-namespace"],
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; those to the codec with CORS."""
        codec = scope["type"] == "http" and scope["path"].startswith(_CODEC)
        await (self._cors if codec else self._app)(scope, receive, send)
