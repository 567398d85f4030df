"""`dumont demo` as a user runs it: the real stack, its death in every way, and its return."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from dumont.cli.embedded.processes import ProcessId
from dumont.cli.embedded.state import StackStatus, read_status
from tests.support.one_start import one_start

READY = "Ctrl-C stops everything"
PATIENCE_S = 150
"""It takes some 10 s alone on two cores; tests share them."""


class Demo:
    """A home of its own with `dumont demo` in it."""

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        self.output = home / "output"
        self.env = {
            **os.environ,
            "DUMONT_CREDENTIALS": str(home / "config" / "credentials.json"),
            "HOME": str(home),
            "COLUMNS": "200",
            "STACK_OF_TEST": str(home),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and wait for its summary, which is returned."""
        with one_start():
            return self._start()

    def _start(self) -> str:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dumont.cli", "demo", "--state", str(self.state)],
                env=self.env, cwd=self.state.parent, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        process = self.process
        until(lambda: READY in self.output.read_text() or process.poll() is not None)
        text = self.output.read_text()
        assert READY in text, text
        return text

    def end(self, number: signal.Signals) -> int:
        """Signal the supervisor alone and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def dumont(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as this user."""
        return subprocess.run(
            [sys.executable, "-m", "dumont.cli", *arguments],
            env=self.env, cwd=self.state.parent, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    @property
    def status(self) -> StackStatus:
        found = read_status(self.state)
        assert found is not None
        return found

    def processes(self) -> dict[int, str]:
        """Every live process that descends from this demo: they inherit its environment."""
        marker = f"STACK_OF_TEST={self.state.parent}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:  # a zombie has none
                        found[int(entry.name)] = command
            except OSError:
                continue
        return found


def until(condition: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    try:
        demo.start()
        yield demo
    finally:
        if demo.process is not None and demo.process.poll() is None:
            demo.end(signal.SIGTERM)
        for pid in demo.processes():
            os.kill(pid, signal.SIGKILL)


def test_every_printed_address_answers(demo: Demo) -> None:
    text = demo.output.read_text()
    assert set(demo.status.urls) == {
        "Dashboard",
        "API docs",
        "Temporal Web UI",
        "Cloud control page",
    }
    for name, url in demo.status.urls.items():
        assert f"{name} " in text
        assert url in text
        answer = httpx.get(url, follow_redirects=True, trust_env=False)
        assert answer.is_success, f"{name}: {url} answered {answer.status_code}"


def test_the_command_line_is_logged_in(demo: Demo) -> None:
    done = demo.dumont("whoami")
    assert done.returncode == 0, done.stderr
    assert "owner@dumont.local" in done.stdout
    # The printed password is the owner's.
    password = (demo.state / "owner-password").read_text().strip()
    assert password in demo.output.read_text()
    login = httpx.post(
        f"{demo.status.urls['Dashboard']}/api/v1/auth/login",
        json={"email": "owner@dumont.local", "password": password},
        trust_env=False,
    )
    assert login.status_code == 200


def test_doctor_finds_nothing_to_repair(demo: Demo) -> None:
    done = demo.dumont("doctor", "--state", str(demo.state))
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("PostgreSQL", "Temporal", "workers", "object store", "Vast.ai", "Google"):
        assert f"✓ {part}" in done.stdout


def test_status_shows_every_part(demo: Demo) -> None:
    done = demo.dumont("stack", "status", "--state", str(demo.state))
    assert done.returncode == 0, done.stderr
    for name in demo.status.parts:
        assert name in done.stdout


def test_a_second_stack_on_the_directory_is_refused(demo: Demo) -> None:
    done = demo.dumont("demo", "--state", str(demo.state))
    assert done.returncode == 5
    assert demo.process is not None
    assert f"another stack (pid {demo.process.pid}) is running" in done.stderr.lower()


@pytest.mark.parametrize("victim", ["postgres", "temporal", "s3", "simcloud", "worker", "api"])
def test_a_killed_part_comes_back(demo: Demo, victim: str) -> None:
    before = demo.status.parts[victim]
    assert before.process is not None
    assert before.process.send(signal.SIGKILL)

    def is_back() -> bool:
        part = demo.status.parts[victim]
        return part.state == "running" and part.process != before.process

    until(is_back)
    assert demo.status.parts[victim].restarts == before.restarts + 1
    # And the product works, through that part and all others, once they have found each other.
    until(lambda: demo.dumont("ls").returncode == 0)


def ssh_address(demo: Demo) -> tuple[str, int]:
    shown = json.loads(demo.dumont("show", "my-box", "--json").stdout)
    return shown["ssh"]["host"], shown["ssh"]["port"]


def reads_its_file(demo: Demo) -> bool:
    done = demo.dumont("ssh", "my-box", "--", "cat", "/workspace/note")
    return done.returncode == 0 and done.stdout == "still here"


def test_a_machine_can_be_rented_and_used(demo: Demo) -> None:
    done = demo.dumont("up", "my-box", "--gpu", "RTX 4090", "--max-price", "0.60")
    assert done.returncode == 0, done.stderr
    done = demo.dumont("ssh", "my-box", "--", "printf 'still here' > /workspace/note")
    assert done.returncode == 0, done.stderr
    assert reads_its_file(demo)


def test_a_killed_supervisor_leaves_nothing_and_the_next_resumes(demo: Demo) -> None:
    urls = demo.status.urls
    parts = [part.process for part in demo.status.parts.values() if part.process]
    assert len(parts) == 6
    with one_start():  # or another demo may take its ports meanwhile
        assert demo.end(signal.SIGKILL) == -signal.SIGKILL
        # Started at once, while some may still be about to end.
        demo._start()
    assert not [part for part in parts if part.is_alive()]
    assert demo.status.urls == urls
    assert demo.process is not None
    assert demo.status.supervisor == ProcessId.of(demo.process.pid)
    assert demo.dumont("whoami").returncode == 0
    until(lambda: reads_its_file(demo))


def test_ctrl_c_leaves_nothing_and_the_next_start_resumes(demo: Demo) -> None:
    assert demo.processes()
    address = ssh_address(demo)
    assert demo.end(signal.SIGINT) == 0
    assert demo.output.read_text().rstrip().endswith("Stopped.")
    assert demo.processes() == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    status = demo.dumont("stack", "status", "--state", str(demo.state))
    assert status.returncode == 1
    assert "is not running" in status.stdout

    demo.start()
    until(lambda: reads_its_file(demo))
    done = demo.dumont("stack", "stop", "--state", str(demo.state))
    assert done.returncode == 0, done.stderr
    assert demo.processes() == {}
    assert demo.process is not None
    assert demo.process.wait(10) == 0
