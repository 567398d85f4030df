"""Who may do what: log-ins, tokens, cookies, API keys, scopes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select, update

from api.auth import COOKIE
from dumont.db.sessions import RETRY_GRACE
from dumont.db.tables import refresh_tokens, sessions, users
from dumont.security.tokens import AccessTokens, Claims
from tests.integration.api.conftest import EMAIL, PASSWORD, PUBLIC_KEY, Running, Session

OPEN = {
    # Vast.ai can show nothing but its address, which is a secret; the body is not read.
    ("POST", "/api/v1/webhooks/vast/{secret}"),
    ("POST", "/api/v1/auth/login"),
    ("POST", "/api/v1/auth/refresh"),
    ("POST", "/api/v1/auth/logout"),
    ("GET", "/api/v1/health/live"),
    ("GET", "/api/v1/health/ready"),
    ("GET", "/api/v1/meta"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/metrics"),
}
"""Routes without credentials: they prove who asks, or hold nothing of anybody's."""


def _operations(api: Running) -> list[tuple[str, str]]:
    paths = api.app.openapi()["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item]


async def test_every_route_needs_credentials_unless_it_is_named_here(api: Running):
    guarded = [operation for operation in _operations(api) if operation not in OPEN]
    assert len(guarded) > 12
    for method, path in guarded:
        url = path.replace("{machine}", "my-box").replace("{key_id}", "k1")
        answer = await api.http.request(method, url, json={})
        assert answer.status_code == 401, (method, path, answer.text)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "unauthenticated"


async def test_no_write_is_hidden_from_the_description(api: Running):
    """A route that OpenAPI does not show could slip past the test above."""
    described = set(_operations(api))
    found = {
        (method, context.path)
        for context in iter_route_contexts(api.app.routes)
        for method in context.methods or ()
    }
    assert {route for route in found if route[0] not in ("GET", "HEAD")} <= described
    assert described <= found | {("GET", "/api/v1/openapi.json")}


async def test_the_description_names_the_credentials_of_each_route(api: Running):
    for path, item in api.app.openapi()["paths"].items():
        for method, operation in item.items():
            is_open = (method.upper(), path) in OPEN
            assert bool(operation.get("security")) != is_open, (method, path)


@pytest.mark.parametrize(
    ("email", "password"), [(EMAIL, "wrong"), ("nobody@example.com", PASSWORD), (EMAIL, " ")]
)
async def test_a_wrong_log_in_does_not_say_what_was_wrong(api: Running, email: str, password: str):
    refused = await api.login(email=email, password=password)
    assert refused.status_code == 401
    assert refused.json()["detail"] == "e-mail or password is wrong"
    assert "set-cookie" not in refused.headers


async def test_the_name_is_taken_as_people_type_it(api: Running):
    assert (await api.login(email=f" {EMAIL.upper()} ")).status_code == 200


async def test_guessing_is_stopped_and_others_may_still_log_in(api: Running):
    for _ in range(10):
        assert (await api.login(password="guess")).status_code == 401
    stopped = await api.login()
    assert stopped.status_code == 429
    assert stopped.json()["code"] == "too_many_attempts"
    assert 0 < int(stopped.headers["retry-after"]) <= 15 * 60
    assert (await api.login(email="other@example.com")).status_code == 401


async def test_parallel_guesses_do_not_slip_through(api: Running):
    answers = await asyncio.gather(*(api.login(password="guess") for _ in range(25)))
    assert [a.status_code for a in answers].count(401) == 10


async def test_logging_in_often_is_no_guessing(api: Running):
    for _ in range(15):
        assert (await api.login()).status_code == 200


async def test_a_refresh_token_is_good_once_and_its_thief_ends_the_session(api: Running):
    tokens = (await api.login()).json()
    new = await _refresh(api, tokens["refresh_token"])
    assert new.status_code == 200
    assert new.json()["refresh_token"] != tokens["refresh_token"]
    mine = Session(api, new.json()["access_token"])
    assert (await mine.get("/auth/me")).json()["email"] == EMAIL

    await _pass_time(api, RETRY_GRACE + timedelta(seconds=1))
    assert (await _refresh(api, tokens["refresh_token"])).status_code == 401
    assert (await _refresh(api, new.json()["refresh_token"])).status_code == 401
    assert (await mine.get("/auth/me")).status_code == 401
    async with api.services.database.transaction() as connection:
        why = await connection.scalar(select(sessions.c.revoked_because))
    assert why == "a refresh token was used twice"


async def test_a_client_whose_answer_was_lost_may_ask_again_at_once(api: Running):
    tokens = (await api.login()).json()
    lost = await _refresh(api, tokens["refresh_token"])
    again = await _refresh(api, tokens["refresh_token"])
    assert again.status_code == 200
    assert (await _refresh(api, again.json()["refresh_token"])).status_code == 200
    # Now that a successor was used, nobody lost an answer: this is a copy.
    assert (await _refresh(api, tokens["refresh_token"])).status_code == 401
    assert (await _refresh(api, lost.json()["refresh_token"])).status_code == 401


async def test_a_session_ends_when_it_is_not_used(api: Running):
    tokens = (await api.login()).json()
    async with api.services.database.transaction() as connection:
        await connection.execute(update(sessions).values(expires_at=datetime.now(UTC)))
    assert (await _refresh(api, tokens["refresh_token"])).status_code == 401
    assert (await Session(api, tokens["access_token"]).get("/auth/me")).status_code == 401


async def test_logging_out_ends_every_credential_of_the_session_at_once(api: Running):
    answer = await api.http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
    tokens, cookie = answer.json(), answer.cookies[COOKIE]
    api.http.cookies.clear()
    for _ in range(2):
        left = await api.http.post(
            "/api/v1/auth/logout", json={"refresh_token": tokens["refresh_token"]}
        )
        assert left.status_code == 204
    assert (await Session(api, tokens["access_token"]).get("/auth/me")).status_code == 401
    assert (await _refresh(api, tokens["refresh_token"])).status_code == 401
    with_cookie = await api.http.get("/api/v1/auth/me", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert with_cookie.status_code == 401


async def test_an_expired_or_foreign_access_token_is_refused(api: Running, owner: Session):
    tokens = api.services.access_tokens
    claims = tokens.verify(owner.token)
    old = tokens.issue(claims, now=datetime.now(UTC) - timedelta(hours=1))
    expired = await Session(api, old).get("/auth/me")
    assert expired.status_code == 401
    assert "expired" in expired.json()["detail"]
    for issuer in ("dumont/prod", "dumont/other"):
        from dumont.security.keys import load_or_create_keys

        keys = load_or_create_keys(api.settings.keys_path).token
        foreign = AccessTokens(keys, issuer=issuer, lifetime_s=900).issue(claims)
        assert (await Session(api, foreign).get("/auth/me")).status_code == 401
    for nonsense in ("x", "a.b.c", owner.token[:-2] + "xx"):
        assert (await Session(api, nonsense).get("/auth/me")).status_code == 401
    nobody = tokens.issue(Claims(user_id="u0", session_id="s0"))
    assert (await Session(api, nobody).get("/auth/me")).status_code == 401


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(api: Running):
    answer = await api.http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
    (cookie,) = answer.headers.get_list("set-cookie")
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert answer.cookies[COOKIE] not in answer.text


async def test_a_write_with_the_cookie_must_come_from_our_pages(api: Running):
    await api.http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert (await api.http.get("/api/v1/auth/me")).status_code == 200
    body = {"name": "laptop", "public_key": PUBLIC_KEY}
    ours = str(api.http.base_url).rstrip("/")
    for origin, status in (
        (None, 403),
        ("null", 403),
        ("https://evil.example", 403),
        ("http://127.0.0.1:8233", 403),
        (ours, 201),
        (api.settings.api_url, 200),
    ):
        headers = {"Origin": origin} if origin else {}
        answer = await api.http.post("/api/v1/ssh-keys", json=body, headers=headers)
        assert answer.status_code == status, (origin, answer.text)
    evil = await api.http.post(
        "/api/v1/auth/login",
        json={"email": EMAIL, "password": PASSWORD},
        headers={"Origin": "https://evil.example"},
    )
    assert evil.status_code == 403
    out = await api.http.post("/api/v1/auth/logout", headers={"Origin": ours})
    assert out.status_code == 204
    assert (await api.http.get("/api/v1/auth/me")).status_code == 401


async def test_a_key_does_what_its_scopes_say_and_no_more(owner: Session):
    reader = await owner.api_key("machines:read")
    assert (await reader.get("/machines")).status_code == 200
    refused = await reader.delete("/machines/my-box")
    assert refused.status_code == 403
    assert "machines:write" in refused.json()["detail"]
    for method, path in (("GET", "/offers"), ("POST", "/ssh-keys"), ("POST", "/api-keys")):
        body = {"name": "x", "public_key": "x"} if path == "/ssh-keys" else None
        assert (await reader.call(method, path, json=body)).status_code in (403, 422)
    keeper = await owner.api_key("account:write")
    more = await keeper.post("/api-keys", {"name": "more", "scopes": ["machines:write"]})
    assert more.status_code == 403
    same = await keeper.post("/api-keys", {"name": "same", "scopes": ["account:write"]})
    assert same.status_code == 201


async def test_a_revoked_key_opens_nothing(api: Running, owner: Session):
    lasting = await owner.api_key("machines:read")
    assert (await lasting.get("/machines")).status_code == 200
    listed = (await owner.get("/api-keys")).json()
    used = {key["key_id"]: key["last_used_at"] for key in listed}
    assert sum(at is not None for at in used.values()) == 1
    assert not any("secret" in key for key in listed)
    for key in listed:
        assert (await owner.delete(f"/api-keys/{key['key_id']}")).status_code == 204
    assert (await lasting.get("/machines")).status_code == 401
    assert (await owner.delete(f"/api-keys/{listed[0]['key_id']}")).status_code == 404
    past = await owner.post(
        "/api-keys",
        {"name": "x", "scopes": ["machines:read"], "expires_at": "2020-01-01T00:00:00Z"},
    )
    assert (past.status_code, past.json()["field"]) == (422, "expires_at")


async def test_an_expired_key_opens_nothing(api: Running, owner: Session):
    from dumont.db.tables import api_keys

    key = await owner.api_key("machines:read")
    assert (await key.get("/machines")).status_code == 200
    async with api.services.database.transaction() as connection:
        await connection.execute(update(api_keys).values(expires_at=datetime.now(UTC)))
    assert (await key.get("/machines")).status_code == 401


async def test_another_users_keys_are_not_there(api: Running, owner: Session):
    await owner.post("/ssh-keys", {"name": "laptop", "public_key": PUBLIC_KEY})
    await owner.api_key("machines:read")
    other = await api.somebody_else()
    for kind in ("ssh-keys", "api-keys"):
        (mine,) = (await owner.get(f"/{kind}")).json()
        assert (await other.get(f"/{kind}")).json() == []
        assert (await other.delete(f"/{kind}/{mine['key_id']}")).status_code == 404
        assert len((await owner.get(f"/{kind}")).json()) == 1


async def test_a_stored_key_is_stored_once_and_forgotten_on_request(owner: Session):
    first = await owner.post("/ssh-keys", {"name": "laptop", "public_key": PUBLIC_KEY})
    second = await owner.post("/ssh-keys", {"name": "again", "public_key": f"{PUBLIC_KEY} me"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert first.json()["fingerprint"].startswith("SHA256:")
    assert (await owner.delete(f"/ssh-keys/{first.json()['key_id']}")).status_code == 204
    assert (await owner.get("/ssh-keys")).json() == []


async def test_nothing_that_opens_a_door_is_stored_readable(api: Running, owner: Session):
    key = await owner.api_key("machines:read")
    async with api.services.database.transaction() as connection:
        stored = ""
        for table in ("users", "sessions", "refresh_tokens", "api_keys"):
            stored += str((await connection.exec_driver_sql(f"SELECT * FROM {table}")).all())
        password = await connection.scalar(select(users.c.password_hash))
    assert key.token not in stored
    assert PASSWORD not in stored
    assert password.startswith("$argon2id$")


async def test_a_changed_password_ends_every_other_session(api: Running, owner: Session):
    elsewhere = await api.owner()
    new = "an even longer battery staple"

    async def change(session: Session, current: str, password: str = new) -> Any:
        body = {"current_password": current, "new_password": password}
        return await session.post("/auth/password", body)

    wrong = await change(owner, "guess")
    assert (wrong.status_code, wrong.json()["field"]) == (422, "current_password")
    short = await change(owner, PASSWORD, "short")
    assert (short.status_code, short.json()["field"]) == (422, "new_password")
    assert (await change(await owner.api_key("account:write"), PASSWORD)).status_code == 403
    assert (await change(owner, PASSWORD)).status_code == 204
    assert (await owner.get("/auth/me")).status_code == 200
    assert (await elsewhere.get("/auth/me")).status_code == 401
    assert (await api.login()).status_code == 401
    assert (await api.login(password=new)).status_code == 200


async def _refresh(api: Running, token: str) -> Any:
    return await api.http.post("/api/v1/auth/refresh", json={"refresh_token": token})


async def _pass_time(api: Running, by: timedelta) -> None:
    """Let stored uses be older, instead of waiting."""
    async with api.services.database.transaction() as connection:
        await connection.execute(
            update(refresh_tokens).values(used_at=refresh_tokens.c.used_at - by)
        )
