"""`MachineShell` over asyncssh.

A rented host is not trusted: it is only talked to after it has proved the machine's own host key,
what it prints is bounded and validated, and everything has a time limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncssh
from pydantic import ValidationError

from dumont.domain.errors import NotReady
from dumont.domain.instances import SshAddress
from dumont.domain.ladder import AgentHello
from dumont.ports import MachineSecrets
from dumont.remote.agent_archive import AgentArchive, agent_archive

MAX_OUTPUT_BYTES = 256 * 1024
"""What is kept of each output stream of a command; the rest is read and dropped."""

_ABSENT = 90
_NO_PYTHON = 91

PYTHONS = (
    "python3",
    "python",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/conda/bin/python3",
    "/venv/main/bin/python3",
)
"""Where images have their Python; a login without a shell's start-up files may not find it."""

_RUN_AGENT = """\
agent="$HOME/.dumont/{file_name}"
[ -f "$agent" ] || exit {absent}
for python in {pythons}; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
  exec "$python" "$agent" {command}
done
exit {no_python}
"""


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What a command on a machine left behind."""

    exit_status: int | None
    """None when a signal ended it."""
    stdout: bytes
    stderr: bytes
    truncated: bool
    """Whether output was dropped."""


class SshShell:
    """Logs in to machines with their access keys.

    Args:
        secrets: Gives a machine's key pairs by its id (`SecretStore.ensure_machine_secrets`).
        tcp_timeout_s: Longest wait for a TCP connection.
        login_timeout_s: Longest wait for a whole login.
        agent: Builds the archive to push.
    """

    def __init__(
        self,
        *,
        secrets: Callable[[str], Awaitable[MachineSecrets]],
        tcp_timeout_s: float = 5.0,
        login_timeout_s: float = 15.0,
        agent: Callable[[], AgentArchive] = agent_archive,
    ) -> None:
        self._secrets = secrets
        self._tcp_timeout_s = tcp_timeout_s
        self._login_timeout_s = login_timeout_s
        self._agent = agent

    async def probe_tcp(self, address: SshAddress) -> None:
        """One TCP connection. Raises NotReady."""
        try:
            async with asyncio.timeout(self._tcp_timeout_s):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except TimeoutError:
            raise NotReady(
                f"{_at(address)} does not answer within {self._tcp_timeout_s:g} s"
            ) from None
        except (OSError, UnicodeError) as error:
            raise NotReady(f"{_at(address)}: {_words(error)}") from error
        writer.close()

    async def probe_ssh(self, address: SshAddress, *, machine_id: str) -> None:
        """One whole login that insists on the machine's host key. Raises NotReady."""
        async with self.login(address, machine_id=machine_id):
            pass

    async def hello(self, address: SshAddress, *, machine_id: str) -> AgentHello:
        """Push the agent unless it is there, and run its `hello`. Raises NotReady."""
        archive = self._agent()
        command = _RUN_AGENT.format(
            file_name=archive.file_name,
            command="hello",
            pythons=" ".join(PYTHONS),
            absent=_ABSENT,
            no_python=_NO_PYTHON,
        )
        async with self.login(address, machine_id=machine_id) as connection:
            result = await run(connection, command, timeout_s=60)
            if result.exit_status == _ABSENT:
                await push(connection, archive.content, path=f".dumont/{archive.file_name}")
                result = await run(connection, command, timeout_s=60)
        if result.exit_status == _NO_PYTHON:
            raise NotReady(f"{_at(address)} has no Python 3.8 or newer for the agent to run on")
        return _parse_hello(result, where=_at(address))

    @asynccontextmanager
    async def login(
        self, address: SshAddress, *, machine_id: str
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection to the machine.

        Raises:
            NotReady: From the login, or from the connection breaking inside the block.
        """
        secrets = await self._secrets(machine_id)
        host_key = asyncssh.import_public_key(secrets.host_key_public)
        connect = partial(
            asyncssh.connect,
            address.host,
            address.port,
            username=address.user,
            client_keys=[asyncssh.import_private_key(secrets.access_key_private)],
            known_hosts=([host_key], [], []),
            # Of several host keys a server must present the one that we know.
            server_host_key_algs=[host_key.get_algorithm()],
            preferred_auth="publickey",
            # Nothing of the person or host that we run as may leak in or out.
            config=None,
            agent_path=None,
            agent_forwarding=False,
            x509_trusted_certs=None,
            keepalive_interval=15,
        )
        where = _at(address)
        try:
            async with asyncio.timeout(self._login_timeout_s):
                connection = await connect()
        except TimeoutError:
            raise NotReady(
                f"SSH at {where} does not answer within {self._login_timeout_s:g} s"
            ) from None
        except (OSError, asyncssh.Error, UnicodeError) as error:
            raise NotReady(_login_failure(where, error)) from error
        try:
            yield connection
        except (OSError, asyncssh.Error) as error:
            raise NotReady(f"the SSH connection to {where} broke: {_words(error)}") from error
        finally:
            connection.abort()


async def run(
    connection: asyncssh.SSHClientConnection,
    command: str,
    *,
    timeout_s: float,
    stdin: bytes = b"",
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> CommandResult:
    """Run a shell command to its end.

    Args:
        connection: From `SshShell.login`.
        command: For the login shell of the user.
        timeout_s: Longest run time.
        stdin: What the command reads.
        max_output_bytes: What is kept of each output stream.

    Raises:
        NotReady: It did not end in time; its connection channel was closed.
    """
    try:
        async with asyncio.timeout(timeout_s):
            process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
                command, encoding=None
            )
            try:
                (stdout, more_out), (stderr, more_err), _ = await asyncio.gather(
                    _read(process.stdout, max_output_bytes),
                    _read(process.stderr, max_output_bytes),
                    feed(process.stdin, stdin),
                )
                await process.wait_closed()
            finally:
                process.close()
    except TimeoutError:
        first = command.split("\n", 1)[0][:80]
        raise NotReady(f"`{first}` did not end within {timeout_s:g} s") from None
    return CommandResult(
        exit_status=None if process.exit_signal else process.exit_status,
        stdout=stdout,
        stderr=stderr,
        truncated=more_out or more_err,
    )


async def push(
    connection: asyncssh.SSHClientConnection,
    content: bytes,
    *,
    path: str,
    mode: int = 0o600,
    timeout_s: float = 60,
) -> None:
    """Write a file so that `path` is absent or old or whole, never a part.

    Args:
        connection: From `SshShell.login`.
        content: The whole file.
        path: Where; relative to the home. Missing folders are made.
        mode: Permissions.
        timeout_s: Longest time for all of it.

    Raises:
        NotReady: It could not be written, or not in time.
    """
    target = shlex.quote(path)
    # A connection that breaks ends `cat` as if the file were complete: hence the count.
    command = (
        f't={target}; umask 077; mkdir -p "$(dirname -- "$t")" && cat >"$t.$$" && '
        f'[ "$(wc -c <"$t.$$")" -eq {len(content)} ] && chmod {mode:o} "$t.$$" && '
        'mv -f -- "$t.$$" "$t" || { rm -f -- "$t.$$"; exit 1; }'
    )
    result = await run(connection, command, timeout_s=timeout_s, stdin=content)
    if result.exit_status != 0:
        raise NotReady(f"{path} could not be written: {last_line(result.stderr) or 'cut short'}")


async def _read(stream: asyncssh.SSHReader[bytes], keep: int) -> tuple[bytes, bool]:
    kept = bytearray()
    dropped = False
    while chunk := await stream.read(65536):
        room = keep - len(kept)
        kept += chunk[:room]
        dropped = dropped or len(chunk) > room
    return bytes(kept), dropped


async def feed(stream: asyncssh.SSHWriter[bytes], data: bytes) -> None:
    """Write what a command reads, and its end."""
    try:
        if data:
            stream.write(data)
            await stream.drain()
        stream.write_eof()
    except (BrokenPipeError, ConnectionResetError):
        pass  # The command ended without reading everything; its status tells whether it minded.


async def tail(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """The end of a stream that is read to its end."""
    kept = b""
    while chunk := await stream.read(65536):
        kept = (kept + chunk)[-4096:]
    return kept


def json_object(line: bytes) -> dict[str, Any] | None:
    """A line as the JSON object that it is; None when it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _parse_hello(result: CommandResult, *, where: str) -> AgentHello:
    # Start-up files of a shell may print before the agent does.
    lines = [line for line in result.stdout.splitlines() if line.startswith(b"{")]
    if result.exit_status != 0 or not lines:
        said = last_line(result.stderr) or f"status {result.exit_status}"
        raise NotReady(f"the agent did not run on {where}: {said}")
    try:
        return AgentHello.model_validate_json(lines[-1])
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise NotReady(f"the agent on {where} answered nonsense: {field}: {first['msg']}") from None


def _login_failure(where: str, error: Exception) -> str:
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        return (
            f"SSH at {where} does not present this machine's host key (its start script has not "
            f"installed it yet, or it is another host): {_words(error)}"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return f"SSH at {where} does not accept the machine's access key yet"
    if isinstance(error, OSError):
        return f"SSH at {where}: {_words(error)}"
    return f"SSH at {where} ends the handshake: {_words(error)}"


def _at(address: SshAddress) -> str:
    return f"{address.host}:{address.port}"


def _words(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return (str(error) or type(error).__name__)[:300]


def last_line(output: bytes) -> str:
    """What a command said last, shortened; empty when it said nothing."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
