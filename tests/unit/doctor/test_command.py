"""`dumont doctor` and `dumont serve` as commands: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dumont.cli.app import app
from dumont.cli.embedded.environment import variable_names


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUMONT_CREDENTIALS", str(tmp_path / "credentials.json"))
    for names in variable_names().values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    # Nothing listens there.
    monkeypatch.setenv("DUMONT_API_URL", "http://127.0.0.1:9")


def dumont(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def test_doctor_says_what_is_wrong_and_what_to_do() -> None:
    done = dumont("doctor")
    assert done.exit_code == 1
    assert "✗ API" in done.stdout
    assert "→ start a local stack with `dumont demo`" in done.stdout
    assert "- login          not without: API" in done.stdout
    assert "1 to repair: API" in done.stdout
    assert "not at hand" in done.stdout


def test_doctor_speaks_json() -> None:
    done = dumont("doctor", "--json")
    assert done.exit_code == 1
    items = {item["name"]: item for item in json.loads(done.stdout)["items"]}
    assert items["API"]["status"] == "fail"
    assert items["API"]["hint"]
    assert items["Python"]["status"] == "ok"


def test_doctor_names_a_wrong_variable_of_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DUMONT_API_PORT=99999999\n")
    done = dumont("doctor")
    assert "✗ configuration  DUMONT_API_PORT: " in done.stdout


def test_doctor_looks_into_a_state_directory_that_is_none(tmp_path: Path) -> None:
    done = dumont("doctor", "--state", str(tmp_path))
    assert "nothing was started there" in done.stdout


def test_serve_needs_a_cloud() -> None:
    done = dumont("serve")
    assert done.exit_code == 2
    assert "VAST_API_KEY is not set" in done.stderr
    assert not Path(".dumont").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("DATABASE_URL=postgresql://x@y/z", "DATABASE_URL is set"),
        ("TEMPORAL_ADDRESS=temporal:7233", "TEMPORAL_ADDRESS is set"),
        ("DUMONT_FLEET_POLL_S=0", "DUMONT_FLEET_POLL_S: "),
        ("GCP_CREDENTIALS=/no/such/file", "GCP_CREDENTIALS: "),
    ],
)
def test_serve_refuses_what_it_cannot_use(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"VAST_API_KEY=k\n{line}\n")
    done = dumont("serve")
    assert done.exit_code == 2
    assert words in done.stderr.replace("\n", " ")
    assert not Path(".dumont").exists()


def test_a_stack_that_never_ran() -> None:
    done = dumont("stack", "status")
    assert done.exit_code == 3
    assert "no stack was ever started" in done.stderr.replace("\n", " ").lower()
