"""What each exit code of `dumont` means. Public and stable: scripts branch on them."""

from __future__ import annotations

from enum import IntEnum

from dumont.domain.errors import DumontError, MachineError, ProviderError


class ExitCode(IntEnum):
    """The exit code of a command."""

    OK = 0
    """It is done."""
    FAILURE = 1
    """Something failed that none of the others names."""
    USAGE = 2
    """The command line, or a value on it, is not valid."""
    NOT_FOUND = 3
    """There is no such machine, key or server."""
    AUTH = 4
    """Not logged in, or the login does not allow this."""
    CONFLICT = 5
    """It exists already, or its state does not allow this now."""
    CAPACITY = 6
    """The cloud cannot or will not do it: no offer, no credit, a quota, or it is out of order. Or a
    budget has no room for it."""
    UNAVAILABLE = 7
    """The server, or something it stands on, does not answer."""
    INTERRUPTED = 130
    """Ctrl-C."""


_BY_CODE = {
    "invalid_input": ExitCode.USAGE,
    "not_found": ExitCode.NOT_FOUND,
    "unauthenticated": ExitCode.AUTH,
    "forbidden": ExitCode.AUTH,
    "conflict": ExitCode.CONFLICT,
    "precondition_failed": ExitCode.CONFLICT,
    "budget_exceeded": ExitCode.CAPACITY,
    "too_many_attempts": ExitCode.UNAVAILABLE,
    "dependency_unavailable": ExitCode.UNAVAILABLE,
}


def exit_code_for(*, error: DumontError) -> ExitCode:
    """The exit code an error ends the command with."""
    if isinstance(error, (ProviderError, MachineError)):
        return ExitCode.CAPACITY
    return _BY_CODE.get(error.code, ExitCode.FAILURE)
