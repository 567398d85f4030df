"""Looking into owners' repositories and changing what they keep, for somebody who waits for the answer."""

from __future__ import annotations

from temporalio import activity

from activities.snapshots import SnapshotOf
from dumont.domain.instances import Message
from dumont.domain.snapshots import ChangeTotals, FileChange, FileEntry
from dumont.ports import Repositories, SnapshotStore


class FilesAsk(Message):
    """Input of `list_files`."""

    owner_id: str
    snapshot_id: str
    folder: str
    after: str | None
    limit: int


class FilesFound(Message):
    """What is in a folder of a snapshot."""

    items: list[FileEntry]


class ChangesAsk(Message):
    """Input of `list_changes`."""

    owner_id: str
    old: str
    new: str
    limit: int


class ChangesFound(Message):
    """What changed between two snapshots: how much in all, and the first of it."""

    totals: ChangeTotals
    items: list[FileChange]


class PinAsk(Message):
    """Input of `pin_snapshot`."""

    which: SnapshotOf
    pinned: bool


class RepositoryActivities:
    """Questions to repositories that people wait for."""

    def __init__(self, *, repositories: Repositories, snapshots: SnapshotStore) -> None:
        self._repositories = repositories
        self._snapshots = snapshots

    @activity.defn
    async def list_files(self, ask: FilesAsk) -> FilesFound:
        """What is in one folder of a snapshot."""
        found = await self._repositories.files(
            ask.owner_id, ask.snapshot_id, folder=ask.folder, after=ask.after, limit=ask.limit
        )
        return FilesFound(items=found)

    @activity.defn
    async def list_changes(self, ask: ChangesAsk) -> ChangesFound:
        """What changed between two snapshots."""
        totals, items = await self._repositories.changes(
            ask.owner_id, ask.old, ask.new, limit=ask.limit
        )
        return ChangesFound(totals=totals, items=items)

    @activity.defn
    async def pin_snapshot(self, ask: PinAsk) -> None:
        """Let no rule delete a snapshot, or let rules decide again."""
        which = ask.which
        await self._repositories.pin(which.owner_id, which.snapshot_id, pinned=ask.pinned)
        await self._snapshots.pinned(which.machine_id, which.snapshot_id, pinned=ask.pinned)

    @activity.defn
    async def forget_snapshot(self, which: SnapshotOf) -> None:
        """Delete a snapshot; a prune frees its space."""
        await self._repositories.forget(which.owner_id, [which.snapshot_id])
        await self._snapshots.forgotten(which.machine_id, [which.snapshot_id])
