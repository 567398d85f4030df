"""The key pair with which a primary mirrors to its standby: one for each epoch, never stored.

It is derived from the deployment's vault key, so that every worker has the same pair without a
database and an epoch that has passed leaves nothing behind to be stolen from us. The private half
is on a rented host, which is not trusted: on the standby it opens one forced command and, once the
next epoch has begun, nothing.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_PURPOSE: Final = b"dumont sync key v1"
_ARMOR: Final = "OPENSSH PRIVATE KEY"


class SyncKey(NamedTuple):
    """One epoch's pair, in OpenSSH's forms."""

    private: str
    public: str
    """One line, with the comment `dumont-sync-e<epoch>` by which the guard finds it again."""


def sync_key(root: bytes, *, machine_id: str, epoch: int) -> SyncKey:
    """The pair of one machine's epoch: the same for the same arguments, everywhere.

    Args:
        root: A 256-bit key of the deployment.
        machine_id: Whose mirror.
        epoch: Which authority over the workspace.
    """
    seed = HKDF(
        algorithm=SHA256(),
        length=32,
        salt=_PURPOSE,
        info=f"{machine_id}/{epoch}".encode(),
    ).derive(root)
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    public = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return SyncKey(private=_private(seed, raw), public=f"{public} dumont-sync-e{epoch}")


def _private(seed: bytes, public: bytes) -> str:
    """OpenSSH's private form (its PROTOCOL.key), always the same for the same key.

    Libraries put random check bytes into it; then each push of a configuration would look like a new
    one to the agent.
    """
    kind = _string(b"ssh-ed25519")
    blob = kind + _string(public)
    check = hashlib.sha256(seed).digest()[:4] * 2
    secret = check + kind + _string(public) + _string(seed + public) + _string(b"")
    secret += bytes(range(1, 1 + -len(secret) % 8))
    none = _string(b"none")
    document = b"openssh-key-v1\0" + none + none + _string(b"") + (1).to_bytes(4, "big")
    text = base64.b64encode(document + _string(blob) + _string(secret)).decode()
    lines = [text[i : i + 70] for i in range(0, len(text), 70)]
    return "\n".join([f"-----BEGIN {_ARMOR}-----", *lines, f"-----END {_ARMOR}-----", ""])


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
