"""The command line is logged in to the stack that was started, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from dumont.cli import credentials
from dumont.cli.credentials import Server
from dumont.cli.embedded import login
from dumont.cli.embedded.layout import Layout, make_layout
from dumont.cli.embedded.login import ensure_login
from dumont.cli.embedded.state import StateDir


@pytest.fixture(autouse=True)
def _own_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUMONT_CREDENTIALS", str(tmp_path / "config" / "credentials.json"))


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    state = StateDir(tmp_path / "state", mode="demo")
    yield make_layout(state=state, settings=None)
    state.close()


class Api:
    """As much of the API as a log-in needs."""

    def __init__(self, layout: Layout) -> None:
        self.password = layout.owner_password
        self.keys: list[str] = []
        self.refusals = 0
        """So many log-ins fail first: the owner is not there yet."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        match request.url.path:
            case "/api/v1/auth/me":
                return httpx.Response(200 if bearer in self.keys else 401)
            case "/api/v1/auth/login":
                if self.refusals:
                    self.refusals -= 1
                    return httpx.Response(401)
                if self.password not in request.content.decode():
                    return httpx.Response(401)
                tokens = {"access_token": "access", "refresh_token": "refresh", "expires_in": 900}
                return httpx.Response(200, json=tokens)
            case "/api/v1/api-keys" if bearer == "access":
                self.keys.append(f"secret-{len(self.keys)}")
                made = {
                    "key_id": "k1", "name": "n", "scopes": [], "created_at": "2026-01-01T00:00:00Z",
                    "last_used_at": None, "expires_at": None, "secret": self.keys[-1],
                }  # fmt: skip
                return httpx.Response(201, json=made)
        return httpx.Response(404)


@pytest.fixture
def api(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Api:
    fake = Api(layout)
    real: Callable[..., httpx.Client] = httpx.Client
    monkeypatch.setattr(
        login.httpx,
        "Client",
        lambda **options: real(**options, transport=httpx.MockTransport(fake.answer)),
    )
    return fake


def stored(layout: Layout) -> Server:
    return credentials.load().servers[layout.api_url]


def test_the_first_start_makes_a_key_and_the_next_keeps_it(layout: Layout, api: Api) -> None:
    assert ensure_login(layout) == ensure_login(layout)
    assert ensure_login(layout).is_default
    assert api.keys == ["secret-0"]
    assert stored(layout).api_key == "secret-0"
    assert credentials.load().default == layout.api_url


def test_a_key_that_works_no_more_is_replaced(layout: Layout, api: Api) -> None:
    ensure_login(layout)
    api.keys[0] = "revoked"
    ensure_login(layout)
    assert stored(layout).api_key == "secret-1"


def test_an_owner_who_is_not_there_yet_is_waited_for(layout: Layout, api: Api) -> None:
    api.refusals = 2
    assert ensure_login(layout).problem is None
    assert stored(layout).api_key == "secret-0"


def test_a_changed_password_is_said_and_the_start_goes_on(layout: Layout, api: Api) -> None:
    api.password = "changed"
    found = ensure_login(layout, patience_s=0)
    assert found.problem == "the owner's password is no longer the first one"


def test_another_server_stays_the_default(layout: Layout, api: Api) -> None:
    credentials.save_server(server=Server(url="https://work.example", api_key="x"))
    assert not ensure_login(layout).is_default
    assert credentials.load().default == "https://work.example"
    assert stored(layout).api_key == "secret-0"


def test_an_older_local_stack_hands_the_default_over(layout: Layout, api: Api) -> None:
    credentials.save_server(server=Server(url="http://127.0.0.1:1", api_key="x"))
    assert ensure_login(layout).is_default


def test_a_damaged_credentials_file_does_not_stop_the_stack(layout: Layout, api: Api) -> None:
    path = credentials.credentials_path()
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert "is damaged" in (ensure_login(layout).problem or "")
    assert path.read_text() == "{"
