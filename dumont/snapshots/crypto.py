"""Keys and seals. The format document says what each key is for (`docs/repository-format.md`)."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dumont.snapshots.errors import Damaged, WrongKey

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
NONCE = 12
TAG = 16
MAGIC = b"DMT1"
_HEAD = len(MAGIC) + 1 + NONCE
_SCRYPT = {"n": 32768, "r": 8, "p": 1}
_SCRYPT_LIMIT = 1 << 20
"""Largest `n` that is tried: a forged key file must not eat the memory."""


class Keys:
    """What follows from the master key.

    Args:
        master: 32 random bytes.
    """

    def __init__(self, master: bytes) -> None:
        self.identity = _derive(master, b"dumont identity")
        self._seals = {
            b"I": AESGCM(_derive(master, b"dumont index")),
            b"C": AESGCM(_derive(master, b"dumont index")),
            b"S": AESGCM(_derive(master, b"dumont snapshot")),
        }
        self._master = master

    def chunk_id(self, data: Buffer) -> bytes:
        """The identity of a chunk: 32 bytes."""
        return blake3(data, key=self.identity).digest()

    def pack_cipher(self, pack_id: bytes) -> AESGCM:
        """The cipher of one pack, whose nonces count."""
        return AESGCM(_derive(self._master, b"dumont pack", salt=pack_id))

    def seal(self, kind: bytes, key: str, data: Buffer) -> bytes:
        """Seal an object that will be stored under `key`."""
        nonce = os.urandom(NONCE)
        return MAGIC + kind + nonce + self._seals[kind].encrypt(nonce, data, key.encode())

    def unseal(self, kind: bytes, key: str, sealed: bytes) -> bytes:
        """Open an object that was found under `key`. Raises Damaged."""
        if len(sealed) < _HEAD + TAG or sealed[: len(MAGIC) + 1] != MAGIC + kind:
            raise Damaged(f"{key} is not what should be there")
        nonce = sealed[len(MAGIC) + 1 : _HEAD]
        try:
            return self._seals[kind].decrypt(nonce, sealed[_HEAD:], key.encode())
        except InvalidTag:
            raise Damaged(f"{key} is damaged") from None


def new_master() -> bytes:
    """A master key."""
    return secrets.token_bytes(KEY_BYTES)


def wrap(master: bytes, secret: bytes, *, repository: str, passphrase: bool) -> dict[str, Any]:
    """A key document that opens with `secret`.

    Args:
        master: What is wrapped.
        secret: A passphrase, or random bytes.
        repository: Its id; a key fits no other.
        passphrase: Whether a person chose the secret.
    """
    salt, nonce = os.urandom(16), os.urandom(NONCE)
    document: dict[str, Any] = {"kdf": "hkdf"}
    if passphrase:
        document = {"kdf": "scrypt", **_SCRYPT}
    document["salt"] = _text(salt)
    sealed = AESGCM(_stretch(document, secret)).encrypt(nonce, master, repository.encode())
    return {**document, "wrapped": _text(nonce + sealed)}


def unwrap(document: Mapping[str, Any], secret: bytes, *, repository: str) -> bytes:
    """The master key. Raises WrongKey; Damaged when the document is none."""
    try:
        wrapped = base64.b64decode(document["wrapped"], validate=True)
        cipher = AESGCM(_stretch(document, secret))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"a key document cannot be read: {error}") from None
    try:
        return cipher.decrypt(wrapped[:NONCE], wrapped[NONCE:], repository.encode())
    except (InvalidTag, ValueError):
        raise WrongKey("this secret does not open the repository") from None


def _stretch(document: Mapping[str, Any], secret: bytes) -> bytes:
    salt = base64.b64decode(document["salt"], validate=True)
    if document["kdf"] == "hkdf":
        return _derive(secret, b"dumont wrap", salt=salt)
    if document["kdf"] != "scrypt":
        raise ValueError(f"unknown kdf {document['kdf']!r}")
    n, r, p = (int(document[name]) for name in ("n", "r", "p"))
    if not (1 < n <= _SCRYPT_LIMIT and 0 < r <= 32 and 0 < p <= 16):
        raise ValueError("unreasonable scrypt parameters")
    return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=r, p=p).derive(secret)


def _derive(key: bytes, info: bytes, *, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
