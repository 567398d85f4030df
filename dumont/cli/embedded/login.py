"""Logs this user's command line in to the stack that was just started here."""

from __future__ import annotations

from enum import Enum, auto
from urllib.parse import urlsplit

import httpx

from dumont.cli import credentials
from dumont.cli.credentials import Server
from dumont.cli.embedded.layout import Layout
from dumont.domain.errors import DumontError
from dumont.domain.resources import ApiKeyCreate, ApiKeyCreated, Tokens

_KEY_NAME = "command line of the machine it runs on"


class Login(Enum):
    """What became of it."""

    READY = auto()
    """`dumont` talks to this stack."""
    NOT_DEFAULT = auto()
    """Logged in, but the user's default is another server."""
    FAILED = auto()
    """The owner's password was changed, or the credentials file cannot be used."""


def ensure_login(layout: Layout) -> Login:
    """Give the command line an API key of the owner, unless the one it has still works."""
    url = layout.api_url
    try:
        known = credentials.load()
        with httpx.Client(base_url=layout.api_local_url, timeout=10, trust_env=False) as client:
            old = known.servers.get(url)
            if old is None or not old.api_key or not _works(client, old.api_key):
                key = _new_key(client, layout)
                server = Server(url=url, email=layout.owner_email, api_key=key)
                credentials.save_server(server=server, make_default=_is_ours(known.default))
        default = credentials.load().default
    except (DumontError, httpx.HTTPError):
        return Login.FAILED
    return Login.READY if default == url else Login.NOT_DEFAULT


def _is_ours(default: str | None) -> bool:
    """A default on this machine was a stack like this one; another server stays the default."""
    return default is None or urlsplit(default).hostname in ("127.0.0.1", "localhost", "::1")


def _works(client: httpx.Client, key: str) -> bool:
    answer = client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {key}"})
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
