"""Passwords: Argon2id, with the library's recommended cost.

Hashing takes 64 MiB and tens of milliseconds on purpose, so it runs beside the event loop and only
two at a time: a flood of log-ins queues up instead of taking the process's memory.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER: Final = PasswordHasher()
_AT_ONCE: Final = 2


class Passwords:
    """Makes and checks password hashes."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """The hash to store; holds its own salt and parameters."""
        async with self._slots:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed.

        With no hash (no such user) it takes just as long, so that an answer's time does not tell
        whether a name exists.
        """
        async with self._slots:
            matches = await asyncio.to_thread(_matches, stored or _nobodys_hash(), password)
        return matches and stored is not None


def new_password() -> str:
    """A random password that a person can copy: 20 letters and digits, 119 bits."""
    alphabet = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(secrets.choice(alphabet) for _ in range(20))


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash(secrets.token_hex(16))
