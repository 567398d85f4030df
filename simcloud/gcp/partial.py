"""Partial responses: the `fields` parameter, e.g. `items(name,networkInterfaces/networkIP),kind`.

selection := path ("," path)*
path      := segment ("/" segment)* ["(" selection ")"]
segment   := name | "*"
"""

from __future__ import annotations

import re
from typing import Any

from simcloud.gcp import errors

Selection = dict[str, "Selection"]
"""Names to keep, each with what to keep below it; empty keeps everything below."""

_TOKEN = re.compile(r"[,/()]|[^,/()\s]+")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)

    def parse(self) -> Selection:
        selection = self._selection()
        if self._tokens:
            raise self._error()
        return selection

    def _error(self) -> errors.GoogleError:
        return errors.GoogleError(
            code=400, reason="invalidParameter", message=f"Invalid field selection {self._text}"
        )

    def _selection(self) -> Selection:
        selection: Selection = {}
        while True:
            self._path(selection)
            if not self._tokens or self._tokens[0] != ",":
                return selection
            self._tokens.pop(0)

    def _path(self, into: Selection) -> None:
        if not self._tokens or self._tokens[0] in ",/()":
            raise self._error()
        below = into.setdefault(self._tokens.pop(0), {})
        if self._tokens and self._tokens[0] == "/":
            self._tokens.pop(0)
            self._path(below)
        elif self._tokens and self._tokens[0] == "(":
            self._tokens.pop(0)
            below.update(self._selection())
            if not self._tokens or self._tokens.pop(0) != ")":
                raise self._error()


def parse_fields(text: str) -> Selection:
    """Parse a `fields` parameter.

    Raises:
        errors.GoogleError: 400 `invalidParameter` when it is malformed.
    """
    return _Parser(text).parse()


def apply_fields(value: Any, selection: Selection) -> Any:
    """Return `value` reduced to `selection`; lists are reduced entry by entry."""
    if not selection:
        return value
    if isinstance(value, list):
        return [apply_fields(entry, selection) for entry in value]
    if not isinstance(value, dict):
        return value
    if "*" in selection:
        return {key: apply_fields(entry, selection["*"]) for key, entry in value.items()}
    return {
        key: apply_fields(entry, selection[key]) for key, entry in value.items() if key in selection
    }
