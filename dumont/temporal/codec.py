"""Payload encryption: what Temporal stores is unreadable without our keys.

Each payload is sealed with AES-256-GCM under a fresh nonce; the key's id travels beside it, so that
old histories stay readable after a new key was put first. Workflow ids, error types, search
attributes and task-queue names are not payloads and stay readable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING: Final = b"binary/encrypted-aes256gcm"
_KEY_ID: Final = "encryption-key-id"
_NONCE_BYTES: Final = 12


class UndecodablePayload(ValueError):
    """A payload was sealed with a key that we do not have, or was tampered with."""


@dataclass(frozen=True, kw_only=True)
class CodecKey:
    """One AES-256 key."""

    key_id: str
    key: bytes = field(repr=False)
    """32 bytes."""


class EncryptionCodec(PayloadCodec):
    """Seals with the first key, opens with whichever key a payload names.

    Args:
        keys: Newest first; at least one.
    """

    def __init__(self, keys: Sequence[CodecKey]) -> None:
        if not keys:
            raise ValueError("at least one codec key is needed")
        self._seal_id = keys[0].key_id.encode()
        self._ciphers = {key.key_id.encode(): AESGCM(key.key) for key in keys}

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Seal each payload whole, its own metadata included."""
        return [self._seal(payload) for payload in payloads]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Open what was sealed; pass on what was not.

        Raises:
            UndecodablePayload: The key is missing or the payload was changed.
        """
        return [self._open(payload) for payload in payloads]

    def _seal(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self._seal_id]
        sealed = nonce + cipher.encrypt(nonce, payload.SerializeToString(), self._seal_id)
        return Payload(metadata={"encoding": ENCODING, _KEY_ID: self._seal_id}, data=sealed)

    def _open(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        key_id = payload.metadata.get(_KEY_ID, b"")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UndecodablePayload(f"sealed with unknown key {key_id.decode(errors='replace')!r}")
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, sealed, key_id))
        except InvalidTag:
            raise UndecodablePayload("payload was changed after it was sealed") from None
