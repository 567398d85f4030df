"""Whom to believe over TLS."""

from __future__ import annotations

import ssl

from dumont.storage.errors import StoreError


def context(ca_file: str | None = None) -> ssl.SSLContext:
    """How to speak TLS as a client, checking who answers.

    Args:
        ca_file: Certificates to trust, in PEM; None: the system's choice.

    Raises:
        StoreError: The file holds none.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise StoreError(
            f"{ca_file} holds no certificates: {error.strerror or error}", retryable=False,
            hint="AWS_CA_BUNDLE is to name a file in PEM",
        ) from error  # fmt: skip
