"""Wiring: from settings to three listening applications, and back to nothing.

The sockets are bound before anything else, so that every part knows every URL, and the start line
is printed only when all three answer.

What each cloud's `create_app(context) -> Starlette` leaves on `app.state` for the wiring:
`start_line` (a dict of what its users need to log in: merged into the start summary) and
`control_routes` (Starlette routes that the control application mounts under the cloud's name).
A cloud ends its background work in its own lifespan; machines are killed after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import uvicorn

from simcloud import control
from simcloud.clock import Clock
from simcloud.context import CloudContext, Settings
from simcloud.faults import Faults
from simcloud.gcp import app as gcp
from simcloud.machines import AddressPool, Machines
from simcloud.store import Store
from simcloud.traffic import Traffic
from simcloud.vast import app as vast

log = logging.getLogger(__name__)


class StartError(Exception):
    """simcloud cannot start; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports to listen on; 0 is any free one."""

    vast: int = 0
    gcp: int = 0
    control: int = 0


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    settings: Settings, ports: Ports, *, announce: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Run simcloud until SIGTERM or SIGINT.

    Args:
        settings: How to behave.
        ports: Where to listen, always on 127.0.0.1.
        announce: Called once with the start summary when everything answers.

    Raises:
        StartError: If the state directory is in use, a port is taken, or a program is missing.
    """
    settings.state.mkdir(parents=True, exist_ok=True)
    with _locked(settings), contextlib.closing(Store(settings.state / "simcloud.db")) as store:
        sockets = {
            name: _bind(port, name)
            for name, port in (
                ("vast", ports.vast),
                ("gcp", ports.gcp),
                ("control", ports.control),
            )
        }
        urls = {name: f"http://127.0.0.1:{sock.getsockname()[1]}" for name, sock in sockets.items()}
        context = _make_context(settings, store, urls)
        try:
            await _run(context, sockets, announce)
        finally:
            await context.machines.close()
            context.addresses.close()


def _make_context(settings: Settings, store: Store, urls: dict[str, str]) -> CloudContext:
    rng = random.Random(settings.seed)
    try:
        machines = Machines(settings.state / "machines")
        addresses = AddressPool(store, seed=str(settings.state.resolve()))
    except RuntimeError as error:
        raise StartError(str(error)) from error
    return CloudContext(
        settings=settings,
        store=store,
        clock=Clock(offset=float(store.collection("settings").get("clock_offset") or 0.0)),
        faults=Faults(store, rng),
        machines=machines,
        addresses=addresses,
        traffic=Traffic(),
        rng=rng,
        vast_url=urls["vast"],
        gcp_url=urls["gcp"],
        control_url=urls["control"],
    )


async def _run(
    context: CloudContext,
    sockets: dict[str, socket.socket],
    announce: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    vast_app = vast.create_app(context)
    gcp_app = gcp.create_app(context)
    control_app = control.create_app(context, vast_app=vast_app, gcp_app=gcp_app)
    servers = {
        name: _Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=1,
            )
        )
        for name, app in (("vast", vast_app), ("gcp", gcp_app), ("control", control_app))
    }
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [
        asyncio.create_task(server.serve(sockets=[sockets[name]]))
        for name, server in servers.items()
    ]
    try:
        while not all(server.started for server in servers.values()):
            if any(task.done() for task in tasks):
                raise StartError("one of the servers did not start; see the log above")
            await asyncio.sleep(0.005)
        await announce(
            {
                "vast_url": context.vast_url,
                "gcp_url": context.gcp_url,
                "control_url": context.control_url,
                **vast_app.state.start_line,
                **gcp_app.state.start_line,
                "isolation": context.machines.isolation,
                "links": context.machines.links,
            }
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
    finally:
        for server in servers.values():
            server.should_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)


def _bind(port: int, name: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        raise StartError(
            f"--{name}-port: 127.0.0.1:{port} cannot be used ({error.strerror}); "
            "choose another or leave it out"
        ) from error
    return sock


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[IO[str]]:
    """Hold the state directory: two simclouds on one state would corrupt it."""
    with (settings.state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(
                f"--state: {settings.state} is in use by another simcloud; stop it or choose "
                "another directory"
            ) from error
        yield file
