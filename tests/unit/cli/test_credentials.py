"""Logins: who wins, who can read them, and that two processes do not undo each other."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from dumont.cli import credentials
from dumont.cli.credentials import Server
from dumont.domain.errors import InvalidInput, Unauthenticated


def test_the_file_is_the_owners_alone_and_the_first_server_is_the_default(home: Path) -> None:
    credentials.save_server(server=Server(url="http://one:1/", api_key="a"), make_default=False)
    credentials.save_server(server=Server(url="http://two:2", api_key="b"), make_default=False)
    path = credentials.credentials_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert credentials.resolve().url == "http://one:1"
    credentials.use_server(url="http://two:2")
    assert credentials.resolve().api_key == "b"


def test_a_loose_mode_is_tightened_by_the_next_write(home: Path) -> None:
    credentials.save_server(server=Server(url="http://one:1", api_key="a"))
    credentials.credentials_path().chmod(0o644)
    credentials.save_server(server=Server(url="http://one:1", api_key="b"))
    assert stat.S_IMODE(credentials.credentials_path().stat().st_mode) == 0o600


def test_the_environment_wins_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.save_server(server=Server(url="http://one:1", api_key="a"))
    monkeypatch.setenv("DUMONT_API_URL", "http://three:3/api/v1/")
    with pytest.raises(Unauthenticated, match="http://three:3"):
        credentials.resolve()
    monkeypatch.setenv("DUMONT_API_KEY", "k")
    server = credentials.resolve()
    assert (server.url, server.api_key, server.stored) == ("http://three:3", "k", False)
    assert credentials.resolve(url="http://one:1").url == "http://one:1"


def test_without_a_login_it_says_how_to_get_one(home: Path) -> None:
    with pytest.raises(Unauthenticated) as caught:
        credentials.resolve()
    assert "dumont login" in str(caught.value.hint)
    assert "dumont demo" in str(caught.value.hint)


def test_a_damaged_file_is_named_and_left_alone(home: Path) -> None:
    path = credentials.credentials_path()
    path.parent.mkdir(parents=True)
    path.write_text('{"servers": ')
    with pytest.raises(InvalidInput, match="damaged") as caught:
        credentials.save_server(server=Server(url="http://one:1", api_key="a"))
    assert "dumont login" in str(caught.value.hint)
    assert path.read_text() == '{"servers": '


def test_forgetting_the_default_passes_it_on(home: Path) -> None:
    credentials.save_server(server=Server(url="http://one:1", api_key="a"))
    credentials.save_server(server=Server(url="http://two:2", api_key="b"))
    assert credentials.forget_server(url="http://two:2")
    assert not credentials.forget_server(url="http://two:2")
    assert credentials.resolve().url == "http://one:1"


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "localhost:8766", "http://", "http://u:p@h", "http://h:99999", "http://h/?q"],
)
def test_what_is_not_an_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        credentials.normal_url(url=url)
    assert caught.value.field == "server"


def _save(number: int) -> None:
    credentials.save_server(server=Server(url=f"http://s{number}:1", api_key="k"))


def test_processes_that_save_at_once_all_succeed(home: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_save, range(24), chunksize=1)
    assert len(credentials.load().servers) == 24
    leftovers = [
        p.name for p in credentials.config_dir().iterdir() if "credentials.json." in p.name
    ]
    assert leftovers == [".credentials.json.lock"]
