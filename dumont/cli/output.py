"""What a command prints: results on stdout, everything said to a person beside them on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dumont.cli.exit_codes import ExitCode, exit_code_for
from dumont.domain.errors import DumontError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType


UNBOUNDED = 1_000
"""Columns of a file or a pipe: nothing is folded where nobody looks at a screen."""


def stdout_console() -> Console:
    """Where results go. Plain text, unfolded, when it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else UNBOUNDED, highlight=False)


def stderr_console() -> Console:
    """Where notices, progress and errors go."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else UNBOUNDED
    return Console(stderr=True, width=width, highlight=False)


def show(*, what: RenderableType) -> None:
    """Print a table or a text on stdout."""
    stdout_console().print(what)


def say(text: str) -> None:
    """Print one line of plain text on stdout, verbatim."""
    sys.stdout.write(text + "\n")


def notice(text: str) -> None:
    """Tell the user something beside the result, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(
    value: BaseModel | Sequence[BaseModel] | dict[str, Any], *, line: bool = False
) -> None:
    """Print JSON on stdout; a list becomes `{"items": [...]}` as everywhere in the API.

    Args:
        value: A resource, several, or plain JSON data.
        line: On one line, for streams.
    """
    data: Any
    if isinstance(value, dict):
        data = value
    elif isinstance(value, Sequence):
        data = {"items": [item.model_dump(mode="json") for item in value]}
    else:
        data = value.model_dump(mode="json")
    sys.stdout.write(json.dumps(data, indent=None if line else 2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def report_error(error: DumontError, *, as_json: bool) -> ExitCode:
    """Say on stderr what is wrong, which input is at fault and what to do; return the exit code."""
    code = exit_code_for(error=error)
    if as_json:
        problem = {
            "code": error.code,
            "message": error.message,
            "field": error.field,
            "hint": error.hint,
            "exit_code": int(code),
        }
        sys.stderr.write(json.dumps({"error": problem}, ensure_ascii=False) + "\n")
    else:
        from rich.text import Text

        text = Text("Error: ", style="bold red")
        text.append(error.message.rstrip(".") if error.field else _stop(error.message), "default")
        if error.field:
            text.append(f" ({error.field}).", style="dim")
        if error.hint:
            text.append(f" {error.hint[:1].upper()}{_stop(error.hint)[1:]}", style="default")
        stderr_console().print(text)
    sys.stderr.flush()
    return code


def _stop(text: str) -> str:
    """`text` with a full stop, unless it ends in a mark of its own."""
    text = text.strip()
    return text if not text or text[-1] in ".!?" else text + "."
