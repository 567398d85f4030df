"""The metadata server: one listener per instance, on a loopback address of the instance's own.

The address a request arrives at tells which instance asks. Inside a machine the name
`metadata.google.internal` leads here, and `GCE_METADATA_HOST` where names cannot be private.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from uvicorn.server import ServerState

from simcloud.gcp import metadata
from simcloud.gcp.auth import Tokens
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.records import Instance

_HEADERS = {
    "Metadata-Flavor": "Google",
    "Server": "Metadata Server for VM",
    "X-XSS-Protection": "0",
    "X-Frame-Options": "SAMEORIGIN",
}
_PREFIX = "/computeMetadata/v1"
_HTTP_PORT = 80
_GUEST_ATTRIBUTES = "instance/guest-attributes/"
_LONGEST_WAIT_S = 3600.0


class MetadataServers:
    """Opens and closes the listeners of instances."""

    def __init__(self, *, inventory: Inventory, tokens: Tokens, project: str) -> None:
        self._inventory = inventory
        self._tokens = tokens
        self._project = project
        self._listeners: dict[str, asyncio.Server] = {}
        self._instances: dict[str, Instance] = {}
        app = Starlette(
            routes=[
                Route("/", self._root),
                Route("/computeMetadata/", self._root),
                Route(_PREFIX, self._v1, methods=["GET", "PUT", "DELETE"]),
                Route(_PREFIX + "/{path:path}", self._v1, methods=["GET", "PUT", "DELETE"]),
            ]
        )
        self._config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False)
        self._state = ServerState()

    async def open(self, instance: Instance) -> str:
        """Listen for an instance, if not yet; return the base URL.

        Port 80 is taken if it can be had, so that plain `http://metadata.google.internal/` works.
        """
        address = instance.metadata_address
        assert address is not None
        listener = self._listeners.get(instance.id)
        if listener is None:
            if not self._config.loaded:
                self._config.load()
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(self._protocol(), sock=_listen(address))
            self._listeners[instance.id] = listener
        self._instances[address] = instance
        port = listener.sockets[0].getsockname()[1]
        return f"http://{address}" if port == _HTTP_PORT else f"http://{address}:{port}"

    def close(self, instance: Instance) -> None:
        """Stop listening for an instance; harmless if that is not the case."""
        listener = self._listeners.pop(instance.id, None)
        if listener is not None:
            listener.close()
        if instance.metadata_address is not None:
            self._instances.pop(instance.metadata_address, None)

    def close_all(self) -> None:
        """Stop listening for every instance."""
        for instance in list(self._instances.values()):
            self.close(instance)
        for connection in list(self._state.connections):
            connection.shutdown()

    def _protocol(self) -> Callable[[], asyncio.Protocol]:
        # what uvicorn.Server does for its own sockets; ours come and go
        config, state = self._config, self._state
        protocol: Any = config.http_protocol_class
        return lambda: protocol(config=config, server_state=state, app_state={})

    async def _root(self, request: Request) -> Response:
        text = "computeMetadata/\n" if request.url.path == "/" else "v1/\n"
        return PlainTextResponse(text, headers=_HEADERS)

    async def _v1(self, request: Request) -> Response:
        if request.headers.get("metadata-flavor") != "Google" or (
            "x-forwarded-for" in request.headers
        ):
            return _refusal(403, "Missing Metadata-Flavor:Google header.")
        address = str(request.scope["server"][0])
        instance = self._instances.get(address)
        if instance is None:
            return _refusal(404, "No instance lives behind this address.")
        path = request.path_params.get("path", "")
        if request.method != "GET":
            return await self._write(request, instance, path)
        token = self._token(request, instance, path)
        return token if token is not None else await self._read(request, instance, path)

    async def _read(self, request: Request, instance: Instance, path: str) -> Response:
        query = request.query_params
        try:
            node = metadata.find(self._tree(instance), path)
            if query.get("wait_for_change", "").lower() == "true":
                node = await self._wait(instance, path, query)
        except KeyError:
            return _refusal(404, f"{request.url.path} was not found.")
        except ValueError as unreadable:
            return _refusal(400, str(unreadable))
        recursive = query.get("recursive", "").lower() == "true"
        if metadata.is_directory(node) and not recursive and not request.url.path.endswith("/"):
            return RedirectResponse(request.url.path + "/", 301, headers=_HEADERS)
        return _answer(node, alt=query.get("alt"), recursive=recursive)

    def _tree(self, instance: Instance) -> metadata.Tree:
        return metadata.build(instance, inventory=self._inventory, project=self._project)

    async def _wait(self, instance: Instance, path: str, query: Mapping[str, str]) -> Any:
        """Return the node once it differs from what the client knows, or when time is up."""
        tree = self._tree(instance)
        known = query.get("last_etag") or _etag(metadata.find(tree, path))
        text = query.get("timeout_sec", "")
        if text and not text.isdecimal():
            raise ValueError("timeout_sec: give whole seconds")
        seconds = min(float(text), _LONGEST_WAIT_S) if text else _LONGEST_WAIT_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while _etag(metadata.find(self._tree(instance), path)) == known:
                    await self._inventory.changed(instance)
        return metadata.find(self._tree(instance), path)

    def _token(self, request: Request, instance: Instance, path: str) -> Response | None:
        segments = [segment for segment in path.split("/") if segment]
        if len(segments) != 4 or segments[:2] != ["instance", "service-accounts"]:
            return None
        accounts = {account["email"]: account for account in instance.service_accounts}
        wanted = next(iter(accounts), "") if segments[2] == "default" else segments[2]
        account = accounts.get(wanted)
        if account is None:
            return None
        if segments[3] == "token":
            issued = self._tokens.issue(email=account["email"])
            return Response(
                json.dumps(
                    {
                        "access_token": issued,
                        "expires_in": self._tokens.life_s,
                        "token_type": "Bearer",
                    }
                ),
                media_type="application/json",
                headers=_HEADERS,
            )
        if segments[3] == "identity":
            audience = request.query_params.get("audience")
            if not audience:
                return _refusal(400, "non-empty audience parameter required")
            identity = self._tokens.identity(email=account["email"], audience=audience)
            return PlainTextResponse(identity, headers=_HEADERS)
        return None

    async def _write(self, request: Request, instance: Instance, path: str) -> Response:
        enabled = instance.guest_attributes_enabled
        key = path.removeprefix(_GUEST_ATTRIBUTES)
        if not path.startswith(_GUEST_ATTRIBUTES) or key.count("/") != 1 or not enabled:
            return _refusal(403, "Guest attributes are not enabled, or not written to <ns>/<key>.")
        if request.method == "PUT":
            instance.guest_attributes[key] = (await request.body()).decode(errors="replace")
        else:
            instance.guest_attributes.pop(key, None)
        self._inventory.save(instance)
        return PlainTextResponse("", headers=_HEADERS)


def _listen(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, _HTTP_PORT))
        sock.listen()
    except OSError:
        sock.close()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind((address, 0))
    sock.setblocking(False)
    return sock


def _etag(node: Any) -> str:
    return hashlib.sha256(metadata.as_json(node).encode()).hexdigest()[:16]


def _answer(node: Any, *, alt: str | None, recursive: bool) -> Response:
    headers = {**_HEADERS, "ETag": _etag(node)}
    directory = metadata.is_directory(node)
    if alt == "json" or (recursive and alt != "text"):
        return Response(metadata.as_json(node), media_type="application/json", headers=headers)
    if directory:
        text = metadata.as_flat_text(node) if recursive else metadata.listing(node)
    else:
        text = metadata.leaf_text(node)
    return Response(text, media_type="application/text", headers=headers)


def _refusal(status: int, reason: str) -> Response:
    page = f"<!DOCTYPE html><html lang=en><title>Error {status}</title><p>{reason}</html>\n"
    return Response(page, status, media_type="text/html; charset=UTF-8", headers=_HEADERS)
