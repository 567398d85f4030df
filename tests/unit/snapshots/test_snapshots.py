"""A workspace goes into a repository and comes back, bit for bit; what it has in common costs nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dumont.snapshots.backup import Backup, Options
from dumont.snapshots.compare import changes
from dumont.snapshots.errors import NoSuchSnapshot, RepositoryExists, WrongKey
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import Report, Restore
from dumont.storage.directory import DirectoryStore
from tests.support.workspaces import ODD, listing, make

SECRET = bytes(range(32))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(DirectoryStore(tmp_path / "store", durable=False), SECRET)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    make(tmp_path / "workspace")
    return tmp_path / "workspace"


def keep(repository: Repository, workspace: Path, *, state: bool = True, **how: object) -> Snapshot:
    folder = workspace.parent / "state" if state else None
    options = Options(workers=3, **how)  # type: ignore[arg-type]
    return Backup(repository, workspace, options=options, state=folder).run()


def bring_back(repository: Repository, snapshot: Snapshot, target: Path, *paths: bytes) -> Report:
    return Restore(repository, snapshot, target, paths=paths).run()


def test_it_comes_back_bit_for_bit(repository: Repository, workspace: Path, tmp_path: Path) -> None:
    report = bring_back(repository, keep(repository, workspace), tmp_path / "back")
    assert report.problems == []
    assert listing(tmp_path / "back") == listing(workspace)
    holes = (tmp_path / "back/holes").stat()
    assert holes.st_blocks * 512 < holes.st_size / 2


def test_a_second_snapshot_of_the_same_costs_nothing(
    repository: Repository, workspace: Path
) -> None:
    keep(repository, workspace)
    stored = {listed.key for listed in repository.store.list("packs/")}
    again = keep(repository, workspace)
    assert again.totals.new_chunks == 0
    assert {listed.key for listed in repository.store.list("packs/")} == stored
    forgetful = keep(repository, workspace, state=False)
    assert forgetful.totals.new_chunks == 0
    assert forgetful.tree == again.tree


def test_only_what_changed_is_stored(repository: Repository, workspace: Path) -> None:
    first = keep(repository, workspace)
    tokens = workspace / "tokens.bin"
    tokens.write_bytes(b"one kilobyte at the front" * 41 + tokens.read_bytes())
    second = keep(repository, workspace)
    assert second.totals.new_raw < 0.5 * tokens.stat().st_size
    assert second.totals.new_raw < 0.3 * first.totals.new_raw


def test_only_what_changed_is_named_although_small_files_share_chunks(
    repository: Repository, tmp_path: Path
) -> None:
    workspace = tmp_path / "small"
    workspace.mkdir()
    for number in range(300):
        (workspace / f"f{number}.py").write_text(f"number {number}\n")
    before = keep(repository, workspace)
    (workspace / "f7.py").write_text("number 8\n")
    (workspace / "f9.py").unlink()
    (workspace / "f10.py").touch()
    (workspace / "new").write_text("x")
    sly = workspace / "f11.py"
    state = sly.stat()
    sly.write_text("number 12\n")
    os.utime(sly, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = keep(repository, workspace)
    found = changes(repository, before, after, repository.index())
    assert [(each.what, each.path) for each in found] == [
        ("touched", b"f10.py"), ("changed", b"f11.py"), ("changed", b"f7.py"),
        ("removed", b"f9.py"), ("added", b"new"),
    ]  # fmt: skip


def test_two_machines_of_one_owner_share(
    repository: Repository, workspace: Path, tmp_path: Path
) -> None:
    keep(repository, workspace)
    shutil.copytree(workspace, tmp_path / "elsewhere", symlinks=True)
    other = Backup(repository, tmp_path / "elsewhere", options=Options(machine="other")).run()
    assert other.totals.new_stored < 100_000


def test_what_changed_since_is_put_back_and_the_rest_left_alone(
    repository: Repository, workspace: Path
) -> None:
    kept = keep(repository, workspace)
    before = listing(workspace)
    with (workspace / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"flipped")
    (workspace / "run.sh").unlink()
    shutil.rmtree(workspace / "src/package1")
    (workspace / "src/package1").write_text("a file where a folder was")
    (workspace / "of today").write_text("not in the snapshot")
    report = bring_back(repository, kept, workspace)
    assert report.problems == []
    assert report.unchanged > 0
    after = listing(workspace)
    assert after.pop(b"of today")
    assert after == before


def test_one_file_or_folder_comes_back_alone(
    repository: Repository, workspace: Path, tmp_path: Path
) -> None:
    kept = keep(repository, workspace)
    report = bring_back(repository, kept, tmp_path / "some", b"src/package3", ODD)
    assert report.problems == []
    found = listing(tmp_path / "some")
    whole = listing(workspace)
    assert {path for path in whole if path.startswith(b"src/package3")} | {b"src", ODD} == set(
        found
    )
    assert all(found[path] == whole[path] for path in found)
    linked = bring_back(repository, kept, tmp_path / "linked", b"src/same as run.sh")
    assert linked.problems == []
    assert (tmp_path / "linked/src/same as run.sh").read_text() == "#!/bin/sh\n"
    nothing = bring_back(repository, kept, tmp_path / "nothing", b"no such thing")
    assert [p.path for p in nothing.problems] == ["no such thing"]


def test_excludes(repository: Repository, workspace: Path, tmp_path: Path) -> None:
    kept = keep(repository, workspace, excludes=("*.bin", "/src/package2/", "empty folder/"))
    bring_back(repository, kept, tmp_path / "back")
    found = listing(tmp_path / "back")
    assert b"tokens.bin" not in found
    assert b"src/package2" not in found
    assert b"empty folder" not in found
    assert b"src/package3" in found


def test_dense_is_smaller_and_the_same(workspace: Path, tmp_path: Path) -> None:
    sizes = {}
    for dense in (False, True):
        made = Repository.create(DirectoryStore(tmp_path / f"store{dense}", durable=False), SECRET)
        kept = keep(made, workspace, state=False, dense=dense)
        sizes[dense] = kept.totals.new_stored
        bring_back(made, kept, tmp_path / f"back{dense}")
        assert listing(tmp_path / f"back{dense}") == listing(workspace)
    assert sizes[True] < sizes[False]


def test_what_cannot_be_read_is_named(repository: Repository, workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    kept = keep(repository, workspace)
    assert kept.totals.skipped == ["pipe"]
    assert kept.is_whole


def test_finding_snapshots(repository: Repository, workspace: Path) -> None:
    with pytest.raises(NoSuchSnapshot):
        repository.snapshot("latest")
    first, second = keep(repository, workspace), keep(repository, workspace, tags=("good",))
    assert repository.snapshot("latest").id == max(first.id, second.id)
    assert repository.snapshot(first.id) == first
    assert repository.snapshot(second.id).tags == ("good",)
    with pytest.raises(NoSuchSnapshot, match="could be"):
        repository.snapshot("2")
    repository.forget(first.id)
    assert [s.id for s in repository.snapshots()[0]] == [second.id]


def test_keys(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", durable=False)
    made = Repository.create(store, b"a passphrase", passphrase=True)
    assert Repository.open(store, b"a passphrase").id == made.id
    with pytest.raises(WrongKey):
        Repository.open(store, b"another")
    with pytest.raises(RepositoryExists):
        Repository.create(store, SECRET)


def test_nothing_readable_is_in_the_store(
    repository: Repository, workspace: Path, tmp_path: Path
) -> None:
    (workspace / "secret.txt").write_text("the password is swordfish")
    keep(repository, workspace)
    for path in (tmp_path / "store").rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert b"swordfish" not in data
        assert b"secret.txt" not in data
