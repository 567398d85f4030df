"""TCP forwarding: the ssh proxy and the `-p` ports of instances, as real listening sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One listening address and where its connections go."""

    listen: tuple[str, int]
    target: tuple[str, int]


class Forwards:
    """The forwards of all instances, opened and closed together for each."""

    def __init__(self) -> None:
        self._servers: dict[int, list[asyncio.Server]] = {}
        self._connections: dict[int, set[asyncio.Task[None]]] = {}

    async def open(self, instance_id: int, forwards: list[Forward]) -> None:
        """Listen for an instance; a port that is taken is logged and left out."""
        await self.close(instance_id)
        servers: list[asyncio.Server] = []
        tasks: set[asyncio.Task[None]] = set()
        self._servers[instance_id], self._connections[instance_id] = servers, tasks
        for forward in forwards:
            try:
                servers.append(await self._listen(forward, tasks))
            except OSError as error:
                log.warning("cannot forward %s: %s", forward, error)

    async def close(self, instance_id: int) -> None:
        """Stop listening for an instance and cut its connections."""
        for server in self._servers.pop(instance_id, []):
            server.close()
        tasks = self._connections.pop(instance_id, set())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close_all(self) -> None:
        """Stop everything."""
        for instance_id in list(self._servers):
            await self.close(instance_id)

    @staticmethod
    async def _listen(forward: Forward, tasks: set[asyncio.Task[None]]) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await _relay(forward.target, reader, writer)
            finally:
                tasks.discard(task)

        return await asyncio.start_server(connected, *forward.listen)


async def _relay(
    target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(*target)
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    except (OSError, asyncio.CancelledError):
        return
    finally:
        for each in (writer, far_writer):
            each.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await each.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
