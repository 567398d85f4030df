"""Ids of rows that we make: a letter for the kind, then 64 random bits."""

from __future__ import annotations

import secrets


def new_id(letter: str) -> str:
    """A fresh id, for example `u3f9c2a71b0de4411`."""
    return letter + secrets.token_hex(8)
