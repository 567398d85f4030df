"""What an agent shows with its heartbeats: a token for one body of one machine under one epoch.

It opens nothing but that. A rented host is not trusted, so this is all of ours that it holds; once
the epoch has passed, the machine's record refuses it. Verifying needs no database.

It is signed with a key derived from the newest one for access tokens, so that neither kind of token
can ever pass for the other. It does not expire by the clock: a machine lives longer than any span we
could choose, and what it opens ends with its epoch.
"""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

import jwt

from dumont.domain.errors import Unauthenticated
from dumont.domain.protection import AgentRole
from dumont.security.keys import Keys

_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "dumont-agent"
_PURPOSE: Final = b"dumont agent heartbeats v1"
_MAX_LENGTH: Final = 2048


class AgentClaim(NamedTuple):
    """Whose heartbeats a token is for."""

    machine_id: str
    role: AgentRole
    epoch: int


def agent_token(keys: Keys, *, machine_id: str, role: AgentRole, epoch: int) -> str:
    """A token for the heartbeats of one body; the same arguments give the same token."""
    newest = keys.token[0]
    return jwt.encode(
        {"aud": _AUDIENCE, "sub": machine_id, "role": role.value, "epoch": epoch},
        _derived(newest.key),
        algorithm=_ALGORITHM,
        headers={"kid": newest.key_id},
    )


def read_agent_token(keys: Keys, token: str) -> AgentClaim:
    """Whose heartbeats a token is for.

    Raises:
        Unauthenticated: It is none of ours.
    """
    known = {key.key_id: _derived(key.key) for key in keys.token}
    try:
        if len(token) > _MAX_LENGTH:
            raise jwt.InvalidTokenError
        key = known.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise jwt.InvalidKeyError
        said = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            options={"require": ["sub", "aud"]},
        )
        return AgentClaim(said["sub"], AgentRole(said["role"]), int(said["epoch"]))
    except (jwt.PyJWTError, KeyError, ValueError, TypeError):
        raise Unauthenticated("this is no token of an agent of this deployment") from None


def _derived(key: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE, "sha256")
