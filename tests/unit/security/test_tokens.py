"""Access tokens say only what we signed; random tokens are stored as digests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest

from dumont.domain.errors import Unauthenticated
from dumont.security.keys import NamedKey
from dumont.security.tokens import AccessTokens, Claims, TokenKind, digest, new_token

OLD = NamedKey(key_id="old", key=b"o" * 32)
NEW = NamedKey(key_id="new", key=b"n" * 32)
ME = Claims(user_id="u1", session_id="s1")


def _tokens(*keys: NamedKey, issuer: str = "dumont/test") -> AccessTokens:
    return AccessTokens(keys, issuer=issuer, lifetime_s=900)


def test_what_we_signed_is_read_again():
    assert _tokens(OLD).verify(_tokens(OLD).issue(ME)) == ME


def test_a_new_key_signs_and_the_old_one_still_verifies():
    old = _tokens(OLD).issue(ME)
    rotated = _tokens(NEW, OLD)
    assert rotated.verify(old) == ME
    assert jwt.get_unverified_header(rotated.issue(ME))["kid"] == "new"
    with pytest.raises(Unauthenticated):
        _tokens(NEW).verify(old)


def test_an_expired_token_says_so():
    old = _tokens(OLD).issue(ME, now=datetime.now(UTC) - timedelta(seconds=910))
    with pytest.raises(Unauthenticated, match="expired"):
        _tokens(OLD).verify(old)


@pytest.mark.parametrize(
    "forged",
    [
        jwt.encode({"sub": "u1", "sid": "s1"}, "", algorithm="none", headers={"kid": "old"}),
        jwt.encode({"sub": "u1"}, OLD.key, algorithm="HS256", headers={"kid": "old"}),
        jwt.encode({"sub": "u1"}, OLD.key, algorithm="HS256"),
        _tokens(NamedKey(key_id="old", key=b"x" * 32)).issue(ME),
        _tokens(OLD, issuer="dumont/other").issue(ME),
        "",
        "a.b.c",
    ],
)
def test_a_forged_or_foreign_token_is_refused(forged: str):
    with pytest.raises(Unauthenticated):
        _tokens(OLD).verify(forged)


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_random_token_shows_its_kind_and_hides_in_storage(kind: TokenKind):
    token = new_token(kind)
    assert token.text.startswith(kind.value)
    assert len(token.text) > 40
    assert token.digest == digest(token.text)
    assert token.text.encode() not in token.digest
