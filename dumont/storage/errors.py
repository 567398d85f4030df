"""What a store can answer instead of doing what it was asked."""

from __future__ import annotations


class StoreError(Exception):
    """The store did not do it, also when asked again.

    Args:
        message: What went wrong, for people; never with a secret in it.
        retryable: Whether asking later may help.
        hint: What to do about it.
    """

    code = "store_error"

    def __init__(self, message: str, *, retryable: bool = True, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.hint = hint


class Missing(StoreError):
    """There is no such object."""

    code = "missing"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, retryable=False, hint=hint)


class AlreadyThere(StoreError):
    """There is an object where a new one was to be created."""

    code = "already_there"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, retryable=False, hint=hint)


class Refused(StoreError):
    """The credentials do not allow it."""

    code = "refused"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, retryable=False, hint=hint)


class Short(StoreError):
    """An object is shorter than what was asked of it."""

    code = "short"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, retryable=False, hint=hint)
