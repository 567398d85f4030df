"""HAProxy's configuration: one frontend, the primary while it is up, the standby otherwise. Pure.

The standby is there twice and is not called `backup`, but `use-server` sends everything to the primary as
long as that is up. The reason is a rule of HAProxy: a connection that a server refused is tried again
at once only when two other active servers are left; otherwise it waits for `timeout connect` first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

BACKEND = "ssh"
PRIMARY = BACKEND + "/primary"
STANDBYS = ("standby", "standby-too")
"""Two names of this machine's own sshd."""

NEVER = 1_000_000_000
"""Good checks in a row until a server comes up by itself: at two a second, 15 years."""

_FORMAT = 4
"""Raise it when `render` changes: a running HAProxy of another format is replaced."""

_FAST_MS = 10
"""Between a failed check and the next, where more than one must fail."""

_IDLE = "20d"
"""Idle sessions are ended by keep-alive, not by a clock; HAProxy's longest time is 24.8 days."""


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
  use-server primary if {{ srv_is_up(primary) }}
  server primary {settings.primary or "127.0.0.1:1"}{disabled} check \
inter {settings.inter_ms}ms fastinter {min(settings.inter_ms, _FAST_MS)}ms \
downinter {settings.down_inter_ms}ms \
fall {settings.fall} rise {NEVER} observe layer4 error-limit 1 on-error mark-down
  server standby {settings.standby}
  server standby-too {settings.standby}
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
