"""The engine as a library in a process that stays, as the agent on a machine is: nothing has to start."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from benchmarks._snapshot_tools import Cost, Failed, Job
from dumont.snapshots.backup import Backup
from dumont.snapshots.repository import LATEST, Repository
from dumont.snapshots.restore import Restore
from dumont.snapshots.scan import walk
from dumont.storage.url import from_url

Environment = dict[str, str]


@contextmanager
def process() -> Iterator[ProcessPoolExecutor]:
    """One process for one task after the other.

    A new one: memory that this one has used would count as its own.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


class Resident:
    """A `Tool`: our library, in a process that is there already."""

    def __init__(self, job: Job, pool: ProcessPoolExecutor) -> None:
        self._job = job
        self._pool = pool
        self._where = job.url, tuple(job.environment.items()), job.secret, job.folder / "state"

    def prepare(self) -> None:
        """See `Tool`. Opens the repository too."""
        self._pool.submit(_prepare, *self._where).result()

    def save(self) -> Cost:
        """See `Tool`."""
        return self._cost(_save, self._job.workspace)

    def restore(self, target: Path) -> Cost:
        """See `Tool`."""
        return self._cost(_restore, target)

    def _cost(self, work: Callable[..., Cost], path: Path) -> Cost:
        server_s = self._job.server.cpu_s()
        found = self._pool.submit(work, *self._where, path).result()
        return Cost(found.wall_s, found.cpu_s, found.rss_mb, self._job.server.cpu_s() - server_s)


def _prepare(url: str, environment: tuple[tuple[str, str], ...], secret: Path, state: Path) -> None:
    Repository.create(from_url(url, dict(environment)), secret.read_bytes(), passphrase=False)
    _opened(url, environment, secret, state)


@lru_cache(maxsize=1)
def _opened(
    url: str, environment: tuple[tuple[str, str], ...], secret: Path, state: Path
) -> Repository:
    return Repository.open(from_url(url, dict(environment)), secret.read_bytes(), cache=state)


def _save(
    url: str, environment: tuple[tuple[str, str], ...], secret: Path, state: Path, path: Path
) -> Cost:
    repository = _opened(url, environment, secret, state)

    def work() -> None:
        if not Backup(repository, path, state=state).run().is_whole:
            raise Failed("not everything could be read")

    return measured(work)


def _restore(
    url: str, environment: tuple[tuple[str, str], ...], secret: Path, state: Path, path: Path
) -> Cost:
    repository = _opened(url, environment, secret, state)

    def work() -> None:
        report = Restore(repository, repository.snapshot(LATEST), path).run()
        if not report.is_whole:
            raise Failed(str(report.problems))

    return measured(work)


def measured(work: Callable[[], None]) -> Cost:
    """What something took of this process."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, after.ru_maxrss / 1024)


def walked(path: Path) -> Cost:
    """Only look at everything below a folder."""

    def no(_path: bytes, _is_folder: bool) -> bool:
        return False

    def fail(name: bytes, error: OSError) -> None:
        raise error

    def work() -> None:
        for _ in walk(path, exclude=no, unreadable=fail):
            pass

    return measured(work)
