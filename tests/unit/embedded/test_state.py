"""The state directory: one supervisor, one mode, the same addresses and secrets every time."""

import json
import socket
import stat
from pathlib import Path

import pytest

from dumont.cli.embedded.state import StateDir, read_status
from dumont.domain.errors import Conflict, InvalidInput


def test_a_second_supervisor_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    first = StateDir(tmp_path / "state", mode="demo")
    with pytest.raises(Conflict, match=r"another stack \(pid \d+\) is running") as caught:
        StateDir(tmp_path / "state", mode="demo")
    assert "dumont stack stop" in (caught.value.hint or "")
    first.close()
    StateDir(tmp_path / "state", mode="demo").close()


def test_a_directory_keeps_its_mode(tmp_path: Path) -> None:
    state = StateDir(tmp_path, mode="demo")
    state.ports({"api": None})
    state.close()
    with pytest.raises(InvalidInput, match="holds the state of `dumont demo`") as caught:
        StateDir(tmp_path, mode="serve")
    assert caught.value.field == "state"
    # The refusal holds no lock.
    StateDir(tmp_path, mode="demo").close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"stack\.json is damaged"):
        StateDir(tmp_path, mode="demo")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot be used"):
        StateDir(tmp_path / "file" / "state", mode="demo")


def test_ports_are_the_preferred_ones_and_stay(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    state = StateDir(tmp_path, mode="demo")
    first = state.ports({"api": free, "other": None})
    state.close()
    assert first["api"] == free
    assert len(set(first.values())) == 2
    # Another wish changes nothing: what was printed once stays true.
    again = StateDir(tmp_path, mode="demo")
    assert again.ports({"api": free + 1, "other": None}) == first
    again.close()


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        state = StateDir(tmp_path, mode="demo")
        assert state.ports({"api": port})["api"] != port
        state.close()


def test_two_names_never_share_a_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    state = StateDir(tmp_path, mode="demo")
    ports = state.ports({"a": free, "b": free})
    state.close()
    assert ports["a"] != ports["b"]


def test_secrets_stay_and_are_private(tmp_path: Path) -> None:
    state = StateDir(tmp_path, mode="demo")
    first = state.secret("s3"), state.secret("postgres"), state.owner_password()
    state.close()
    again = StateDir(tmp_path, mode="demo")
    assert (again.secret("s3"), again.secret("postgres"), again.owner_password()) == first
    again.close()
    assert len(set(first)) == 3
    for name in ("secrets.json", "owner-password"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert set(json.loads((tmp_path / "secrets.json").read_text())) == {"s3", "postgres"}


def test_a_status_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_text('{"mode": "demo"')
    assert read_status(tmp_path) is None
