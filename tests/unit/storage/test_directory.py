"""A store in a folder: what survives a crash, and what an unplugged disk looks like."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dumont.storage.directory import DirectoryStore
from dumont.storage.errors import AlreadyThere, StoreError


def test_a_disk_without_hard_links_still_creates_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store = DirectoryStore(tmp_path / "disk")
    store.put("format.json", b"first", new=True)
    with pytest.raises(AlreadyThere):
        store.put("format.json", b"second", new=True)
    assert store.get("format.json") == b"first"


def test_what_a_crash_left_half_written_is_never_an_object_and_goes_away(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("packs/ab/one", b"x")
    old, fresh = tmp_path / ".partial/old", tmp_path / ".partial/fresh"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    again = DirectoryStore(tmp_path)
    assert [found.key for found in again.list("")] == ["packs/ab/one"]
    again.put("packs/ab/two", b"x")
    assert not old.exists()
    assert fresh.exists()  # somebody may be writing it


def test_a_disk_that_is_gone_is_not_an_empty_store(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "mounted")
    store.put("one", b"x")
    (tmp_path / "mounted").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="missing") as caught:
        list(store.list(""))
    assert "attached" in caught.value.hint


def test_a_full_disk_leaves_the_old_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path)
    store.put("one", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.put("one", b"new")
    assert store.get("one") == b"old"
    assert list((tmp_path / ".partial").iterdir()) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../../b", "a//b", "a/", ".partial/x"]
)
def test_keys_stay_inside(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreError, match="not a key"):
        DirectoryStore(tmp_path / "store").put(key, b"x")


def test_a_listing_that_cannot_be_whole_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path)
    for key in ("packs/aa/one", "packs/bb/two"):
        store.put(key, b"x")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "bb":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(StoreError, match="Permission denied"):
        list(store.list("packs/"))
