"""What can go wrong in a command of the agent, as its caller reads it.

A command prints `{"error": message, "code": code}` and exits with status 1. Codes are a contract with
the control plane (`docs/protection.md`); messages are for people.
"""

from __future__ import annotations


class AgentError(Exception):
    """A command cannot be done, and why.

    Codes in use: `invalid` (input from outside is wrong), `not_running` (no daemon answers),
    `unknown_command`, `timeout`, `fenced` (another body or epoch has authority), `wrong_role`,
    `not_mirrored` (there is no mirror, or it cannot do what was asked), `failed` (anything else).
    """

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def document(self) -> dict[str, str]:
        """The error as it is printed."""
        return {"error": self.message, "code": self.code}
