"""`python -m api` as operators meet it: clear words when it cannot start, a clean end when told to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


def _environment(url: str, state: Path, **more: str) -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("DUMONT_", "TEMPORAL_"))}
    return ours | {
        "DATABASE_URL": url,
        "DUMONT_STATE_DIR": str(state),
        "DUMONT_API_PORT": "0",
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        **more,
    }


@contextmanager
def _running(env: dict[str, str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "api"], env=env, stderr=sink, stdout=sink)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, found[1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_with_an_open_stream(
    database_url: str, tmp_path: Path, number: signal.Signals
):
    env = _environment(database_url, tmp_path, DUMONT_OWNER_PASSWORD="secret password")
    with (
        _running(env, tmp_path / "log") as (process, url),
        httpx.Client(base_url=f"{url}/api/v1", timeout=30) as http,
    ):
        login = {"email": "owner@dumont.local", "password": "secret password"}
        for _ in range(100):
            token = http.post("/auth/login", json=login)
            if token.status_code == 200:
                break
            time.sleep(0.1)
        headers = {"Authorization": f"Bearer {token.json()['access_token']}"}
        with http.stream("GET", "/events", headers=headers) as stream:
            assert stream.status_code == 200
            process.send_signal(number)
            assert process.wait(20) == 0
    assert "secret password" not in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_first_start_prints_a_password_that_works_once(database_url: str, tmp_path: Path):
    log, env = tmp_path / "log", _environment(database_url, tmp_path)
    with _running(env, log) as (_, url):
        deadline = time.monotonic() + 30
        while not (found := re.search(r"owner_created.*password=(\w+)", _plain(log))):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        body = {"email": "owner@dumont.local", "password": found[1]}
        assert httpx.post(f"{url}/api/v1/auth/login", json=body).status_code == 200
    with _running(env, log) as (_, url):
        assert httpx.post(f"{url}/api/v1/auth/login", json=body).status_code == 200
        assert "owner_created" not in log.read_text()


def _plain(log: Path) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())


def _fails(env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "api"], env=env, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_a_damaged_keys_file_is_named(database_url: str, tmp_path: Path):
    (tmp_path / "keys.json").write_text("{")
    code, said = _fails(_environment(database_url, tmp_path))
    assert code == 1
    assert "keys.json" in said
    assert "backup" in said


def test_a_wrong_setting_is_named(tmp_path: Path):
    code, said = _fails(_environment("x", tmp_path, DUMONT_API_PORT="seventy"))
    assert code == 2
    assert "api_port" in said
    code, said = _fails(_environment("mysql://x", tmp_path))
    assert code == 1
    assert "DATABASE_URL must be postgresql" in said


def test_a_taken_port_is_named(database_url: str, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = _fails(_environment(database_url, tmp_path, DUMONT_API_PORT=port))
    assert code == 1
    assert "address already in use" in said
