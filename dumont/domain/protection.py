"""Protection: the second axis of a machine's life. Who may write, where the standby is, how safe.

`docs/protection.md` is the contract with the agents; the names here are its names.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator

from dumont.domain.instances import Message, SshAddress

ENDPOINT_PORT = 2222
"""Where a standby offers the machine's stable address. Its own sshd keeps port 22."""


class ProtectionStatus(StrEnum):
    """How safe the workspace is, apart from what the machine is doing."""

    UNPROTECTED = "unprotected"
    """No standby, by policy or because there is none yet."""
    MIRRORING = "mirroring"
    """A standby exists; the first copy is under way."""
    PROTECTED = "protected"
    """Every change reaches the standby within the shown lag."""
    DEGRADED = "degraded"
    """It should be protected and is not; the reason is shown."""


class Authority(StrEnum):
    """Which body may write the workspace."""

    PRIMARY = "primary"
    STANDBY = "standby"


class Failback(StrEnum):
    """When the address returns to a GPU that has everything back."""

    AT_ONCE = "at_once"
    WHEN_IDLE = "when_idle"
    """When nobody has typed or written for a while."""
    ON_COMMAND = "on_command"


class Asleep(StrEnum):
    """What becomes of the standby of a machine that hibernates."""

    END = "end"
    """It is given back as well: nothing is rented."""
    KEEP = "keep"
    """It stays: a shell with every file, for the price of a small VM."""


class ProtectionPolicy(Message):
    """What the owner wants of protection."""

    standby_type: str = Field(default="e2-small", pattern=r"^[a-z][a-z0-9-]{0,62}$")
    standby_spot: bool = True
    failback: Failback = Failback.WHEN_IDLE
    excludes: tuple[str, ...] = Field(default=(), max_length=100)
    """rsync patterns that are not mirrored."""
    asleep: Asleep = Asleep.END

    @field_validator("excludes")
    @classmethod
    def _excludes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not pattern or len(pattern) > 256 or any(c in pattern for c in "\n\r\0"):
                raise ValueError(f"not a pattern on one line: {pattern[:40]!r}")
        return value


class ActiveStandby(Message):
    """The VM that mirrors a machine now."""

    provider: str
    instance_id: str
    label: str
    """Its name at the provider."""
    zone: str
    number: int
    """Counts the standbys that this machine was meant to have."""
    ssh: SshAddress
    """Its own sshd."""
    endpoint: SshAddress
    """The machine's stable address."""
    usd_per_hour: float | None = None
    """VM, disk and address together; an estimate from list prices."""
    rtt_ms: float | None = None
    """Round trip from primary to standby as measured over SSH; None until it was."""
    ready_at: datetime | None = None


class AgentRole(StrEnum):
    """Which body an agent runs on."""

    PRIMARY = "primary"
    STANDBY = "standby"


class ProtectionReport(Message):
    """The mirror as the primary's agent sees it."""

    status: ProtectionStatus = ProtectionStatus.MIRRORING
    reason: str = ""
    lag_s: float | None = None
    replicated_at: datetime | None = None
    pending_files: int | None = None
    pending_bytes: int | None = None
    not_mirrored: list[dict[str, Any]] = Field(default_factory=list)


class GuardReport(Message):
    """The endpoint as the standby's guard sees it."""

    authority: Authority | None = None
    """None: its record is lost; nobody may write before it is fenced."""
    epoch: int | None = None
    held: bool = False
    since: datetime | None = None
    cause: str = ""
    link: str = "unknown"
    """`up`, `down` or `unknown`."""
    link_since: datetime | None = None
    written: bool | None = None
    """Whether the standby's workspace was written to since it took authority; None: unknown."""
    redirects: int = 0
    false_alarms: int = 0
    endpoint_sessions: int | None = None
    standby_sessions: int | None = None
    preempting: bool = False
    quiesced: bool = False
    wake: bool = False
    """Somebody on the standby of a hibernating machine asks for a GPU."""
    host: str | None = None
    """Where the primary is, as far as it knows."""
    port: int | None = None


class Heartbeat(Message):
    """What an agent posts; see `docs/protection.md`."""

    protocol: int = Field(ge=1)
    role: AgentRole
    machine_id: str
    generation: int
    epoch: int
    instance_id: str
    sequence: int = Field(ge=0)
    sent_at: datetime
    boot_id: str | None = None
    host: dict[str, float | int | None] = Field(default_factory=dict, max_length=64)
    protection: ProtectionReport | None = None
    guard: GuardReport | None = None


class AgentNews(Message):
    """Signal `agent_news` of a machine: something changed at one of its agents."""

    role: AgentRole
    instance_id: str
    epoch: int
    at: datetime
    """When we received it."""
    protection: ProtectionReport | None = None
    guard: GuardReport | None = None

    @property
    def is_redirect(self) -> bool:
        """Whether a guard says that people are on the standby now."""
        return self.guard is not None and self.guard.authority is Authority.STANDBY


class Barrier(Message):
    """What `flush` returns: everything written before it was asked for is on the standby."""

    epoch: int
    sequence: int | None = None
    replicated_at: datetime
    """By the primary's clock: nothing written before this moment can be lost."""
    files: int
    bytes: int
    hashed: int
    """Files compared by hash on both sides."""
    seconds: float
    changing: tuple[str, ...] = ()
    """The first of the files that never stood still: somebody is writing them."""

    @field_validator("changing", mode="before")
    @classmethod
    def _first(cls, value: Any) -> tuple[str, ...]:
        names = value if isinstance(value, list | tuple) else ()
        return tuple(str(name)[:200] for name in names[:20])


class StandbyNews(Message):
    """Signal `standby_changed` of a machine: from the workflow that keeps its standby."""

    standby: ActiveStandby | None
    status: ProtectionStatus
    reason: str = ""
    mirrored_epoch: int = 0
    """The epoch whose first copy is complete; 0 when none is."""
    whole: bool = False
    """It is one that had been lost: its disk has everything up to that moment."""
    kept: str | None = None
    """Label of a lost standby whose disk is kept until another one has everything."""
