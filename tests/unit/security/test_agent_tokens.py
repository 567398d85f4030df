"""An agent's token is for one body of one machine under one epoch, and for nothing else."""

from __future__ import annotations

import hmac

import jwt
import pytest

from dumont.domain.errors import Unauthenticated
from dumont.domain.protection import AgentRole
from dumont.security.agent_tokens import AgentClaim, agent_token, read_agent_token
from dumont.security.keys import Keys, NamedKey
from dumont.security.tokens import AccessTokens, Claims

OLD = NamedKey(key_id="old", key=b"o" * 32)
NEW = NamedKey(key_id="new", key=b"n" * 32)
UNUSED = (NamedKey(key_id="x", key=b"x" * 32),)
BODY = {"machine_id": "m0123456789ab", "role": AgentRole.PRIMARY, "epoch": 5}


def keys(*token: NamedKey) -> Keys:
    return Keys(codec=UNUSED, vault=UNUSED, token=token)


def test_it_says_whose_heartbeats_it_is_for():
    token = agent_token(keys(OLD), **BODY)
    assert read_agent_token(keys(OLD), token) == AgentClaim("m0123456789ab", AgentRole.PRIMARY, 5)
    assert agent_token(keys(OLD), **BODY) == token


def test_a_rotated_key_still_verifies_and_a_removed_one_does_not():
    token = agent_token(keys(OLD), **BODY)
    assert read_agent_token(keys(NEW, OLD), token).epoch == 5
    with pytest.raises(Unauthenticated):
        read_agent_token(keys(NEW), token)


def test_neither_kind_of_token_passes_for_the_other():
    access = AccessTokens((OLD,), issuer="dumont/test", lifetime_s=900)
    with pytest.raises(Unauthenticated):
        access.verify(agent_token(keys(OLD), **BODY))
    with pytest.raises(Unauthenticated):
        read_agent_token(keys(OLD), access.issue(Claims(user_id="u1", session_id="s1")))


@pytest.mark.parametrize(
    "said",
    [
        {"role": "owner", "epoch": 5, "sub": "m1"},
        {"epoch": 5, "sub": "m1"},
        {"role": "primary", "sub": "m1"},
        {"role": "primary", "epoch": "soon", "sub": "m1"},
        {"role": "primary", "epoch": 5},
    ],
)
def test_a_claim_that_is_not_whole_is_refused(said: dict[str, object]):
    token = jwt.encode(
        {"aud": "dumont-agent"} | said,
        _signing_key(),
        algorithm="HS256",
        headers={"kid": OLD.key_id},
    )
    with pytest.raises(Unauthenticated):
        read_agent_token(keys(OLD), token)


def test_the_signing_key_of_the_last_test_is_the_real_one():
    token = jwt.encode(
        {"aud": "dumont-agent", "role": "primary", "epoch": 5, "sub": "m1"},
        _signing_key(),
        algorithm="HS256",
        headers={"kid": OLD.key_id},
    )
    assert read_agent_token(keys(OLD), token).machine_id == "m1"


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "\x00", "x" * 100_000])
def test_nonsense_is_refused(token: str):
    with pytest.raises(Unauthenticated):
        read_agent_token(keys(OLD), token)


def test_an_unsigned_claim_is_refused():
    token = jwt.encode(
        {"aud": "dumont-agent", "role": "primary", "epoch": 5, "sub": "m1"},
        "",
        algorithm="none",
        headers={"kid": OLD.key_id},
    )
    with pytest.raises(Unauthenticated):
        read_agent_token(keys(OLD), token)


def _signing_key() -> bytes:
    return hmac.digest(OLD.key, b"dumont agent heartbeats v1", "sha256")
