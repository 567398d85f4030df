"""What the API takes and gives about snapshots: `/machines/{machine}/snapshots` and what belongs to it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Literal

from pydantic import ConfigDict, Field, field_validator

from dumont.domain.resources import Request, Resource
from dumont.domain.snapshots import (
    LATEST,
    SNAPSHOT_ID,
    ChangeTotals,
    FileChange,
    FileEntry,
    PruneResult,
    RestoreResult,
    Retention,
    SnapshotHealth,
    SnapshotPolicy,
    SnapshotRecord,
    TransferProgress,
)

_NOT_IN_A_PATH: Final = re.compile("[\0\ud800-\udfff]")


class RetentionOrder(Retention):
    """How many snapshots stay. A rule that does not exist is an error: it would delete them."""

    model_config = ConfigDict(extra="forbid")


class SnapshotPolicyOrder(SnapshotPolicy):
    """PUT /machines/{machine}/snapshots/policy."""

    model_config = ConfigDict(extra="forbid")

    retention: RetentionOrder = RetentionOrder()


class SnapshotHealthView(Resource):
    """How a machine's snapshots are going."""

    newest_at: datetime | None = Field(description="Of the newest whole one.")
    age_s: float | None
    stale: bool = Field(description="Older than twice the interval of the policy.")
    failures: int = Field(description="In a row, since the last that succeeded.")
    error: str = Field(description="Why the last one failed; empty when it did not.")


class SnapshotList(Resource):
    """GET /machines/{machine}/snapshots, newest first."""

    items: list[SnapshotRecord]
    policy: SnapshotPolicy | None = Field(description="Null: this deployment has no store.")
    next_at: datetime | None = Field(description="When the schedule makes the next one.")
    health: SnapshotHealthView


class SnapshotOrder(Request):
    """POST /machines/{machine}/snapshots."""

    tags: tuple[str, ...] = Field(default=(), max_length=20)
    pinned: bool = Field(default=False, description="No rule deletes it.")
    flush: bool = Field(
        default=True,
        description="Read from the standby, first wait until it has everything written so far.",
    )

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for tag in value:
            if not tag.isprintable() or not 1 <= len(tag) <= 64 or "," in tag:
                raise ValueError(f"not a tag of 1 to 64 printable characters: {tag[:40]!r}")
        return value


class PinOrder(Request):
    """PUT /machines/{machine}/snapshots/{snapshot}/pin."""

    pinned: bool


class RestoreOrder(Request):
    """POST /machines/{machine}/restore: into the machine of the address."""

    snapshot: str = Field(default=LATEST, pattern=rf"^({LATEST}|{SNAPSHOT_ID})$")
    of: str | None = Field(
        default=None, max_length=80, description="Another of your machines, whose snapshot it is."
    )
    paths: tuple[str, ...] = Field(
        default=(), max_length=100, description="Only these, and what is below; all when empty."
    )
    into: str | None = Field(
        default=None,
        max_length=200,
        description="A folder of the workspace; `restored/<snapshot>` when not given.",
    )
    in_place: bool = Field(
        default=False,
        description="Into the workspace itself, over what is there. What is there is kept in a "
        "snapshot first; files that the snapshot does not have stay.",
    )

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_path(path) for path in value)

    @field_validator("into")
    @classmethod
    def _into(cls, value: str | None) -> str | None:
        return checked_path(value) if value is not None else None


class RunStarted(Resource):
    """202: it is durable. Look at `GET /machines/{machine}/runs/{run}` for how far it is."""

    run: str
    machine_id: str


class RunError(Resource):
    """Why a run failed."""

    code: str
    message: str
    hint: str | None = None


class RunView(Resource):
    """GET /machines/{machine}/runs/{run}: a snapshot, a restore or a prune."""

    run: str
    kind: Literal["snapshot", "restore", "prune"]
    state: Literal["running", "done", "failed"]
    started_at: datetime
    ended_at: datetime | None
    progress: TransferProgress | None = Field(description="Null: not known at this moment.")
    tries: int = Field(description="Of the step under way; above 1, one failed and is resumed.")
    snapshot: SnapshotRecord | None = None
    restored: RestoreResult | None = None
    pruned: PruneResult | None = None
    error: RunError | None = None


class SnapshotDetail(Resource):
    """GET /machines/{machine}/snapshots/{snapshot}."""

    snapshot: SnapshotRecord
    before: str | None = Field(description="The snapshot before it; null: it is the first.")
    changes: ChangeTotals | None = Field(description="Since the one before.")


class FileList(Resource):
    """GET /machines/{machine}/snapshots/{snapshot}/files: what is in one folder."""

    path: str
    items: list[FileEntry]
    next_cursor: str | None


class ChangeList(Resource):
    """GET /machines/{machine}/snapshots/{snapshot}/changes."""

    old: str
    new: str
    totals: ChangeTotals
    items: list[FileChange] = Field(description="The first of them, in path order.")
    more: bool


class PruneOrder(Request):
    """POST /machines/{machine}/snapshots/prune: the owner's repository, which machines share."""

    dry_run: bool = True


def checked_path(path: str) -> str:
    """A path below the workspace, without slashes at its ends.

    Raises:
        ValueError: It is none: empty, or it leads out of the workspace.
    """
    parts = path.strip("/").split("/")
    nowhere = any(part in ("", ".", "..") for part in parts)
    if nowhere or len(path) > 4_096 or _NOT_IN_A_PATH.search(path):
        raise ValueError(f"not a path below the workspace: {path[:80]!r}")
    return "/".join(parts)


def health_view(
    health: SnapshotHealth, policy: SnapshotPolicy | None, *, now: datetime, since: datetime
) -> SnapshotHealthView:
    """Health as the API tells it."""
    newest = health.newest_at
    return SnapshotHealthView(
        newest_at=newest,
        age_s=round((now - newest).total_seconds(), 1) if newest is not None else None,
        stale=health.is_stale(policy, now=now, since=since),
        failures=health.failures,
        error=health.error,
    )
