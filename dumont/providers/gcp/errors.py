"""What Google Compute's errors mean in ours. Imports nothing of Google: it looks at what they say.

A refusal counts only in Google's own words (a JSON error with a `reason`): a 404 of a proxy says
nothing about a VM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    InsufficientCredit,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
    RequestRefused,
)

PROVIDER = "gcp"

_NO_CAPACITY = re.compile(r"ZONE_RESOURCE_POOL_EXHAUSTED|STOCKOUT|does not have enough resources")
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})
_QUOTA = frozenset({"quotaExceeded", "QUOTA_EXCEEDED", "limitExceeded"})
_UNPAID = frozenset({"accountDisabled", "BILLING_DISABLED", "billingNotEnabled"})
_BUSY = frozenset({"resourceNotReady", "RESOURCE_NOT_READY", "resourceInUseByAnotherResource"})


_REMAINS = re.compile(r"/(disks|addresses)/")


class NameTaken(RequestRefused):
    """A VM of this name exists already; `insert` answers with it."""


class ResourceGone(RequestRefused):
    """Google itself says that a disk or an address does not exist."""


def api_error(
    *, status: int, message: str, reasons: Iterable[str], headers: Mapping[str, str] | None = None
) -> ProviderError:
    """The error for an HTTP answer.

    Args:
        status: HTTP status.
        message: Google's sentence.
        reasons: The `reason` of each entry in the error body; empty when it was not Google's JSON.
        headers: Response headers.
    """
    found = frozenset(reasons)
    said = f"Google Compute: {message[:300]}"
    retry_after = _retry_after(headers)
    if status == 429 or found & _TOO_FAST:
        return RateLimited(said, provider=PROVIDER, retry_after=retry_after)
    if status >= 500 or not found:
        if status == 401:
            return _auth(said)
        return ProviderUnavailable(
            f"{said} (HTTP {status})", provider=PROVIDER, retry_after=retry_after
        )
    if found & _QUOTA:
        return QuotaExceeded(
            said,
            provider=PROVIDER,
            hint="ask for more in the console: IAM and admin, Quotas",
        )
    if found & _UNPAID or (status == 403 and "billing" in message.lower()):
        return InsufficientCredit(
            said, provider=PROVIDER, hint="link an active billing account to the project"
        )
    if status in (401, 403):
        return _auth(said)
    if status == 404 and "/instances/" in message:
        return InstanceGone(said, provider=PROVIDER)
    if status == 404 and "notFound" in found and _REMAINS.search(message):
        return ResourceGone(said, provider=PROVIDER)
    if status == 409 and "alreadyExists" in found:
        return NameTaken(said, provider=PROVIDER)
    if found & _BUSY:
        return ProviderUnavailable(said, provider=PROVIDER, retry_after=retry_after)
    return RequestRefused(said, provider=PROVIDER)


def operation_error(
    *, codes: Iterable[str], message: str, status: int, name: str
) -> ProviderError | None:
    """The error that a finished operation carries, or None. A finished operation can have failed.

    Args:
        codes: `error.errors[].code`.
        message: Their messages.
        status: `httpErrorStatusCode`, 0 when absent.
        name: The VM, for the message.
    """
    found = frozenset(codes)
    if not found and status < 400:
        return None
    said = f"Google Compute, {name}: {', '.join(sorted(found)) or f'HTTP {status}'} {message[:300]}"
    if _NO_CAPACITY.search(said):
        return ProviderUnavailable(
            said, provider=PROVIDER, hint="the zone has no such machine free now; try another zone"
        )
    if found & _QUOTA:
        return QuotaExceeded(said, provider=PROVIDER)
    if "RESOURCE_NOT_FOUND" in found and "/instances/" in message:
        return InstanceGone(said, provider=PROVIDER)
    if "RESOURCE_NOT_FOUND" in found and _REMAINS.search(message):
        return ResourceGone(said, provider=PROVIDER)
    if found & {"PERMISSIONS_ERROR", "PERMISSION_DENIED"}:
        return _auth(said)
    if found & {"INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"} or status >= 500:
        return ProviderUnavailable(said, provider=PROVIDER)
    if found & {"RATE_LIMIT_EXCEEDED"} or status == 429:
        return RateLimited(said, provider=PROVIDER)
    return RequestRefused(said, provider=PROVIDER)


def translate(error: Exception) -> ProviderError:
    """The error for whatever Google's client raised."""
    module = type(error).__module__.partition(".")[0]
    kind = type(error).__name__
    status = getattr(error, "code", None)
    if module == "google" and hasattr(error, "errors") and status is not None:
        entries: list[Any] = list(getattr(error, "errors", None) or [])
        response = getattr(error, "response", None)
        return api_error(
            status=int(status),
            message=str(getattr(error, "message", "") or error),
            reasons=[str(e["reason"]) for e in entries if isinstance(e, dict) and "reason" in e],
            headers=getattr(response, "headers", None),
        )
    if kind in ("RefreshError", "MalformedError", "DefaultCredentialsError"):
        if getattr(error, "retryable", False):
            return ProviderUnavailable(f"Google's token server: {error}", provider=PROVIDER)
        return _auth(f"Google does not accept the service account: {str(error)[:300]}")
    # Broken connections, time-outs, and answers that are not JSON.
    return ProviderUnavailable(
        f"Google Compute cannot be reached: {kind}: {str(error)[:300]}", provider=PROVIDER
    )


def still_running(operation: str, *, name: str, waited_s: float) -> OutcomeUnknown:
    """We stopped waiting; the operation goes on."""
    return OutcomeUnknown(
        f"Google Compute has not finished {operation!r} of {name} within {waited_s:.0f} s",
        provider=PROVIDER,
    )


def _auth(said: str) -> AuthFailed:
    return AuthFailed(
        said,
        provider=PROVIDER,
        hint="check GCP_CREDENTIALS; the service account needs roles/compute.instanceAdmin.v1",
    )


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    value = str((headers or {}).get("Retry-After", "")).strip()
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None
