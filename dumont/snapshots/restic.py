"""restic as an engine: its program, its format; any restic can read what this writes.

Written against restic 0.14 (Debian 12) and the JSON of its manual.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dumont.snapshots.engine import Kept, OnProgress
from dumont.snapshots.errors import NoRepository, SnapshotError, WrongKey

_OPTIONS = ("--pack-size=64", "-o", "s3.connections=16")
_WANTED = ("PATH", "HOME", "TMPDIR", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
           "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION")  # fmt: skip


def _quiet(files: int, size: int) -> None:
    return None


class ResticEngine:
    """A restic repository.

    Args:
        repository: As restic writes it: `s3:http://HOST:PORT/BUCKET/PREFIX` or a folder.
        password: What opens it. It reaches restic in a file that only we can read.
        environment: Credentials of the store, as `AWS_ACCESS_KEY_ID` and so on.
        cache: restic's cache; None uses none.
    """

    name = "restic"

    def __init__(
        self,
        repository: str,
        password: str,
        *,
        environment: Mapping[str, str],
        cache: Path | None = None,
    ) -> None:
        self._repository = repository
        self._password = password
        self._environment = {n: environment[n] for n in _WANTED if n in environment}
        self._cache = cache

    def create(self) -> None:
        """See `Engine`."""
        self._run("init")

    def snapshot(
        self, root: Path, *, tags: Sequence[str] = (), on_progress: OnProgress = _quiet
    ) -> Kept:
        """See `Engine`. The folder is kept as the root of the snapshot, whatever its path is."""
        words = ["backup", *(f"--tag={tag}" for tag in tags), "--host=dumont", "."]
        summary: dict[str, Any] = {}
        for row in self._rows(words, folder=root):
            if row.get("message_type") == "status":
                on_progress(int(row.get("files_done", 0)), int(row.get("bytes_done", 0)))
            elif row.get("message_type") == "summary":
                summary = row
        if "snapshot_id" not in summary:
            raise SnapshotError("restic did not say what it has made")
        found = [kept for kept in self.list() if kept.id.startswith(str(summary["snapshot_id"]))]
        if not found:
            raise SnapshotError("the snapshot that restic has made is not there")
        return Kept(
            id=found[0].id, time=found[0].time, tags=tuple(tags),
            files=int(summary["total_files_processed"]),
            bytes=int(summary["total_bytes_processed"]), stored=int(summary["data_added"]),
        )  # fmt: skip

    def restore(self, snapshot_id: str, target: Path, *, paths: Sequence[str] = ()) -> None:
        """See `Engine`."""
        words = ["restore", snapshot_id, f"--target={target}", "--verify"]
        self._run(*words, *(f"--include=/{path.strip('/')}" for path in paths))

    def list(self) -> list[Kept]:
        """See `Engine`."""
        rows = json.loads(self._run("snapshots", "--json") or "[]")
        found = [
            Kept(
                id=str(row["id"]),
                time=datetime.fromisoformat(_microseconds(str(row["time"]))),
                tags=tuple(row.get("tags") or ()),
            )
            for row in rows
        ]
        return sorted(found, key=lambda kept: kept.time)

    def forget(self, snapshot_ids: Sequence[str]) -> None:
        """See `Engine`."""
        if snapshot_ids:
            self._run("forget", *snapshot_ids)

    def prune(self) -> None:
        """See `Engine`."""
        self._run("prune")

    def check(self, *, read: bool = False) -> None:
        """See `Engine`."""
        self._run("check", *(["--read-data"] if read else []))

    def _run(self, *words: str) -> str:
        with self._command(words) as (command, environment):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise _problem(words[0], done.stderr or done.stdout)
        return done.stdout

    def _rows(self, words: Sequence[str], *, folder: Path) -> Iterator[dict[str, Any]]:
        with self._command([*words, "--json"]) as (command, environment):
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row
            said = process.stderr.read()
            if process.wait() != 0:
                raise _problem(words[0], said)

    @contextmanager
    def _command(self, words: Sequence[str]) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
        program = shutil.which("restic", path=self._environment.get("PATH", os.defpath))
        if program is None:
            raise SnapshotError("restic is not installed", hint="apt-get install restic")
        with tempfile.NamedTemporaryFile("w", prefix="dumont-") as password:
            password.write(self._password)
            password.flush()
            environment = {**self._environment, "RESTIC_PASSWORD_FILE": password.name}
            cache = [f"--cache-dir={self._cache}"] if self._cache is not None else ["--no-cache"]
            yield [program, f"--repo={self._repository}", *cache, *_OPTIONS, *words], environment


def _problem(word: str, said: str) -> SnapshotError:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    text = lines[-1][:300] if lines else "it said nothing"
    if "wrong password" in said:
        return WrongKey("this password does not open the restic repository")
    if "Is there a repository" in said or "unable to open config file" in said:
        return NoRepository("there is no restic repository here")
    return SnapshotError(f"restic {word}: {text}")


def _microseconds(moment: str) -> str:
    """restic writes nanoseconds, which Python does not read."""
    head, dot, rest = moment.replace("Z", "+00:00").partition(".")
    if not dot:
        return head
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}"
