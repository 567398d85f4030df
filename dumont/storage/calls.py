"""Small questions to the services around a store, over the same HTTP as the store itself."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from dumont.storage.errors import Refused, StoreError
from dumont.storage.http import Pool
from dumont.storage.tls import context

_LONGEST_ANSWER = 1 << 20
_PASSING = frozenset({408, 425, 429})


def ask(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Send one request; not retried, because creating a key twice makes two.

    Args:
        method: Of HTTP.
        url: The whole of it.
        headers: All but the length; `host` may be left out.
        body: To be sent.

    Returns:
        What a good answer says.

    Raises:
        Refused: It was 401 or 403.
        StoreError: It was another one that is not good, or none came; `retryable` where asking again may help.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StoreError(f"not an address: {url}", retryable=False, hint="https://HOST")
    tls = context() if parts.scheme == "https" else None
    pool = Pool(parts.hostname, parts.port or (443 if tls else 80), tls=tls)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with pool.request(method, target, {"host": parts.netloc, **headers}, body) as answer:
            status, said = answer.status, answer.read(limit=_LONGEST_ANSWER)
    except OSError as error:
        raise StoreError(f"{parts.netloc} does not answer: {error}") from error
    finally:
        pool.close()
    if 200 <= status < 300:
        return said
    words = f"{parts.netloc} answered {status}: {said[:300].decode('utf-8', 'replace')}"
    if status in (401, 403):
        raise Refused(words, hint="are the account's credentials right, and may they do this?")
    raise StoreError(words, retryable=status >= 500 or status in _PASSING)
