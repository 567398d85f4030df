"""The client on the wire: tokens renew themselves, reads are patient, errors say what is wrong."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.responses import HTMLResponse, RedirectResponse

from dumont.cli import credentials
from dumont.cli.client import Api
from dumont.cli.credentials import Server, TokenPair
from dumont.domain.errors import (
    BY_CODE,
    Conflict,
    DependencyUnavailable,
    DumontError,
    InsufficientCredit,
    InvalidInput,
    RateLimited,
    Unauthenticated,
)
from dumont.domain.resources import MachineCreate
from tests.unit.cli.fake_api import FakeApi, problem

BOX = MachineCreate.model_validate(
    {"name": "my-box", "requirement": {"gpu": "4090", "max_usd_per_hour": 0.6}}
)


def api_of(fake: FakeApi, *, waits: list[float] | None = None) -> Api:
    waited = waits if waits is not None else []
    return Api(server=Server(url=fake.url, api_key="key-1"), sleep=waited.append)


def logged_in(fake: FakeApi, *, access: str, expires_in: float) -> Server:
    fake.refresh_tokens.add("refresh-0")
    pair = TokenPair(
        access_token=access,
        refresh_token="refresh-0",
        expires_at=datetime.now(UTC) + timedelta(seconds=expires_in),
    )
    server = Server(url=fake.url, tokens=pair)
    credentials.save_server(server=server)
    return server


def test_a_read_waits_as_long_as_the_server_asks(fake: FakeApi) -> None:
    busy = problem(503, "dependency_unavailable", "no database", headers={"Retry-After": "2"})
    fake.answer_once("GET", "/auth/me", busy)
    fake.answer_once("GET", "/auth/me", busy)
    waits: list[float] = []
    assert api_of(fake, waits=waits).me().email == "owner@dumont.local"
    assert waits == [2.0, 2.0]


def test_a_read_gives_up_rather_than_hang(fake: FakeApi) -> None:
    fake.answer_once(
        "GET",
        "/offers",
        problem(503, "provider_rate_limited", "slow", headers={"Retry-After": "60"}),
    )
    waits: list[float] = []
    with pytest.raises(RateLimited):
        api_of(fake, waits=waits).offers(gpu="RTX 4090")
    assert waits == []


def test_a_create_is_repeated_under_one_key(fake: FakeApi) -> None:
    fake.answer_once(
        "POST", "/machines", problem(503, "dependency_unavailable", "Temporal is not there yet")
    )
    api_of(fake).create_machine(machine=BOX, idempotency_key="k-1")
    calls = fake.called("POST", "/machines")
    assert [headers["idempotency-key"] for _, headers in calls] == ["k-1", "k-1"]
    assert len(fake.machines) == 1


def test_what_is_not_repeatable_is_sent_once(fake: FakeApi) -> None:
    from dumont.domain.resources import SshKeyCreate

    fake.answer_once("POST", "/ssh-keys", problem(503, "dependency_unavailable", "no database"))
    with pytest.raises(DependencyUnavailable):
        api_of(fake).add_ssh_key(key=SshKeyCreate(name="k", public_key="ssh-ed25519 AAAA"))
    assert len(fake.called("POST", "/ssh-keys")) == 1


def test_a_refused_token_is_renewed_once_and_kept(fake: FakeApi) -> None:
    server = logged_in(fake, access="revoked", expires_in=900)
    assert Api(server=server).me().user_id == "u1"
    kept = credentials.resolve().tokens
    assert kept is not None
    assert kept.access_token in fake.tokens
    assert kept.refresh_token in fake.refresh_tokens


def test_a_token_about_to_end_is_renewed_before_it_is_sent(fake: FakeApi) -> None:
    server = logged_in(fake, access="old", expires_in=3)
    Api(server=server).me()
    sent = [headers["authorization"] for _, headers in fake.called("GET", "/auth/me")]
    assert sent == ["Bearer access-1"]


def test_commands_at_once_spend_the_refresh_token_once(fake: FakeApi) -> None:
    server = logged_in(fake, access="revoked", expires_in=900)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: Api(server=server).me().user_id, range(6)))
    assert results == ["u1"] * 6
    assert len(fake.called("POST", "/auth/refresh")) == 1


def test_a_login_that_ended_says_so(fake: FakeApi) -> None:
    server = logged_in(fake, access="revoked", expires_in=900)
    fake.refresh_tokens.clear()
    with pytest.raises(Unauthenticated, match="has ended") as caught:
        Api(server=server).me()
    assert "dumont login" in str(caught.value.hint)


def test_the_environments_key_is_never_written_down(
    user: FakeApi, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUMONT_API_KEY", "wrong")
    with pytest.raises(Unauthenticated):
        Api(server=credentials.resolve()).me()
    assert not credentials.credentials_path().exists()


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_code_of_a_problem_becomes_its_error(fake: FakeApi, code: str) -> None:
    fake.answer_once("GET", "/auth/me", problem(418, code, "so it is", field="gpu", hint="do this"))
    with pytest.raises(DumontError) as caught:
        api_of(fake).me()
    assert type(caught.value) is BY_CODE[code]
    assert (caught.value.message, caught.value.field, caught.value.hint) == (
        "so it is",
        "gpu",
        "do this",
    )


def test_a_newer_servers_code_is_still_an_error_with_its_words(fake: FakeApi) -> None:
    fake.answer_once(
        "GET", "/auth/me", problem(409, "brand_new", "cannot hibernate", request_id="r-1")
    )
    with pytest.raises(DumontError, match=r"cannot hibernate \(request r-1\)"):
        api_of(fake).me()


def test_html_is_no_answer(fake: FakeApi) -> None:
    fake.answer_once("GET", "/auth/me", HTMLResponse("<h1>Bad gateway</h1>", 502))
    with pytest.raises(DependencyUnavailable, match="502") as caught:
        api_of(fake).me()
    assert "proxy" in str(caught.value.hint)
    fake.answer_once("GET", "/auth/me", HTMLResponse("<h1>Welcome</h1>", 200))
    with pytest.raises(DependencyUnavailable, match="does not understand"):
        api_of(fake).me()


def test_a_redirect_is_not_followed_with_the_key(fake: FakeApi) -> None:
    fake.answer_once("GET", "/auth/me", RedirectResponse("https://elsewhere.example/"))
    with pytest.raises(DependencyUnavailable, match=r"elsewhere\.example"):
        api_of(fake).me()


def test_nobody_listening_fails_at_once_and_says_what_to_start(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    waits: list[float] = []
    with pytest.raises(DependencyUnavailable, match="nothing answers") as caught:
        Api(server=Server(url=url, api_key="k"), sleep=waits.append).me()
    assert "dumont demo" in str(caught.value.hint)
    assert waits == []


@pytest.mark.parametrize("ref", ["../auth/me", "..", ".", "", "a/b", "a%2Fb", "a?b", "ünder"])
def test_names_typed_by_people_cannot_reach_another_resource(fake: FakeApi, ref: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        api_of(fake).machine(ref=ref)
    assert caught.value.field == "name"
    assert fake.requests == []


def test_lists_are_read_to_their_end(fake: FakeApi) -> None:
    for number in range(450):
        fake.add_machine(f"box-{number}")
    api = api_of(fake)
    assert len(list(api.machines())) == 450
    assert len(list(api.machines(limit=210))) == 210


def test_errors_that_carry_money_keep_their_class(fake: FakeApi) -> None:
    fake.answer_once("POST", "/machines", problem(402, "insufficient_credit", "no credit"))
    with pytest.raises(InsufficientCredit):
        api_of(fake).create_machine(machine=BOX, idempotency_key="k")
    fake.add_machine("my-box")
    with pytest.raises(Conflict):
        api_of(fake).create_machine(machine=BOX, idempotency_key="k2")
