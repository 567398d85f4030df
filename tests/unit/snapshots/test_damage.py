"""Bytes rot, objects go missing: what is damaged is named, and everything else comes back."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest

from dumont.snapshots import tree
from dumont.snapshots.backup import Backup
from dumont.snapshots.check import check, repair_index
from dumont.snapshots.errors import Damaged, NewerFormat, SnapshotError
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import TABLE, Restore
from dumont.storage.directory import DirectoryStore
from tests.support.workspaces import listing, make

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace and a repository with a snapshot of it."""
    folder = tmp_path_factory.mktemp("whole")
    make(folder / "workspace", megabytes=8)
    repository = Repository.create(DirectoryStore(folder / "store", durable=False), SECRET)
    Backup(repository, folder / "workspace").run()
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    for source in (whole / "store").rglob("*"):
        if source.is_file():
            target = tmp_path / "store" / source.relative_to(whole / "store")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return tmp_path


def reopen(place: Path) -> Repository:
    return Repository.open(DirectoryStore(place / "store", durable=False), SECRET)


def objects(place: Path, kind: str) -> list[Path]:
    return sorted(path for path in (place / "store" / kind).rglob("*") if path.is_file())


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_a_pack_costs_the_files_in_that_chunk(
    place: Path, whole: Path, seed: int
) -> None:
    rng = random.Random(seed)
    pack = rng.choice(objects(place, "packs"))
    flip(pack, rng)
    repository = reopen(place)
    found = check(repository, read=True)
    report = Restore(repository, repository.snapshot("latest"), place / "back").run()
    named = {name for names in found.files.values() for name in names}
    before, after = listing(whole / "workspace"), listing(place / "back")
    if any("table of files" in words for words in found.damage):
        # Names are lost too; what is still known came back as it was.
        assert TABLE in {problem.path for problem in report.problems}
        assert all(after[path][:2] == before[path][:2] for path in after)
        return
    links = {tree.shown(path) for path in _links_of(before, {name.encode() for name in named})}
    assert named <= {problem.path for problem in report.problems} <= named | links
    lost = {problem.path for problem in report.problems}
    assert {tree.shown(path) for path in before if path not in after} == lost
    folders = {path for path in after if stat.S_ISDIR(after[path][0])}  # type: ignore[arg-type]
    assert all(after[path] == before[path] for path in set(after) - folders)


def test_a_missing_pack_is_named_with_its_files(place: Path, whole: Path) -> None:
    # The table of files lies in the smallest pack.
    pack = max(objects(place, "packs"), key=lambda path: path.stat().st_size)
    pack.unlink()
    repository = reopen(place)
    found = check(repository)
    assert any("missing" in words for words in found.damage)
    named = {name for names in found.files.values() for name in names}
    assert named
    report = Restore(repository, repository.snapshot("latest"), place / "back").run()
    assert {problem.path for problem in report.problems} >= named
    assert all("missing" in p.why for p in report.problems if p.path in named)
    assert report.files > 0 or len(listing(whole / "workspace")) == len(named)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_index_is_noticed_and_written_anew(place: Path, whole: Path, seed: int) -> None:
    flip(objects(place, "index")[0], random.Random(seed))
    repository = reopen(place)
    with pytest.raises(Damaged):
        repository.index()
    assert not check(repository).is_sound
    count, wrong = repair_index(repository)
    assert count == len(objects(place, "packs"))
    assert wrong == []
    assert check(repository, read=True).is_sound
    Restore(repository, repository.snapshot("latest"), place / "back").run()
    assert listing(place / "back") == listing(whole / "workspace")


def test_a_damaged_snapshot_costs_that_one(place: Path, whole: Path) -> None:
    repository = reopen(place)
    first = repository.snapshot("latest")
    second = Backup(repository, whole / "workspace").run()
    flip(place / "store/snapshots" / first.id, random.Random(1))
    found, wrong = repository.snapshots()
    assert [snapshot.id for snapshot in found] == [second.id]
    assert first.id in wrong[0].message
    with pytest.raises(Damaged):
        repository.snapshot(first.id)
    Restore(repository, second, place / "back").run()
    assert listing(place / "back") == listing(whole / "workspace")


def test_a_damaged_key_or_head_says_so(place: Path) -> None:
    key = objects(place, "keys")[0]
    kept = key.read_bytes()
    key.write_bytes(kept[:-10])
    with pytest.raises(SnapshotError):
        reopen(place)
    key.write_bytes(kept)
    head = place / "store/format.json"
    head.write_bytes(head.read_bytes().replace(b"version", b"versiox"))
    with pytest.raises(Damaged, match=r"format\.json"):
        reopen(place)


def test_a_newer_format_is_refused(place: Path) -> None:
    head = place / "store/format.json"
    head.write_bytes(head.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(NewerFormat, match="format 2"):
        reopen(place)


def _links_of(before: dict[bytes, tuple[object, ...]], lost: set[bytes]) -> set[bytes]:
    return {path for path, what in before.items() if len(what) > 7 and what[7] in lost}
