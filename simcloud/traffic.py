"""What was asked of the clouds: a log of recent requests and counters that never forget.

Tests assert on it ("exactly one create call"), people debug with it. It also plays the faults of
the transport: errors, rate limits, slow and hanging answers, connections cut before or after the
work was done.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simcloud.faults import FaultRule, Faults

log = logging.getLogger(__name__)

BEFORE = frozenset({"error", "rate_limit", "server_error", "html", "slow", "hang", "drop"})
"""Transport effects that strike before the cloud does anything."""
AFTER = frozenset({"hang_after", "drop_after", "error_after", "truncate"})
"""Transport effects that strike after the cloud has done the work."""

_MAX_BODY = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a request is about, as far as its cloud can tell from path and body."""

    operation: str
    """Stable name such as `instances.create`; `unknown` for a path nobody serves."""
    instance: str | None = None
    """Id or name of the instance concerned."""
    label: str | None = None
    """Its label (Vast) or name (Google), of the new instance for a create."""
    zone: str | None = None
    """The zone in the path (Google)."""


Classify = Callable[[Scope, bytes], Call]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request that was answered, cut, or is hanging."""

    serial: int
    time: float
    provider: str
    operation: str
    method: str
    path: str
    query: str
    status: int | None
    """None when no answer was sent."""
    duration_ms: float
    instance: str | None
    label: str | None
    fault: str | None
    """Id of the transport fault that struck."""


class Traffic:
    """Recent requests and totals."""

    def __init__(self, *, keep: int = 5000) -> None:
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._totals: Counter[tuple[str, str, str]] = Counter()
        self._serial = 0

    def record(
        self,
        *,
        provider: str,
        call: Call,
        scope: Scope,
        status: int | None,
        started: float,
        fault: str | None,
    ) -> None:
        """Count one request; `started` is `time.perf_counter()` at its arrival."""
        self._serial += 1
        self._totals[provider, call.operation, "none" if status is None else str(status)] += 1
        self._entries.append(
            Entry(
                serial=self._serial,
                time=time.time(),
                provider=provider,
                operation=call.operation,
                method=scope["method"],
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 3),
                instance=call.instance,
                label=call.label,
                fault=fault,
            )
        )

    def entries(
        self, *, provider: str | None = None, operation: str | None = None, after: int = 0
    ) -> list[dict[str, Any]]:
        """Return recent requests, oldest first, optionally of one provider or operation."""
        return [
            asdict(entry)
            for entry in self._entries
            if entry.serial > after
            and provider in (None, entry.provider)
            and operation in (None, entry.operation)
        ]

    def totals(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return provider -> operation -> status (or `none`) -> count."""
        tree: dict[str, dict[str, dict[str, int]]] = {}
        for (provider, operation, status), count in sorted(self._totals.items()):
            tree.setdefault(provider, {}).setdefault(operation, {})[status] = count
        return tree

    def reset(self) -> None:
        """Forget everything counted so far."""
        self._entries.clear()
        self._totals.clear()


class TrafficMiddleware:
    """Wraps one cloud's application: classifies, counts, and plays transport faults."""

    def __init__(
        self, app: ASGIApp, *, provider: str, classify: Classify, faults: Faults, traffic: Traffic
    ) -> None:
        self._app = app
        self._provider = provider
        self._classify = classify
        self._faults = faults
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        body = await _read_body(receive)
        call = self._classify(scope, body)
        status: int | None = None
        struck: str | None = None

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            rule = self._fire(call, BEFORE)
            if rule is not None:
                struck = rule.id
                if await _play_before(rule, receive, watched_send):
                    return
            rule = self._fire(call, AFTER)
            if rule is None:
                await self._app(scope, _replay(body, receive), watched_send)
            else:
                struck = rule.id
                await self._play_after(rule, scope, body, receive, watched_send)
        finally:
            self._traffic.record(
                provider=self._provider,
                call=call,
                scope=scope,
                status=status,
                started=started,
                fault=struck,
            )

    def _fire(self, call: Call, effects: frozenset[str]) -> FaultRule | None:
        return self._faults.fire(
            provider=self._provider,
            operation=call.operation,
            effects=effects,
            instance=call.instance,
            label=call.label,
            zone=call.zone,
        )

    async def _play_after(
        self, rule: FaultRule, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Let the cloud do its work, then spoil the answer."""
        answer: list[Message] = []

        async def swallow(message: Message) -> None:
            answer.append(message)

        await self._app(scope, _replay(body, receive), swallow)
        match rule.effect:
            case "hang_after":
                await _hang(rule, receive)
                _abort(receive)
            case "drop_after":
                _abort(receive)
            case "truncate":
                # the announced length is kept, half of the body sent: the client sees a broken read
                await send(answer[0])
                content = b"".join(message.get("body", b"") for message in answer[1:])
                half = {"type": "http.response.body", "body": content[: len(content) // 2]}
                await send({**half, "more_body": True})
                _abort(receive)
            case _:
                await _answer(rule, send, status=int(rule.number("status", 502)))


async def _play_before(rule: FaultRule, receive: Receive, send: Send) -> bool:
    """Play a fault that precedes the work; return whether the request is over."""
    match rule.effect:
        case "slow":
            await asyncio.sleep(rule.number("seconds", 5.0))
            return False
        case "hang":
            await _hang(rule, receive)
            _abort(receive)
        case "drop":
            _abort(receive)
        case "html":
            page = rule.text(
                "body", "<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>"
            )
            await _send(send, int(rule.number("status", 200)), "text/html; charset=utf-8", page)
        case "rate_limit":
            await _rate_limited(rule, send)
        case "server_error":
            await _answer(rule, send, status=int(rule.number("status", 503)))
        case _:
            await _answer(rule, send, status=int(rule.number("status", 500)))
    return True


async def _rate_limited(rule: FaultRule, send: Send) -> None:
    retry_after = rule.parameters.get("retry_after")
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if rule.text("shape", "json") == "text":
        await _send(send, 429, "text/plain", "API requests too frequent", headers)
        return
    threshold = rule.number("threshold", 4.5)
    detail = {"detail": f"API requests too frequent endpoint threshold={threshold}"}
    await _send(send, 429, "application/json", json.dumps(detail), headers)


async def _answer(rule: FaultRule, send: Send, *, status: int) -> None:
    body = rule.parameters.get("body", "upstream connect error or disconnect/reset before headers")
    headers = {str(k): str(v) for k, v in dict(rule.parameters.get("headers", {})).items()}
    if isinstance(body, str):
        await _send(send, status, rule.text("content_type", "text/plain"), body, headers)
    else:
        await _send(send, status, "application/json", json.dumps(body), headers)


async def _send(
    send: Send, status: int, content_type: str, body: str, headers: dict[str, str] | None = None
) -> None:
    encoded = body.encode()
    lines = {"content-type": content_type, "content-length": str(len(encoded)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.lower().encode(), v.encode()) for k, v in lines.items()],
        }
    )
    await send({"type": "http.response.body", "body": encoded})


async def _hang(rule: FaultRule, receive: Receive) -> None:
    """Keep silent until the client gives up, or for `seconds`."""

    async def until_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(until_disconnect(), rule.number("seconds", 3600.0))
    except TimeoutError:
        return


def _abort(receive: Receive) -> None:
    """Cut the TCP connection without an answer.

    ASGI has no such message; uvicorn's `receive` is a bound method of the cycle that owns the
    transport. Without one (another server) the request just ends without an answer.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False) or size > _MAX_BODY:
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
