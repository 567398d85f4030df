"""Errors as Google's REST API reports them.

* GoogleError                 any refusal: HTTP status, reason, message
  + not_found                 404 notFound
  + already_exists            409 alreadyExists
  + invalid                   400 invalid (names the field)
  + condition_not_met         412 conditionNotMet (a fingerprint is stale)
  + quota_exceeded            403 quotaExceeded
  + not_ready                 400 resourceNotReady
  + unauthenticated           401 authError
  + not_implemented           501 notImplemented (simcloud's own: the real cloud may have it)

The functions build the one exception class; `body` renders it. Failures that Google reports inside
an operation instead are `OperationError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class GoogleError(Exception):
    """A request was refused."""

    def __init__(
        self,
        *,
        code: int,
        reason: str,
        message: str,
        domain: str = "global",
        location: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.domain = domain
        self.location = location

    def body(self) -> dict[str, Any]:
        """Return the JSON error body."""
        detail: dict[str, Any] = {
            "message": self.message,
            "domain": self.domain,
            "reason": self.reason,
        }
        if self.location is not None:
            detail |= {"location": self.location, "locationType": "header"}
        error: dict[str, Any] = {"code": self.code, "message": self.message, "errors": [detail]}
        # Compute leaves `status` out of its own refusals; the layer before it (auth, parsing,
        # rate limits) writes it
        if self.reason in ("authError", "required", "badRequest", "rateLimitExceeded"):
            error["status"] = _STATUS_NAMES.get(self.code, "UNKNOWN")
        return {"error": error}


@dataclass(frozen=True, kw_only=True)
class OperationError(Exception):
    """An accepted request failed later: the operation ends DONE with this in its `error`."""

    code: str
    message: str
    http_status: int
    http_message: str


def not_found(path: str) -> GoogleError:
    """Refuse because `path` (such as `projects/p/zones/z/instances/i`) does not exist."""
    return GoogleError(code=404, reason="notFound", message=f"The resource '{path}' was not found")


def already_exists(path: str) -> GoogleError:
    """Refuse because `path` is taken."""
    return GoogleError(
        code=409, reason="alreadyExists", message=f"The resource '{path}' already exists"
    )


def invalid(field: str, value: object, explanation: str) -> GoogleError:
    """Refuse because of the value of one field."""
    return GoogleError(
        code=400,
        reason="invalid",
        message=f"Invalid value for field '{field}': '{value}'. {explanation}",
    )


def condition_not_met(message: str) -> GoogleError:
    """Refuse because the fingerprint sent is not the current one."""
    return GoogleError(code=412, reason="conditionNotMet", message=message, location="If-Match")


def not_ready(path: str) -> GoogleError:
    """Refuse because `path` is in a state that does not allow the call."""
    return GoogleError(
        code=400, reason="resourceNotReady", message=f"The resource '{path}' is not ready"
    )


def quota_exceeded(*, metric: str, limit: float, region: str) -> GoogleError:
    """Refuse because the project's quota in `region` is used up."""
    return GoogleError(
        code=403,
        domain="usageLimits",
        reason="quotaExceeded",
        message=f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in region {region}.",
    )


def not_implemented(call: str) -> GoogleError:
    """Refuse a call that Google has (or may have) and simcloud has not."""
    return GoogleError(
        code=501,
        reason="notImplemented",
        message=f"simcloud does not implement {call}; docs/simcloud-google.md lists what it does.",
    )


def unauthenticated() -> GoogleError:
    """Refuse a bearer token that is unknown, expired or badly signed."""
    return GoogleError(
        code=401,
        reason="authError",
        location="Authorization",
        message=(
            "Request had invalid authentication credentials. Expected OAuth 2 access token, "
            "login cookie or other valid authentication credential. See "
            "https://developers.google.com/identity/sign-in/web/devconsole-project."
        ),
    )


def login_required() -> GoogleError:
    """Refuse a request without credentials."""
    return GoogleError(
        code=401,
        reason="required",
        location="Authorization",
        message=(
            "Request is missing required authentication credential. Expected OAuth 2 access "
            "token, login cookie or other valid authentication credential. See "
            "https://developers.google.com/identity/sign-in/web/devconsole-project."
        ),
    )


def bad_request(message: str) -> GoogleError:
    """Refuse a body that is not what the method takes."""
    return GoogleError(code=400, reason="badRequest", message=message)


def rate_limited() -> GoogleError:
    """Refuse because of too many requests, in the 403 shape that Compute Engine uses."""
    return GoogleError(
        code=403,
        domain="usageLimits",
        reason="rateLimitExceeded",
        message=(
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service "
            "'compute.googleapis.com'."
        ),
    )


def zone_exhausted(*, project: str, zone: str) -> OperationError:
    """Fail because the zone has no machine left."""
    return OperationError(
        code="ZONE_RESOURCE_POOL_EXHAUSTED",
        message=(
            f"The zone 'projects/{project}/zones/{zone}' does not have enough resources available "
            "to fulfill the request.  Try a different zone, or try again later."
        ),
        http_status=503,
        http_message="SERVICE UNAVAILABLE",
    )
