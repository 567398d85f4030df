"""HAProxy: its process and its runtime socket. Decides nothing.

It runs in a session of its own and outlives the guard, because it is what redirects: its checks see
a dead, frozen or cut-off primary within tens of milliseconds and its backup server takes over. What
makes that safe when the guard is dead:

- `rise` is so high that a primary that went down never comes up by itself. Only the guard, after it
  changed the authority, makes it ready.
- The configuration on the disk always says what the authority says (`disabled` primary), so that an
  HAProxy started from it begins on the right side. A server-state file could contradict that.
- Sessions of a primary that went down are ended by the guard, not by `on-marked-down`: that would also
  end connections that are just being made, instead of sending them to the standby.
- Its log, which is where state changes appear first, is sent to an abstract socket that the guard
  may or may not be listening on.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent import processes, store
from dumont.agent.errors import AgentError
from dumont.agent.haproxy_config import BACKEND, STANDBYS, Settings, render, shape_of

if TYPE_CHECKING:
    from logging import Logger

_SESSION = re.compile(r"(0x[0-9a-f]+): .*? srv=(\S+) .*?age=(\S+)")
_START_S = 10.0
_COMMAND_S = 2.0
_PATH = os.pathsep.join(["/usr/sbin", "/usr/local/sbin", "/sbin"])


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
        """`FRONTEND`, `primary` and `standby` (both entries together). Raises AgentError."""
        text = self.command("show stat").lstrip("# ")
        found = {}
        for row in csv.DictReader(text.splitlines()):
            if row.get("pxname") == BACKEND:
                found[row["svname"]] = _server(row)
        if not {"FRONTEND", "primary", *STANDBYS} <= set(found):
            raise AgentError("haproxy does not show its servers")
        one, other = (found[name] for name in STANDBYS)
        found["standby"] = replace(
            one,
            sessions=one.sessions + other.sessions,
            total=one.total + other.total,
            bytes_in=one.bytes_in + other.bytes_in,
        )
        return found

    def end_sessions(self, server: str, *, young: bool) -> None:
        """End the sessions of a server. Raises AgentError.

        Args:
            server: `primary` or `standby`.
            young: Those as well that are less than a second old, and may be connecting still.
        """
        if young:
            for name in STANDBYS if server == "standby" else (server,):
                self.change(f"shutdown sessions server {BACKEND}/{name}")
            return
        for line in self.command("show sess").splitlines():
            found = _SESSION.match(line)
            if found and found[2] == server and found[3] != "0s":
                # It may have ended meanwhile.
                self.command("shutdown session " + found[1])

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
