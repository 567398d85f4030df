"""A Temporal development server of one's own, that a test may stop and start again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from benchmarks._servers import free_port
from tests.support.binaries import binary


class TemporalServer:
    """The dev server in memory, on one port for its whole life."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port of its frontend, whether it runs or not."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start; its history begins anew."""
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", binary("temporal"), "server", "start-dev",
             "--headless", "--ip", "127.0.0.1", "--port", str(self.port), "--log-level", "never"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                asyncio.run(_answers(self.address))
                return
            except Exception:
                assert self._process.poll() is None, "the dev server ended"
                assert time.monotonic() < deadline, "the dev server does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        """Kill it: clients see refused connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop answering without closing anything."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


async def _answers(address: str) -> None:
    from temporalio.client import Client

    client = await Client.connect(address)
    await client.count_workflows()


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """The session's server; leave it running."""
    server = TemporalServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_temporal_server() -> Iterator[TemporalServer]:
    """A server for one test, which may do to it what it likes."""
    server = TemporalServer()
    server.start()
    yield server
    server.stop()
