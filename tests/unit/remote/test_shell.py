"""The shell against real SSH servers: honest, wrong, silent, rude and slow ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from dumont.domain.errors import NotReady
from dumont.domain.instances import SshAddress
from dumont.ports import MachineSecrets
from dumont.remote.agent_archive import agent_archive
from dumont.remote.shell import SshShell, push, run
from dumont.security.ssh import new_machine_secrets

MACHINE = "m0123456789ab"
SECRETS = new_machine_secrets(MACHINE)


async def secrets_of(machine_id: str) -> MachineSecrets:
    assert machine_id == MACHINE
    return SECRETS


def shell(**options: Any) -> SshShell:
    return SshShell(secrets=secrets_of, **options)


class Machine:
    """An SSH server that runs commands with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.commands: list[str] = []
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home)}
        self.noise = b""
        self.port = 0
        self._work: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> SshAddress:
        return SshAddress(host="127.0.0.1", port=self.port)

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        # asyncssh cancels this when the connection breaks, wherever it is.
        self._work.add(work := asyncio.create_task(self._run(process)))
        await asyncio.shield(work)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        self.commands.append(command)
        if self.noise:
            process.stdout.write(self.noise)
        child = await asyncio.create_subprocess_exec(
            "sh", "-c", command,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=self.env, cwd=self.home, start_new_session=True,
        )  # fmt: skip
        work = asyncio.create_task(self._feed(process, child))
        closed = asyncio.create_task(process.wait_closed())
        await asyncio.wait({work, closed}, return_when=asyncio.FIRST_COMPLETED)
        closed.cancel()
        # The shell and what it started: a grandchild would hold the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await work

    async def until_idle(self) -> None:
        """Until no command runs any more: none may outlive the event loop of its test."""
        await asyncio.wait_for(asyncio.gather(*self._work, return_exceptions=True), 10)

    async def _feed(
        self, process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process
    ) -> None:
        try:
            given = await process.stdin.read()
        except (OSError, asyncssh.Error):
            given = b""
        out, err = await child.communicate(given)
        with contextlib.suppress(OSError):
            process.stdout.write(out)
            process.stderr.write(err)
            process.exit(await child.wait())


@contextlib.asynccontextmanager
async def serving(
    machine: Machine,
    *,
    host_keys: tuple[str, ...] = (SECRETS.host_key_private,),
    let_in: str = SECRETS.access_key_public,
) -> AsyncIterator[Machine]:
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.import_private_key(key) for key in host_keys],
        authorized_client_keys=asyncssh.import_authorized_keys(let_in),
        process_factory=machine.serve,
        encoding=None,
    )
    machine.port = server.get_port()
    try:
        yield machine
    finally:
        server.close()
        await server.wait_closed()
        await machine.until_idle()


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with serving(Machine(tmp_path)) as found:
        yield found


@contextlib.asynccontextmanager
async def answering(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[SshAddress]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield SshAddress(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    finally:
        server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_machine_that_is_up(machine: Machine) -> None:
    await shell().probe_tcp(machine.address)
    await shell().probe_ssh(machine.address, machine_id=MACHINE)


async def test_nobody_listens() -> None:
    nobody = SshAddress(host="127.0.0.1", port=free_port())
    with pytest.raises(NotReady, match="refused"):
        await shell().probe_tcp(nobody)
    with pytest.raises(NotReady, match="refused"):
        await shell().probe_ssh(nobody, machine_id=MACHINE)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300])
async def test_an_impossible_address(host: str) -> None:
    with pytest.raises(NotReady):
        await shell().probe_tcp(SshAddress(host=host, port=22))
    with pytest.raises(NotReady):
        await shell().probe_ssh(SshAddress(host=host, port=22), machine_id=MACHINE)


async def test_another_host_key_is_not_our_machine(tmp_path: Path) -> None:
    other = new_machine_secrets("mffffffffffff").host_key_private
    machine = Machine(tmp_path)
    async with serving(machine, host_keys=(other,)):
        with pytest.raises(NotReady, match="host key"):
            await shell().probe_ssh(machine.address, machine_id=MACHINE)
        with pytest.raises(NotReady, match="host key"):
            await shell().hello(machine.address, machine_id=MACHINE)
    assert machine.commands == [], "nothing is said to a stranger"


async def test_a_host_key_of_another_type_is_not_our_machine(tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key().decode()
    machine = Machine(tmp_path)
    async with serving(machine, host_keys=(other,)):
        with pytest.raises(NotReady, match="host key"):
            await shell().probe_ssh(machine.address, machine_id=MACHINE)


async def test_our_key_among_several_is_enough(tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key().decode()
    async with serving(Machine(tmp_path), host_keys=(other, SECRETS.host_key_private)) as machine:
        await shell().probe_ssh(machine.address, machine_id=MACHINE)


async def test_a_machine_that_does_not_let_us_in_yet(tmp_path: Path) -> None:
    other = new_machine_secrets("mffffffffffff").access_key_public
    async with serving(Machine(tmp_path), let_in=other) as machine:
        with pytest.raises(NotReady, match="access key"):
            await shell().probe_ssh(machine.address, machine_id=MACHINE)


async def test_a_port_that_accepts_and_says_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with answering(silent) as address:
        await shell().probe_tcp(address)
        with pytest.raises(NotReady, match=r"within 0\.2 s"):
            await shell(login_timeout_s=0.2).probe_ssh(address, machine_id=MACHINE)


@pytest.mark.parametrize(
    "banner", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n\0" * 9]
)
async def test_a_port_that_speaks_something_else(banner: bytes) -> None:
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        await writer.drain()
        writer.close()

    async with answering(rude) as address:
        with pytest.raises(NotReady):
            await shell(login_timeout_s=2).probe_ssh(address, machine_id=MACHINE)


async def test_hello_pushes_the_agent_once(machine: Machine) -> None:
    first = await shell().hello(machine.address, machine_id=MACHINE)
    commands = len(machine.commands)
    second = await shell().hello(machine.address, machine_id=MACHINE)
    assert len(machine.commands) - commands == 1, "the second time nothing is pushed"
    assert first.protocol == second.protocol == 1
    assert first.hostname == socket.gethostname()
    pushed = machine.home / ".dumont" / agent_archive().file_name
    assert pushed.read_bytes() == agent_archive().content
    assert stat.S_IMODE(pushed.stat().st_mode) == 0o600
    assert [p.name for p in (machine.home / ".dumont").iterdir()] == [pushed.name]


async def test_chatty_start_up_files_do_no_harm(machine: Machine) -> None:
    machine.noise = b"Welcome to vast.ai!\n{not json\n"
    assert (await shell().hello(machine.address, machine_id=MACHINE)).protocol == 1


async def test_no_python_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dumont.remote.shell.PYTHONS", ("python2", "/bin/false"))
    with pytest.raises(NotReady, match=r"no Python 3\.8"):
        await shell().hello(machine.address, machine_id=MACHINE)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("echo '{\"agent_version\": 1}'", "nonsense"),
        ("echo '{'", "nonsense"),
        ("echo hello", "did not run"),
        ("echo 'Killed: out of memory' >&2; exit 137", "out of memory"),
    ],
)
async def test_an_agent_that_answers_nonsense(machine: Machine, output: str, reason: str) -> None:
    tools = machine.home / "tools"
    tools.mkdir()
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{output}\n')
    python.chmod(0o755)
    machine.env["PATH"] = f"{tools}:{machine.env['PATH']}"
    with pytest.raises(NotReady, match=reason):
        await shell().hello(machine.address, machine_id=MACHINE)


async def test_output_is_bounded_and_the_command_still_ends(machine: Machine) -> None:
    async with shell().login(machine.address, machine_id=MACHINE) as connection:
        result = await run(
            connection,
            "head -c 3000000 /dev/zero; echo oops >&2; exit 7",
            timeout_s=30,
            max_output_bytes=1000,
        )
    assert len(result.stdout) == 1000
    assert result.truncated
    assert (result.stderr, result.exit_status) == (b"oops\n", 7)


async def test_a_command_gets_its_input(machine: Machine) -> None:
    data = os.urandom(1_000_000)
    async with shell().login(machine.address, machine_id=MACHINE) as connection:
        result = await run(connection, "cat", timeout_s=30, stdin=data, max_output_bytes=2_000_000)
        ignored = await run(connection, "exit 0", timeout_s=30, stdin=data)
    assert result.stdout == data
    assert ignored.exit_status == 0


async def test_a_command_that_hangs_is_given_up(machine: Machine) -> None:
    async with shell().login(machine.address, machine_id=MACHINE) as connection:
        with pytest.raises(NotReady, match="did not end"):
            await run(connection, "sleep 60", timeout_s=0.2)


async def test_a_file_is_whole_or_absent(machine: Machine) -> None:
    async with shell().login(machine.address, machine_id=MACHINE) as connection:
        await push(connection, b"one", path="a dir/it's", mode=0o755)
        await push(connection, b"", path="empty")
        (machine.home / "wall").write_text("not a folder")
        with pytest.raises(NotReady, match="could not be written"):
            await push(connection, b"x", path="wall/file")
    file = machine.home / "a dir/it's"
    assert file.read_bytes() == b"one"
    assert stat.S_IMODE(file.stat().st_mode) == 0o755
    assert (machine.home / "empty").read_bytes() == b""


async def test_a_push_that_breaks_off_leaves_the_old_file(machine: Machine) -> None:
    (machine.home / "file").write_text("old")
    async with shell().login(machine.address, machine_id=MACHINE) as connection:
        await push(connection, b"new", path="file")
    command = machine.commands[-1]
    # The same command, whose input ends early: what a broken connection looks like from there.
    cut = await asyncio.create_subprocess_exec(
        "sh", "-c", command, cwd=machine.home, stdin=asyncio.subprocess.PIPE
    )
    await cut.communicate(b"ne")
    assert cut.returncode != 0
    assert (machine.home / "file").read_text() == "new"
    assert sorted(p.name for p in machine.home.iterdir()) == ["file"]


async def test_a_connection_that_breaks_is_not_ready(machine: Machine) -> None:
    async def use() -> None:
        async with shell().login(machine.address, machine_id=MACHINE) as connection:
            connection.abort()
            await run(connection, "true", timeout_s=5)

    with pytest.raises(NotReady, match="broke"):
        await use()
