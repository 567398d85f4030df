"""What Vast.ai's answers mean: from status, headers and body to our errors, and nothing else.

Vast.ai's own body is `{"success": false, "error": "<slug>", "msg": "<text>"}`; some endpoints leave
parts out, some refusals are plain text, and proxies in front of it answer HTML. Only Vast.ai's own
words are believed: a 404 in anybody else's words says nothing about an instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    InsufficientCredit,
    OfferGone,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
)
from dumont.providers.gateway import Throttled

PROVIDER = "vast"

_GONE = frozenset({"no_such_instance", "not_found", "no_such_contract"})
_NO_MONEY = re.compile(r"credit|balance|spend_rate_limit|spend rate limit", re.IGNORECASE)
_THRESHOLD = re.compile(r"threshold\s*=\s*(\d+(?:\.\d+)?)")


def error_for(
    *, status: int, headers: Mapping[str, str], text: str, payload: dict[str, Any] | None
) -> ProviderError | None:
    """The error that an answer stands for, or None when it is a success.

    Args:
        status: HTTP status.
        headers: Response headers, case-insensitive.
        text: The body as text.
        payload: The body as a JSON object; None when it is anything else.
    """
    slug = _text(payload, "error")
    words = _words(status, text, payload)
    if status == 429:
        return _too_fast(headers, text, slug, words)
    if not _is_vasts_word(status, text, payload):
        return ProviderUnavailable(
            f"Vast.ai answered HTTP {status}: {words}",
            provider=PROVIDER,
            retry_after=_retry_after(headers),
            instance_id=contract_id(payload),
        )
    if status < 300 and payload is not None and not _says_error(payload):
        return None
    return _refusal(status, slug, words, payload or {})


def contract_id(payload: Mapping[str, Any] | None) -> str | None:
    """The instance a create left behind, whatever else its answer says."""
    value = (payload or {}).get("new_contract")
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value) if re.fullmatch(r"[1-9]\d*", str(value)) else None


def _refusal(status: int, slug: str, words: str, payload: dict[str, Any]) -> ProviderError:
    left_behind = contract_id(payload)
    said = f"Vast.ai: {words}"
    if _NO_MONEY.search(f"{slug} {words}") or status in (402, 411):
        return InsufficientCredit(
            said,
            provider=PROVIDER,
            instance_id=left_behind,
            hint="add credit, or raise the spend limit, in Vast.ai's billing page",
        )
    if status in (401, 403) or slug == "auth_error":
        return AuthFailed(
            said,
            provider=PROVIDER,
            instance_id=left_behind,
            hint="check VAST_API_KEY and the rights of the key",
        )
    if "no_such_ask" in f"{slug} {words}" or status == 410:
        return OfferGone(said, provider=PROVIDER, instance_id=left_behind)
    if slug in _GONE or status == 404:
        return InstanceGone(said, provider=PROVIDER, instance_id=left_behind)
    return RequestRefused(said, provider=PROVIDER, instance_id=left_behind)


def _is_vasts_word(status: int, text: str, payload: Mapping[str, Any] | None) -> bool:
    """Whether this is Vast.ai's own decision rather than an accident on the way to it."""
    if status >= 500 or 300 <= status < 400:
        return False
    if payload is None:
        # Some bad keys are answered in plain text, the only such answer that counts.
        return status in (401, 403) and "<" not in text
    return status != 404 or any(key in payload for key in ("error", "success", "msg"))


def _says_error(payload: Mapping[str, Any]) -> bool:
    success = payload.get("success")
    return success is False or (success is not True and bool(_text(payload, "error")))


def _too_fast(headers: Mapping[str, str], text: str, slug: str, words: str) -> ProviderError:
    if _NO_MONEY.search(slug):
        return InsufficientCredit(f"Vast.ai: {words}", provider=PROVIDER)
    stated = _THRESHOLD.search(text)
    return Throttled(
        f"Vast.ai asks us to slow down: {words}",
        provider=PROVIDER,
        retry_after=_retry_after(headers),
        threshold_s=min(float(stated[1]), 60.0) if stated else None,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if value:
        try:
            return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return None
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if re.fullmatch(r"\d{9,11}(\.\d+)?", reset):
        return max(0.0, float(reset) - datetime.now(UTC).timestamp())
    return None


def _text(payload: Mapping[str, Any] | None, key: str) -> str:
    value = (payload or {}).get(key)
    return value.strip() if isinstance(value, str) else ""


def _words(status: int, text: str, payload: Mapping[str, Any] | None) -> str:
    """What the answer says, short enough for a log line and a screen."""
    said = _text(payload, "msg") or _text(payload, "detail") or _text(payload, "message")
    slug = _text(payload, "error")
    if slug and slug not in said:
        said = f"{slug} {said}".strip()
    if not said and payload is None:
        said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).strip()
    return said[:300] or f"HTTP {status} without a reason"
