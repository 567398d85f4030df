"""Errors as clients see them: RFC 9457 problem details, made in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from dumont.domain.errors import (
    BY_CODE,
    DependencyUnavailable,
    DumontError,
    ProviderError,
    TooManyAttempts,
)
from dumont.domain.resources import Problem

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_BASE: Final = "https://dumont.cloud/problems/"

STATUS: Final[dict[str, int]] = {
    "invalid_input": 422,
    "not_found": 404,
    "conflict": 409,
    "unauthenticated": 401,
    "forbidden": 403,
    "precondition_failed": 412,
    "too_many_attempts": 429,
    "command_error": 400,
    "dependency_unavailable": 503,
    "storage_error": 502,
    "provider_rate_limited": 503,
    "provider_unavailable": 502,
    "outcome_unknown": 502,
    "provider_auth_failed": 502,
    "provider_refused": 502,
    "provider_error": 502,
    "insufficient_credit": 402,
    "no_capacity": 409,
    "budget_exceeded": 409,
    "quota_exceeded": 409,
    "offer_gone": 409,
    "instance_gone": 409,
    "instance_dead": 409,
    "not_ready": 409,
    "agent_refused": 409,
    "machine_error": 409,
    "internal": 500,
}
"""HTTP status of every error code of `dumont.domain.errors`."""

HTTP_CODES: Final[dict[int, str]] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
"""Codes of what fails before any of our own code runs."""

_RETRY_AFTER_S: Final = 5
_MAX_LISTED: Final = 5


def install(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""

    @app.exception_handler(DumontError)
    async def ours(request: Request, error: DumontError) -> Response:
        return response_for(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _send(request, _validation_problem(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = HTTP_CODES.get(error.status_code, "command_error")
        detail = error.detail if code != "not_found" else f"there is no {request.url.path}"
        return _send(
            request, problem(code, str(detail), status=error.status_code), dict(error.headers or {})
        )


def problem(
    code: str,
    detail: str,
    *,
    status: int | None = None,
    field: str | None = None,
    hint: str | None = None,
) -> Problem:
    """The problem document of an error."""
    return Problem(
        type=TYPE_BASE + code,
        title=code.replace("_", " ").capitalize(),
        status=status if status is not None else STATUS.get(code, 500),
        detail=detail,
        code=code,
        field=field,
        hint=hint,
    )


def response_for(request: Request, error: DumontError) -> Response:
    """The answer to one of our own errors."""
    document = problem(error.code, error.message, field=error.field, hint=error.hint)
    headers: dict[str, str] = {}
    if document.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="dumont"'
    retry_after = _retry_after(error)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    if document.status >= 500:
        log.warning("request_failed", code=error.code, detail=error.message)
    return _send(request, document, headers)


def unexpected(request: Request) -> Response:
    """The answer to a fault of ours: says nothing but where to look."""
    return _send(
        request,
        problem(
            "internal",
            "something went wrong here; it is our fault",
            hint="the API's log has it under this request id",
        ),
    )


def too_large(request: Request, *, limit: int) -> Response:
    """The answer to a body that nobody will read."""
    return _send(
        request,
        problem("body_too_large", f"the body is larger than {limit:,} bytes", status=413),
    )


def _retry_after(error: DumontError) -> float | None:
    if isinstance(error, TooManyAttempts | ProviderError) and error.retry_after is not None:
        return error.retry_after
    if isinstance(error, DependencyUnavailable) or STATUS.get(error.code) == 503:
        return _RETRY_AFTER_S
    return None


def _validation_problem(errors: Sequence[Any]) -> Problem:
    told = [(_field(error["loc"]), error["msg"]) for error in errors]
    listed = "; ".join(f"{field}: {message}" for field, message in told[:_MAX_LISTED])
    more = f"; and {len(told) - _MAX_LISTED} more" if len(told) > _MAX_LISTED else ""
    return problem("invalid_input", listed + more, field=told[0][0] if told else None)


def _field(loc: Sequence[str | int]) -> str:
    """`("body", "requirement", "gpu")` -> `requirement.gpu`."""
    inner = loc[1:] if loc and loc[0] in ("body", "query", "path", "header", "cookie") else loc
    named = [str(part) for part in inner]
    if not named or (len(named) == 1 and named[0].isdigit()):
        return "body"
    return ".".join(named)


def _send(request: Request, document: Problem, headers: dict[str, str] | None = None) -> Response:
    request_id = getattr(request.state, "request_id", None)
    request.app.state.services.metrics.errors.labels(document.code).inc()
    body = document.model_copy(update={"request_id": request_id})
    return Response(
        body.model_dump_json(exclude_none=True),
        status_code=document.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route, for OpenAPI: one example for each error that it may answer."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status = STATUS[code]
        cls = BY_CODE[code]
        entry = by_status.setdefault(
            status,
            {"model": Problem, "description": "", "content": {MEDIA_TYPE: {"examples": {}}}},
        )
        line = (cls.__doc__ or "").strip().splitlines()[0]
        entry["description"] = f"{entry['description']} {line}".strip()
        entry["content"][MEDIA_TYPE]["examples"][code] = {
            "summary": line,
            "value": problem(code, line).model_dump(exclude_none=True),
        }
    return by_status
