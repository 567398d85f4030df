"""`Repositories`: what the control plane does with owners' repositories itself, and lets machines do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from dumont.domain.errors import (
    DependencyUnavailable,
    DumontError,
    PreconditionFailed,
    StorageError,
)
from dumont.domain.snapshots import (
    ChangeTotals,
    EntryKind,
    FileChange,
    FileEntry,
    PruneResult,
    Retention,
    SnapshotPolicy,
)
from dumont.ports import EngineGrant
from dumont.repositories.bucket import Bucket
from dumont.repositories.secrets import repository_secret
from dumont.snapshots import check, compare, prune, retention, tree
from dumont.snapshots.errors import NoRepository, RepositoryExists, SnapshotError, WrongKey
from dumont.snapshots.repository import Repository
from dumont.storage.errors import StoreError

T = TypeVar("T")

_KINDS: Final = {"f": EntryKind.FILE, "d": EntryKind.FOLDER, "l": EntryKind.LINK}
_NAMED: Final = 5


class OwnerRepositories:
    """The repositories of a deployment; see `ports.Repositories`.

    Args:
        bucket: Where they are; None: this deployment has no store.
        roots: Keys that secrets are derived from, newest first.
        cache: A folder for what never changes in the store.
    """

    def __init__(self, bucket: Bucket | None, *, roots: Sequence[bytes], cache: Path) -> None:
        self._bucket = bucket
        self._roots = tuple(roots)
        self._cache = cache

    async def grant(self, owner_id: str, *, holder: str, writes: bool) -> EngineGrant:
        """Let a machine reach its owner's repository, which is made at the first call."""

        def make() -> EngineGrant:
            bucket = self._store_of()
            _, secret = self._open(owner_id, create=writes)
            loan, lasts_s = bucket.lend(owner_id, holder=holder, writes=writes)
            return EngineGrant(
                environment={
                    "DUMONT_SNAP_STORE": bucket.url(owner_id),
                    "DUMONT_SNAP_SECRET": secret.decode(),
                },
                credentials=json.loads(loan.document()),
                lasts_s=lasts_s,
            )

        return await _in_thread(make)

    async def snapshots(self, owner_id: str) -> list[str]:
        """Ids of all snapshots that the repository has, oldest first."""

        def work() -> list[str]:
            try:
                return [each.id for each in self._open(owner_id)[0].snapshots()[0]]
            except NoRepository:
                return []

        return await _in_thread(work)

    async def verify(self, owner_id: str, snapshot_id: str) -> None:
        """See that the store holds all that a snapshot needs, as long as it should be."""

        def work() -> None:
            repository = self._open(owner_id)[0]
            found = check.check_one(repository, repository.snapshot(snapshot_id))
            if found.is_sound:
                return
            names = found.files.get(snapshot_id, [])
            lost = f"{len(names)} files cannot be restored: {', '.join(names[:_NAMED])}"
            raise StorageError(
                f"snapshot {snapshot_id} is damaged in the store: "
                + (lost if names else found.damage[0])
            )

        await _in_thread(work)

    async def files(
        self, owner_id: str, snapshot_id: str, *, folder: str, after: str | None, limit: int
    ) -> list[FileEntry]:
        """What is in one folder of a snapshot, in the order of names; at most `limit`."""
        top = folder.encode("utf-8", "surrogateescape")

        def work() -> list[FileEntry]:
            repository = self._open(owner_id)[0]
            known = repository.index()
            found: list[FileEntry] = []
            passed = after is None
            for entry in repository.entries(repository.snapshot(snapshot_id), known):
                if entry.path.rpartition(b"/")[0] != top or not entry.path:
                    continue
                shown = _entry(entry)
                if not passed:
                    passed = shown.path == after
                elif len(found) < limit:
                    found.append(shown)
                else:
                    break
            return found

        return await _in_thread(work)

    async def changes(
        self, owner_id: str, old: str, new: str, *, limit: int
    ) -> tuple[ChangeTotals, list[FileChange]]:
        """What changed between two snapshots: how much in all, and the first of it."""

        def work() -> tuple[ChangeTotals, list[FileChange]]:
            repository = self._open(owner_id)[0]
            counts = dict.fromkeys(("added", "removed", "changed", "touched"), 0)
            size, first = 0, list[FileChange]()
            before, after = repository.snapshot(old), repository.snapshot(new)
            for each in compare.changes(repository, before, after, repository.index()):
                counts[each.what] += 1
                size += each.after if each.what in ("added", "changed") else 0
                if len(first) < limit:
                    first.append(
                        FileChange.model_validate(
                            {
                                "what": each.what,
                                "path": tree.shown(each.path),
                                "before": each.before,
                                "after": each.after,
                            }
                        )
                    )
            return ChangeTotals(**counts, bytes=size), first

        return await _in_thread(work)

    async def pin(self, owner_id: str, snapshot_id: str, *, pinned: bool) -> None:
        """Let no rule delete a snapshot, or let rules decide again."""
        await _in_thread(lambda: self._open(owner_id)[0].keep(snapshot_id, kept=pinned))

    async def forget(self, owner_id: str, snapshot_ids: Sequence[str]) -> None:
        """Delete snapshots; `prune` frees their space."""

        def work() -> None:
            repository = self._open(owner_id)[0]
            for snapshot_id in snapshot_ids:
                repository.forget(snapshot_id)

        await _in_thread(work)

    async def retire(self, owner_id: str, machine_id: str, policy: SnapshotPolicy) -> list[str]:
        """Delete those of a machine's snapshots that its policy keeps no longer; returns their ids."""

        def work() -> list[str]:
            repository = self._open(owner_id)[0]
            mine = [each for each in repository.snapshots()[0] if each.machine == machine_id]
            verdicts = retention.decide(mine, _rules(policy.retention))
            gone = [each.snapshot.id for each in verdicts if not each.stays]
            for snapshot_id in gone:
                repository.forget(snapshot_id)
            return gone

        return await _in_thread(work)

    async def prune(self, owner_id: str, *, dry_run: bool) -> PruneResult:
        """Free what no snapshot needs."""

        def work() -> PruneResult:
            try:
                done = prune.prune(self._open(owner_id)[0], dry_run=dry_run)
            except NoRepository:
                done = prune.Pruned()
            return PruneResult(
                dry_run=dry_run,
                needed=done.needed,
                freed=done.freed,
                doomed=done.doomed,
                waits_for=done.waits_for,
            )

        return await _in_thread(work)

    def _store_of(self) -> Bucket:
        if self._bucket is None:
            raise PreconditionFailed(
                "this deployment has no object store to keep snapshots in",
                field="S3_ENDPOINT_URL",
                hint="set S3_ENDPOINT_URL, S3_BUCKET and the account's keys, and restart the workers",
            )
        return self._bucket

    def _open(self, owner_id: str, *, create: bool = False) -> tuple[Repository, bytes]:
        """An owner's repository and the secret that opens it. Raises NoRepository."""
        store = self._store_of().store(owner_id)
        secrets = [repository_secret(root, owner_id=owner_id) for root in self._roots]
        problem: SnapshotError | None = None
        for secret in secrets:
            try:
                return Repository.open(store, secret, cache=self._cache), secret
            except WrongKey as error:
                problem = error  # made under an earlier key of this deployment, perhaps
            except NoRepository:
                if not create:
                    raise
                try:
                    return Repository.create(store, secret, cache=self._cache), secret
                except RepositoryExists:
                    return Repository.open(store, secret, cache=self._cache), secret
        assert problem is not None
        raise problem


async def _in_thread(work: Callable[[], T]) -> T:
    """Blocking work; what the engine and the store raise is told in our words."""
    try:
        return await asyncio.to_thread(work)
    except StoreError as error:
        hint = error.hint or None
        if error.retryable:
            raise DependencyUnavailable(
                f"the object store: {error.message}", dependency="s3", hint=hint
            ) from error
        raise StorageError(f"the object store: {error.message}", hint=hint) from error
    except SnapshotError as error:
        raise _told(error) from error


def _told(error: SnapshotError) -> DumontError:
    hint = error.hint or None
    if error.code in ("busy", "lease_lost"):
        return DependencyUnavailable(error.message, dependency="s3", hint=hint)
    return StorageError(error.message, hint=hint)


def _rules(wanted: Retention) -> retention.Policy:
    return retention.Policy(**wanted.model_dump())


def _entry(entry: tree.Entry) -> FileEntry:
    return FileEntry(
        path=tree.shown(entry.path),
        kind=_KINDS.get(entry.kind, EntryKind.OTHER),
        size=entry.size,
        mode=entry.mode,
        modified_at=datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC),
    )
