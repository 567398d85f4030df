"""Requests made of options: what a person typed is checked here, and named as it was typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dumont.cli.snapshot_views import WORKSPACE
from dumont.domain.errors import InvalidInput
from dumont.domain.snapshot_resources import checked_path

M = TypeVar("M", bound=BaseModel)


def order(kind: type[M], said: Mapping[str, object], *, options: Mapping[str, str]) -> M:
    """A request body.

    Args:
        kind: Its model.
        said: Its fields.
        options: The option, or argument, that a person typed for each field.

    Raises:
        InvalidInput: A value is not possible; names the option.
    """
    try:
        return kind.model_validate(said)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        option = next((options[str(n)] for n in first["loc"][::-1] if str(n) in options), None)
        message = first["msg"].removeprefix("Value error, ")
        _, is_rule, rule = message.partition(" should ")
        if is_rule:
            message = f"{repr(first['input'])[:60]} is not possible: it should {rule}"
        raise InvalidInput(message, field=option) from None


def workspace_path(text: str, *, option: str, or_top: bool = False) -> str:
    """A path below the workspace, whether it was typed from there or from the machine's root.

    Args:
        text: What was typed.
        option: Where it was typed.
        or_top: It may be the workspace itself, which is the empty path.

    Raises:
        InvalidInput: It leads out of the workspace, or is empty.
    """
    inside = text.removeprefix(WORKSPACE) if f"{text}/".startswith(f"{WORKSPACE}/") else text
    if or_top and inside.strip("/") in ("", "."):
        return ""
    try:
        return checked_path(inside)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is not a path below the workspace",
            field=option,
            hint="give it as it is below /workspace, for example `src/train.py`",
        ) from None
