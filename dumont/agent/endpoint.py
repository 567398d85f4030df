"""The stable address: has HAProxy do what the authority says, and hears what it sees.

`follow(state)` may be called at any time, by any guard, after any crash: it compares and corrects.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dumont.agent import authority
from dumont.agent.errors import AgentError
from dumont.agent.haproxy import HAProxy, Server
from dumont.agent.haproxy_config import BACKEND, PRIMARY, Settings

if TYPE_CHECKING:
    from logging import Logger

    from dumont.agent.authority import State
    from dumont.agent.config import EndpointConfig
    from dumont.agent.paths import Paths

_REASON = re.compile(r"ssh/primary is DOWN, reason: ([^,]+)(?:, info: \"(.*?)\")?, check")
_SLACK_S = 0.03
_CAUSES = (
    ("L4CON", "its SSH port refuses connections"),
    ("L4TOUT", "its address does not answer"),
    ("L6", "it accepts connections and says nothing"),
    ("L7TOUT", "it accepts connections and says nothing"),
    ("L7", "what answers is no SSH server"),
)


@dataclass(frozen=True)
class Look:
    """What HAProxy shows at one moment."""

    primary: Server
    standby: Server
    sessions: int
    """Connections through the endpoint."""
    pid: int | None

    @property
    def primary_is_down(self) -> bool:
        """HAProxy has given the primary up; it uses the standby already."""
        return self.primary.status == "DOWN"

    @property
    def cause(self) -> str:
        """Why, in words."""
        for code, words in _CAUSES:
            if self.primary.check.startswith(code):
                return "the GPU is lost: " + words
        return "the GPU is lost: a connection to it failed"


class Endpoint:
    """The endpoint of one standby.

    Args:
        paths: Of this agent.
        config: Where and how.
        log: Ours.
        environment: For a process that outlives us.
    """

    def __init__(
        self, *, paths: Paths, config: EndpointConfig, log: Logger, environment: dict[str, str]
    ) -> None:
        self._haproxy = HAProxy(
            run=paths.run, log=log, log_file=paths.log / "haproxy.log", environment=environment
        )
        self._log = log
        self._config = config
        self._resolved: dict[str, str] = {}
        self._listener: socket.socket | None = None
        self._watch: socket.socket | None = None
        self._pid: int | None = None

    def configure(self, config: EndpointConfig) -> None:
        """Take up a new configuration with the next `follow`."""
        self._config = config

    def follow(self, state: State | None) -> None:
        """Make HAProxy run and agree with the authority. None (unknown): the standby serves.

        Raises:
            AgentError: It cannot be made to.
        """
        serves = state is not None and state.authority == authority.PRIMARY
        settings = self._settings(state, serves)
        self._haproxy.ensure(settings)
        self._watch_again()
        found = self._haproxy.servers()["primary"]
        if not serves and found.status != "MAINT":
            self._maintain()
            found = self._haproxy.servers()["primary"]
        if settings.primary is not None and _plain(found.address) != settings.primary:
            self._move(settings.primary)
        if serves and found.status == "MAINT":
            self._haproxy.change(f"set server {PRIMARY} state ready")
        if state is not None:
            self.admit(not state.quiesced)

    def take(self, state: State) -> None:
        """Keep the primary out, whatever its checks say from now on. Ends its sessions.

        Raises:
            AgentError: HAProxy does not answer. Its configuration says so all the same.
        """
        self._haproxy.write(self._settings(state, False))
        self._maintain()

    def admit(self, logins: bool) -> None:
        """Let new connections in, or refuse them. Raises AgentError."""
        word = "enable" if logins else "disable"
        answer = self._haproxy.command(f"{word} frontend {BACKEND}")
        if answer and "already" not in answer:
            raise AgentError(f"haproxy: {word} frontend: {answer}")

    def cut_standby(self) -> None:
        """End the connections to this machine's own sshd that came through the endpoint."""
        self._haproxy.end_sessions("standby", young=True)

    def look(self) -> Look:
        """What HAProxy sees. Raises AgentError when it does not answer."""
        found = self._haproxy.servers()
        return Look(
            primary=found["primary"],
            standby=found["standby"],
            sessions=found["FRONTEND"].sessions,
            pid=self._pid,
        )

    def wait(self, timeout_s: float) -> list[str]:
        """Wait until HAProxy says something or dies; returns what it said."""
        self._listen()
        sockets = [each for each in (self._listener, self._watch) if each is not None]
        ready, _, _ = select.select(sockets, [], [], timeout_s)
        if self._watch in ready:
            with contextlib.suppress(OSError):
                if not self._watch.recv(4096):
                    self._unwatch()
        said = []
        if self._listener in ready:
            with contextlib.suppress(OSError):
                while True:
                    said.append(
                        self._listener.recv(8192, socket.MSG_DONTWAIT).decode("utf-8", "replace")
                    )
        return said

    @property
    def can_hear(self) -> bool:
        """Whether a change would wake `wait`; otherwise somebody has to look."""
        return self._listener is not None and self._watch is not None

    def check_s(self) -> float:
        """How long a check of the primary may take to come round and to fail, in seconds."""
        config = self._config
        once = config.connect_ms + config.check_ms
        pause = max(config.inter_ms, config.down_inter_ms)
        return (pause + config.fall * (once + config.inter_ms)) / 1000 + 0.1

    def stop(self) -> None:
        """End HAProxy and with it the endpoint."""
        self._unwatch()
        self._haproxy.stop()

    def own_sshd(self) -> tuple[str, int]:
        """Where this machine's own sshd is reached."""
        host = self._config.host if _is_local(self._config.host) else "127.0.0.1"
        return host, self._config.sshd_port

    def _settings(self, state: State | None, serves: bool) -> Settings:
        config = self._config
        host, port = self.own_sshd()
        bind = config.host if _is_local(config.host) else "*"
        primary = None
        if state is not None and state.host is not None and state.port is not None:
            primary = f"{self._resolve(state.host)}:{state.port}"
        return Settings(
            bind=f"{bind}:{config.port}",
            standby=f"{host}:{port}",
            primary=primary,
            primary_serves=serves,
            connect_ms=config.connect_ms,
            check_ms=config.check_ms,
            inter_ms=config.inter_ms,
            fall=config.fall,
            down_inter_ms=config.down_inter_ms,
        )

    def _resolve(self, host: str) -> str:
        """HAProxy's runtime socket takes addresses only. Failing that, the last one known."""
        try:
            found = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            if host not in self._resolved:
                raise AgentError(f"{host} cannot be resolved: {error}") from None
        else:
            self._resolved[host] = found
        return self._resolved[host]

    def _maintain(self) -> None:
        """Keep the primary out, and end what is connected to it.

        Connections that are being made just now are given the time to fail by themselves: HAProxy
        sends them on to the standby then, and nobody notices.
        """
        self._haproxy.change(f"set server {PRIMARY} state maint")
        self._haproxy.end_sessions("primary", young=False)
        timer = threading.Timer(self._config.connect_ms / 1000 + _SLACK_S, self._end_rest)
        timer.daemon = True
        timer.start()

    def _end_rest(self) -> None:
        with contextlib.suppress(AgentError):
            if self._haproxy.servers()["primary"].status == "MAINT":
                self._haproxy.end_sessions("primary", young=True)

    def _move(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._haproxy.change(f"set server {PRIMARY} addr {host} port {port}")
        # What is still connected talks to where the primary was.
        self._haproxy.end_sessions("primary", young=True)

    def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            # HAProxy pads abstract names to their full length.
            listener.bind(b"\0" + self._haproxy.log_name.encode().ljust(107, b"\0"))
        except OSError:
            listener.close()  # an earlier guard is still ending: polling has to do meanwhile
            return
        self._listener = listener

    def _watch_again(self) -> None:
        info = self._haproxy.info()
        pid = int(info["Pid"]) if info.get("Pid", "").isdigit() else None
        if self._watch is None or pid != self._pid:
            self._unwatch()
            self._watch = self._haproxy.watch()
        self._pid = pid

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = None
        self._haproxy.reap()


def reason_in(said: list[str]) -> str | None:
    """Why the primary went down, in HAProxy's words; None when it did not say that."""
    for message in said:
        found = _REASON.search(message)
        if found:
            return found[1] + (f" ({found[2]})" if found[2] else "")
    return None


def _plain(address: str) -> str:
    return address.replace("[", "").replace("]", "")


def _is_local(host: str) -> bool:
    """Whether an address of this machine: only such can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
