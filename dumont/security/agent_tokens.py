"""What an agent shows with its heartbeats: a token for one body of one machine under one epoch.

It opens nothing but that. A rented host is not trusted, so this is all of ours that it holds; once
the epoch has passed, the machine's record refuses it. Verifying needs no database.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import jwt

from dumont.domain.errors import Unauthenticated
from dumont.domain.protection import AgentRole
from dumont.security.keys import Keys

_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "dumont-agent"


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
        newest.key,
        algorithm=_ALGORITHM,
        headers={"kid": newest.key_id},
    )


def read_agent_token(keys: Keys, token: str) -> AgentClaim:
    """Whose heartbeats a token is for.

    Raises:
        Unauthenticated: It is none of ours.
    """
    known = {key.key_id: key.key for key in keys.token}
    try:
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
        return AgentClaim(
            machine_id=said["sub"], role=AgentRole(said["role"]), epoch=int(said["epoch"])
        )
    except (jwt.PyJWTError, KeyError, ValueError, TypeError):
        raise Unauthenticated("this is no token of an agent of this deployment") from None
