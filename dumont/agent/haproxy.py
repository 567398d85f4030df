"""HAProxy: its configuration, its process, its runtime socket. Decides nothing.

It runs in a session of its own and outlives the guard, because it is what redirects: its checks see
a dead, frozen or cut-off primary within tens of milliseconds and its backup server takes over. What
makes that safe when the guard is dead:

- `rise` is so high that a primary that went down never comes up by itself. Only the guard, after it
  changed the authority, makes it ready.
- The configuration on the disk always says what the authority says (`disabled` primary), so that an
  HAProxy started from it begins on the right side. A server-state file could contradict that.
- Its log, which is where state changes appear first, is sent to an abstract socket that the guard
  may or may not be listening on.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent import processes, store
from dumont.agent.errors import AgentError

if TYPE_CHECKING:
    from logging import Logger

BACKEND = "ssh"
PRIMARY = BACKEND + "/primary"
STANDBY = BACKEND + "/standby"

NEVER = 1_000_000_000
"""Good checks in a row until a server comes up by itself: at two a second, 15 years."""

_FORMAT = 1
"""Raise it when `render` changes: a running HAProxy of another format is replaced."""

_IDLE = "20d"
"""Idle sessions are ended by keep-alive, not by a clock; HAProxy's longest time is 24.8 days."""
_START_S = 10.0
_COMMAND_S = 2.0
_PATH = os.pathsep.join(["/usr/sbin", "/usr/local/sbin", "/sbin"])


@dataclass(frozen=True)
class Settings:
    """All that the configuration depends on."""

    bind: str
    """`address:port` of the endpoint."""
    standby: str
    """`address:port` of this machine's own sshd."""
    primary: str | None
    """`address:port`; None: there is none."""
    primary_serves: bool
    connect_ms: int
    check_ms: int
    inter_ms: int
    fall: int
    down_inter_ms: int


@dataclass(frozen=True)
class Server:
    """A server or the frontend as `show stat` has it."""

    status: str
    """`UP`, `DOWN`, `MAINT`, `OPEN`, ... (without the `1/2` of a server that is changing)."""
    sessions: int
    total: int
    bytes_in: int
    check: str
    address: str


def render(settings: Settings, *, socket_path: str, log_name: str, as_root: bool) -> str:
    """The configuration file. Its description names its shape, see `shape_of`."""
    user = "\n  user haproxy\n  group haproxy" if as_root else ""
    disabled = "" if settings.primary_serves and settings.primary else " disabled"
    return f"""\
# Written by Dumont's guard; changes are overwritten.
global
  description {shape_of(settings)}
  stats socket {socket_path} mode 600 level admin expose-fd listeners
  stats timeout {_IDLE}
  log abns@{log_name} local0 notice
  nbthread 1
  maxconn 400
  spread-checks 0
  hard-stop-after 5s{user}

defaults
  mode tcp
  log global
  timeout connect {settings.connect_ms}ms
  timeout check {settings.check_ms}ms
  timeout client {_IDLE}
  timeout server {_IDLE}
  option dontlognull
  option clitcpka
  option srvtcpka
  clitcpka-idle 30s
  clitcpka-intvl 10s
  clitcpka-cnt 3
  srvtcpka-idle 30s
  srvtcpka-intvl 10s
  srvtcpka-cnt 3

frontend {BACKEND}
  bind {settings.bind}
  default_backend {BACKEND}

backend {BACKEND}
  retries 2
  option redispatch 1
  option tcp-check
  tcp-check connect
  tcp-check expect rstring ^SSH-2.0
  server primary {settings.primary or "127.0.0.1:1"}{disabled} check \
inter {settings.inter_ms}ms downinter {settings.down_inter_ms}ms \
fall {settings.fall} rise {NEVER} observe layer4 error-limit 1 on-error mark-down \
on-marked-down shutdown-sessions
  server standby {settings.standby} backup
"""


def shape_of(settings: Settings) -> str:
    """What cannot be changed while HAProxy runs: the addresses it has, and how it checks."""
    where = repr((_FORMAT, settings.bind, settings.standby))
    return _digest(where) + "-" + _digest(repr(_timing(settings)))


def _timing(settings: Settings) -> tuple[int, ...]:
    return (
        settings.connect_ms,
        settings.check_ms,
        settings.inter_ms,
        settings.fall,
        settings.down_inter_ms,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def program() -> str | None:
    """Where HAProxy is."""
    return shutil.which("haproxy") or shutil.which("haproxy", path=_PATH)


def ensure_installed(log: Logger) -> str:
    """HAProxy's path; installs it where we may. Raises AgentError."""
    found = program()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        log.info("installing haproxy")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "haproxy"]
        for command in (["apt-get", "update", "-q"], install):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=300,
                    check=False,
                )
        found = program()
    if found is None:
        raise AgentError("haproxy is not installed and could not be installed")
    return found


class HAProxy:
    """One HAProxy, found again by its runtime socket.

    Args:
        run: Private folder for its socket, configuration and pid.
        log: Ours.
        log_file: For what it prints.
        environment: For its process; see `Context.outliving_environment`.
    """

    def __init__(
        self, *, run: Path, log: Logger, log_file: Path, environment: dict[str, str]
    ) -> None:
        self._socket = run / "haproxy.sock"
        self._config = run / "haproxy.cfg"
        self._pid_file = run / "haproxy.pid"
        self._log = log
        self._log_file = log_file
        self._environment = environment
        self.log_name = run.name + "-log"
        self._child: subprocess.Popen[bytes] | None = None

    def write(self, settings: Settings) -> None:
        """Store the configuration for the next start."""
        text = render(
            settings,
            socket_path=str(self._socket),
            log_name=self.log_name,
            as_root=os.geteuid() == 0,
        )
        if store.read_text(self._config) != text:
            store.write_text(self._config, text, mode=0o600, sync=False)

    def ensure(self, settings: Settings) -> bool:
        """Have an HAProxy of this shape run; returns whether one had to be started.

        One of another shape hands its listening socket over and ends, with its sessions. It is
        therefore left alone when only the timing of checks changed and somebody is using it.
        """
        self.write(settings)
        info = self.info()
        running, wanted = info.get("description", ""), shape_of(settings)
        if running == wanted:
            return False
        if running.split("-")[0] == wanted.split("-")[0] and self._in_use():
            return False
        self._start(wanted, old_pid=int(info["Pid"]) if "Pid" in info else None)
        return True

    def info(self) -> dict[str, str]:
        """What `show info` says; empty when no HAProxy answers."""
        try:
            lines = self.command("show info").splitlines()
        except AgentError:
            return {}
        pairs = [line.partition(":") for line in lines]
        return {name.strip(): value.strip() for name, _, value in pairs if value}

    def command(self, command: str) -> str:
        """Say something to the runtime socket. Raises AgentError when nobody answers."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_COMMAND_S)
                connection.connect(str(self._socket))
                connection.sendall(command.encode() + b"\n")
                answer = b""
                while True:
                    data = connection.recv(65536)
                    if not data:
                        return answer.decode("utf-8", "replace").strip()
                    answer += data
        except OSError as error:
            raise AgentError(f"haproxy does not answer: {error}") from None

    def change(self, command: str) -> None:
        """Say something that answers with nothing when it worked. Raises AgentError."""
        answer = self.command(command)
        harmless = ("no need to change", "changed from", "nothing changed")
        if answer and not any(words in answer for words in harmless):
            raise AgentError(f"haproxy: {command}: {answer}")

    def servers(self) -> dict[str, Server]:
        """`FRONTEND`, `primary` and `standby`. Raises AgentError."""
        text = self.command("show stat").lstrip("# ")
        found = {}
        for row in csv.DictReader(text.splitlines()):
            if row.get("pxname") == BACKEND:
                found[row["svname"]] = _server(row)
        if not {"FRONTEND", "primary", "standby"} <= set(found):
            raise AgentError("haproxy does not show its servers")
        return found

    def watch(self) -> socket.socket | None:
        """A connection that closes when HAProxy dies."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_COMMAND_S)
            connection.connect(str(self._socket))
            connection.sendall(b"prompt\n")
            connection.recv(4096)
            return connection
        except OSError:
            connection.close()
            return None

    def stop(self) -> None:
        """End it, with all sessions."""
        pids = {self.info().get("Pid"), str(self._noted() or "")}
        for pid in [int(each) for each in pids if each]:
            _end(pid)

    def _start(self, shape: str, old_pid: int | None) -> None:
        command = [ensure_installed(self._log), "-db", "-f", str(self._config)]
        if old_pid is None:
            # Alive but deaf: two of them would fight for the port.
            noted = self._noted()
            if noted is not None:
                self._log.warning("haproxy %d does not answer; ending it", noted)
                _end(noted)
        else:
            command += ["-x", str(self._socket), "-sf", str(old_pid)]
        with self._log_file.open("ab") as output:
            child = subprocess.Popen(
                command,
                cwd="/",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._child = child
        note = {"pid": child.pid, "started": processes.started(child.pid)}
        store.write_json(self._pid_file, note, sync=False)
        deadline = time.monotonic() + _START_S
        while True:
            info = self.info()
            if info.get("description") == shape and info.get("Pid") == str(child.pid):
                break
            if child.poll() is not None or time.monotonic() > deadline:
                child.kill()
                raise AgentError("haproxy did not start: " + self._last_words())
            time.sleep(0.005)
        self._spare_from_oom(child.pid)
        self._log.info("haproxy %d serves, shape %s", child.pid, shape)

    def reap(self) -> None:
        """Collect a child that ended, so that it is not taken for a living one."""
        if self._child is not None:
            self._child.poll()

    def _in_use(self) -> bool:
        try:
            return self.servers()["FRONTEND"].sessions > 0
        except AgentError:
            return False

    def _noted(self) -> int | None:
        """The pid that the last start noted, when that process still lives."""
        note: Any = None
        with contextlib.suppress(OSError, ValueError):
            note = store.read_json(self._pid_file)
        if not isinstance(note, dict) or not isinstance(note.get("pid"), int):
            return None
        pid: int = note["pid"]
        began = processes.started(pid)
        return pid if began is not None and began == note.get("started") else None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log_file.read_text(errors="replace").splitlines()
            alerts = [line for line in lines[-20:] if "[ALERT]" in line]
            return " ".join((alerts or lines)[-3:])[:500]
        return "it said nothing"

    def _spare_from_oom(self, pid: int) -> None:
        """A user's program that eats the memory must not take the endpoint with it."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("-900")


def _server(row: dict[str, str]) -> Server:
    def number(name: str) -> int:
        return int(row.get(name) or 0)

    return Server(
        status=row.get("status", "").split(" ")[0],
        sessions=number("scur"),
        total=number("stot"),
        bytes_in=number("bin"),
        check=row.get("check_status", "").lstrip("* "),
        address=row.get("addr", ""),
    )


def _end(pid: int) -> None:
    began = processes.started(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2.0
    while began is not None and processes.started(pid) == began:
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


__all__ = [
    "BACKEND",
    "NEVER",
    "PRIMARY",
    "STANDBY",
    "HAProxy",
    "Server",
    "Settings",
    "ensure_installed",
    "render",
]
