"""`agent.json`: what the control plane wants of this body. Format: `docs/protection.md`.

It comes over the network and names files, hosts and patterns, so everything is checked here once, and
the rest of the agent works with typed values.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Callable

from dumont.agent import PROTOCOL
from dumont.agent.errors import AgentError

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]{0,252}")
_PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]{0,200})?")


@dataclass(frozen=True)
class HeartbeatConfig:
    """Where the agent's state is posted."""

    url: str
    token: str
    every_s: float


@dataclass(frozen=True)
class MirrorConfig:
    """The standby that the workspace is mirrored to."""

    host: str
    port: int
    user: str
    host_key: str
    """`ssh-ed25519 AAAA...`: the only key that is accepted of the standby."""
    private_key: str
    excludes: tuple[str, ...]
    """rsync patterns."""
    streams: int
    """Parallel streams of first copies and restores."""
    paused: bool = False
    """The keys are for a restore: nothing is mirrored before one is complete."""


@dataclass(frozen=True)
class DeadManConfig:
    """How a primary that nobody hears ends its own billing."""

    after_s: float
    method: str
    url: str
    body: Any
    key_variable: str


@dataclass(frozen=True)
class EndpointConfig:
    """The stable address that the guard serves."""

    host: str
    port: int
    sshd_port: int
    connect_ms: int
    check_ms: int
    inter_ms: int
    fall: int
    down_inter_ms: int


@dataclass(frozen=True)
class PrimaryConfig:
    """The primary that the guard watches and accepts the mirror of."""

    host: str
    port: int
    sync_public_key: str


@dataclass(frozen=True)
class AgentConfig:
    """The whole configuration."""

    role: str
    """`primary` or `standby`."""
    machine_id: str
    name: str
    generation: int
    epoch: int
    instance_id: str
    heartbeat: HeartbeatConfig | None
    mirror: MirrorConfig | None
    """Primary only."""
    dead_man: DeadManConfig | None
    """Primary only."""
    endpoint: EndpointConfig | None
    """Standby only, and always there."""
    primary: PrimaryConfig | None
    """Standby only: None while there is no primary yet."""
    digest: str
    """Changes with the content; `status.json` shows the one that is in force as `config`."""


def parse(document: Any) -> AgentConfig:
    """Check a configuration. Raises AgentError with code `invalid` that names the field."""
    top = _Fields(document, "")
    protocol = top.integer("protocol", low=1)
    if protocol != PROTOCOL:
        raise _invalid("protocol", f"this agent speaks protocol {PROTOCOL}")
    role = top.text("role")
    if role not in ("primary", "standby"):
        raise _invalid("role", "must be primary or standby")
    primary = role == "primary"
    return AgentConfig(
        role=role,
        machine_id=top.matching("machine_id", _WORD),
        name=top.matching("name", _WORD),
        generation=top.integer("generation", low=0),
        epoch=top.integer("epoch", low=0),
        instance_id=top.text("instance_id"),
        heartbeat=top.part("heartbeat", _heartbeat),
        mirror=top.part("mirror", _mirror) if primary else None,
        dead_man=top.part("dead_man", _dead_man) if primary else None,
        endpoint=None if primary else _endpoint(_Fields(top.values.get("endpoint"), "endpoint.")),
        primary=None if primary else top.part("primary", _primary),
        digest=hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16],
    )


def _heartbeat(fields: _Fields) -> HeartbeatConfig:
    return HeartbeatConfig(
        url=fields.url("url"),
        token=fields.line("token"),
        every_s=fields.number("every_s", low=0.05, high=3600, default=2.0),
    )


def _mirror(fields: _Fields) -> MirrorConfig:
    key = fields.text("private_key", limit=16384)
    if not key.startswith("-----BEGIN ") or "\0" in key:
        raise _invalid("mirror.private_key", "is no private key")
    return MirrorConfig(
        host=fields.matching("host", _HOST),
        port=fields.port("port"),
        user=fields.matching("user", _WORD),
        host_key=fields.matching("host_key", _PUBLIC_KEY),
        private_key=key if key.endswith("\n") else key + "\n",
        excludes=fields.patterns("excludes"),
        streams=fields.integer("streams", low=1, high=64, default=10),
        paused=fields.boolean("paused", default=False),
    )


def _dead_man(fields: _Fields) -> DeadManConfig:
    return DeadManConfig(
        after_s=fields.number("after_s", low=1, high=365 * 86400),
        method=fields.matching("method", re.compile("PUT|POST|DELETE|PATCH")),
        url=fields.url("url"),
        body=fields.values.get("body"),
        key_variable=fields.matching("key_variable", re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")),
    )


def _endpoint(fields: _Fields) -> EndpointConfig:
    return EndpointConfig(
        host=fields.matching("host", _HOST),
        port=fields.port("port"),
        sshd_port=fields.port("sshd_port"),
        connect_ms=fields.integer("connect_ms", low=1, high=60000, default=100),
        check_ms=fields.integer("check_ms", low=1, high=60000, default=50),
        inter_ms=fields.integer("inter_ms", low=1, high=60000, default=50),
        fall=fields.integer("fall", low=1, high=100, default=1),
        down_inter_ms=fields.integer("down_inter_ms", low=1, high=60000, default=500),
    )


def _primary(fields: _Fields) -> PrimaryConfig:
    return PrimaryConfig(
        host=fields.matching("host", _HOST),
        port=fields.port("port"),
        sync_public_key=fields.matching("sync_public_key", _PUBLIC_KEY),
    )


def _invalid(name: str, problem: str) -> AgentError:
    return AgentError(f"{name}: {problem}", code="invalid")


class _Fields:
    """One object of the document; says which field is wrong."""

    def __init__(self, values: Any, prefix: str) -> None:
        if not isinstance(values, dict):
            raise _invalid(prefix.rstrip(".") or "configuration", "must be an object")
        self.values: dict[str, Any] = values
        self.prefix = prefix

    def part(self, name: str, parse_part: Callable[[_Fields], Any]) -> Any:
        """A nested object, or None when it is null or absent."""
        values = self.values.get(name)
        return None if values is None else parse_part(_Fields(values, name + "."))

    def text(self, name: str, *, limit: int = 4096) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not value or len(value) > limit:
            problem = f"must be a text of 1 to {limit} characters"
            raise _invalid(self.prefix + name, problem)
        return value

    def line(self, name: str) -> str:
        """Printable characters only: it goes into a header or a file of lines."""
        return self.matching(name, re.compile(r"[ -~]+"))

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self.text(name)
        if not pattern.fullmatch(value):
            raise _invalid(self.prefix + name, "has characters or a form that it may not have")
        return value

    def url(self, name: str) -> str:
        return self.matching(name, re.compile(r"https?://[!-~]+"))

    def number(self, name: str, *, low: float, high: float, default: float | None = None) -> float:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _invalid(self.prefix + name, "must be a number")
        if not low <= value <= high:
            raise _invalid(self.prefix + name, f"must be from {low} to {high}")
        return float(value)

    def integer(self, name: str, *, low: int, high: int = 2**53, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            problem = f"must be a whole number from {low} to {high}"
            raise _invalid(self.prefix + name, problem)
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise _invalid(self.prefix + name, "must be true or false")
        return value

    def port(self, name: str) -> int:
        return self.integer(name, low=1, high=65535)

    def patterns(self, name: str) -> tuple[str, ...]:
        values = self.values.get(name) or []
        if not isinstance(values, list) or len(values) > 1000:
            raise _invalid(self.prefix + name, "must be a list of at most 1000 patterns")
        for value in values:
            if not isinstance(value, str) or not 0 < len(value) <= 1024:
                raise _invalid(self.prefix + name, "a pattern is a text of 1 to 1024 characters")
            if any(character in value for character in "\n\r\0"):
                raise _invalid(self.prefix + name, "a pattern must be on one line")
        return tuple(values)


def to_document(text: str) -> dict[str, Any]:
    """Read JSON from outside. Raises AgentError with code `invalid`."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise AgentError(f"not JSON: {error}", code="invalid") from None
    if not isinstance(document, dict):
        raise _invalid("configuration", "must be an object")
    return document
