"""Two bodies of one machine on this host: two real sshds with one host key, a guard, an HAProxy.

On loopback addresses, or each body in a network namespace of its own, so that links can be cut.
Only processes that a test started itself are ever touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from dumont.agent.paths import Paths
from dumont.remote.agent_archive import agent_archive
from tests.support.ssh import KeyPair, make_key_pair

T = TypeVar("T")
SSH_PORT = 2022
ENDPOINT_PORT = 2222
OLDEST_PYTHON = Path("/root/.pyenv/versions/3.8.18/bin/python3.8")
FAST = {"connect_ms": 100, "check_ms": 50, "inter_ms": 50, "fall": 1, "down_inter_ms": 500}
PATIENT = {**FAST, "connect_ms": 400, "check_ms": 400, "fall": 2}
"""For tests that are not about speed: a busy host must not be taken for a dead primary."""


def python() -> str:
    """The oldest Python that the agent has to run on, where this host has it."""
    return str(OLDEST_PYTHON) if OLDEST_PYTHON.exists() else sys.executable


def wait_until(what: str, check: Callable[[], T], *, timeout_s: float = 15.0) -> T:
    """Return the first truthy value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


@dataclass
class Body:
    """One host: a home, a workspace, an sshd."""

    home: Path
    address: str
    host_key: KeyPair
    enter: tuple[str, ...] = ()
    """Words that run a command in its network namespace."""
    sshd: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh").chmod(0o700)
        self.workspace.mkdir()
        base = self.home / ".dumont"
        base.mkdir(mode=0o700)
        (base / "workspace").write_text(f"{self.workspace}\n")
        archive = agent_archive()
        (base / archive.file_name).write_bytes(archive.content)
        (base / "agent.pyz").symlink_to(archive.file_name)
        (self.home / "who").write_text(self.home.name)
        shims = self.home / "bin"
        shims.mkdir()
        (shims / "python3").symlink_to(python())

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def paths(self) -> Paths:
        return Paths(self.home)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.home / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8"}

    def authorize(self, *lines: str) -> None:
        file = self.home / ".ssh/authorized_keys"
        file.write_text("".join(f"{line}\n" for line in lines))
        file.chmod(0o600)

    def start(self) -> None:
        """Start sshd and wait for its banner."""
        Path("/run/sshd").mkdir(exist_ok=True)
        config = self.home / ".ssh/sshd_config"
        config.write_text(
            f"HostKey {self.host_key.private}\n"
            f"AuthorizedKeysFile {self.home}/.ssh/authorized_keys\n"
            "UsePAM no\nStrictModes no\nPermitRootLogin yes\nLogLevel ERROR\nPrintMotd no\n"
            f"Subsystem sftp internal-sftp\nMaxSessions 50\nPidFile none\n"
            f"SetEnv PATH={self.environment['PATH']} HOME={self.home}\n"
            f"ListenAddress {self.address}:{SSH_PORT}\nVersionAddendum {self.home.name}\n"
        )
        with (self.home / "sshd.log").open("ab") as log:
            self.sshd = subprocess.Popen(
                [*self.enter, "/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        wait_until("sshd answers", lambda: self.keyscan().startswith("SSH-2.0"))

    def keyscan(self) -> str:
        program = (
            "import socket,sys\n"
            "s=socket.create_connection((sys.argv[1],int(sys.argv[2])),2)\n"
            "s.settimeout(2)\nprint(s.recv(64).decode())"
        )
        done = subprocess.run(
            [*self.enter, sys.executable, "-ISc", program, self.address, str(SSH_PORT)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout

    def tree(self) -> list[psutil.Process]:
        """sshd and all that runs below it."""
        if self.sshd is None or self.sshd.poll() is not None:
            return []
        top = psutil.Process(self.sshd.pid)
        return [top, *top.children(recursive=True)]

    def signal(self, number: signal.Signals) -> float:
        """Send a signal to everything on this body; returns the moment."""
        tree = self.tree()
        moment = time.monotonic()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number is signal.SIGKILL and self.sshd is not None:
            self.sshd.wait()
            self.sshd = None
        return moment

    def agent(self, *words: str, stdin: str = "", ok: bool = True) -> dict[str, Any]:
        """Run a command of the agent."""
        done = subprocess.run(
            [*self.enter, python(), str(self.home / ".dumont/agent.pyz"), *words],
            input=stdin, capture_output=True, text=True, timeout=60, check=False, env=self.environment,
        )  # fmt: skip
        lines = done.stdout.splitlines() or ["{}"]
        answer: dict[str, Any] = json.loads(lines[-1])
        if ok:
            assert done.returncode == 0, (words, done.stdout, done.stderr)
        return answer


@dataclass
class World:
    """The machine."""

    primary: Body
    standby: Body
    owner: KeyPair
    known_hosts: Path
    timing: dict[str, int] = field(default_factory=lambda: dict(PATIENT))
    sync_keys: dict[int, KeyPair] = field(default_factory=dict)
    folder: Path = Path()

    def sync_key(self, epoch: int) -> KeyPair:
        if epoch not in self.sync_keys:
            self.sync_keys[epoch] = make_key_pair(self.folder, f"dumont-sync-e{epoch}")
        return self.sync_keys[epoch]

    def config(self, epoch: int = 5, **changes: Any) -> dict[str, Any]:
        return {
            "protocol": 1, "role": "standby", "machine_id": "m1", "name": "my-box",
            "generation": 1, "epoch": epoch, "instance_id": "vm-1", "heartbeat": None,
            "endpoint": {
                "host": self.standby.address, "port": ENDPOINT_PORT, "sshd_port": SSH_PORT,
                **self.timing,
            },
            "primary": {
                "host": self.primary.address, "port": SSH_PORT,
                "sync_public_key": self.sync_key(epoch).public,
            },
            **changes,
        }  # fmt: skip

    def apply(self, **changes: Any) -> dict[str, Any]:
        return self.standby.agent("apply", stdin=json.dumps(self.config(**changes)))

    def fence(self, epoch: int) -> dict[str, Any]:
        stdin = json.dumps({"sync_public_key": self.sync_key(epoch).public})
        return self.standby.agent("fence", "--epoch", str(epoch), stdin=stdin)["guard"]

    def hand_back(self, epoch: int, body: Body | None = None, *, ok: bool = True) -> dict[str, Any]:
        body = body or self.primary
        return self.standby.agent(
            *("hand-back", "--epoch", str(epoch), "--host", body.address),
            *("--port", str(SSH_PORT)),
            ok=ok,
        )

    def guard(self) -> dict[str, Any]:
        """The guard's section of `status.json`, as of now."""
        document = json.loads((self.standby.home / ".dumont/status.json").read_text())
        guard: dict[str, Any] = document["guard"]
        return guard

    def authority(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            (self.standby.home / ".dumont/authority.json").read_text()
        )
        return document

    def until(self, what: str, timeout_s: float = 15.0, **wanted: Any) -> dict[str, Any]:
        """Wait until the guard reports these values."""

        def check() -> dict[str, Any] | None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                guard = self.guard()
                if all(guard.get(name) == value for name, value in wanted.items()):
                    return guard
            return None

        found = wait_until(what, check, timeout_s=timeout_s)
        assert found is not None
        return found

    def ssh_words(self, *options: str, port: int = ENDPOINT_PORT) -> list[str]:
        """The client's command line, through the endpoint."""
        return [
            *self.standby.enter, "ssh", "-F", "none", "-i", str(self.owner.private),
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known_hosts}",
            "-p", str(port), *options, f"root@{self.standby.address}",
        ]  # fmt: skip

    def ssh(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ssh_words(*options), command],
            capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def where(self) -> str:
        """Which body a login through the endpoint reaches; empty when it fails."""
        return self.ssh("cat ~/who").stdout.strip()

    def sync(self, epoch: int, *words: str, to: str = "./") -> subprocess.CompletedProcess[str]:
        """rsync as a primary of `epoch` does, from its workspace."""
        return subprocess.run(
            [
                *self.primary.enter, "rsync", "-lptgoHr", "--numeric-ids", "--timeout=20",
                f"--rsh={self.sync_rsh(epoch)}", *words,
                f"{self.primary.workspace}/", f"dumont:{to}",
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def sync_rsh(self, epoch: int) -> str:
        return (
            f"ssh -F none -i {self.sync_key(epoch).private} -o IdentitiesOnly=yes -o BatchMode=yes "
            f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
            f"-o HostName={self.standby.address} -p {SSH_PORT} -l root"
        )

    def say(self, epoch: int, command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Say something to the standby's forced command."""
        words = self.sync_rsh(epoch).split()
        return subprocess.run(
            [*self.primary.enter, *words, "dumont", command],
            input=given, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def haproxy(self) -> psutil.Process:
        return psutil.Process(self.haproxy_pid())

    def haproxy_pid(self) -> int:
        note = json.loads((self.standby.paths.run / "haproxy.pid").read_text())
        return int(note["pid"])

    def worker(self) -> psutil.Process:
        return psutil.Process(self.worker_pid())

    def worker_pid(self) -> int:
        document = json.loads((self.standby.home / ".dumont/status.json").read_text())
        return int(document["pid"])


def _teardown(world: World) -> None:
    with contextlib.suppress(Exception):
        world.standby.agent("stop", ok=False)
    for body in (world.primary, world.standby):
        body.signal(signal.SIGCONT)
        body.signal(signal.SIGKILL)
        run = body.paths.run
        subprocess.run(["rm", "-rf", str(run)], check=False)


@contextlib.contextmanager
def loopback_world(folder: Path) -> Iterator[World]:
    """Both bodies on addresses of 127.0.0.0/8."""
    net = f"127.{secrets.randbelow(90) + 110}.{secrets.randbelow(250) + 1}"
    world = _build(folder, f"{net}.1", f"{net}.2", (), ())
    try:
        yield world
    finally:
        _teardown(world)


@contextlib.contextmanager
def namespace_world(folder: Path) -> Iterator[World]:
    """Each body in a network namespace of its own, with a cable between them."""
    tag = f"dmt{os.getpid() % 10000}{secrets.token_hex(2)}"
    names = (f"{tag}p", f"{tag}s")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", "v0", "netns", names[0], "type", "veth", "peer", "name", "v0",
           "netns", names[1])  # fmt: skip
        for number, name in enumerate(names, start=1):
            for words in (
                ("addr", "add", f"10.213.7.{number}/24", "dev", "v0"),
                ("link", "set", "v0", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", name, *words)
        enter = [("nsenter", f"--net=/run/netns/{name}") for name in names]
        world = _build(folder, "10.213.7.1", "10.213.7.2", enter[0], enter[1])
        try:
            yield world
        finally:
            _teardown(world)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def cut(world: World, *, ways: tuple[str, ...] = ("INPUT", "OUTPUT")) -> float:
    """Drop every packet at the primary, silently; returns the moment."""
    moment = time.monotonic()
    for way in ways:
        subprocess.run(
            [*world.primary.enter, "iptables", "-w", "-I", way, "-i" if way == "INPUT" else "-o", "v0",
             "-j", "DROP"],
            check=True, capture_output=True,
        )  # fmt: skip
        moment = time.monotonic() if way == ways[0] else moment
    return moment


def mend(world: World) -> None:
    """Undo `cut`."""
    subprocess.run([*world.primary.enter, "iptables", "-w", "-F"], check=True, capture_output=True)


def _build(
    folder: Path,
    primary: str,
    standby: str,
    enter_primary: tuple[str, ...],
    enter_standby: tuple[str, ...],
) -> World:
    host_key, owner = make_key_pair(folder, "host"), make_key_pair(folder, "owner")
    known_hosts = folder / "known_hosts"
    kind, key = host_key.public.split()[:2]
    known_hosts.write_text(f"[{standby}]:{ENDPOINT_PORT} {kind} {key}\n")
    bodies = [
        Body(folder / "primary", primary, host_key, enter_primary),
        Body(folder / "standby", standby, host_key, enter_standby),
    ]
    for body in bodies:
        body.authorize(owner.public)
        body.start()
    return World(bodies[0], bodies[1], owner, known_hosts, folder=folder)
