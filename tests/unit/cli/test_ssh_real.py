"""`dumont ssh` and plain `ssh dumont-NAME` against OpenSSH's own server."""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.box import Box, sshd
from tests.unit.cli.conftest import make_key
from tests.unit.cli.fake_api import FakeApi


@pytest.fixture
def box(tmp_path: Path, ssh_key: Path) -> Iterator[Box]:
    make_key(tmp_path / "host_key")
    with sshd(tmp_path / "box", ssh_key=ssh_key, host_key=tmp_path / "host_key") as running:
        yield running


def at(fake: FakeApi, box: Box, **changes: Any) -> dict[str, Any]:
    machine = fake.add_running("my-box", host_key=box.host_key)
    machine["ssh"] = {"host": box.host, "port": box.port, "user": getpass.getuser()}
    machine.update(changes)
    return machine


def dumont(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dumont.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_a_command_runs_there_and_its_exit_code_comes_back(user: FakeApi, box: Box) -> None:
    at(user, box)
    done = dumont("ssh", "my-box", "--", "echo", "$SSH_CONNECTION;", "exit", "17")
    assert done.returncode == 17, done.stderr
    assert f"{box.host} {box.port}" in done.stdout


def test_plain_ssh_works_through_the_users_own_config(
    user: FakeApi, box: Box, home: Path, ssh_key: Path
) -> None:
    own = b"Host elsewhere\n    Port 2222\n"
    (home / ".ssh/config").write_bytes(own)
    at(user, box)
    first = dumont("ssh", "my-box", "--", "true")
    assert first.returncode == 0, first.stderr
    assert "Added one Include line" in first.stderr
    assert (home / ".ssh/config").read_bytes().endswith(b"\n" + own)
    plain = subprocess.run(
        ["ssh", "-F", str(home / ".ssh/config"), "-o", "BatchMode=yes", "dumont-my-box", "echo hi"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (plain.returncode, plain.stdout) == (0, "hi\n"), plain.stderr


def test_an_impostor_at_the_address_is_refused(user: FakeApi, box: Box, tmp_path: Path) -> None:
    make_key(tmp_path / "another")
    other = (tmp_path / "another.pub").read_text().rsplit(" ", 1)[0]
    at(user, box, host_key=other)
    done = dumont("ssh", "my-box", "--", "echo", "let in")
    assert done.returncode == 255
    assert "let in" not in done.stdout
    assert "verification failed" in done.stderr.lower()


def test_the_last_known_address_serves_while_the_server_is_away(
    user: FakeApi, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(user, box)
    assert dumont("ssh", "my-box", "--", "true").returncode == 0
    for _ in range(50):
        from tests.unit.cli.fake_api import problem

        user.answer_once(
            "GET",
            "/machines/my-box",
            problem(503, "dependency_unavailable", "no database", headers={"Retry-After": "99"}),
        )
    start = time.monotonic()
    done = dumont("ssh", "my-box", "--", "echo", "still here")
    assert done.stdout == "still here\n"
    assert "last known address" in done.stderr
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("phase", ["provisioning", "stuck", "destroyed"])
def test_a_machine_that_cannot_be_reached_says_why(user: FakeApi, box: Box, phase: str) -> None:
    at(user, box, phase=phase, ssh=None, reason="because")
    done = dumont("ssh", "m000000000001")
    assert done.returncode == 5
    assert phase in done.stderr
    assert "because" in done.stderr


def test_ssh_config_prints_connects_and_disconnects(user: FakeApi, box: Box, home: Path) -> None:
    at(user, box)
    printed = dumont("ssh-config").stdout
    assert "Host dumont-my-box" in printed
    assert not (home / ".ssh/config").exists()
    assert dumont("ssh-config", "--install").returncode == 0
    assert "Include" in (home / ".ssh/config").read_text()
    assert dumont("ssh-config", "--remove").returncode == 0
    assert (home / ".ssh/config").read_text() == ""
    dumont("ssh", "my-box", "--", "true")
    assert (home / ".ssh/config").read_text() == "", "no is remembered"
    assert dumont("ssh-config", "--install", "--remove").returncode == 2
