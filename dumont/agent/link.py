"""The primary's way to the standby: one multiplexed SSH connection, and questions over it.

A master connection is kept up by a thread; lsyncd's transfers, our own passes and the conversation
(`words.py`) are channels of it, which costs them no login. Only bulk streams make connections of their
own: sshd allows ten channels a connection, and several connections use a long link better.

The standby's host key is pinned. Nothing of the owner's own SSH configuration is read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import store
from dumont.agent.words import FENCED

if TYPE_CHECKING:
    from dumont.agent.config import MirrorConfig
    from dumont.agent.paths import Paths

HOST = "standby"
"""The standby's name in our ssh configuration."""

_BACKOFF_S = (0.1, 5.0)
_CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"


class LinkDown(Exception):
    """The standby cannot be asked now; says why."""


class Fenced(Exception):
    """The standby says that this body has no authority."""


class Link:
    """The connection. Start it once; use it from any thread."""

    def __init__(self, *, paths: Paths, mirror: MirrorConfig, log: logging.Logger) -> None:
        self._paths = paths
        self._mirror = mirror
        self._log = log
        self._socket = paths.run / "ssh"
        self._config = paths.run / "ssh_config"
        self._stop = threading.Event()
        self._up = threading.Event()
        self._master: subprocess.Popen[bytes] | None = None
        self.trouble = ""
        """Why the connection is down, as ssh says; empty while it is up."""

    @property
    def rsh(self) -> str:
        """What rsync uses for its remote shell, over the master connection."""
        return f"ssh -F {self._config}"

    @property
    def own_rsh(self) -> str:
        """The same over a connection of its own."""
        return f"{self.rsh} -o ControlPath=none"

    @property
    def is_up(self) -> bool:
        """Whether the master connection stands."""
        return self._up.is_set()

    def prepare(self) -> None:
        """Write key, pinned host key and ssh configuration."""
        mirror, paths = self._mirror, self._paths
        store.write_text(paths.sync_key, mirror.private_key, mode=0o600)
        words = mirror.host_key.split()
        store.write_text(paths.known_hosts, f"dumont-standby {words[0]} {words[1]}\n", mode=0o600)
        store.write_text(self._config, self._ssh_config(), mode=0o600, sync=False)

    def start(self) -> None:
        """Connect, and connect again whenever the connection ends."""
        self.prepare()
        threading.Thread(target=self._keep_up, name="link", daemon=True).start()

    def close(self) -> None:
        """End the connection."""
        self._stop.set()
        master = self._master
        if master is not None:
            with contextlib.suppress(OSError):
                master.terminate()

    def wait_up(self, timeout_s: float) -> bool:
        """Wait for the connection; returns whether it stands."""
        return self._up.wait(timeout_s)

    def command(self, *words: str) -> list[str]:
        """The command line that runs `words` on the standby."""
        return ["ssh", "-F", str(self._config), HOST, *words]

    def _keep_up(self) -> None:
        pause = _BACKOFF_S[0]
        while not self._stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                self._socket.unlink()
            began = time.monotonic()
            try:
                self._hold()
            except OSError as error:
                self.trouble = f"ssh: {error}"
            self._up.clear()
            if time.monotonic() - began > 10:
                pause = _BACKOFF_S[0]
            if not self._stop.is_set():
                self._log.warning("connection to the standby ended: %s", self.trouble)
            self._stop.wait(pause)
            pause = min(pause * 2, _BACKOFF_S[1])

    def _hold(self) -> None:
        """Hold one master connection until it ends."""
        command = ["ssh", "-F", str(self._config), "-o", "ControlMaster=yes", "-N", HOST]
        master = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._master = master
        while master.poll() is None and not self._socket.exists() and not self._stop.wait(0.02):
            pass
        if master.poll() is None and not self._stop.is_set():
            self.trouble = ""
            self._up.set()
        said = b""
        if master.stderr is not None:
            with master.stderr as stream:
                said = stream.read()
        master.wait()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        self.trouble = lines[-1] if lines else f"ssh ended with status {master.returncode}"

    def _ssh_config(self) -> str:
        mirror = self._mirror
        return "\n".join(
            [
                f"Host {HOST}",
                f"HostName {mirror.host}",
                f"Port {mirror.port}",
                f"User {mirror.user}",
                "HostKeyAlias dumont-standby",
                f"UserKnownHostsFile {_quoted(str(self._paths.known_hosts))}",
                "GlobalKnownHostsFile /dev/null",
                "StrictHostKeyChecking yes",
                f"IdentityFile {_quoted(str(self._paths.sync_key))}",
                "IdentitiesOnly yes",
                "IdentityAgent none",
                "BatchMode yes",
                "PreferredAuthentications publickey",
                "ConnectTimeout 5",
                "ServerAliveInterval 2",
                "ServerAliveCountMax 3",
                "TCPKeepAlive yes",
                "Compression no",
                f"Ciphers {_CIPHERS}",
                "LogLevel ERROR",
                f"ControlPath {self._socket}",
                "ControlMaster no",
                "RequestTTY no",
                "",
            ]
        )


class Conversation:
    """Questions to the standby (`serve` of `words.py`) over one channel, one at a time.

    With `writing` (the default), having lost the right to write is `Fenced`, too.
    """

    def __init__(self, link: Link, *, writing: bool = True) -> None:
        self._link = link
        self._writing = writing
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any], *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Ask; returns the answer. Raises LinkDown or Fenced."""
        with self._lock:
            process = self._open()
            if process.stdin is None or process.stdout is None:
                raise LinkDown("no channel")
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = _read_line(process.stdout.fileno(), timeout_s)
            except (OSError, LinkDown) as error:
                raise self._ended(str(error)) from None
            try:
                answer = json.loads(line)
            except ValueError:
                raise self._ended(f"the standby answered {line[:80]!r}") from None
            if not isinstance(answer, dict):
                raise self._ended("the standby answered nonsense")
        if answer.get("code") == "fenced":
            raise Fenced(str(answer.get("error", "")))
        if "error" in answer:
            raise LinkDown(f"the standby: {answer['error']}")
        if self._writing and answer.get("write") is not True:
            raise Fenced("the standby has authority")
        return answer

    def close(self) -> None:
        """End the channel. Safe while a question is being asked, which then fails."""
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()

    def _open(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        if not self._link.is_up:
            raise LinkDown(self._link.trouble or "no connection to the standby yet")
        self._process = subprocess.Popen(
            self._link.command("serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        return self._process

    def _ended(self, problem: str) -> Exception:
        """What a broken channel means: its exit status tells a fence from a fault."""
        process, self._process = self._process, None
        if process is None:
            return LinkDown(problem)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said = b""
        if process.stderr is not None:
            said = process.stderr.read(4096) or b""
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if process.returncode == FENCED:
            return Fenced("the standby refused")
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return LinkDown(lines[-1] if lines else problem)


def _read_line(descriptor: int, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    parts = []
    while True:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([descriptor], [], [], max(left, 0))
        if not ready:
            raise LinkDown("the standby did not answer in time")
        part = os.read(descriptor, 65536)
        if not part:
            raise LinkDown("the standby closed the channel")
        parts.append(part)
        if part.endswith(b"\n"):
            return b"".join(parts)


def _quoted(path: str) -> str:
    """A path in an ssh configuration."""
    return '"' + path.replace("%", "%%") + '"'
