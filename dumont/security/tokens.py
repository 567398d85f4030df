"""Tokens: signed access tokens that live for minutes, and random ones that are looked up by digest.

A random token has 256 bits, so a plain SHA-256 of it is enough to store: there is nothing to guess.
Its prefix says what it is, to us and to tools that look for leaked secrets.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

import jwt

from dumont.domain.errors import Unauthenticated
from dumont.security.keys import NamedKey

_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "dumont-api"
_LEEWAY_S: Final = 5


class TokenKind(StrEnum):
    """Random tokens by their prefix."""

    API_KEY = "dmt_"
    REFRESH = "dmtr_"
    COOKIE = "dmts_"


class NewToken(NamedTuple):
    """A token to hand out once, and what to store of it."""

    text: str
    digest: bytes


def new_token(kind: TokenKind) -> NewToken:
    """A fresh random token."""
    text = kind.value + secrets.token_urlsafe(32)
    return NewToken(text, digest(text))


def digest(token: str) -> bytes:
    """What is stored of a random token, and by what it is found again."""
    return hashlib.sha256(token.encode()).digest()


class Claims(NamedTuple):
    """What an access token says."""

    user_id: str
    session_id: str


class AccessTokens:
    """Issues and verifies access tokens (JWT, HMAC-SHA256).

    Args:
        keys: Newest first; the first one signs.
        issuer: Name of this deployment; tokens of another one are refused.
        lifetime_s: How long a token is good for, seconds.
    """

    def __init__(self, keys: Sequence[NamedKey], *, issuer: str, lifetime_s: int) -> None:
        self._keys = {key.key_id: key.key for key in keys}
        self._signing = keys[0].key_id
        self._issuer = issuer
        self.lifetime_s = lifetime_s

    def issue(self, claims: Claims, *, now: datetime | None = None) -> str:
        """A signed token for one session of a user."""
        at = now or datetime.now(UTC)
        return jwt.encode(
            {
                "iss": self._issuer,
                "aud": _AUDIENCE,
                "sub": claims.user_id,
                "sid": claims.session_id,
                "iat": at,
                "exp": at + timedelta(seconds=self.lifetime_s),
            },
            self._keys[self._signing],
            algorithm=_ALGORITHM,
            headers={"kid": self._signing},
        )

    def verify(self, token: str) -> Claims:
        """What a token says, if we signed it and it is still good.

        Raises:
            Unauthenticated: It expired, or is none of ours.
        """
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise jwt.InvalidKeyError
            said = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "sid", "iss", "aud"]},
            )
            return Claims(user_id=said["sub"], session_id=said["sid"])
        except jwt.ExpiredSignatureError:
            raise Unauthenticated(
                "the access token has expired", hint="refresh it, or log in again: dumont login"
            ) from None
        except jwt.PyJWTError:
            raise Unauthenticated(
                "the access token is not valid here", hint="log in again: dumont login"
            ) from None
