"""A user with an empty home, a server to talk to, and the command line in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dumont.cli.app import app
from tests.unit.cli.fake_api import FakeApi, Serving


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory that no test of another user's shares."""
    for name in ("DUMONT_API_URL", "DUMONT_API_KEY", "DUMONT_TOUCH_SSH_CONFIG", "DUMONT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DUMONT_SSH_DIR", str(home / ".ssh"))
    monkeypatch.setenv("DUMONT_CREDENTIALS", str(home / ".config/dumont/credentials.json"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    return home


@pytest.fixture
def fake(home: Path) -> Iterator[FakeApi]:
    """A server that answers as the contract says."""
    api = FakeApi()
    serving = Serving(api)
    yield api
    serving.close()


@pytest.fixture
def user(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The same server, with the user logged in by an API key."""
    monkeypatch.setenv("DUMONT_API_URL", fake.url)
    monkeypatch.setenv("DUMONT_API_KEY", "key-1")
    return fake


@pytest.fixture
def ssh_key(home: Path) -> Path:
    """The user's usual key pair."""
    path = home / ".ssh/id_ed25519"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    make_key(path)
    return path


def make_key(path: Path) -> None:
    """A real key pair at `path`."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann@laptop", "-f", str(path)],
        check=True,
    )


@pytest.fixture
def dumont(home: Path) -> Callable[..., Any]:
    """Run a command line; the result has exit_code, stdout and stderr."""

    def run(*arguments: str, input: str | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), input=input, prog_name="dumont")

    return run
