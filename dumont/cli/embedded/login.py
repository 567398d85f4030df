"""Logs this user's command line in to the stack that was just started here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from dumont.cli import credentials
from dumont.cli.credentials import Server
from dumont.cli.embedded.layout import Layout
from dumont.domain.errors import DumontError
from dumont.domain.resources import ApiKeyCreate, ApiKeyCreated, Tokens

_KEY_NAME = "command line of the machine it runs on"


@dataclass(frozen=True, kw_only=True)
class Login:
    """What became of it."""

    is_default: bool = True
    """False when the user's default is another server."""
    problem: str | None = None
    """Why it failed."""


def ensure_login(layout: Layout, *, patience_s: float = 10.0) -> Login:
    """Give the command line an API key of the owner, unless the one it has still works.

    Args:
        layout: The stack, with its API running.
        patience_s: The API makes its first owner when everything else is up, so that a refusal at
            the very first start may be a moment too early.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _ensure_login(layout)
        except DumontError as error:
            return Login(problem=error.message)
        except (httpx.HTTPError, ValidationError) as error:
            if time.monotonic() > deadline:
                return Login(problem=_describe(error))
            time.sleep(0.25)


def _ensure_login(layout: Layout) -> Login:
    url = credentials.normal_url(url=layout.api_url)
    known = credentials.load()
    with httpx.Client(base_url=layout.api_local_url, timeout=10, trust_env=False) as client:
        old = known.servers.get(url)
        if old is None or not old.api_key or not _works(client, old.api_key):
            key = _new_key(client, layout)
            server = Server(url=url, email=layout.owner_email, api_key=key)
            credentials.save_server(server=server, make_default=_is_ours(known.default))
    return Login(is_default=credentials.load().default == url)


def _describe(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 401:
        return "the owner's password is no longer the first one"
    return str(error).splitlines()[0]


def _is_ours(default: str | None) -> bool:
    """A default on this machine was a stack like this one; another server stays the default."""
    return default is None or urlsplit(default).hostname in ("127.0.0.1", "localhost", "::1")


def _works(client: httpx.Client, key: str) -> bool:
    answer = client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {key}"})
    if answer.is_server_error:
        answer.raise_for_status()  # it says nothing about the key
    return answer.is_success


def _new_key(client: httpx.Client, layout: Layout) -> str:
    answer = client.post(
        "/api/v1/auth/login",
        json={"email": layout.owner_email, "password": layout.owner_password},
    )
    tokens = Tokens.model_validate(answer.raise_for_status().json())
    wish = ApiKeyCreate(
        name=_KEY_NAME,
        scopes=["machines:read", "machines:write", "offers:read", "account:write"],
    )
    answer = client.post(
        "/api/v1/api-keys",
        json=wish.model_dump(mode="json"),
        headers={"Authorization": f"Bearer {tokens.access_token}"},
    )
    return ApiKeyCreated.model_validate(answer.raise_for_status().json()).secret
