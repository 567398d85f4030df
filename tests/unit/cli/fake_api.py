"""An API on a real socket with a script for a memory: what the command line sees on the wire."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dumont.domain.ladder import Rung
from tests.unit.cli.fake_hours import FakeHours
from tests.unit.cli.fake_snapshots import FakeSnapshots

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6vgT5X3pLSRlkCtVfjq0GkGyrMrZXtCMbWn3dVv2qH"
T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    """An error as the API writes them."""
    body = {"type": f"https://dumont.cloud/problems/{code}", "title": code, "status": status}
    headers = more.pop("headers", None)
    return JSONResponse(
        {**body, "detail": detail, "code": code, **more},
        status,
        headers=headers,
        media_type="application/problem+json",
    )


@dataclass
class FakeApi:
    """The state of the fake server; tests read and change it."""

    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    ssh_keys: list[dict[str, Any]] = field(default_factory=list)
    api_keys: list[dict[str, Any]] = field(default_factory=list)
    offers: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)
    answers: dict[tuple[str, str], list[Response]] = field(default_factory=dict)
    """Answers to give once each, before the usual one, by method and path below /api/v1."""
    tokens: set[str] = field(default_factory=lambda: {"key-1"})
    refresh_tokens: set[str] = field(default_factory=set)
    password: str = "correct horse"
    on_create: Callable[[FakeApi, dict[str, Any]], None] = lambda fake, machine: None
    on_destroy: Callable[[FakeApi, dict[str, Any]], None] = lambda fake, machine: None
    on_drill: Callable[[FakeApi, dict[str, Any]], None] = lambda fake, machine: None
    on_rest: Callable[[FakeApi, dict[str, Any], str], None] = lambda fake, machine, wish: None
    """Told of `hibernate` and `wake`."""
    wake_quote: dict[str, Any] = field(default_factory=dict)
    """What a quote says differently."""
    receipts: list[dict[str, Any]] = field(default_factory=list)
    leftovers: dict[str, Any] = field(
        default_factory=lambda: {
            "items": [], "usd_per_hour": 0.0, "unknown_prices": 0, "surveys": [],
        }
    )  # fmt: skip
    snapshots: FakeSnapshots = field(default_factory=FakeSnapshots)
    hours: FakeHours = field(default_factory=FakeHours)
    stream_breaks_after: int | None = None
    """Cut each stream behind this many events."""
    stream_ends_at_once: int = 0
    """So many streams end right after their welcome."""
    streams: list[int] = field(default_factory=list)
    """The `after` of each stream that was opened."""
    stream_down: bool = False
    on_stream: Callable[[FakeApi], None] | None = None
    url: str = ""
    _minted: int = 0

    # What tests do -----------------------------------------------------------------------------

    def answer_once(self, method: str, path: str, response: Response) -> None:
        self.answers.setdefault((method, path), []).append(response)

    def add_machine(self, name: str = "my-box", **changes: Any) -> dict[str, Any]:
        number = len(self.machines) + 1
        machine = {
            "machine_id": f"m{number:012x}",
            "name": name,
            "owner_id": "u1",
            "phase": "requested",
            "reason": "",
            "generation": 1,
            "requirement": {"gpu": "RTX 4090", "max_usd_per_hour": 0.6},
            "instance": None,
            "ladder": [{"rung": r, "sentence": r.sentence, "reached_at": None} for r in Rung],
            "ssh": None,
            "host_key": HOST_KEY,
            "next_try_at": None,
            "created_at": T0.isoformat(),
            "updated_at": T0.isoformat(),
            "workflow_url": "http://127.0.0.1:8233/wf",
            **changes,
        }
        self.machines[machine["machine_id"]] = machine
        return machine

    def add_running(
        self, name: str = "my-box", *, port: int = 40022, **changes: Any
    ) -> dict[str, Any]:
        return self.run(self.add_machine(name, **changes), port=port)

    def climb(self, machine: dict[str, Any], rung: Rung, *, at_s: float) -> None:
        moment = (T0 + timedelta(seconds=at_s)).isoformat()
        for step in machine["ladder"]:
            if step["rung"] == rung:
                step["reached_at"] = moment
        self.event(machine, "provision.rung", rung.sentence, at_s=at_s, rung=rung, attempt=1)

    def run(self, machine: dict[str, Any], *, port: int = 40022) -> dict[str, Any]:
        machine.update(
            phase="running",
            ssh={"host": "127.9.8.7", "port": port, "user": "root"},
            instance={
                "provider": "vast",
                "instance_id": "77",
                "label": f"dmt-demo-{machine['machine_id']}-g1-a1",
                "gpu": "RTX 4090",
                "gpu_count": 1,
                "host_id": "8841",
                "region": "Sao Paulo, BR",
                "usd_per_hour": 0.412,
                "ready_at": (T0 + timedelta(seconds=42)).isoformat(),
            },
        )
        self.event(machine, "machine.ready", "ready: 1x RTX 4090", at_s=42)
        return machine

    def event(
        self, machine: dict[str, Any], kind: str, summary: str, *, at_s: float = 0, **data: Any
    ) -> None:
        self.events.append(
            {
                "seq": len(self.events) + 1,
                "machine_id": machine["machine_id"],
                "machine_name": machine["name"],
                "kind": kind,
                "at": (T0 + timedelta(seconds=at_s)).isoformat(),
                "generation": 1,
                "summary": summary,
                "data": data,
            }
        )

    def called(self, method: str, path: str) -> list[tuple[Any, dict[str, str]]]:
        """Bodies and headers of the requests to one place."""
        return [(b, h) for m, p, b, h in self.requests if (m, p) == (method, path)]

    # What clients see --------------------------------------------------------------------------

    def app(self) -> Starlette:
        routes = [
            Route(f"/api/v1{path}", self._guarded(handler, path), methods=[method])
            for method, path, handler in (
                ("POST", "/auth/login", self._login),
                ("POST", "/auth/refresh", self._refresh),
                ("POST", "/auth/logout", self._logout),
                ("GET", "/auth/me", self._me),
                ("GET", "/machines", self._list),
                ("POST", "/machines", self._create),
                ("GET", "/machines/{ref}", self._get),
                ("DELETE", "/machines/{ref}", self._destroy),
                ("GET", "/machines/{ref}/events", self._machine_events),
                ("GET", "/machines/{ref}/logs", self._logs),
                ("POST", "/machines/{ref}/drill", self._drill),
                ("POST", "/machines/{ref}/hibernate", self._hibernate),
                ("POST", "/machines/{ref}/wake", self._wake),
                ("GET", "/machines/{ref}/wake-quote", self._wake_quote),
                ("POST", "/machines/{ref}/fail-back", self._fail_back),
                ("POST", "/machines/{ref}/flush", self._flush),
                ("GET", "/machines/{ref}/receipts", self._receipts),
                ("GET", "/machines/{ref}/receipts/{number}", self._receipt),
                ("GET", "/machines/{ref}/idle", self._unscripted),
                ("PUT", "/machines/{ref}/idle-policy", self._unscripted),
                ("POST", "/machines/{ref}/keep-alive", self._unscripted),
                ("DELETE", "/machines/{ref}/keep-alive", self._unscripted),
                ("GET", "/budgets/status", self._unscripted),
                ("GET", "/budgets/acts", self._unscripted),
                ("PUT", "/budgets", self._unscripted),
                ("DELETE", "/budgets", self._unscripted),
                ("GET", "/offers", self._offers),
                ("GET", "/leftovers", self._leftovers),
                ("GET", "/ledger", self._unscripted),
                ("GET", "/ledger/summary", self._unscripted),
                ("GET", "/ledger/audit", self._unscripted),
                ("GET", "/ssh-keys", self._ssh_keys),
                ("POST", "/ssh-keys", self._add_ssh_key),
                ("DELETE", "/ssh-keys/{key_id}", self._remove_ssh_key),
                ("GET", "/api-keys", self._api_keys),
                ("POST", "/api-keys", self._create_api_key),
                ("DELETE", "/api-keys/{key_id}", self._revoke_api_key),
                ("GET", "/events", self._stream),
                *self.snapshots.routes(),
                *self.hours.routes(),
            )
        ]
        return Starlette(routes=routes)

    def _guarded(self, handler: Any, route: str) -> Any:
        async def endpoint(request: Request) -> Response:
            path = request.url.path.removeprefix("/api/v1")
            body = json.loads(await request.body() or b"null")
            self.requests.append((request.method, path, body, dict(request.headers)))
            waiting = self.answers.get((request.method, path))
            if waiting:
                return waiting.pop(0)
            bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
            is_open = route in ("/auth/login", "/auth/logout", "/auth/refresh")
            if not is_open and bearer not in self.tokens:
                return problem(401, "unauthenticated", "the access token has expired")
            return await handler(request, body)

        return endpoint

    async def _login(self, request: Request, body: Any) -> Response:
        if body["password"] != self.password:
            return problem(401, "unauthenticated", "wrong e-mail or password")
        return self.mint()

    def mint(self, *, expires_in: int = 900) -> JSONResponse:
        """A new pair of tokens."""
        self._minted += 1
        access, refresh = f"access-{self._minted}", f"refresh-{self._minted}"
        self.tokens.add(access)
        self.refresh_tokens.add(refresh)
        return JSONResponse(
            {"access_token": access, "refresh_token": refresh, "expires_in": expires_in}
        )

    async def _refresh(self, request: Request, body: Any) -> Response:
        if body["refresh_token"] not in self.refresh_tokens:
            return problem(401, "unauthenticated", "the refresh token was used or revoked")
        self.refresh_tokens.discard(body["refresh_token"])
        return self.mint()

    async def _logout(self, request: Request, body: Any) -> Response:
        self.refresh_tokens.discard(body["refresh_token"])
        return Response(status_code=204)

    async def _me(self, request: Request, body: Any) -> Response:
        return JSONResponse({"user_id": "u1", "email": "owner@dumont.local", "is_admin": True})

    async def _list(self, request: Request, body: Any) -> Response:
        query = request.query_params
        phases = query.getlist("phase")
        living = [m for m in self.machines.values() if m["phase"] != "destroyed"]
        found = [m for m in self.machines.values() if m["phase"] in phases] if phases else living
        start, limit = int(query.get("cursor", 0)), int(query.get("limit", 50))
        end = start + limit
        return JSONResponse(
            {"items": found[start:end], "next_cursor": str(end) if end < len(found) else None}
        )

    async def _create(self, request: Request, body: Any) -> Response:
        if any(m["name"] == body["name"] and m["phase"] != "destroyed" for m in self._all()):
            return problem(409, "conflict", f"you have a machine {body['name']}", field="name")
        machine = self.add_machine(body["name"], requirement=body["requirement"])
        self.event(machine, "machine.requested", f"{body['name']} requested")
        self.on_create(self, machine)
        return JSONResponse(machine, 201)

    def _all(self) -> list[dict[str, Any]]:
        return list(self.machines.values())

    def _find(self, request: Request) -> dict[str, Any] | None:
        ref = request.path_params["ref"]
        live = [m for m in self._all() if m["name"] == ref and m["phase"] != "destroyed"]
        return self.machines.get(ref) or (live[-1] if live else None)

    async def _get(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None:
            ref = request.path_params["ref"]
            return problem(404, "not_found", f"there is no machine {ref!r}", field="name")
        return JSONResponse(machine)

    async def _destroy(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None:
            return problem(404, "not_found", "there is no such machine")
        machine["phase"] = "destroying"
        self.event(machine, "machine.destroying", "destroy: asked by the owner")
        self.on_destroy(self, machine)
        return JSONResponse({"machine": machine}, 202)

    async def _machine_events(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        assert machine is not None
        newest = [e for e in self.events if e["machine_id"] == machine["machine_id"]][::-1]
        start, limit = (
            int(request.query_params.get("cursor", 0)),
            int(request.query_params["limit"]),
        )
        end = start + limit
        return JSONResponse(
            {"items": newest[start:end], "next_cursor": str(end) if end < len(newest) else None}
        )

    async def _logs(self, request: Request, body: Any) -> Response:
        return JSONResponse({"text": "hello from the box\n", "seen_at": T0.isoformat()})

    async def _hibernate(self, request: Request, body: Any) -> Response:
        return self._rest(request, "hibernate")

    async def _wake(self, request: Request, body: Any) -> Response:
        return self._rest(request, "wake")

    async def _wake_quote(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None:
            return problem(404, "not_found", "there is no such machine")
        return JSONResponse(
            {
                "machine_id": machine["machine_id"], "name": machine["name"],
                "usd_per_hour": 0.31, "gpu": "RTX 4090", "gpu_count": 1, "region": "Texas, US",
                "reliability": 0.99, "fitting": 4, "seen_at": T0.isoformat(), "seconds": 42.0,
                "basis": "estimate: the median of its last 2 wakes", "bytes": 5,
                **self.wake_quote,
            }
        )  # fmt: skip

    def _rest(self, request: Request, wish: str) -> Response:
        machine = self._find(request)
        if machine is None:
            return problem(404, "not_found", "there is no such machine")
        answer = JSONResponse({"machine": dict(machine)}, status_code=202)
        self.on_rest(self, machine, wish)
        return answer

    async def _drill(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None:
            return problem(404, "not_found", "there is no such machine")
        if not machine.get("standby"):
            return problem(409, "conflict", "it has no standby: it is not protected")
        self.on_drill(self, machine)
        return JSONResponse({"machine": machine}, 202)

    async def _fail_back(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        assert machine is not None
        if machine["phase"] == "running":
            return problem(
                409, "conflict", "the machine is running: there is nothing to return from"
            )
        return JSONResponse({"machine": machine}, 202)

    async def _flush(self, request: Request, body: Any) -> Response:
        machine = self._find(request)
        if machine is None or not machine.get("standby"):
            return problem(412, "precondition_failed", "my-box has no standby")
        return JSONResponse(
            {
                "epoch": 5,
                "sequence": 17,
                "replicated_at": T0.isoformat(),
                "files": 12,
                "bytes": 4_194_304,
                "hashed": 3,
                "seconds": 0.61,
            }
        )

    async def _receipts(self, request: Request, body: Any) -> Response:
        return JSONResponse({"items": self.receipts[::-1]})

    async def _receipt(self, request: Request, body: Any) -> Response:
        number = int(request.path_params["number"])
        found = [r for r in self.receipts if r["receipt"]["number"] == number]
        if not found:
            return problem(404, "not_found", f"no receipt {number} of this machine")
        return JSONResponse(found[0])

    async def _leftovers(self, request: Request, body: Any) -> Response:
        return JSONResponse(self.leftovers)

    async def _unscripted(self, request: Request, body: Any) -> Response:
        """What tests script with `answer_once`."""
        return problem(404, "not_found", "there is no such machine")

    async def _offers(self, request: Request, body: Any) -> Response:
        return JSONResponse({"items": self.offers, "seen_at": T0.isoformat()})

    async def _ssh_keys(self, request: Request, body: Any) -> Response:
        return JSONResponse(self.ssh_keys)

    async def _add_ssh_key(self, request: Request, body: Any) -> Response:
        key = {
            "key_id": f"k{len(self.ssh_keys) + 1}",
            "fingerprint": "SHA256:abc",
            "created_at": T0.isoformat(),
            **body,
        }
        self.ssh_keys.append(key)
        return JSONResponse(key, 201)

    async def _remove_ssh_key(self, request: Request, body: Any) -> Response:
        before = len(self.ssh_keys)
        self.ssh_keys = [k for k in self.ssh_keys if k["key_id"] != request.path_params["key_id"]]
        if len(self.ssh_keys) == before:
            return problem(404, "not_found", "there is no such key")
        return Response(status_code=204)

    async def _api_keys(self, request: Request, body: Any) -> Response:
        return JSONResponse(self.api_keys)

    async def _create_api_key(self, request: Request, body: Any) -> Response:
        key = {
            "key_id": f"a{len(self.api_keys) + 1}",
            "created_at": T0.isoformat(),
            "last_used_at": None,
            **body,
        }
        self.api_keys.append(key)
        return JSONResponse({**key, "secret": "dmk_secret"}, 201)

    async def _revoke_api_key(self, request: Request, body: Any) -> Response:
        self.api_keys = [k for k in self.api_keys if k["key_id"] != request.path_params["key_id"]]
        return Response(status_code=204)

    async def _stream(self, request: Request, body: Any) -> Response:
        if self.stream_down:
            return problem(503, "dependency_unavailable", "the database does not answer")
        after = int(request.query_params.get("after", len(self.events)))
        self.streams.append(after)
        if self.on_stream is not None:
            self.on_stream(self)
        return StreamingResponse(
            self._frames(after, request.query_params.get("machine")), media_type="text/event-stream"
        )

    async def _frames(self, after: int, machine_id: str | None) -> AsyncIterator[str]:
        sent = 0
        ends = self.stream_ends_at_once > 0
        self.stream_ends_at_once -= 1
        yield f": welcome\r\nid: {after}\r\n\r\n"
        while not ends:
            for event in self.events[after:]:
                after = event["seq"]
                if machine_id in (None, event["machine_id"]):
                    yield f"id: {after}\r\nevent: {event['kind']}\r\ndata: {json.dumps(event)}\r\n\r\n"
                    sent += 1
                    if self.stream_breaks_after is not None and sent >= self.stream_breaks_after:
                        return
            yield ": ping\r\n\r\n"
            await asyncio.sleep(0.02)


class Serving:
    """A fake API served on a free loopback port by a thread, until it is closed."""

    def __init__(self, fake: FakeApi) -> None:
        config = uvicorn.Config(
            fake.app(), host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._socket = config.bind_socket()
        fake.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()
