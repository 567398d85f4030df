"""Who asks, and whether they may: credentials, scopes, and where a browser's request came from.

Three credentials are taken: an access token or an API key as `Authorization: Bearer`, and the
dashboard's session cookie. A cookie travels by itself, so with it a write must also come from our
own pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, get_args
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from api.services import Services
from dumont.config import Settings
from dumont.db.users import User
from dumont.domain.errors import Forbidden, Unauthenticated
from dumont.domain.resources import Scope
from dumont.security.tokens import TokenKind, digest

COOKIE: Final = "dumont_session"
ALL_SCOPES: Final[frozenset[str]] = frozenset(get_args(Scope))

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="An access token from `POST /auth/login`, or an API key (`dmt_...`).",
)
_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description="The dashboard's session, set by `POST /auth/login`.",
)


class Principal(NamedTuple):
    """Whoever asks."""

    user: User
    scopes: frozenset[str]
    session_id: str | None
    """None for an API key."""
    actor: str
    """Who it was, for event logs."""


def services_of(request: Request) -> Services:
    """The parts of this process."""
    services: Services = request.app.state.services
    return services


Parts = Annotated[Services, Depends(services_of)]


async def authenticate(
    request: Request,
    services: Parts,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Principal:
    """Who asks.

    Raises:
        Unauthenticated: No valid credentials.
        Forbidden: A cookie came with a write from another site's page.
    """
    now = datetime.now(UTC)
    if bearer is not None:
        if bearer.credentials.startswith(TokenKind.API_KEY.value):
            return await _by_api_key(services, bearer.credentials, now)
        claims = services.access_tokens.verify(bearer.credentials)
        session = await services.sessions.by_id(claims.session_id, at=now)
    elif cookie:
        check_origin(request, services.settings)
        session = await services.sessions.by_cookie(digest(cookie), at=now)
    else:
        raise Unauthenticated(
            "this needs a log-in",
            hint="send `Authorization: Bearer` with an access token or an API key: dumont login",
        )
    if session is None:
        raise Unauthenticated("the session has ended", hint="log in again: dumont login")
    return Principal(session.user, ALL_SCOPES, session.session_id, session.user.email)


async def _by_api_key(services: Services, secret: str, now: datetime) -> Principal:
    holder = await services.api_keys.by_digest(digest(secret), at=now)
    if holder is None:
        raise Unauthenticated("the API key is unknown, revoked or expired", hint="make a new one")
    actor = f"{holder.user.email} (API key {holder.key_id})"
    return Principal(holder.user, holder.scopes, None, actor)


def check_origin(request: Request, settings: Settings) -> None:
    """Refuse a browser's write that does not come from our own pages.

    Raises:
        Forbidden: The `Origin` is another site's, or missing.
    """
    if request.method in _SAFE:
        return
    origin = request.headers.get("origin")
    ours = {_origin(settings.api_url), f"{request.url.scheme}://{request.headers.get('host')}"}
    if request.url.path.startswith("/api/v1/codec/") and settings.temporal_ui_url:
        ours.add(_origin(settings.temporal_ui_url))
    if origin not in ours:
        raise Forbidden(
            f"a write with a session cookie must come from {settings.api_url}, not from "
            f"{origin or 'an unnamed origin'}",
            hint="programs use `Authorization: Bearer` instead of the cookie",
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def require(*scopes: Scope) -> Callable[..., Awaitable[Principal]]:
    """A dependency: credentials with all of these scopes.

    Raises:
        Forbidden: A scope is missing.
    """

    async def allowed(principal: Annotated[Principal, Depends(authenticate)]) -> Principal:
        missing = sorted(set(scopes) - principal.scopes)
        if missing:
            raise Forbidden(
                f"this API key lacks the scope {missing[0]!r}",
                hint="make a key that has it, or log in",
            )
        return principal

    return allowed


Anyone = Annotated[Principal, Depends(require())]
MachinesReader = Annotated[Principal, Depends(require("machines:read"))]
MachinesWriter = Annotated[Principal, Depends(require("machines:write"))]
OffersReader = Annotated[Principal, Depends(require("offers:read"))]
AccountWriter = Annotated[Principal, Depends(require("account:write"))]
CodecUser = Annotated[Principal, Depends(require("codec:decode"))]

NEEDS_LOGIN: Final[tuple[str, ...]] = ("unauthenticated", "forbidden", "dependency_unavailable")
"""Errors that every route with credentials may answer."""
