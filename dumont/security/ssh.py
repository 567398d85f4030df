"""SSH keys: a machine's own pairs, and the public keys that owners hand us."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from dumont.domain.errors import InvalidInput
from dumont.ports import MachineSecrets

_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
_MIN_RSA_BITS: Final = 2048
_COMMENT: Final = re.compile(r"[^\x21-\x7e]+")


class PublicKey(NamedTuple):
    """A checked public key."""

    line: str
    """One line for authorized_keys: algorithm, key and, if there was one, the comment."""
    fingerprint: str
    """`SHA256:...`, as ssh-keygen prints it."""


def new_machine_secrets(machine_id: str) -> MachineSecrets:
    """Fresh Ed25519 pairs for one machine: its host key and the key with which we enter it."""
    host_private, host_public = _pair(comment=machine_id)
    access_private, access_public = _pair(comment=f"dumont-{machine_id}")
    return MachineSecrets(
        host_key_private=host_private,
        host_key_public=host_public,
        access_key_private=access_private,
        access_key_public=access_public,
    )


def _pair(*, comment: str) -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} {comment}"


def parse_public_key(text: str, *, field: str = "public_key") -> PublicKey:
    """Check a public key that will stand in an authorized_keys file.

    Options before the key (`command=...`) are refused: the line must let its owner in and say
    nothing else.

    Raises:
        InvalidInput: Names the field and says what would do.
    """
    line = text.strip()
    if "PRIVATE KEY" in line:
        raise InvalidInput(
            "this is a private key: keep it to yourself and send the public half",
            field=field,
            hint="the public half is in the file that ends in .pub",
        )
    if "\n" in line or "\r" in line:
        raise InvalidInput("one public key is one line; send each key by itself", field=field)
    parts = line.split(None, 2)
    if len(parts) < 2 or parts[0] not in _ALGORITHMS:
        raise InvalidInput(
            "not a public SSH key in OpenSSH form, such as `ssh-ed25519 AAAA... you@host`",
            field=field,
            hint="make one with: ssh-keygen -t ed25519",
        )
    try:
        key = asyncssh.import_public_key(f"{parts[0]} {parts[1]}")
    except (asyncssh.KeyImportError, ValueError) as error:
        raise InvalidInput(f"the {parts[0]} key is damaged: {error}", field=field) from None
    pyca = key.pyca_key
    if isinstance(pyca, RSAPublicKey) and pyca.key_size < _MIN_RSA_BITS:
        raise InvalidInput(
            f"an RSA key of {pyca.key_size} bits is too weak: use {_MIN_RSA_BITS} or more, "
            "or Ed25519",
            field=field,
        )
    comment = _COMMENT.sub(" ", parts[2]).strip()[:200] if len(parts) > 2 else ""
    return PublicKey(f"{parts[0]} {parts[1]} {comment}".rstrip(), key.get_fingerprint())
