"""What opens an owner's repository: derived from the deployment's vault key, never stored.

Whoever has the keys file and the bucket can read every snapshot, without our database; whoever has the
bucket alone can read none. A machine gets the secret of its own owner's repository and no other.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"dumont repository secret v1"


def repository_secret(root: bytes, *, owner_id: str) -> bytes:
    """The secret of one owner's repository, as a line of text: the same everywhere.

    Args:
        root: A 256-bit key of the deployment.
        owner_id: Whose.
    """
    key = HKDF(algorithm=SHA256(), length=32, salt=_PURPOSE, info=owner_id.encode()).derive(root)
    return base64.b64encode(key)
