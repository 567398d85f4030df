"""AWS Signature Version 4 for S3: what every S3-compatible store accepts as proof of a key.

One pure function, so that any HTTP client can be used with any store. Follows "Authenticating
Requests: Using the Authorization Header" of the Amazon S3 API reference; the tests hold it to the
worked examples given there.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone
from urllib.parse import parse_qsl, quote, urlsplit

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""Hash of an empty body."""


def sign(
    *,
    method: str,
    url: str,
    access_key_id: str,
    secret_access_key: str,
    region: str = "us-east-1",
    service: str = "s3",
    payload_sha256: str = EMPTY_SHA256,
    at: datetime | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """The headers that authenticate one request.

    Args:
        method: The HTTP method.
        url: The whole URL; its path as it will be sent.
        access_key_id: Who asks.
        secret_access_key: Proof of it; goes into the signature only.
        region: The store's region. Stores outside Amazon take any.
        service: What is asked: `s3`, or `sts` for temporary credentials.
        payload_sha256: Hash of the body in hexadecimal, or `UNSIGNED-PAYLOAD`.
        at: The moment of the request; now when None. Stores refuse one more than 15 minutes off.
        headers: More headers to send and sign.

    Returns:
        All headers to send, `headers` included.
    """
    parts = urlsplit(url)
    moment = (at or datetime.now(timezone.utc)).astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    sent = {
        "host": parts.netloc,
        "x-amz-content-sha256": payload_sha256,
        "x-amz-date": moment,
        **{name.lower(): value.strip() for name, value in (headers or {}).items()},
    }
    signed = ";".join(sorted(sent))
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    canonical = "\n".join(
        (
            method.upper(),
            parts.path or "/",
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{sent[name]}" for name in sorted(sent)),
            "",
            signed,
            payload_sha256,
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    key = f"AWS4{secret_access_key}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key_id}/{scope},"
        f"SignedHeaders={signed},Signature={signature}"
    )
    return {**sent, "authorization": authorization}
