"""The S3 servers of the snapshot benchmark; all tools of a run use the same one.

The light one keeps objects in memory and costs little, so that a client's speed is seen. SeaweedFS is
faithful and costs some ten CPU seconds for a GB put: with it one measures the server.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks._servers import ROOT
from dumont.storage.s3 import Credentials, S3Store
from tests.support.object_server import ObjectServer
from tests.support.seaweed import KEY, seaweed

BUCKET = "snapshots"
KINDS = ("light", "seaweedfs")


@dataclass(frozen=True)
class Server:
    """One that runs.

    Attributes:
        kind: Which.
        endpoint: Its URL.
        credentials: Who may do everything.
        process: Of the server, for its CPU time.
        objects: The folder of the bucket, where the server keeps objects as files.
    """

    kind: str
    endpoint: str
    credentials: Credentials
    process: psutil.Process
    objects: Path | None

    def store(self, prefix: str) -> S3Store:
        """A part of its bucket."""
        return S3Store(
            endpoint=self.endpoint, bucket=BUCKET, prefix=prefix, credentials=self.credentials
        )

    def now(self) -> float:
        """Its clock, in whole seconds since 1970."""
        return self.store("").now()

    def written(self, prefix: str, *, since: float) -> int:
        """Bytes of the objects below a prefix that were written since a second."""
        found = self.store(prefix).list("")
        return sum(listed.size for listed in found if listed.modified >= since)

    def wipe(self, prefix: str) -> None:
        """Delete what is below a prefix."""
        if self.objects is not None:
            shutil.rmtree(self.objects / prefix, ignore_errors=True)
            return
        store = self.store(prefix)
        for listed in list(store.list("")):
            store.delete(listed.key)

    def cpu_s(self) -> float:
        """CPU seconds it has used."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[Server]:
    """Run one that keeps its objects in `folder` until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (_light if kind == "light" else _seaweedfs)(folder) as server:
        yield server


@contextlib.contextmanager
def _light(folder: Path) -> Iterator[Server]:
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", __name__, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError("the object server did not start")
        yield Server("light", endpoint, KEY, psutil.Process(process.pid), folder / BUCKET)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _seaweedfs(folder: Path) -> Iterator[Server]:
    before = set(psutil.Process().children())
    with seaweed(folder) as endpoint:
        (process,) = set(psutil.Process().children()) - before
        yield Server("seaweedfs", endpoint, KEY, process, None)


def _serve(folder: Path) -> None:
    server = ObjectServer(folder)
    print(server.endpoint, flush=True)
    server.serve()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
