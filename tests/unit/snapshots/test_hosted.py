"""The engine as a machine runs it: a real process, an order on its stdin, lines on its stdout."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

from dumont.snapshots.check import check
from dumont.snapshots.repository import Repository
from dumont.storage.directory import DirectoryStore
from dumont.storage.s3 import Credentials, S3Store
from tests.support.object_server import Fault, ObjectServer
from tests.support.workspaces import listing, make

SECRET = "a secret of more than thirty-two characters"


class Run:
    """One run; its stdin stays open until somebody closes it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def send(self, line: object) -> None:
        assert self.process.stdin is not None
        text = line if isinstance(line, str) else json.dumps(line)
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        """Close its stdin: nobody is there any more."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self, *, within_s: float = 60) -> int:
        status = self.process.wait(within_s)
        self._reading.join()
        return status

    def said(self, what: str) -> list[dict[str, Any]]:
        """What is in its lines of one kind."""
        found = [json.loads(line) for line in self.lines if line.startswith(b"{")]
        return [line[what] for line in found if what in line]

    @property
    def complaints(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)


class Machine:
    """A home, a workspace and a store."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.workspace = folder / "work space"
        self.store = DirectoryStore(folder / "store", durable=False)
        self.store_url = f"file://{folder / 'store'}".replace(" ", "%20")
        self.workspace.mkdir()
        (self.home / ".dumont").mkdir(parents=True)
        (self.home / ".dumont/workspace").write_text(f"{self.workspace}\n")
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def repository(self) -> Repository:
        return Repository.open(self.store, SECRET.encode())

    def start(self, *words: str, program: str = "", **order: Any) -> Run:
        run = self.bare(program)
        environment = {"DUMONT_SNAP_STORE": self.store_url, "DUMONT_SNAP_SECRET": SECRET}
        run.send({"words": words, "folder": None, "environment": environment, **order})
        return run

    def bare(self, program: str = "") -> Run:
        how = ["-c", program] if program else ["-m", "dumont.snapshots.hosted"]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DUMONT_", "AWS_"))}
        process = subprocess.Popen(
            [sys.executable, *how], env={**clean, "HOME": str(self.home)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        return Run(process)

    def result(self, *words: str, **order: Any) -> dict[str, Any]:
        """Of a run that succeeds while its stdin is open."""
        run = self.start(*words, **order)
        assert run.end() == 0, (run.lines, run.complaints)
        [answer] = run.said("result")
        return answer


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    Repository.create(made.store, SECRET.encode())
    yield made
    for process in made.processes:
        with process:  # closes its pipes
            process.kill()


def until(true: Callable[[], object], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_workspace_is_kept_and_comes_back(machine: Machine) -> None:
    make(machine.workspace, megabytes=4)
    (machine.workspace / "left out.tmp").write_bytes(b"x")
    words = ["snapshot", "--machine=m1", "--exclude=*.tmp", "--tag=first", "--keep"]
    made = machine.result(*words, folder="")
    assert (made["machine"], made["tags"], made["kept"], made["whole"]) == (
        "m1", ["first"], True, True,
    )  # fmt: skip
    assert [s.id for s in machine.repository.snapshots()[0]] == [made["id"]]
    back = machine.result("restore", made["id"], folder="restored/here")
    assert (back["files"], back["problems"]) == (made["totals"]["files"], [])
    (machine.workspace / "left out.tmp").unlink()
    there = listing(machine.workspace / "restored/here")
    for path, what in listing(machine.workspace).items():
        if path != b"restored" and not path.startswith(b"restored/"):
            assert there[path] == what


def test_it_ends_at_once_although_somebody_still_listens(machine: Machine) -> None:
    (machine.workspace / "file").write_bytes(b"x")
    run = machine.start("snapshot", folder="")
    until(lambda: run.said("result"))
    told = time.monotonic()
    assert run.end() == 0
    assert time.monotonic() - told < 0.8
    assert run.complaints == ""


def test_what_it_remembers_is_remembered(machine: Machine) -> None:
    (machine.workspace / "file").write_bytes(os.urandom(3_000_000))
    os.utime(machine.workspace, (1, 1))
    time.sleep(2.1)  # what changed just now is read again
    machine.result("snapshot", folder="")
    again = machine.start("snapshot", folder="")
    assert again.end() == 0
    assert again.said("progress")[-1]["unchanged"] == 3_000_000


def test_an_error_is_a_line_too(machine: Machine) -> None:
    run = machine.start("restore", "20200101", folder="")
    assert run.end() == 1
    assert [error["code"] for error in run.said("error")] == ["no_such_snapshot"]


def test_without_a_note_the_workspace_is_where_it_always_is(machine: Machine) -> None:
    (machine.home / ".dumont/workspace").unlink()
    run = machine.start("snapshot", folder="no such folder")
    assert run.end() == 1
    assert run.said("error")[0]["message"] == "/workspace/no such folder is no folder"


@pytest.mark.parametrize(
    "order",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        '{"words": 5}',
        '{"words": []}',
        '{"words": ["list"], "environment": null}',
        '{"words": ["list"], "environment": ["A"]}',
    ],
)
def test_a_bad_order(machine: Machine, order: str) -> None:
    run = machine.bare()
    run.send(order)
    assert run.end() == 2
    assert [error["code"] for error in run.said("error")] == ["bad_order"]
    assert run.complaints == ""


def test_nobody_comes_with_an_order(machine: Machine) -> None:
    run = machine.bare()
    run.leave()
    assert run.end() == 2
    assert run.said("error")


def test_a_command_that_there_is_not(machine: Machine) -> None:
    run = machine.start("dance")
    assert run.end() == 2
    assert "invalid choice: 'dance'" in run.complaints


def test_two_at_once_wait_for_each_other(machine: Machine) -> None:
    (machine.workspace / "file").write_bytes(b"x")
    folder = machine.home / ".dumont/snapshots"
    folder.mkdir()
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = [machine.start("snapshot", folder="") for _ in range(2)]
        until(lambda: all({"waits": True} in run.said("progress") for run in runs))
        assert machine.repository.snapshots()[0] == []
    assert [run.end() for run in runs] == [0, 0]
    assert len(machine.repository.snapshots()[0]) == 2


def test_whoever_waits_and_is_left_ends(machine: Machine) -> None:
    folder = machine.home / ".dumont/snapshots"
    folder.mkdir()
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = machine.start("snapshot", folder="")
        until(lambda: run.said("progress"))
        run.leave()
        assert run.end(within_s=10) != 0
    assert machine.repository.snapshots()[0] == []


def test_a_run_that_is_left_ends_and_the_next_one_goes_on(machine: Machine) -> None:
    rng = random.Random(3)
    for number in range(10):
        (machine.workspace / f"{number}.bin").write_bytes(rng.randbytes(24 << 20))
    total = 10 * (24 << 20)
    run = machine.start("snapshot", "--workers=1", folder="")
    until(
        lambda: sum(1 for _ in machine.store.list("packs/")) >= 3 or run.process.poll() is not None
    )
    run.leave()
    assert run.end(within_s=16) == 130
    assert "interrupted" in run.said("error")[0]["message"]
    assert machine.repository.snapshots() == ([], [])
    assert list(machine.store.list("leases/")) == []
    arrived = sum(listed.size for listed in machine.store.list("packs/"))
    assert arrived < total, "it was left in the middle"

    made = machine.result("snapshot", folder="")
    # A pack that had arrived and was not noted yet may be sent again: one for each that uploads.
    assert made["totals"]["new_stored"] <= total - arrived + 4 * (40 << 20)
    assert made["totals"]["new_stored"] < 0.9 * total
    assert made["totals"]["bytes"] == total
    assert check(machine.repository, read=True).is_sound


# With an object store -------------------------------------------------------------------------


@dataclass
class Watching(ObjectServer):
    """It notes whose requests these are."""

    signed: list[tuple[str, str, str]] = field(default_factory=list)
    """Who, method and target."""

    def _request(
        self,
        connection: socket.socket,
        stream: BufferedReader,
        method: str,
        target: str,
        headers: dict[str, str],
    ) -> None:
        found = re.search(r"Credential=([^/]+)/", headers.get("authorization", ""))
        token = headers.get("x-amz-security-token", "")
        self.signed.append((f"{found and found[1]} {token}", method, target))
        super()._request(connection, stream, method, target, headers)


@pytest.fixture
def server(tmp_path: Path, machine: Machine) -> Iterator[Watching]:
    with ObjectServer.running.__func__(Watching, tmp_path / "objects") as running:  # type: ignore[attr-defined]
        machine.store_url = f"s3://b/owners/o1?endpoint={running.endpoint}"
        store = S3Store(
            endpoint=running.endpoint, bucket="b", prefix="owners/o1",
            credentials=Credentials("account", "s"),
        )  # fmt: skip
        Repository.create(store, SECRET.encode())
        running.signed.clear()
        yield running


def loan(name: str) -> dict[str, Any]:
    """As in the file of a loan."""
    return {
        "Version": 1, "AccessKeyId": name, "SecretAccessKey": f"secret of {name}",
        "SessionToken": f"token-of-{name}", "Expiration": "2030-01-01T00:00:00+00:00",
    }  # fmt: skip


def test_credentials_are_renewed_while_it_runs(machine: Machine, server: Watching) -> None:
    (machine.workspace / "file").write_bytes(os.urandom(2_000_000))
    server.faults.append(Fault(method="PUT", key="packs/", delay_s=1.5))
    run = machine.start("snapshot", folder="", credentials=loan("first"))
    until(lambda: any(m == "PUT" and "/packs/" in target for _, m, target in server.signed))
    before = len(server.signed)
    run.send("nonsense")
    run.send({"other": 1})
    run.send({"credentials": loan("second")})
    assert run.end() == 0, run.lines
    first, second = "first token-of-first", "second token-of-second"
    assert {who for who, _, _ in server.signed[:before]} == {first}
    assert {who for who, _, _ in server.signed} == {first, second}
    commits = [who for who, m, target in server.signed if m == "PUT" and "/snapshots/" in target]
    assert commits == [second]


def test_nothing_secret_is_left_or_can_be_seen(machine: Machine, server: Watching) -> None:
    (machine.workspace / "file").write_bytes(os.urandom(2_000_000))
    server.faults.append(Fault(method="PUT", key="packs/", delay_s=1.0))
    run = machine.start("snapshot", folder="", credentials=loan("first"))
    until(lambda: any(m == "PUT" and "/packs/" in target for _, m, target in server.signed))
    process = Path(f"/proc/{run.process.pid}")
    seen = [(process / name).read_bytes() for name in ("cmdline", "environ")]
    files = [path.read_bytes() for path in machine.home.rglob("*") if path.is_file()]
    assert run.end() == 0
    files += [path.read_bytes() for path in machine.home.rglob("*") if path.is_file()]
    assert files
    for content in (*seen, *files, b"".join(run.lines)):
        for secret in (SECRET, "secret of first", "token-of-first"):
            assert secret.encode() not in content


def test_a_run_that_takes_its_time_shows_that_it_lives(machine: Machine, server: Watching) -> None:
    """Whoever listens gives up a run that says nothing; one large file alone may take longer."""
    (machine.workspace / "file").write_bytes(os.urandom(2_000_000))
    server.faults.append(Fault(method="PUT", key="packs/", delay_s=2.0))
    program = "from dumont.snapshots import hosted; hosted._PULSE_S = 0.2; hosted.main()"
    run = machine.start("snapshot", folder="", credentials=loan("first"), program=program)
    assert run.end() == 0
    assert run.lines.count(b"\n") >= 5
    assert len(run.said("result")) == 1
