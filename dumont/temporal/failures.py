"""Our errors across Temporal's border: what an activity raises and what a workflow catches.

An activity raises `DumontError`; the worker's interceptor turns it into an `ApplicationError` whose
`type` is the error's code, which says whether to retry and when. `error_of` turns a caught failure
back into the error it was.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from dumont.domain.errors import (
    BY_CODE,
    DumontError,
    OutcomeUnknown,
    ProviderError,
)
from dumont.domain.instances import Message

_MAX_MESSAGE: Final = 2_000
"""A provider's error page can be megabytes; Temporal refuses payloads over 2 MB."""

AMBIGUOUS_RETRY: Final = timedelta(seconds=10)
"""After a lost answer, wait before looking: the write may still be on its way."""


class ErrorFacts(Message):
    """What else than code and message survives of an error."""

    field: str | None = None
    hint: str | None = None
    provider: str | None = None
    instance_id: str | None = None


def to_application_error(error: DumontError) -> ApplicationError:
    """The Temporal form of one of our errors."""
    retry_after: timedelta | None = None
    facts = ErrorFacts(field=error.field, hint=error.hint)
    if isinstance(error, ProviderError):
        facts = ErrorFacts(
            field=error.field,
            hint=error.hint,
            provider=error.provider,
            instance_id=error.instance_id,
        )
        if error.retry_after is not None:
            retry_after = timedelta(seconds=error.retry_after)
    if isinstance(error, OutcomeUnknown):
        retry_after = max(retry_after or AMBIGUOUS_RETRY, AMBIGUOUS_RETRY)
    return ApplicationError(
        error.message[:_MAX_MESSAGE],
        facts,
        type=error.code,
        non_retryable=not error.retryable,
        next_retry_delay=retry_after,
        # Raised on purpose, told in one line below: no traceback, no failure metric of the SDK's.
        category=ApplicationErrorCategory.BENIGN,
    )


def error_of(failure: BaseException) -> DumontError:
    """The error behind a failure caught from an activity or a child workflow.

    A failure that is none of ours (a time-out, a bug) becomes a plain `DumontError` whose message
    names it: `str()` of Temporal's wrappers says only "Activity task failed".
    """
    if isinstance(failure, DumontError):
        return failure
    cause: BaseException = failure
    while isinstance(cause, FailureError) and cause.cause is not None:
        if isinstance(cause, ApplicationError):
            break
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        cls = BY_CODE.get(cause.type or "")
        if cls is not None:
            facts = cause.details[0] if cause.details else {}
            facts = facts if isinstance(facts, dict) else {}
            return cls(cause.message, field=facts.get("field"), hint=facts.get("hint"))
    return DumontError(f"{type(cause).__name__}: {cause}"[:_MAX_MESSAGE])


class _ActivityErrors(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except DumontError as error:
            again = "tried again" if error.retryable else "final"
            activity.logger.warning("%s: %s (%s)", error.code, error.message, again)
            raise to_application_error(error) from error


class ErrorInterceptor(Interceptor):
    """Makes every `DumontError` of an activity a well-formed Temporal failure."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap one activity's execution."""
        return _ActivityErrors(next)
