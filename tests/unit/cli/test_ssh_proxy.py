"""The stable address on the client: real ssh, real servers, addresses that die and move."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dumont.cli import ssh_addresses, ssh_hosts
from dumont.domain.resources import MachineView
from tests.unit.cli.box import Box, free_port, sshd
from tests.unit.cli.conftest import make_key
from tests.unit.cli.fake_api import FakeApi


class Bodies(NamedTuple):
    """Both bodies of one machine, with its one host key."""

    endpoint: Box
    direct: Box


@pytest.fixture
def bodies(tmp_path: Path, ssh_key: Path) -> Iterator[Bodies]:
    key = tmp_path / "host_key"
    make_key(key)
    with (
        sshd(tmp_path / "standby", ssh_key=ssh_key, host_key=key, host="127.9.8.6") as endpoint,
        sshd(tmp_path / "primary", ssh_key=ssh_key, host_key=key, host="127.9.8.7") as direct,
    ):
        yield Bodies(endpoint, direct)


def address(host: str, port: int) -> dict[str, Any]:
    return {"host": host, "port": port, "user": getpass.getuser()}


def known(
    fake: FakeApi, bodies: Bodies, *, endpoint: int | None = None, direct: int | None = None
) -> dict[str, Any]:
    """A machine that the user's ssh knows, at these ports instead of the real ones."""
    machine = fake.add_running("my-box", host_key=bodies.endpoint.host_key)
    machine["ssh"] = address(bodies.endpoint.host, endpoint or bodies.endpoint.port)
    machine["direct"] = address(bodies.direct.host, direct or bodies.direct.port)
    ssh_hosts.remember(server=fake.url, machine=MachineView.model_validate(machine))
    return machine


def moved(fake: FakeApi, machine: dict[str, Any], box: Box) -> None:
    """Only the server knows it yet."""
    machine.update(ssh=address(box.host, box.port), direct=None)


def ssh(*command: str, stdin: bytes = b"", timeout: float = 40) -> Any:
    return subprocess.run(
        ["ssh", "-F", str(ssh_hosts.ssh_config_path()), "-o", "BatchMode=yes", "dumont-my-box",
         *command],
        input=stdin, capture_output=True, check=False, timeout=timeout,
    )  # fmt: skip


def reached(done: Any) -> str:
    assert done.returncode == 0, done.stderr.decode()
    where: str = done.stdout.decode().split()[2]
    return where


WHERE = "echo $SSH_CONNECTION"


def addresses_file() -> Path:
    return ssh_addresses.addresses_path(machine_id="m000000000001")


def make_old() -> None:
    os.utime(addresses_file(), (1, 1))


@contextmanager
def listener(*, says: bytes = b"", after_s: float = 0.0, to: Box | None = None) -> Iterator[int]:
    """A port that accepts and is silent, says something, or leads to a box after a while."""
    opened: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        if after_s:
            threading.Event().wait(after_s)
        if says:
            connection.sendall(says)
        if to is not None:
            inner = socket.create_connection((to.host, to.port))
            opened.append(inner)
            threading.Thread(target=_pump, args=(inner, connection), daemon=True).start()
            _pump(connection, inner)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                opened.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.socket() as server:
        server.bind(("127.9.8.6", 0))
        server.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for connection in opened:
        connection.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def test_the_stable_address_comes_first(user: FakeApi, bodies: Bodies):
    known(user, bodies)
    assert reached(ssh(WHERE)) == bodies.endpoint.host


def test_a_dead_stable_address_leads_to_the_gpu_directly(user: FakeApi, bodies: Bodies):
    known(user, bodies)
    bodies.endpoint.kill()
    assert reached(ssh(WHERE)) == bodies.direct.host


def test_an_address_that_accepts_and_is_silent_is_passed_over(user: FakeApi, bodies: Bodies):
    with listener() as frozen:
        known(user, bodies, endpoint=frozen)
        start = time.monotonic()
        assert reached(ssh(WHERE)) == bodies.direct.host
        assert time.monotonic() - start < 5


def test_something_that_is_no_ssh_server_is_passed_over(user: FakeApi, bodies: Bodies):
    with listener(says=b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
        known(user, bodies, endpoint=web)
        assert reached(ssh(WHERE)) == bodies.direct.host


def test_a_slow_stable_address_still_wins_over_a_gpu_that_may_be_fenced(
    user: FakeApi, bodies: Bodies
):
    with listener(after_s=0.6, to=bodies.endpoint) as slow:
        known(user, bodies, endpoint=slow)
        assert reached(ssh(WHERE)) == bodies.endpoint.host


def test_it_works_with_the_server_dead_however_old_the_addresses_are(home: Path, bodies: Bodies):
    gone = FakeApi(url=f"http://127.0.0.1:{free_port('127.0.0.1')}")
    known(gone, bodies)
    make_old()
    bodies.endpoint.kill()
    assert reached(ssh(WHERE)) == bodies.direct.host


def test_both_dead_is_said_clearly_and_soon(home: Path, bodies: Bodies):
    gone = FakeApi(url=f"http://127.0.0.1:{free_port('127.0.0.1')}")
    known(gone, bodies)
    bodies.endpoint.kill()
    bodies.direct.kill()
    start = time.monotonic()
    done = ssh(WHERE)
    said = done.stderr.decode()
    assert done.returncode == 255
    assert "my-box cannot be reached" in said
    for box, what in ((bodies.endpoint, "stable address"), (bodies.direct, "GPU directly")):
        assert f"its {what}, {box.host} port {box.port}: connection refused" in said
    assert f"{gone.url} could not be asked" in said
    assert "Traceback" not in said
    assert time.monotonic() - start < 20


def test_a_machine_that_moved_is_found_when_its_old_addresses_are_dead(
    user: FakeApi, bodies: Bodies
):
    machine = known(user, bodies, endpoint=free_port(), direct=free_port())
    moved(user, machine, bodies.direct)
    assert reached(ssh(WHERE)) == bodies.direct.host


def test_a_server_that_knows_no_other_address_is_named(user: FakeApi, bodies: Bodies):
    known(user, bodies)
    bodies.endpoint.kill()
    bodies.direct.kill()
    assert f"{user.url} knows no other address" in ssh(WHERE).stderr.decode()


def test_old_addresses_are_looked_up_behind_the_connection(user: FakeApi, bodies: Bodies):
    machine = known(user, bodies)
    moved(user, machine, bodies.direct)
    assert reached(ssh(WHERE)) == bodies.endpoint.host
    assert len(_candidates()) == 2, "they are fresh: nobody asks"
    make_old()
    assert reached(ssh(WHERE)) == bodies.endpoint.host
    deadline = time.monotonic() + 30
    while len(_candidates()) == 2 and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert reached(ssh(WHERE)) == bodies.direct.host


def _candidates() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(addresses_file().read_text())["candidates"]
    return found


def test_every_byte_passes_both_ways(user: FakeApi, bodies: Bodies):
    known(user, bodies)
    data = os.urandom(20_000_000)
    done = ssh("cat", stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_an_impostor_at_one_address_is_refused_not_passed_over(
    user: FakeApi, bodies: Bodies, tmp_path: Path, ssh_key: Path
):
    make_key(tmp_path / "another")
    with sshd(tmp_path / "other", ssh_key=ssh_key, host_key=tmp_path / "another") as impostor:
        machine = known(user, bodies)
        machine["ssh"] = address(impostor.host, impostor.port)
        ssh_hosts.remember(server=user.url, machine=MachineView.model_validate(machine))
        done = ssh(WHERE)
    assert done.returncode == 255
    assert b"verification failed" in done.stderr.lower()


def test_what_is_forgotten_leaves_no_file(user: FakeApi, bodies: Bodies):
    machine = known(user, bodies)
    assert addresses_file().exists()
    machine.update(phase="destroyed", ssh=None, direct=None)
    ssh_hosts.remember(server=user.url, machine=MachineView.model_validate(machine))
    assert not addresses_file().exists()


def test_a_damaged_file_says_how_to_make_it_again(user: FakeApi, bodies: Bodies):
    known(user, bodies)
    addresses_file().write_text("{")
    said = ssh(WHERE).stderr.decode()
    assert "dumont ssh-config" in said
    assert "Traceback" not in said


def test_it_starts_at_once(user: FakeApi, bodies: Bodies):
    """Measured in processor time, which the other load of this computer does not lengthen much."""
    known(user, bodies)
    bodies.endpoint.kill()
    bodies.direct.kill()
    book = json.loads(addresses_file().read_text())
    book["refresh"]["command"] = ["/bin/false"]
    addresses_file().write_text(json.dumps(book))
    command = [sys.executable, "-I", "-S", "-E", ssh_addresses.proxy_path(), addresses_file()]
    spent = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=False, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.05
