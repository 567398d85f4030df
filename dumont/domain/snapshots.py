"""Snapshots of a machine's workspace: what its owner wants of them, and what is known of each."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from dumont.domain.instances import Message
from dumont.domain.protection import AgentRole

LATEST: Final = "latest"
"""Names a machine's newest snapshot."""
SNAPSHOT_ID: Final = r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}"
"""What ids look like."""

_CRON_FIELD: Final = re.compile(r"[0-9A-Za-z*/,?#L-]{1,64}")
_NOT_ON_A_LINE: Final = re.compile("[\n\r\0\ud800-\udfff]")
"""JSON may hold half a character (a lone surrogate); a database and a payload may not."""
_STALE_AFTER: Final = 2.0
"""Of the intervals between two snapshots, how many may pass before the newest is called stale."""


class Retention(Message):
    """How many snapshots stay: the newest of each period counts. One that is pinned always stays."""

    last: int = Field(default=4, ge=0, le=10_000)
    hourly: int = Field(default=24, ge=0, le=10_000)
    daily: int = Field(default=7, ge=0, le=10_000)
    weekly: int = Field(default=4, ge=0, le=10_000)
    monthly: int = Field(default=6, ge=0, le=10_000)
    minimum: int = Field(default=1, ge=1, le=10_000)
    """So many stay whatever the other rules say."""


class SnapshotPolicy(Message):
    """When a machine's workspace is kept, what is left out, and for how long."""

    every_minutes: Literal[5, 15, 30, 60] | None = 30
    """None, without `cron` either: only when somebody asks."""
    cron: str | None = None
    """Five fields, UTC, instead of `every_minutes`."""
    excludes: tuple[str, ...] = Field(default=(), max_length=200)
    """Patterns as in .gitignore and rsync of what is left out."""
    retention: Retention = Retention()

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is None:
            return None
        fields = value.split()
        if len(fields) != 5 or not all(_CRON_FIELD.fullmatch(field) for field in fields):
            raise ValueError(
                f"not five fields of a cron line: {value[:80]!r} (for example '0 */6 * * *')"
            )
        return " ".join(fields)

    @field_validator("excludes")
    @classmethod
    def _excludes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not 1 <= len(pattern) <= 256 or _NOT_ON_A_LINE.search(pattern):
                raise ValueError(f"not a pattern on one line: {pattern[:40]!r}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_clock(cls, value: object) -> object:
        """A cron line takes the place of the default interval, not of one that was asked for."""
        if not isinstance(value, dict) or value.get("cron") is None:
            return value
        if value.get("every_minutes") is not None:
            raise ValueError("give either every_minutes or cron")
        return {**value, "every_minutes": None}

    @property
    def is_scheduled(self) -> bool:
        """Whether snapshots are made without anybody asking."""
        return self.every_minutes is not None or self.cron is not None

    @property
    def stale_after_s(self) -> float | None:
        """The age at which the newest snapshot is stale; None where no interval says so."""
        return self.every_minutes * 60 * _STALE_AFTER if self.every_minutes is not None else None


class SnapshotRecord(Message):
    """One snapshot of a machine, as it is known without asking the store. Sizes in bytes."""

    machine_id: str
    snapshot_id: str
    taken_at: datetime
    source: AgentRole
    """The body it was read from."""
    files: int
    bytes: int
    new_bytes: int
    """What no earlier snapshot of the owner had."""
    stored_bytes: int
    """The same as it was sent: compressed and sealed."""
    seconds: float
    whole: bool = True
    """Whether everything there was is in it."""
    unreadable: tuple[str, ...] = ()
    """Names of what is not in it, with the reason; the first of them."""
    changing: tuple[str, ...] = ()
    """Names of files that changed each time they were read; the first of them."""
    tags: tuple[str, ...] = ()
    pinned: bool = False
    verified_at: datetime | None = None
    """When the store was found to hold everything that it needs."""


class SnapshotHealth(Message):
    """How a machine's snapshots are going."""

    newest_at: datetime | None = None
    """Of the newest whole one; None: there is none."""
    tried_at: datetime | None = None
    failures: int = 0
    """In a row, since the last that succeeded."""
    error: str = ""
    """Why the last one failed; empty when it did not."""

    def is_stale(self, policy: SnapshotPolicy | None, *, now: datetime, since: datetime) -> bool:
        """Whether the newest snapshot is older than the policy lets it be.

        Args:
            policy: None: nothing was promised.
            now: The time to judge at.
            since: When the machine was made: before that nothing could be kept.
        """
        limit = policy.stale_after_s if policy is not None else None
        return limit is not None and (now - (self.newest_at or since)).total_seconds() > limit


class EntryKind(StrEnum):
    """What a snapshot's entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class FileEntry(Message):
    """One entry of a snapshot."""

    path: str
    kind: EntryKind
    size: int
    mode: int
    modified_at: datetime


class FileChange(Message):
    """One difference between two snapshots."""

    what: Literal["added", "removed", "changed", "touched"]
    """`touched`: only what is said about it, such as its time, is another."""
    path: str
    before: int
    after: int
    """Sizes, bytes."""


class ChangeTotals(Message):
    """How many differences there are between two snapshots, and how big what is new is."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    touched: int = 0
    bytes: int = 0
    """Of added and changed files as they are now."""


class TransferProgress(Message):
    """How far a snapshot or a restore is. Sizes in bytes; None: unknown."""

    step: str = ""
    """What is done now, for people."""
    files: int = 0
    bytes: int = 0
    """Of files that are done."""
    total_files: int | None = None
    total_bytes: int | None = None
    """What there was the last time; an estimate until the end."""
    unchanged_bytes: int | None = None
    """Of files that need not even be read."""
    new_bytes: int | None = None
    """What the store did not have."""
    sent_bytes: int | None = None
    """Sent to the store, or fetched from it."""
    seconds: float = 0.0
    eta_s: float | None = None
    """Estimate: what is left at the rate until now."""

    def estimated(self) -> TransferProgress:
        """The same with the time that is left, where that can be said."""
        if not self.total_bytes or not self.bytes or self.seconds <= 0:
            return self
        left = max(0, self.total_bytes - self.bytes)
        return self.model_copy(update={"eta_s": round(left * self.seconds / self.bytes, 1)})


class RestoreResult(Message):
    """What a restore brought back. Sizes in bytes."""

    snapshot_id: str
    folder: str
    """Where, relative to the workspace; empty: the workspace itself."""
    body: AgentRole
    files: int
    bytes: int
    unchanged: int
    """How many files were right already."""
    fetched_bytes: int
    usable_s: float | None
    """After so long all small files were back."""
    seconds: float
    problems: tuple[str, ...] = ()
    """What could not be brought back, with the reason."""
    later: int = 0
    """How many large files were left for a later run."""
    later_bytes: int = 0
    before: str | None = None
    """The snapshot that was made of what was there before."""
    kept: int = 0
    """How many files were left as people had changed them meanwhile."""
    kept_names: tuple[str, ...] = ()
    """The first of them."""


class PruneResult(Message):
    """What a prune freed, or would. Bytes."""

    dry_run: bool
    needed: int
    freed: int
    doomed: int
    """Not needed, and freed once snapshots under way have ended (or by a prune that is not dry)."""
    waits_for: int
