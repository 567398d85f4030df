"""Logging in, staying logged in, logging out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Depends, Request, Response

from api.auth import COOKIE, NEEDS_LOGIN, Anyone, Parts, check_origin
from api.errors import documented
from api.services import Services
from dumont.db.sessions import Session
from dumont.domain.errors import Forbidden, InvalidInput, TooManyAttempts, Unauthenticated
from dumont.domain.resources import Login, PasswordChange, Refresh, Tokens, UserView
from dumont.security.tokens import Claims, TokenKind, digest, new_token

router = APIRouter(prefix="/auth", tags=["auth"])

_WINDOW: Final = timedelta(minutes=15)
_PER_NAME: Final = 10
"""Attempts from one address for one name in a window."""
_PER_ADDRESS: Final = 60
"""Attempts from one address for whatever names."""


def _same_site(request: Request, services: Parts) -> None:
    """A browser may log in from our own pages only; programs send no Origin."""
    if "origin" in request.headers:
        check_origin(request, services.settings)


@router.post(
    "/login",
    dependencies=[Depends(_same_site)],
    responses=documented("unauthenticated", "too_many_attempts", "invalid_input", "forbidden")
    | documented("dependency_unavailable"),
)
async def login(body: Login, request: Request, response: Response, services: Parts) -> Tokens:
    """Log in with e-mail and password.

    Answers with tokens for programs and sets the session cookie for the dashboard.
    """
    now = datetime.now(UTC)
    buckets = await _limit(services, request, body.email, now)
    found = await services.users.by_email(body.email)
    stored = found[1] if found is not None else None
    if not await services.passwords.verify(stored, body.password) or found is None:
        services.metrics.logins.labels("refused").inc()
        raise Unauthenticated(
            "e-mail or password is wrong",
            hint="the first owner's password is in the API's log, or in <state>/owner-password",
        )
    await _forgive(services, buckets, now)
    cookie, refresh = new_token(TokenKind.COOKIE), new_token(TokenKind.REFRESH)
    session = await services.sessions.open(
        found[0],
        cookie_digest=cookie.digest,
        refresh_digest=refresh.digest,
        at=now,
        life=services.session_life,
    )
    services.metrics.logins.labels("ok").inc()
    response.set_cookie(
        COOKIE,
        cookie.text,
        max_age=services.settings.refresh_token_s,
        httponly=True,
        samesite="strict",
        secure=services.settings.api_url.startswith("https://"),
    )
    return _tokens(services, session, refresh.text, now)


@router.post(
    "/refresh",
    responses=documented("unauthenticated", "invalid_input", "dependency_unavailable"),
)
async def refresh(body: Refresh, services: Parts) -> Tokens:
    """Exchange a refresh token for new tokens.

    Each refresh token is good once. Using one a second time ends the session: somebody else has it.
    """
    now = datetime.now(UTC)
    new = new_token(TokenKind.REFRESH)
    session = await services.sessions.exchange(
        digest(body.refresh_token), new_digest=new.digest, at=now, life=services.session_life
    )
    return _tokens(services, session, new.text, now)


@router.post(
    "/logout",
    status_code=204,
    responses=documented("invalid_input", "forbidden", "dependency_unavailable"),
)
async def logout(
    request: Request, response: Response, services: Parts, body: Refresh | None = None
) -> None:
    """Log out: end the session of the refresh token, or of the cookie. Asking twice is the same."""
    now = datetime.now(UTC)
    if body is not None:
        await services.sessions.end_by_refresh(digest(body.refresh_token), at=now)
    cookie = request.cookies.get(COOKIE)
    if cookie:
        check_origin(request, services.settings)
        session = await services.sessions.by_cookie(digest(cookie), at=now)
        if session is not None:
            await services.sessions.end(session.session_id, at=now)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.post(
    "/password",
    status_code=204,
    responses=documented(*NEEDS_LOGIN, "invalid_input", "too_many_attempts"),
)
async def change_password(
    body: PasswordChange, request: Request, principal: Anyone, services: Parts
) -> None:
    """Change your password. Logs you out everywhere else; API keys stay."""
    now = datetime.now(UTC)
    if principal.session_id is None:
        raise Forbidden("a password is changed by the person who knows it, not by an API key")
    buckets = await _limit(services, request, principal.user.email, now)
    found = await services.users.by_email(principal.user.email)
    if found is None or not await services.passwords.verify(found[1], body.current_password):
        raise InvalidInput("this is not your password now", field="current_password")
    await _forgive(services, buckets, now)
    await services.users.set_password(
        principal.user.user_id, password_hash=await services.passwords.hash(body.new_password)
    )
    await services.sessions.end_others(principal.user.user_id, keep=principal.session_id, at=now)


@router.get("/me", responses=documented(*NEEDS_LOGIN))
async def me(principal: Anyone) -> UserView:
    """Who these credentials belong to."""
    user = principal.user
    return UserView(user_id=user.user_id, email=user.email, is_admin=user.is_admin)


async def _limit(
    services: Services, request: Request, email: str, now: datetime
) -> tuple[str, str]:
    address = request.client.host if request.client is not None else "unknown"
    buckets = (f"{address} {email.strip().lower()}", address)
    for bucket, limit in zip(buckets, (_PER_NAME, _PER_ADDRESS), strict=True):
        count, ends_at = await services.login_failures.count(bucket, at=now, window=_WINDOW)
        if count > limit:
            services.metrics.logins.labels("limited").inc()
            raise TooManyAttempts(
                "too many failed log-ins", retry_after=(ends_at - now).total_seconds()
            )
    return buckets


async def _forgive(services: Services, buckets: tuple[str, str], now: datetime) -> None:
    for bucket in buckets:
        await services.login_failures.forgive(bucket, at=now)


def _tokens(services: Services, session: Session, refresh: str, now: datetime) -> Tokens:
    claims = Claims(user_id=session.user.user_id, session_id=session.session_id)
    return Tokens(
        access_token=services.access_tokens.issue(claims, now=now),
        refresh_token=refresh,
        expires_in=services.access_tokens.lifetime_s,
    )
