"""Every error the product raises on purpose.

::

    DumontError
      x ProviderError              what a cloud said, or failed to say
        + ProviderUnavailable      5xx, HTML, refused or broken connection         (retry)
        + RateLimited              429; carries `retry_after`                      (retry)
        + OutcomeUnknown           a write was sent, its answer was lost           (look, then retry)
        + OfferGone                somebody else took it                           (next offer)
        + InstanceGone             the provider has no such instance
        + RequestRefused           the provider refused what we asked
        + AuthFailed               the key is wrong, expired or lacks a right
        + InsufficientCredit       no money, or a spend limit
        + QuotaExceeded            a limit of the account, not of the moment
      x MachineError               what became of a machine we rented
        + NotReady                 a rung of the readiness ladder is not reached   (retry)
        + InstanceDead             it will never become ready
        + NoCapacity               no offer fits, or none could be made ready
        + AgentRefused             the agent on the machine will not do it: fenced, or its state forbids it
      x CommandError               what a person asked cannot be done
        + InvalidInput             names the field and what would do
        + NotFound
        + Conflict
        + Unauthenticated
        + Forbidden
        + PreconditionFailed
        + TooManyAttempts          log-ins; carries `retry_after`                  (retry)
        + BudgetExceeded           it would pass what somebody set as the most to spend
      x DependencyUnavailable      one of our own parts is down                    (retry)
      x StorageError               the object store refuses, or what it holds is damaged

`code` is stable and public: it is the `type` of a problem document, the `type` of a Temporal
failure and what the command line prints. `retryable` says whether doing the same again may help.
"""

from __future__ import annotations

from typing import ClassVar


class DumontError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: What is wrong, in a sentence a user can act on.
        field: The input field at fault, if one is.
        hint: What to do about it, if that is not obvious from `message`.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint


class ProviderError(DumontError):
    """A cloud answered with an error, with nonsense, or not at all.

    Args:
        provider: Short name of the provider, for example `vast`.
        retry_after: Seconds the provider asked us to wait, if it did.
        instance_id: An instance that exists in spite of the error. Vast.ai can refuse a create and
            still leave a billed contract; whoever catches this must destroy it.
    """

    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        retry_after: float | None = None,
        instance_id: str | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, field=field, hint=hint)
        self.provider = provider
        self.retry_after = retry_after
        self.instance_id = instance_id


class ProviderUnavailable(ProviderError):
    """The provider is unreachable or broken. It is no evidence about any instance."""

    code = "provider_unavailable"
    retryable = True


class RateLimited(ProviderError):
    """The provider asks us to slow down; `retry_after` says for how long, if it said."""

    code = "provider_rate_limited"
    retryable = True


class OutcomeUnknown(ProviderError):
    """A write was sent and its answer lost: it may or may not have happened."""

    code = "outcome_unknown"
    retryable = True


class OfferGone(ProviderError):
    """The offer was taken, withdrawn or could not start."""

    code = "offer_gone"


class InstanceGone(ProviderError):
    """The provider says that it has no such instance."""

    code = "instance_gone"


class RequestRefused(ProviderError):
    """The provider refused the request as malformed or not allowed."""

    code = "provider_refused"


class AuthFailed(ProviderError):
    """The provider does not accept our key for this."""

    code = "provider_auth_failed"


class InsufficientCredit(ProviderError):
    """The provider account has no money left or reached a spend limit."""

    code = "insufficient_credit"


class QuotaExceeded(ProviderError):
    """An account quota is exhausted; waiting a moment does not help."""

    code = "quota_exceeded"


class MachineError(DumontError):
    """Something about an instance we rented."""

    code = "machine_error"


class NotReady(MachineError):
    """A rung of the readiness ladder is not reached yet. Expected; ask again."""

    code = "not_ready"
    retryable = True


class InstanceDead(MachineError):
    """The instance failed for good: it vanished, errored, or was interrupted while starting."""

    code = "instance_dead"


class NoCapacity(MachineError):
    """No offer fits the requirement, or none that fits could be made ready."""

    code = "no_capacity"


class AgentRefused(MachineError):
    """The agent on a machine refuses: it is fenced, or its state does not allow this now."""

    code = "agent_refused"


class CommandError(DumontError):
    """A person asked for something that cannot be done."""

    code = "command_error"


class InvalidInput(CommandError):
    """An input is malformed or impossible; `field` names it."""

    code = "invalid_input"


class NotFound(CommandError):
    """There is no such thing, or it belongs to somebody else."""

    code = "not_found"


class Conflict(CommandError):
    """The thing exists already, or its state does not allow this now."""

    code = "conflict"


class Unauthenticated(CommandError):
    """No valid credentials came with the request."""

    code = "unauthenticated"


class Forbidden(CommandError):
    """The credentials are valid and do not allow this."""

    code = "forbidden"


class PreconditionFailed(CommandError):
    """Something needed first is missing, for example an SSH key."""

    code = "precondition_failed"


class TooManyAttempts(CommandError):
    """Asked too often; `retry_after` seconds from now it may be tried again."""

    code = "too_many_attempts"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, field=field, hint=hint)
        self.retry_after = retry_after


class BudgetExceeded(CommandError):
    """It would cost more than a budget allows."""

    code = "budget_exceeded"


class DependencyUnavailable(DumontError):
    """One of our own parts (database, Temporal, object store) does not answer.

    Args:
        dependency: Its name as `dumont doctor` shows it.
    """

    code = "dependency_unavailable"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        dependency: str = "",
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, field=field, hint=hint)
        self.dependency = dependency


class StorageError(DumontError):
    """The object store refuses, or the repository in it is damaged or not ours to open."""

    code = "storage_error"


def _leaves(cls: type[DumontError]) -> list[type[DumontError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _leaves(child))]


BY_CODE: dict[str, type[DumontError]] = {cls.code: cls for cls in _leaves(DumontError)}
"""Each error class by its stable code, so that a failure that crossed a process can be named again."""

FINAL_CODES: tuple[str, ...] = tuple(sorted(c for c, cls in BY_CODE.items() if not cls.retryable))
"""The codes for which trying the same again cannot help."""
