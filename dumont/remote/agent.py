"""`MachineAgent` over SSH: pushes the agent, runs one of its commands, reads its one line of JSON.

What an agent answers comes from a host that is not trusted: it is bounded here and validated by
whoever asked.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncssh

from dumont.domain.errors import AgentRefused, NotReady
from dumont.domain.instances import SshAddress
from dumont.remote.agent_archive import agent_archive
from dumont.remote.shell import PYTHONS, SshShell, feed, json_object, push, tail

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""Longest answer of one line; a list of file names is the longest there is."""

_FINAL: Final = ("fenced", "invalid")
"""Codes of an agent's errors that asking again does not change."""

_ABSENT: Final = 90
_NO_PYTHON: Final = 91

_COMMAND = """\
cd "$HOME/.dumont" 2>/dev/null && [ -f {file_name} ] || exit {absent}
[ "$(readlink agent.pyz)" = {file_name} ] || {{ ln -s {file_name} agent.pyz.$$ && mv -f agent.pyz.$$ agent.pyz; }}
cd
for python in {pythons}; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
  exec "$python" .dumont/agent.pyz {words}
done
exit {no_python}
"""


class SshAgent:
    """Commands of the agents on machines.

    Args:
        shell: Logs in.
    """

    def __init__(self, shell: SshShell) -> None:
        self._shell = shell

    async def call(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        words: Sequence[str],
        stdin: bytes = b"",
        timeout_s: float = 30.0,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Run one command; see `ports.MachineAgent`."""
        archive = agent_archive()
        command = _COMMAND.format(
            file_name=archive.file_name,
            words=shlex.join(words),
            pythons=" ".join(PYTHONS),
            absent=_ABSENT,
            no_python=_NO_PYTHON,
        )
        where = f"{address.host}:{address.port}"
        try:
            async with asyncio.timeout(timeout_s):
                async with self._shell.login(address, machine_id=machine_id) as connection:
                    answer = await _run(connection, command, stdin, on_progress)
                    if answer.status == _ABSENT:
                        path = f".dumont/{archive.file_name}"
                        await push(connection, archive.content, path=path)
                        answer = await _run(connection, command, stdin, on_progress)
        except TimeoutError:
            raise NotReady(f"`{words[0]}` on {where} did not end within {timeout_s:g} s") from None
        return answer.parse(word=words[0], where=where)

    async def fetch(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        paths: Sequence[str],
        to: SshAddress,
        folder: str,
        timeout_s: float = 300.0,
    ) -> int:
        """Copy files from one body to the other, through us: neither can log in to the other.

        See `ports.MachineAgent`.
        """
        names = b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in paths)
        target = shlex.quote(folder)
        send = (
            'cd "$(cat ~/.dumont/workspace)" && '
            "tar --create --null --files-from=- --no-recursion --ignore-failed-read "
            "--warning=no-file-changed --numeric-owner"
        )
        take = (
            f'cd "$(cat ~/.dumont/workspace)" && mkdir -p -- {target} && '
            f"tar --extract --overwrite --numeric-owner --directory={target}"
        )
        try:
            async with asyncio.timeout(timeout_s):
                async with (
                    self._shell.login(address, machine_id=machine_id) as source,
                    self._shell.login(to, machine_id=machine_id) as sink,
                ):
                    return await _pipe(source, send, names, sink, take)
        except TimeoutError:
            raise NotReady(f"copying {len(paths)} files took over {timeout_s:g} s") from None


class _Answer:
    def __init__(self, status: int | None, last: bytes, stderr: bytes) -> None:
        self.status = status
        self._last = last
        self._stderr = stderr

    def parse(self, *, word: str, where: str) -> dict[str, Any]:
        if self.status == _NO_PYTHON:
            raise NotReady(f"{where} has no Python 3.8 or newer for the agent to run on")
        answer = json_object(self._last)
        if answer is None:
            said = self._stderr.decode("utf-8", "replace").strip().splitlines()
            reason = said[-1][:300] if said else f"status {self.status}"
            raise NotReady(f"the agent on {where} did not answer `{word}`: {reason}")
        if "error" in answer:
            why = f"{where}: {answer['error']}"[:1000]
            if answer.get("code") in _FINAL:
                raise AgentRefused(why, hint=_text(answer.get("code")))
            raise NotReady(why)
        if self.status != 0:
            raise NotReady(f"`{word}` on {where} ended with status {self.status}")
        return answer


async def _run(
    connection: asyncssh.SSHClientConnection,
    command: str,
    stdin: bytes,
    on_progress: Callable[[dict[str, Any]], None] | None,
) -> _Answer:
    process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
        command, encoding=None
    )
    try:
        feeding = asyncio.create_task(feed(process.stdin, stdin))
        errors = asyncio.create_task(tail(process.stderr))
        last = await _lines(process.stdout, on_progress)
        stderr = await errors
        await feeding
        await process.wait_closed()
    finally:
        process.close()
    return _Answer(None if process.exit_signal else process.exit_status, last, stderr)


async def _lines(
    stream: asyncssh.SSHReader[bytes], on_progress: Callable[[dict[str, Any]], None] | None
) -> bytes:
    """The last line; those before it are progress."""
    last, rest = b"", b""
    while chunk := await stream.read(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise NotReady("the agent's answer is longer than any answer can be")
        for line in lines:
            progress = json_object(last)
            if on_progress is not None and progress is not None:
                on_progress(progress)
            last = line if line.startswith(b"{") else last
    return rest if rest.startswith(b"{") else last


async def _pipe(
    source: asyncssh.SSHClientConnection,
    send: str,
    names: bytes,
    sink: asyncssh.SSHClientConnection,
    take: str,
) -> int:
    sender: asyncssh.SSHClientProcess[bytes] = await source.create_process(send, encoding=None)
    taker: asyncssh.SSHClientProcess[bytes] = await sink.create_process(take, encoding=None)
    copied = 0
    try:
        feeding = asyncio.create_task(feed(sender.stdin, names))
        complaints = asyncio.create_task(tail(taker.stderr))
        while chunk := await sender.stdout.read(262_144):
            taker.stdin.write(chunk)
            await taker.stdin.drain()
            copied += len(chunk)
        taker.stdin.write_eof()
        await taker.wait_closed()
        await feeding
        said = await complaints
    finally:
        sender.close()
        taker.close()
    if taker.exit_status != 0:
        words = said.decode("utf-8", "replace").strip()[-300:]
        raise NotReady(f"the copied files could not be written: {words}")
    return copied


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) else None
