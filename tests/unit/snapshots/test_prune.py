"""Space is freed, and nothing that a snapshot needs goes with it, whatever happens at the same time."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dumont.snapshots.backup import Backup, Options
from dumont.snapshots.check import check
from dumont.snapshots.errors import Busy, Damaged
from dumont.snapshots.lease import Lease, PruneLock
from dumont.snapshots.manifest import Snapshot, Totals
from dumont.snapshots.prune import prune
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import Restore
from dumont.snapshots.retention import Policy, decide
from dumont.storage.directory import DirectoryStore
from tests.support.workspaces import listing, make

SECRET = bytes(range(32))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(DirectoryStore(tmp_path / "store", durable=False), SECRET)


def keep(repository: Repository, workspace: Path) -> Snapshot:
    return Backup(repository, workspace, options=Options(workers=2)).run()


def stored(repository: Repository) -> int:
    return sum(listed.size for listed in repository.store.list("packs/"))


def test_what_no_snapshot_needs_is_freed(repository: Repository, tmp_path: Path) -> None:
    make(tmp_path / "one", seed=1)
    make(tmp_path / "two", seed=2)
    first, second = keep(repository, tmp_path / "one"), keep(repository, tmp_path / "two")
    both = stored(repository)
    assert prune(repository).freed == 0
    repository.forget(first.id)
    planned = prune(repository, dry_run=True)
    assert planned.doomed > 0
    assert stored(repository) == both
    done = prune(repository)
    assert done.freed > 0.3 * both
    assert check(repository, read=True).is_sound
    Restore(repository, second, tmp_path / "back").run()
    assert listing(tmp_path / "back") == listing(tmp_path / "two")
    repository.forget(second.id)
    prune(repository)
    assert stored(repository) == 0


def test_a_pack_that_is_mostly_waste_is_copied(repository: Repository, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    make(workspace)
    first = keep(repository, workspace)
    (workspace / "tokens.bin").unlink()
    (workspace / "model.safetensors").unlink()
    second = keep(repository, workspace)
    repository.forget(first.id)
    before = stored(repository)
    done = prune(repository)
    assert done.copied > 0
    assert stored(repository) < 0.5 * before
    assert check(repository, read=True).is_sound
    assert prune(repository).freed == 0
    Restore(repository, second, tmp_path / "back").run()
    assert listing(tmp_path / "back") == listing(workspace)


def test_nothing_is_deleted_under_a_snapshot_that_is_being_made(
    repository: Repository, tmp_path: Path
) -> None:
    make(tmp_path / "workspace")
    kept = keep(repository, tmp_path / "workspace")
    repository.forget(kept.id)
    with Lease(repository.store, who="test"):
        before = stored(repository)
        assert prune(repository).waits_for == 1
        assert stored(repository) == before
        # One that begins now does not count on what is condemned: it stores its own.
        again = keep(repository, tmp_path / "workspace")
        assert again.totals.new_chunks > 0
    assert prune(repository).freed > 0
    assert check(repository, read=True).is_sound


def test_what_is_needed_again_is_not_deleted(repository: Repository, tmp_path: Path) -> None:
    """A snapshot that began before the list was written, and was committed after."""
    make(tmp_path / "workspace")
    kept = keep(repository, tmp_path / "workspace")
    repository.forget(kept.id)
    with Lease(repository.store, who="test"):
        prune(repository)
        repository.commit(kept)
    done = prune(repository)
    assert done.freed == 0
    assert check(repository, read=True).is_sound


def test_an_unreadable_snapshot_stops_it(repository: Repository, tmp_path: Path) -> None:
    make(tmp_path / "workspace")
    kept = keep(repository, tmp_path / "workspace")
    path = tmp_path / "store/snapshots" / kept.id
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match="nothing is deleted"):
        prune(repository)


@pytest.mark.parametrize("seed", range(3))
def test_two_snapshots_and_two_prunes_at_once(
    repository: Repository, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    for name in ("one", "two"):
        make(tmp_path / name, seed=seed, megabytes=4)
        keep(repository, tmp_path / name)
    problems: list[BaseException] = []

    def run(act: object, times: int) -> None:
        try:
            for _ in range(times):
                with contextlib.suppress(Busy):
                    act()  # type: ignore[operator]
        except BaseException as error:
            problems.append(error)

    def change_and_keep(name: str) -> None:
        (tmp_path / name / f"new {rng.random()}").write_bytes(rng.randbytes(400_000))
        made = keep(repository, tmp_path / name)
        repository.forget(made.id) if rng.random() < 0.5 else None

    threads = [
        threading.Thread(target=run, args=(lambda: change_and_keep("one"), 4)),
        threading.Thread(target=run, args=(lambda: change_and_keep("two"), 4)),
        threading.Thread(target=run, args=(lambda: prune(repository), 6)),
        threading.Thread(target=run, args=(lambda: prune(repository), 6)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    prune(repository)
    assert check(repository, read=True).is_sound


def test_one_prune_at_a_time_and_a_dead_one_holds_up_nobody(repository: Repository) -> None:
    with PruneLock(repository.store), pytest.raises(Busy, match=socket.gethostname()):
        prune(repository)
    prune(repository)
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1, "id": "x"}
    repository.store.put(PruneLock.KEY, json.dumps(dead).encode())
    prune(repository)
    elsewhere = {**dead, "host": "elsewhere"}
    repository.store.put(PruneLock.KEY, json.dumps(elsewhere).encode())
    with pytest.raises(Busy, match="elsewhere"):
        prune(repository)


def test_retention() -> None:
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)

    def made(hours: float, **what: object) -> Snapshot:
        time = noon - timedelta(hours=hours)
        return Snapshot(
            id=f"{time:%Y%m%dT%H%M%SZ}-00000000", time=time, machine="m", host="h", tree=(),
            **what,  # type: ignore[arg-type]
        )  # fmt: skip

    every_half_hour = [made(n / 2) for n in range(24 * 2 * 40)]
    stay = [v for v in decide(every_half_hour, Policy(last=3, hourly=24, daily=7)) if v.stays]
    # 12:00, 11:30 and 11:00; the newest of 24 hours, two of which are among those; of 7 days, as well.
    assert len(stay) == 3 + 22 + 5
    assert all(v.stays for v in decide(every_half_hour, Policy()))
    for_ever = made(5000, kept=True)
    assert for_ever in [
        v.snapshot for v in decide([*every_half_hour, for_ever], Policy(last=1)) if v.stays
    ]
    torn = made(0, totals=Totals(unreadable=["x"]))
    judged = {v.snapshot.id: v for v in decide([torn, made(1), made(2)], Policy(last=1))}
    assert judged[torn.id].stays
    assert judged[made(1).id].stays
    assert not judged[made(2).id].stays
    only_torn = decide([torn], Policy(last=1))
    assert only_torn[0].stays
