"""Credentials that a rented machine may hold: for one prefix of one bucket, and for some hours.

The account's own never leave the control plane. A broker there turns them into a loan; the loan travels to
the machine as a small file, which is replaced before it expires. The file has the form that Amazon's own
tools take from a `credential_process`.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials

_PREFIX = re.compile(r"[A-Za-z0-9!_.'()=+@,:-]+(/[A-Za-z0-9!_.'()=+@,:-]+)*")
"""Nothing that means more than itself in a policy (`*`, `?`, `${`), and no slash at its ends."""


@dataclass(frozen=True)
class Scope:
    """A part of a store.

    Attributes:
        bucket: Its name.
        prefix: Of the keys, without slashes at its ends: `a` holds `a/b` and not `ab`.
        writes: Whether objects may also be written and deleted.

    Raises:
        StoreError: It is not a prefix that credentials can be bound to.
    """

    bucket: str
    prefix: str
    writes: bool = True

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise StoreError(
                f"credentials cannot be bound to the prefix {self.prefix!r}", retryable=False,
                hint="letters, digits and -_.=+@,:!'() between single slashes",
            )  # fmt: skip


@dataclass(frozen=True)
class Loan:
    """Credentials that expire.

    Attributes:
        credentials: For the scope that was asked for, and nothing else.
        expires: When the store stops taking them.
    """

    credentials: Credentials
    expires: datetime

    def document(self) -> str:
        """The file for the machine. A secret."""
        who = self.credentials
        document = {
            "Version": 1,
            "AccessKeyId": who.access_key_id,
            "SecretAccessKey": who.secret_access_key,
            "Expiration": self.expires.astimezone(timezone.utc).isoformat(timespec="seconds"),
        }
        if who.session_token is not None:
            document["SessionToken"] = who.session_token
        return json.dumps(document)


class Broker(Protocol):
    """Makes loans from the account's credentials, which it holds. Blocking."""

    def lend(self, scope: Scope, *, holder: str, seconds: int) -> Loan:
        """Make one.

        Args:
            scope: What it is for.
            holder: Who gets it, for the store's own records.
            seconds: How long it is good; brought within what the store allows.

        Raises:
            Refused: The account's credentials do not allow it.
            StoreError: It cannot be had; `retryable` where asking again may help.
        """
        ...


class CredentialsFile:
    """The credentials in a file, always as they are now: whoever renews a loan replaces the file.

    Args:
        path: Of the file; see `Loan.document`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._found: Credentials | None = None

    def __call__(self) -> Credentials:
        """The credentials.

        Raises:
            StoreError: The file cannot be read, or holds none.
        """
        with self._lock:
            try:
                state = self._path.stat()
                seen = (state.st_ino, state.st_size, state.st_mtime_ns)
                if self._found is None or seen != self._seen:
                    self._found, self._seen = _parsed(self._path.read_bytes()), seen
            except OSError as error:
                raise StoreError(
                    f"the credentials in {self._path} cannot be read: {error.strerror}",
                    retryable=False, hint="is the file there, and yours?",
                ) from error  # fmt: skip
            except (ValueError, KeyError, TypeError):
                raise StoreError(
                    f"{self._path} holds no credentials", retryable=False,
                    hint='{"AccessKeyId": "...", "SecretAccessKey": "...", "SessionToken": "..."}',
                ) from None  # fmt: skip
            return self._found


def policy(scope: Scope) -> dict[str, Any]:
    """What a scope means in Amazon's language of policies."""
    bucket = f"arn:aws:s3:::{scope.bucket}"
    acts = ["s3:GetObject"]
    if scope.writes:
        acts += [
            "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
            "s3:ListMultipartUploadParts",
        ]  # fmt: skip
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": acts, "Resource": [f"{bucket}/{scope.prefix}/*"]},
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [bucket],
                "Condition": {"StringLike": {"s3:prefix": [f"{scope.prefix}/*"]}},
            },
            {"Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": [bucket]},
        ],
    }


def _parsed(text: bytes) -> Credentials:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise TypeError
    token = document.get("SessionToken")
    found = Credentials(document["AccessKeyId"], document["SecretAccessKey"], token or None)
    if not all(isinstance(part, str) for part in (found.access_key_id, found.secret_access_key)):
        raise TypeError
    return found
