"""Snapshots in memory: engines on machines, the repositories of owners, and what is known of both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dumont.domain.errors import NotFound, StorageError
from dumont.domain.instances import SshAddress
from dumont.domain.snapshots import (
    LATEST,
    ChangeTotals,
    FileChange,
    FileEntry,
    PruneResult,
    SnapshotHealth,
    SnapshotPolicy,
    SnapshotRecord,
)
from dumont.ports import EngineGrant, EngineOrder
from dumont.snapshots import command, retention
from dumont.snapshots.manifest import Snapshot, Totals, new_id

WASTE = 5_000
"""What a prune finds that no snapshot needs, bytes."""


@dataclass
class FakeRepositories:
    """`Repositories` that hold what engines commit, and keep the real rules of retention."""

    kept: dict[str, dict[str, Snapshot]] = field(default_factory=dict)
    """By owner, by id."""
    contents: dict[str, list[FileEntry]] = field(default_factory=dict)
    """By snapshot: what is in it."""
    damaged: dict[str, str] = field(default_factory=dict)
    """By snapshot: the file that is lost."""
    on_call: Callable[[str, str], None] = lambda word, owner_id: None
    """Raise here: the store is away, or refuses."""
    granted: list[tuple[str, str, bool]] = field(default_factory=list)
    """Owner, holder, and whether it may write."""

    async def grant(self, owner_id: str, *, holder: str, writes: bool) -> EngineGrant:
        self.on_call("grant", owner_id)
        self.granted.append((owner_id, holder, writes))
        return EngineGrant(
            environment={"DUMONT_SNAP_STORE": f"memory://{owner_id}"},
            credentials={"AccessKeyId": f"loan {len(self.granted)}"},
            lasts_s=3_600,
        )

    async def snapshots(self, owner_id: str) -> list[str]:
        self.on_call("snapshots", owner_id)
        return sorted(self.kept.get(owner_id, {}))

    async def verify(self, owner_id: str, snapshot_id: str) -> None:
        self.on_call("verify", owner_id)
        self._one(owner_id, snapshot_id)
        if lost := self.damaged.get(snapshot_id):
            raise StorageError(f"snapshot {snapshot_id} is damaged in the store: {lost} is lost")

    async def files(
        self, owner_id: str, snapshot_id: str, *, folder: str, after: str | None, limit: int
    ) -> list[FileEntry]:
        self.on_call("files", owner_id)
        self._one(owner_id, snapshot_id)
        there = [f for f in self._content(snapshot_id) if f.path.rpartition("/")[0] == folder]
        return [f for f in there if after is None or f.path > after][:limit]

    async def changes(
        self, owner_id: str, old: str, new: str, *, limit: int
    ) -> tuple[ChangeTotals, list[FileChange]]:
        self.on_call("changes", owner_id)
        before = {f.path for f in self._content(self._one(owner_id, old).id)}
        added = [f for f in self._content(self._one(owner_id, new).id) if f.path not in before]
        found = [FileChange(what="added", path=f.path, before=0, after=f.size) for f in added]
        totals = ChangeTotals(added=len(added), bytes=sum(f.size for f in added))
        return totals, found[:limit]

    async def pin(self, owner_id: str, snapshot_id: str, *, pinned: bool) -> None:
        self.on_call("pin", owner_id)
        self.commit(owner_id, replace(self._one(owner_id, snapshot_id), kept=pinned))

    async def forget(self, owner_id: str, snapshot_ids: Sequence[str]) -> None:
        self.on_call("forget", owner_id)
        for snapshot_id in snapshot_ids:
            self.kept.get(owner_id, {}).pop(snapshot_id, None)

    async def retire(self, owner_id: str, machine_id: str, policy: SnapshotPolicy) -> list[str]:
        self.on_call("retire", owner_id)
        mine = [s for s in self.kept.get(owner_id, {}).values() if s.machine == machine_id]
        rules = retention.Policy(**policy.retention.model_dump())
        gone = [v.snapshot.id for v in retention.decide(mine, rules) if not v.stays]
        for snapshot_id in gone:
            del self.kept[owner_id][snapshot_id]
        return gone

    async def prune(self, owner_id: str, *, dry_run: bool) -> PruneResult:
        self.on_call("prune", owner_id)
        return PruneResult(
            dry_run=dry_run,
            needed=1_000 * len(self.kept.get(owner_id, {})),
            freed=0 if dry_run else WASTE,
            doomed=WASTE if dry_run else 0,
            waits_for=0,
        )

    def commit(self, owner_id: str, snapshot: Snapshot) -> None:
        """What an engine does last."""
        self.kept.setdefault(owner_id, {})[snapshot.id] = snapshot

    def _one(self, owner_id: str, snapshot_id: str) -> Snapshot:
        found = self.kept.get(owner_id, {}).get(snapshot_id)
        if found is None:
            raise StorageError(f"there is no snapshot {snapshot_id}")
        return found

    def _content(self, snapshot_id: str) -> list[FileEntry]:
        return sorted(self.contents.get(snapshot_id, []), key=lambda each: each.path)


@dataclass
class FakeEngine:
    """A `MachineEngine`. It takes the words that the real one takes, and no others.

    Args:
        repositories: Where its snapshots go.
    """

    repositories: FakeRepositories
    runs: list[tuple[str, EngineOrder]] = field(default_factory=list)
    """Whom it ran on, and what for."""
    totals: Totals = field(
        default_factory=lambda: Totals(files=3, bytes=3_000, new_raw=300, new_stored=30, seconds=1)
    )
    on_run: Callable[[str, EngineOrder], None] = lambda host, order: None
    """Raise here: it cannot be reached, or will not."""
    says: list[dict[str, Any]] = field(default_factory=list)
    """Lines of progress of each run."""
    takes_s: float = 0.0
    """How long each run takes; its lines come evenly."""
    answers: Callable[[dict[str, Any]], dict[str, Any]] = lambda honest: honest
    """What a host that is not trusted makes of the answer."""
    problems: list[dict[str, str]] = field(default_factory=list)
    """Of each restore."""

    async def run(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        order: EngineOrder,
        grant: EngineGrant,
        renew: Callable[[], Awaitable[EngineGrant]] | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        last = [] if order.folder is None else [f"/workspace/{order.folder}"]
        # Words that the engine does not know end the test.
        given = command._parser().parse_args([order.words[0], "--json", *order.words[1:], *last])
        self.runs.append((address.host, order))
        self.on_run(address.host, order)
        pause_s = self.takes_s / (len(self.says) + 1)
        for line in self.says:
            await asyncio.sleep(pause_s)
            if on_progress is not None:
                on_progress(line)
        await asyncio.sleep(pause_s)
        owner_id = grant.environment["DUMONT_SNAP_STORE"].removeprefix("memory://")
        if order.words[0] == "snapshot":
            now = datetime.now(UTC)
            made = Snapshot(
                id=new_id(now), time=now, machine=given.machine, host=address.host, tree=(),
                tags=tuple(given.tag), kept=given.keep, totals=self.totals,
            )  # fmt: skip
            self.repositories.commit(owner_id, made)
            return self.answers(command._document(made))
        assert order.words[0] == "restore"
        source = self.repositories._one(owner_id, given.snapshot)
        return self.answers(
            {
                "snapshot": source.id, "files": self.totals.files, "bytes": self.totals.bytes,
                "unchanged": 1, "directories": 0, "links": 0, "fetched": 20, "usable_s": 0.1,
                "seconds": 0.2, "problems": self.problems,
            }
        )  # fmt: skip

    def of(self, word: str) -> list[str]:
        """On whom it ran for one command."""
        return [host for host, order in self.runs if order.words[0] == word]


@dataclass
class FakeSnapshots:
    """A `SnapshotStore` in memory."""

    records: dict[tuple[str, str], SnapshotRecord] = field(default_factory=dict)
    wanted: dict[str, SnapshotPolicy] = field(default_factory=dict)
    failures: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)
    """In a row, by machine."""

    async def record(self, record: SnapshotRecord) -> None:
        self.records.setdefault((record.machine_id, record.snapshot_id), record)

    async def record_failure(self, machine_id: str, *, error: str, at: datetime) -> int:
        known = self.failures.setdefault(machine_id, [])
        if all(when < at for when, _ in known):
            known.append((at, error))
        return len(known)

    async def verified(self, machine_id: str, snapshot_id: str, *, at: datetime) -> None:
        self._change(machine_id, snapshot_id, verified_at=at)
        self.failures.pop(machine_id, None)

    async def pinned(self, machine_id: str, snapshot_id: str, *, pinned: bool) -> None:
        self._change(machine_id, snapshot_id, pinned=pinned)

    async def forgotten(self, machine_id: str, snapshot_ids: Sequence[str]) -> None:
        for snapshot_id in snapshot_ids:
            self.records.pop((machine_id, snapshot_id), None)

    async def newest(self, machine_id: str) -> SnapshotRecord | None:
        whole = [record for record in self._of(machine_id) if record.whole]
        found = [record for record in whole if record.verified_at is not None]
        return (found or whole or [None])[-1]

    async def find(self, machine_id: str, name: str) -> SnapshotRecord:
        found = [r for r in self._of(machine_id) if r.snapshot_id.startswith(name)]
        found = self._of(machine_id)[-1:] if name == LATEST else found
        if not found:
            raise NotFound(f"this machine has no snapshot {name}")
        return found[-1]

    async def policy(self, machine_id: str) -> SnapshotPolicy:
        return self.wanted.get(machine_id, SnapshotPolicy())

    async def policies(self, machine_ids: Sequence[str]) -> dict[str, SnapshotPolicy]:
        return {each: self.wanted[each] for each in machine_ids if each in self.wanted}

    async def health(self, machine_id: str) -> SnapshotHealth:
        newest, failed = await self.newest(machine_id), self.failures.get(machine_id, [])
        return SnapshotHealth(
            newest_at=newest.taken_at if newest is not None else None,
            failures=len(failed),
            error=failed[-1][1] if failed else "",
        )

    def _of(self, machine_id: str) -> list[SnapshotRecord]:
        """Oldest first."""
        return [r for (machine, _), r in sorted(self.records.items()) if machine == machine_id]

    def _change(self, machine_id: str, snapshot_id: str, **update: Any) -> None:
        known = self.records[machine_id, snapshot_id]
        self.records[machine_id, snapshot_id] = known.model_copy(update=update)
