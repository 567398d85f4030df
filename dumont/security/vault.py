"""Sealing of small secrets for storage: AES-256-GCM, bound to the place where they belong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dumont.domain.errors import DependencyUnavailable
from dumont.security.keys import DEPENDENCY, NamedKey

_NONCE_BYTES: Final = 12


class Sealed(NamedTuple):
    """What is stored of a secret."""

    key_id: str
    data: bytes


class Vault:
    """Seals with the first key, opens with the one that a secret names.

    Args:
        keys: Newest first; at least one.
    """

    def __init__(self, keys: Sequence[NamedKey]) -> None:
        self._current = keys[0].key_id
        self._ciphers = {key.key_id: AESGCM(key.key) for key in keys}

    def seal(self, secret: bytes, *, context: str) -> Sealed:
        """Seal a secret. `context` names its place (`machine/<id>`); it opens nowhere else."""
        nonce = os.urandom(_NONCE_BYTES)
        box = self._ciphers[self._current].encrypt(nonce, secret, context.encode())
        return Sealed(self._current, nonce + box)

    def open(self, sealed: tuple[str, bytes], *, context: str) -> bytes:
        """The secret again.

        Raises:
            DependencyUnavailable: The key is missing, or the secret was changed or moved.
        """
        key_id, data = sealed
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DependencyUnavailable(
                f"the secret of {context} was sealed with key {key_id!r}, which the keys "
                "file does not hold",
                dependency=DEPENDENCY,
                hint="use the keys file that this database was written with",
            )
        nonce, box = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, box, context.encode())
        except InvalidTag:
            raise DependencyUnavailable(
                f"the stored secret of {context} does not open with key {key_id!r}",
                dependency=DEPENDENCY,
                hint="the keys file or the database row was changed; restore both from one backup",
            ) from None
