"""The key pair with which a primary mirrors to its standby: one for each epoch, never stored.

It is derived from the deployment's vault key, so that every worker has the same pair without a
database and an epoch that has passed leaves nothing behind to be stolen from us. The private half
is on a rented host, which is not trusted: on the standby it opens one forced command and, once the
next epoch has begun, nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

_PURPOSE: Final = b"dumont sync key v1"


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
    key = Ed25519PrivateKey.from_private_bytes(seed)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return SyncKey(private=private, public=f"{public} dumont-sync-e{epoch}")
