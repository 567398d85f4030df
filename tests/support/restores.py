"""A workspace that was kept, the folder that it comes back to, and runs that are killed on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dumont.snapshots import places
from dumont.snapshots.backup import Backup, Options
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.reading import SMALL
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import Report, Restore
from dumont.storage.directory import DirectoryStore
from tests.support.workspaces import listing

SECRET = b"a secret of more than thirty-two characters"
BIG = SMALL + 100_000


@dataclass
class Place:
    """A snapshot of a workspace, and the folder that it comes back to."""

    folder: Path
    repository: Repository = field(init=False)
    kept: Snapshot = field(init=False)

    def __post_init__(self) -> None:
        store = DirectoryStore(self.folder / "store", durable=False)
        self.repository = Repository.create(store, SECRET)
        self.source.mkdir()

    @property
    def source(self) -> Path:
        return self.folder / "workspace"

    @property
    def back(self) -> Path:
        return self.folder / "back"

    @property
    def mark(self) -> Path:
        return self.back / ".dumont/restore" / self.kept.id

    def keep(self) -> None:
        self.kept = Backup(self.repository, self.source, options=Options(workers=2)).run()

    def run(self, *, small: bool = False, beside: bool = True) -> Report:
        return Restore(
            self.repository, self.kept, self.back, small_only=small, keep_changed=beside,
        ).run()  # fmt: skip

    def small(self) -> Report:
        report = self.run(small=True)
        assert report.problems == []
        return report

    def rest(self) -> Report:
        report = self.run()
        assert report.problems == []
        return report

    def there(self) -> dict[bytes, tuple[object, ...]]:
        """What is in the target, but for what is ours."""
        found = listing(self.back)
        return {path: what for path, what in found.items() if not path.startswith(b".dumont")}


def filled(folder: Path) -> Place:
    """Small files, large ones, folders, links."""
    made = Place(folder)
    root = made.source
    (root / "src/deep").mkdir(parents=True)
    for name in ("src/a.py", "src/b.py", "src/deep/c.py", "notes"):
        (root / name).write_text(f"{name} as it was kept\n" * 9)
    (root / "src").chmod(0o755)
    (root / "empty").write_bytes(b"")
    for name in ("weights.bin", "src/data.bin"):
        (root / name).write_bytes(os.urandom(BIG))
    os.symlink("src/a.py", root / "link")
    os.link(root / "notes", root / "src/notes too")
    os.link(root / "weights.bin", root / "weights.too")
    made.keep()
    return made


def no_partials(root: Path) -> bool:
    return not list(root.rglob(".dumont-*"))


class Killed(BaseException):
    """Nothing is tidied up."""


def kill_after(monkeypatch: pytest.MonkeyPatch, names: int) -> None:
    """The run ends when so many files have their names."""
    real, count = places.put_new, 0

    def put(partial: bytes, final: bytes) -> None:
        nonlocal count
        count += 1
        if count > names:
            raise Killed
        real(partial, final)

    monkeypatch.setattr(places, "put_new", put)
