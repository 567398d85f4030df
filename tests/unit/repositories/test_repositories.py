"""Owners' repositories over a folder: one each, opened by what the deployment's keys make of its owner."""

from __future__ import annotations

import base64
import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dumont.domain.errors import DependencyUnavailable, PreconditionFailed, StorageError
from dumont.domain.snapshots import EntryKind, Retention, SnapshotPolicy
from dumont.repositories.bucket import Bucket
from dumont.repositories.repositories import OwnerRepositories
from dumont.repositories.secrets import repository_secret
from dumont.snapshots.backup import Backup, Options
from dumont.snapshots.lease import PruneLock
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.repository import Repository
from dumont.storage.credentials import Loan, Scope
from dumont.storage.directory import DirectoryStore
from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials
from dumont.storage.store import Store

ROOT, NEWER = bytes(range(32)), bytes(range(1, 33))
PROMISED = b"CSaPmawe/T/ib1P+xdHVWQBhwIa6VePijUlaHiGjwh4="


@dataclass
class Lender:
    """A `Broker` that notes for what it lent."""

    lent: list[tuple[Scope, str]] = field(default_factory=list)

    def lend(self, scope: Scope, *, holder: str, seconds: int) -> Loan:
        self.lent.append((scope, holder))
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        return Loan(Credentials("loan", "loan's secret", "token"), expires)


@dataclass(frozen=True, kw_only=True)
class FolderBucket(Bucket):
    """A bucket whose objects are files."""

    folder: Path

    def store(self, owner_id: str) -> Store:
        return DirectoryStore(self.folder / "owners" / owner_id, durable=False)


class World:
    """A deployment's bucket, and machines that keep their workspaces in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lender = Lender()
        self.bucket = FolderBucket(
            endpoint="http://inside:9000", machines_endpoint="https://outside.example", name="b",
            region="r1", account=Credentials("account", "account's secret"), broker=self.lender,
            folder=folder / "bucket",
        )  # fmt: skip
        self.repositories = self.with_roots(ROOT)
        self.workspace = folder / "workspace"
        (self.workspace / "src").mkdir(parents=True)
        rng = random.Random(1)
        for number in range(5):
            (self.workspace / f"src/{number}.py").write_bytes(rng.randbytes(300_000))
        (self.workspace / "run.sh").write_text("#!/bin/sh\n")
        (self.workspace / "link").symlink_to("run.sh")

    def with_roots(self, *roots: bytes) -> OwnerRepositories:
        return OwnerRepositories(self.bucket, roots=roots, cache=self.folder / "cache")

    async def keep(self, owner_id: str = "o1", machine_id: str = "m1") -> Snapshot:
        """As a machine does it: with what its grant says, and nothing else."""
        grant = await self.repositories.grant(owner_id, holder=machine_id, writes=True)
        secret = grant.environment["DUMONT_SNAP_SECRET"].encode()
        repository = Repository.open(self.bucket.store(owner_id), secret)
        options = Options(machine=machine_id, workers=1)
        return Backup(repository, self.workspace, options=options).run()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# What opens them ------------------------------------------------------------------------------


def test_the_secret_of_an_owner_is_the_same_for_ever() -> None:
    """Were it another one tomorrow, no repository of today could be opened: this value is a promise."""
    assert repository_secret(ROOT, owner_id="o1") == PROMISED
    assert repository_secret(ROOT, owner_id="o1").isascii()
    assert len(base64.b64decode(repository_secret(ROOT, owner_id="o1"))) == 32


def test_each_owner_and_each_key_has_another_secret() -> None:
    made = {
        repository_secret(root, owner_id=owner)
        for root in (ROOT, NEWER)
        for owner in ("o1", "o2", "o", "", "o1 ")
    }
    assert len(made) == 10


async def test_a_grant_is_for_one_owners_part_alone(world: World) -> None:
    grant = await world.repositories.grant("o1", holder="m1", writes=True)
    assert grant.environment == {
        "DUMONT_SNAP_STORE": "s3://b/owners/o1?endpoint=https%3A%2F%2Foutside.example&region=r1",
        "DUMONT_SNAP_SECRET": repository_secret(ROOT, owner_id="o1").decode(),
    }
    assert grant.credentials is not None
    assert grant.credentials["AccessKeyId"] == "loan"
    assert grant.credentials["SessionToken"] == "token"
    assert 3 * 3600 < grant.lasts_s <= 4 * 3600
    await world.repositories.grant("o1", holder="m2", writes=False)
    assert world.lender.lent == [
        (Scope("b", "owners/o1", writes=True), "m1"),
        (Scope("b", "owners/o1", writes=False), "m2"),
    ]
    for secret in ("loan's secret", "account's secret", grant.environment["DUMONT_SNAP_SECRET"]):
        assert secret not in repr(grant) + repr(world.bucket)


async def test_whoever_only_reads_makes_no_repository(world: World) -> None:
    with pytest.raises(StorageError, match="there is no repository here"):
        await world.repositories.grant("o1", holder="m1", writes=False)
    assert world.lender.lent == []
    assert not world.bucket.folder.exists()


async def test_a_repository_of_an_earlier_key_is_opened_with_it(world: World) -> None:
    kept = await world.keep()
    later = world.with_roots(NEWER, ROOT)
    assert await later.snapshots("o1") == [kept.id]
    grant = await later.grant("o1", holder="m1", writes=True)
    assert (
        grant.environment["DUMONT_SNAP_SECRET"] == repository_secret(ROOT, owner_id="o1").decode()
    )
    fresh = await later.grant("o2", holder="m9", writes=True)
    newest = repository_secret(NEWER, owner_id="o2").decode()
    assert fresh.environment["DUMONT_SNAP_SECRET"] == newest
    with pytest.raises(StorageError):
        await world.with_roots(NEWER).snapshots("o1")


async def test_no_owner_reads_anothers(world: World) -> None:
    mine = await world.keep("o1")
    await world.keep("o2", "m2")
    assert await world.repositories.snapshots("o1") == [mine.id]
    with pytest.raises(StorageError, match="there is no snapshot"):
        await world.repositories.files("o2", mine.id, folder="", after=None, limit=10)
    with pytest.raises(StorageError, match="there is no snapshot"):
        await world.repositories.pin("o2", mine.id, pinned=True)
    await world.repositories.forget("o2", [mine.id])
    assert await world.repositories.snapshots("o1") == [mine.id]


async def test_a_deployment_without_a_store_says_what_to_set() -> None:
    without = OwnerRepositories(None, roots=[ROOT], cache=Path("/nowhere"))
    with pytest.raises(PreconditionFailed) as caught:
        await without.grant("o1", holder="m1", writes=True)
    assert caught.value.field == "S3_ENDPOINT_URL"
    for asked in (without.snapshots("o1"), without.prune("o1", dry_run=True)):
        with pytest.raises(PreconditionFailed):
            await asked


async def test_an_owner_who_has_none_yet(world: World) -> None:
    assert await world.repositories.snapshots("o1") == []
    done = await world.repositories.prune("o1", dry_run=False)
    assert (done.needed, done.freed, done.doomed) == (0, 0, 0)


# What is in them ------------------------------------------------------------------------------


async def test_a_folder_is_listed_page_by_page(world: World) -> None:
    kept = (await world.keep()).id
    look = world.repositories.files
    top = await look("o1", kept, folder="", after=None, limit=10)
    assert [(each.path, each.kind) for each in top] == [
        ("link", EntryKind.LINK), ("run.sh", EntryKind.FILE), ("src", EntryKind.FOLDER),
    ]  # fmt: skip
    assert (top[1].size, top[1].mode) == (10, (world.workspace / "run.sh").stat().st_mode & 0o7777)
    seen: list[str] = []
    while page := await look("o1", kept, folder="src", after=seen[-1] if seen else None, limit=2):
        seen += [each.path for each in page]
    assert seen == [f"src/{number}.py" for number in range(5)]
    assert await look("o1", kept, folder="sr", after=None, limit=10) == []


async def test_what_changed_is_counted_and_the_first_of_it_named(world: World) -> None:
    old = (await world.keep()).id
    (world.workspace / "src/0.py").write_bytes(b"new")
    (world.workspace / "src/1.py").unlink()
    (world.workspace / "src/9.py").write_bytes(b"added")
    new = (await world.keep()).id
    totals, first = await world.repositories.changes("o1", old, new, limit=10)
    assert (totals.added, totals.removed, totals.changed, totals.bytes) == (1, 1, 1, 8)
    found = {each.path: (each.what, each.before, each.after) for each in first}
    assert found["src/0.py"] == ("changed", 300_000, 3)
    assert found["src/1.py"] == ("removed", 300_000, 0)
    assert found["src/9.py"] == ("added", 0, 5)
    few, one = await world.repositories.changes("o1", old, new, limit=1)
    assert (few, len(one)) == (totals, 1)


async def test_a_snapshot_that_the_store_has_whole_is_verified(world: World) -> None:
    kept = (await world.keep()).id
    await world.repositories.verify("o1", kept)
    with pytest.raises(StorageError, match="there is no snapshot"):
        await world.repositories.verify("o1", "20200101T000000.000000Z-00000000")


@pytest.mark.parametrize(
    ("how", "named"),
    [("missing", "late.bin"), ("cut off", "late.bin"), ("without its table", "table of files")],
)
async def test_what_is_lost_is_named(world: World, how: str, named: str) -> None:
    early = (await world.keep()).id
    (world.workspace / "late.bin").write_bytes(os.urandom(400_000))
    packs = set(world.bucket.folder.rglob("packs/**/*"))
    late = (await world.keep()).id
    new = [each for each in set(world.bucket.folder.rglob("packs/**/*")) - packs if each.is_file()]
    small, large = sorted(new, key=lambda path: path.stat().st_size)
    if how == "missing":
        large.unlink()
    elif how == "cut off":
        os.truncate(large, 10_000)
    else:
        small.unlink()
    with pytest.raises(StorageError) as caught:
        await world.repositories.verify("o1", late)
    assert f"snapshot {late} is damaged in the store" in caught.value.message
    assert named in caught.value.message
    await world.repositories.verify("o1", early)


async def test_old_ones_go_by_the_rules_of_their_machine(world: World) -> None:
    pinned = (await world.keep()).id
    await world.repositories.pin("o1", pinned, pinned=True)
    mine = [(await world.keep()).id for _ in range(3)]
    other = (await world.keep(machine_id="m2")).id
    rules = Retention(last=1, hourly=0, daily=0, weekly=0, monthly=0)
    gone = await world.repositories.retire("o1", "m1", SnapshotPolicy(retention=rules))
    assert sorted(gone) == mine[:2]
    assert await world.repositories.snapshots("o1") == sorted([pinned, mine[2], other])
    await world.repositories.pin("o1", pinned, pinned=False)
    assert await world.repositories.retire("o1", "m1", SnapshotPolicy(retention=rules)) == [pinned]


async def test_what_is_forgotten_is_freed_by_a_prune(world: World) -> None:
    kept = (await world.keep()).id
    assert (await world.repositories.prune("o1", dry_run=False)).freed == 0
    await world.repositories.forget("o1", [kept])
    assert await world.repositories.snapshots("o1") == []
    planned = await world.repositories.prune("o1", dry_run=True)
    assert (planned.dry_run, planned.freed) == (True, 0)
    assert planned.doomed > 1_000_000
    done = await world.repositories.prune("o1", dry_run=False)
    assert done.freed == planned.doomed
    assert done.needed == 0


# Trouble --------------------------------------------------------------------------------------


async def test_two_prunes_at_once_are_no_damage(world: World) -> None:
    await world.keep()
    with PruneLock(world.bucket.store("o1")), pytest.raises(DependencyUnavailable):
        await world.repositories.prune("o1", dry_run=False)


@pytest.mark.parametrize(
    ("retryable", "told"), [(True, DependencyUnavailable), (False, StorageError)]
)
async def test_trouble_of_the_store_is_told_as_such(
    world: World, monkeypatch: pytest.MonkeyPatch, retryable: bool, told: type[Exception]
) -> None:
    def broken(self: object, key: str) -> bytes:
        raise StoreError("no answer", retryable=retryable, hint="look at it")

    await world.keep()
    monkeypatch.setattr(DirectoryStore, "get", broken)
    with pytest.raises(told, match="the object store: no answer") as caught:
        await world.repositories.snapshots("o1")
    assert caught.value.hint == "look at it"  # type: ignore[attr-defined]
