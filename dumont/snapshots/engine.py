"""Two engines behind one interface: ours, and restic for those who want its format.

Both keep a folder in an S3 store, sealed, and bring it back; what only one of them can do is reached
through it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dumont.snapshots import check, prune
from dumont.snapshots.backup import Backup, Options, Progress
from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import Restore
from dumont.storage.store import Store

OnProgress = Callable[[int, int], None]
"""Told of files and bytes that are done."""


@dataclass(frozen=True)
class Kept:
    """A snapshot, whichever engine made it. Sizes in bytes."""

    id: str
    time: datetime
    tags: tuple[str, ...] = ()
    files: int | None = None
    bytes: int | None = None
    stored: int | None = None
    """What it added to the store, compressed; None when the engine does not say."""


class Engine(Protocol):
    """What every engine does. All methods raise SnapshotError or StoreError."""

    @property
    def name(self) -> str:
        """`dumont` or `restic`."""
        ...

    def create(self) -> None:
        """Make the repository."""
        ...

    def snapshot(
        self, root: Path, *, tags: Sequence[str] = (), on_progress: OnProgress = ...
    ) -> Kept:
        """Keep a folder as it is now."""
        ...

    def restore(self, snapshot_id: str, target: Path, *, paths: Sequence[str] = ()) -> None:
        """Bring it back, verified.

        Raises:
            SnapshotError: Something could not be brought back; it is named, and all else is there.
        """
        ...

    def list(self) -> list[Kept]:
        """All snapshots, oldest first."""
        ...

    def forget(self, snapshot_ids: Sequence[str]) -> None:
        """Delete snapshots."""
        ...

    def prune(self) -> None:
        """Free what none of them needs."""
        ...

    def check(self, *, read: bool = False) -> None:
        """Raises SnapshotError when something is not as it was written."""
        ...


def _quiet(files: int, size: int) -> None:
    return None


class DumontEngine:
    """Ours.

    Args:
        store: Where the repository is, or will be.
        secret: What opens it.
        state: What this machine remembers.
    """

    name = "dumont"

    def __init__(self, store: Store, secret: bytes, *, state: Path | None = None) -> None:
        self._store = store
        self._secret = secret
        self._state = state

    def create(self) -> None:
        """See `Engine`."""
        Repository.create(self._store, self._secret)

    def snapshot(
        self, root: Path, *, tags: Sequence[str] = (), on_progress: OnProgress = _quiet
    ) -> Kept:
        """See `Engine`."""

        def progress(now: Progress) -> None:
            on_progress(now.files, now.bytes)

        options = Options(tags=tuple(tags))
        run = Backup(self._open(), root, options=options, state=self._state, on_progress=progress)
        return _kept(run.run())

    def restore(self, snapshot_id: str, target: Path, *, paths: Sequence[str] = ()) -> None:
        """See `Engine`."""
        repository = self._open()
        wanted = [path.encode("utf-8", "surrogateescape") for path in paths]
        report = Restore(repository, repository.snapshot(snapshot_id), target, paths=wanted).run()
        if report.problems:
            first = report.problems[0]
            raise SnapshotError(
                f"{len(report.problems)} files are not back, e.g. {first.path}: {first.why}"
            )

    def list(self) -> list[Kept]:
        """See `Engine`."""
        return [_kept(snapshot) for snapshot in self._open().snapshots()[0]]

    def forget(self, snapshot_ids: Sequence[str]) -> None:
        """See `Engine`."""
        repository = self._open()
        for snapshot_id in snapshot_ids:
            repository.forget(repository.snapshot(snapshot_id).id)

    def prune(self) -> None:
        """See `Engine`."""
        prune.prune(self._open())

    def check(self, *, read: bool = False) -> None:
        """See `Engine`."""
        found = check.check(self._open(), read=read)
        if not found.is_sound:
            words = found.damage[0] if found.damage else "files are lost"
            raise SnapshotError(f"the repository is damaged: {words}", hint="dumont-snap check")

    def _open(self) -> Repository:
        return Repository.open(self._store, self._secret, cache=self._state)


def _kept(snapshot: Snapshot) -> Kept:
    totals = snapshot.totals
    return Kept(
        id=snapshot.id,
        time=snapshot.time,
        tags=snapshot.tags,
        files=totals.files,
        bytes=totals.bytes,
        stored=totals.new_stored,
    )
