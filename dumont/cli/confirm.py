"""A person's word before something that cannot be taken back."""

from __future__ import annotations

import sys

import typer

from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import notice


def confirm(*, what: str, warning: str, hint: str = "run it in a terminal, or add --yes") -> None:
    """Ask on a terminal whether to go on; anywhere else nobody can be asked.

    Args:
        what: What needs a word, as the beginning of a sentence.
        warning: What will happen, in full.
        hint: What to do where nobody can be asked.

    Raises:
        InvalidInput: This is no terminal.
        typer.Exit: The answer was no.
    """
    from dumont.domain.errors import InvalidInput

    if not sys.stdin.isatty():
        raise InvalidInput(
            f"{what} needs your word",
            field="--yes",
            hint=hint,
        )
    notice(warning)
    if not typer.confirm("Go on?", default=False, err=True):
        notice("Nothing was done.")
        raise typer.Exit(ExitCode.FAILURE)
