"""The tools of the snapshot benchmark, each as it is best used for this, measured as whole processes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks._servers import ROOT
from benchmarks._snapshot_servers import BUCKET, Server

_PATH = f"{os.environ.get('PATH', os.defpath)}:{Path(sys.executable).parent}"
_ERRORS = 1500


class Failed(Exception):
    """A tool did not do it."""


@dataclass(frozen=True)
class Cost:
    """What something took.

    Attributes:
        wall_s: Seconds, the start of the program included.
        cpu_s: CPU seconds of all its processes, those of the kernel included; not the server's.
        rss_mb: Most memory of one of its processes.
        server_s: CPU seconds of the server meanwhile.
    """

    wall_s: float
    cpu_s: float
    rss_mb: float
    server_s: float = 0.0


class Tool(Protocol):
    """Keeps a workspace in the store, and brings it back."""

    def prepare(self) -> None:
        """Whatever has to be done once."""

    def save(self) -> Cost:
        """Keep the workspace as it is now."""

    def restore(self, target: Path) -> Cost:
        """Bring the last one back into an empty folder."""


@dataclass(frozen=True)
class Job:
    """What a tool is given for a round.

    Attributes:
        workspace: What is kept.
        folder: Where it may remember things; empty at first.
        server: The store.
        prefix: Its place there.
    """

    workspace: Path
    folder: Path
    server: Server
    prefix: str

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of ours, the credentials, and a home that is empty."""
        who = self.server.credentials
        return {
            "PATH": _PATH,
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": who.access_key_id,
            "AWS_SECRET_ACCESS_KEY": who.secret_access_key,
            "AWS_REGION": "us-east-1",
        }

    @property
    def url(self) -> str:
        """The place as our command takes it."""
        return f"s3://{BUCKET}/{self.prefix}?endpoint={self.server.endpoint}"

    @property
    def secret(self) -> Path:
        """A file with what opens our repository."""
        path = self.folder / "secret"
        if not path.exists():
            path.write_text(os.urandom(32).hex())
        return path


def run(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path, server: Server
) -> Cost:
    """Run a program to its end, with all that it starts.

    Raises:
        Failed: It failed; with its last words.
    """
    log = folder / "log"
    with log.open("wb") as out:
        server_s, began = server.cpu_s(), time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        words = log.read_text("utf-8", "replace")[-_ERRORS:]
        raise Failed(f"{shlex.join(map(str, command))}: {process.returncode}: {words}")
    return Cost(
        wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, server.cpu_s() - server_s
    )


@dataclass(frozen=True)
class Program:
    """A tool that is a command line."""

    job: Job
    save_command: Sequence[str | Path]
    restore_command: Callable[[Path], Sequence[str | Path]]
    prepare_command: Sequence[str | Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """See `Tool`."""
        if self.prepare_command:
            self._run(self.prepare_command)

    def save(self) -> Cost:
        """See `Tool`."""
        return self._run(self.save_command)

    def restore(self, target: Path) -> Cost:
        """See `Tool`."""
        return self._run(self.restore_command(target))

    def _run(self, command: Sequence[str | Path]) -> Cost:
        environment = {**self.job.environment, **self.environment}
        folder = self.job.folder
        return run(command, environment=environment, folder=folder, server=self.job.server)


def dumont(job: Job) -> Tool:
    """Our command."""
    snap: list[str | Path] = [sys.executable, "-m", "dumont.snapshots.command"]
    where: list[str | Path] = [
        "--store",
        job.url,
        "--secret-file",
        job.secret,
        "--state",
        job.folder / "state",
    ]
    return Program(
        job,
        prepare_command=[*snap, "init", *where],
        save_command=[*snap, "snapshot", job.workspace, *where],
        restore_command=lambda target: [*snap, "restore", "latest", target, *where],
        environment={"PYTHONPATH": str(ROOT)},
    )


def restic(job: Job) -> Tool:
    """Large packs, many connections, zstd where it helps."""
    call = [
        "restic",
        "--quiet",
        "--pack-size",
        "64",
        "--compression",
        "auto",
        "-o",
        "s3.connections=16",
    ]
    return Program(
        job,
        prepare_command=["restic", "init", "--quiet", "--repository-version", "2"],
        save_command=["env", "-C", job.workspace, *call, "backup", "."],
        restore_command=lambda target: [*call, "restore", "latest", "--target", target],
        environment={
            "RESTIC_REPOSITORY": f"s3:{job.server.endpoint}/{BUCKET}/{job.prefix}",
            "RESTIC_PASSWORD": "of-the-benchmark",
            "RESTIC_CACHE_DIR": str(job.folder / "cache"),
        },
    )


def tar_lz4_s5cmd(job: Job) -> Tool:
    """Three programs and two pipes; everything travels each time."""
    copy = f"s5cmd --endpoint-url {job.server.endpoint}"
    key = f"s3://{BUCKET}/{job.prefix}/workspace.tar.lz4"
    tar, pipe = (
        f"tar -C {shlex.quote(str(job.workspace))} -cf - .",
        f"{copy} pipe -c 16 -p 16 {key}",
    )
    return Program(
        job,
        save_command=["bash", "-o", "pipefail", "-c", f"{tar} | lz4 -1 -q - - | {pipe}"],
        restore_command=lambda target: [
            "bash", "-o", "pipefail", "-c",
            f"{copy} cat -c 16 -p 16 {key} | lz4 -dc -q - | tar -C {shlex.quote(str(target))} -xf -",
        ],
    )  # fmt: skip


def rclone(job: Job) -> Tool:
    """Many transfers, one listing, the store's times, no checksums: what its documentation advises for S3.

    More at a time, or its own sizes of buffers, took 19 GB of memory here and were no faster.
    """
    call = [
        "rclone", "sync", "--quiet", "--links", "--fast-list", "--update", "--use-server-modtime",
        "--transfers", "16", "--checkers", "32", "--s3-no-check-bucket", "--s3-no-head",
        "--s3-no-head-object", "--s3-disable-checksum", "--s3-chunk-size", "16M",
        "--s3-upload-concurrency", "4", "--multi-thread-cutoff", "64M",
        "--multi-thread-streams", "4", "--buffer-size", "4M",
    ]  # fmt: skip
    there = f"bench:{BUCKET}/{job.prefix}"
    return Program(
        job,
        save_command=[*call, job.workspace, there],
        restore_command=lambda target: [*call, there, target],
        environment={
            "RCLONE_CONFIG": str(job.folder / "none"),
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
            "RCLONE_CONFIG_BENCH_ENDPOINT": job.server.endpoint,
            "RCLONE_CONFIG_BENCH_REGION": "us-east-1",
            "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        },
    )


def version_of(name: str) -> str:
    """What is installed; empty when something is missing."""
    return " ".join(
        _version(program) for program in _PROGRAMS[name] if shutil.which(program, path=_PATH)
    )


def missing(name: str) -> str:
    """The programs that a tool needs and that are not there."""
    return ", ".join(p for p in _PROGRAMS[name] if shutil.which(p, path=_PATH) is None)


_PROGRAMS: dict[str, tuple[str, ...]] = {
    "dumont": (),
    "restic": ("restic",),
    "tar_lz4_s5cmd": ("tar", "lz4", "s5cmd"),
    "rclone": ("rclone",),
}
PEERS: dict[str, Callable[[Job], Tool]] = {
    "restic": restic,
    "tar_lz4_s5cmd": tar_lz4_s5cmd,
    "rclone": rclone,
}


def _version(program: str) -> str:
    asked = "version" if program in ("restic", "rclone", "s5cmd") else "--version"
    said = subprocess.run(
        [str(shutil.which(program, path=_PATH)), asked], capture_output=True, text=True, check=False
    )
    found = re.search(r"v?\d+\.\d[\w.-]*", said.stdout + said.stderr)
    return f"{program} {found[0] if found else '?'}"
