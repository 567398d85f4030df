"""Snapshots on bad days: a real S3 server, a full disk, huge and changing files, a store that stumbles."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.snapshots.backup import Backup
from dumont.snapshots.check import check
from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.prune import prune
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import Restore
from dumont.storage.directory import DirectoryStore
from dumont.storage.s3 import Credentials, S3Store
from tests.support.object_server import Fault, ObjectServer
from tests.support.seaweed import seaweed, store_at
from tests.support.workspaces import listing, make

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


def test_on_seaweedfs(endpoint: str, tmp_path: Path) -> None:
    """There and back, deduplicated, pruned, on a server that checks every signature."""
    repository = Repository.create(store_at(endpoint, prefix="owners/one"), SECRET)
    make(tmp_path / "workspace", megabytes=24)
    first = Backup(repository, tmp_path / "workspace", state=tmp_path / "state").run()
    (tmp_path / "workspace/tokens.bin").unlink()
    second = Backup(repository, tmp_path / "workspace", state=tmp_path / "state").run()
    assert second.totals.new_raw < 0.1 * first.totals.new_raw
    again = Repository.open(store_at(endpoint, prefix="owners/one"), SECRET)
    assert [s.id for s in again.snapshots()[0]] == [first.id, second.id]
    Restore(again, second, tmp_path / "back").run()
    assert listing(tmp_path / "back") == listing(tmp_path / "workspace")
    again.forget(first.id)
    assert prune(again).freed > 0
    assert check(again, read=True).is_sound
    assert abs(again.store.now() - time.time()) < 5


def test_a_store_that_stumbles(tmp_path: Path) -> None:
    """500, SlowDown, truncated bodies, lost answers, slow answers: all of it is waited out."""
    make(tmp_path / "workspace")
    with ObjectServer.running(tmp_path / "objects") as server:
        store = S3Store(
            endpoint=server.endpoint, bucket="b", credentials=Credentials("k", "s"),
            pause=lambda seconds: None,
        )  # fmt: skip
        repository = Repository.create(store, SECRET)
        server.faults += [
            Fault(method="PUT", key="packs/", status=500, times=3),
            Fault(method="PUT", key="index/", status=503, code="SlowDown", times=3),
            Fault(method="PUT", key="snapshots/", lose_answer=True),
            Fault(method="PUT", key="leases/", lose_answer=True),
        ]
        kept = Backup(repository, tmp_path / "workspace").run()
        server.faults += [
            Fault(key="packs/", cut_after=70_000, times=3),
            Fault(key="packs/", status=503, code="SlowDown", times=3),
            Fault(key="index/", cut_after=10, times=2),
            Fault(key="packs/", delay_s=0.3, times=1),
        ]
        report = Restore(repository, kept, tmp_path / "back").run()
        assert report.problems == []
        assert listing(tmp_path / "back") == listing(tmp_path / "workspace")
        assert all(fault.times == 0 for fault in server.faults)


def test_a_store_that_is_down_commits_nothing(tmp_path: Path) -> None:
    make(tmp_path / "workspace")
    with ObjectServer.running(tmp_path / "objects") as server:
        store = S3Store(
            endpoint=server.endpoint, bucket="b", credentials=Credentials("k", "s"),
            pause=lambda seconds: None,
        )  # fmt: skip
        repository = Repository.create(store, SECRET)
        server.faults.append(Fault(method="PUT", key="packs/", status=500, times=10_000))
        with pytest.raises(Exception, match="packs/"):
            Backup(repository, tmp_path / "workspace", state=tmp_path / "state").run()
        server.faults.clear()
        assert repository.snapshots() == ([], [])
        assert list(store.list("leases/")) == []
        kept = Backup(repository, tmp_path / "workspace", state=tmp_path / "state").run()
        assert Restore(repository, kept, tmp_path / "back").run().problems == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_full_says_so_and_goes_on_later(tmp_path: Path) -> None:
    repository = Repository.create(DirectoryStore(tmp_path / "store"), SECRET)
    make(tmp_path / "workspace", megabytes=24)
    kept = Backup(repository, tmp_path / "workspace").run()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small], check=True)
    try:
        with pytest.raises(SnapshotError, match="No space left") as caught:
            Restore(repository, kept, small / "back").run()
        assert "make room" in caught.value.hint
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        report = Restore(repository, kept, small / "back").run()
        assert report.problems == []
        assert report.unchanged > 0
        assert listing(small / "back") == listing(tmp_path / "workspace")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_twenty_gigabytes_of_nothing(tmp_path: Path) -> None:
    """A sparse file costs what is in it."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with (workspace / "sparse").open("wb") as file:
        for at in (0, 7 << 30, (20 << 30) - 5_000):
            file.seek(at)
            file.write(os.urandom(5_000))
    repository = Repository.create(DirectoryStore(tmp_path / "store"), SECRET)
    kept = Backup(repository, workspace).run()
    assert kept.totals.bytes == 20 << 30
    assert kept.totals.new_raw < 1 << 20
    assert Restore(repository, kept, tmp_path / "back").run().problems == []
    there = (tmp_path / "back/sparse").stat()
    assert there.st_size == 20 << 30
    assert there.st_blocks * 512 < 1 << 20
    for at in (0, 7 << 30, (20 << 30) - 5_000):
        assert _part(workspace / "sparse", at) == _part(tmp_path / "back/sparse", at)


def test_files_that_change_grow_and_vanish_while_they_are_read(tmp_path: Path) -> None:
    """What is stored of each is some state that it was in; what is gone is left out."""
    rng = random.Random(5)
    workspace = tmp_path / "workspace"
    make(workspace, megabytes=8)
    steady = listing(workspace)
    (workspace / "moving").mkdir()
    over = threading.Event()

    def disturb() -> None:
        number = 0
        while not over.is_set():
            number += 1
            path = workspace / f"moving/{number % 40}"
            what = rng.random()
            if what < 0.4:
                path.write_bytes(bytes([number % 256]) * rng.randint(1, 400_000))
            elif what < 0.7:
                with path.open("ab") as file:
                    file.write(b"more")
            else:
                path.unlink(missing_ok=True)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    repository = Repository.create(DirectoryStore(tmp_path / "store"), SECRET)
    try:
        kept = [Backup(repository, workspace, state=tmp_path / "state").run() for _ in range(6)]
    finally:
        over.set()
        disturber.join()
    assert all(snapshot.totals.unreadable == [] for snapshot in kept)
    for snapshot in kept:
        target = tmp_path / snapshot.id
        assert Restore(repository, snapshot, target).run().problems == []
        found = listing(target)
        shutil.rmtree(target)
        assert {p: w for p, w in found.items() if not p.startswith(b"moving")} == steady
    # Once it is quiet, the next one has exactly what is there, whatever was remembered meanwhile.
    last = Backup(repository, workspace, state=tmp_path / "state").run()
    Restore(repository, last, tmp_path / "last").run()
    assert listing(tmp_path / "last") == listing(workspace)


_TELLS_ITS_PEAK = """
import atexit, sys
from pathlib import Path
from dumont.snapshots.command import main

def tell():
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)

atexit.register(tell)
sys.exit(main())
"""


def test_a_folder_of_very_many_files_takes_bounded_memory(tmp_path: Path) -> None:
    count = int(os.environ.get("DUMONT_MANY_FILES", "60000"))
    workspace = tmp_path / "workspace"
    (workspace / "many").mkdir(parents=True)
    for number in range(count):
        (workspace / f"many/{number}").write_bytes(b"%d" % number if number % 10 == 0 else b"")
    Repository.create(DirectoryStore(tmp_path / "store", durable=False), SECRET)
    (tmp_path / "secret").write_text("a secret of more than thirty-two characters")
    shutil.rmtree(tmp_path / "store")
    environment = {
        **os.environ,
        "DUMONT_SNAP_STORE": f"file://{tmp_path / 'store'}",
        "DUMONT_SNAP_SECRET_FILE": str(tmp_path / "secret"),
    }

    def run(*words: str) -> int:
        """Peak memory, kB: its own (the one that `wait4` tells may be that of who started it)."""
        command = [
            sys.executable,
            "-c",
            _TELLS_ITS_PEAK,
            *words,
            "--state",
            str(tmp_path / "state"),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(done.stderr.splitlines()[-1])

    run("init")
    peaks = [
        run("snapshot", str(workspace)),
        run("snapshot", str(workspace)),
        run("restore", "latest", str(tmp_path / "back")),
    ]
    assert max(peaks) < 600 * 1024
    assert len(os.listdir(tmp_path / "back/many")) == count
    assert (tmp_path / f"back/many/{count - 10}").read_bytes() == b"%d" % (count - 10)


def _part(path: Path, at: int) -> str:
    with path.open("rb") as file:
        file.seek(at)
        return hashlib.sha256(file.read(5_000)).hexdigest()
