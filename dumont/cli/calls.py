"""What every group of typed calls shares: how a request is written and how an answer is read."""

from __future__ import annotations

import re
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from dumont.cli.http import Http
from dumont.domain.errors import DependencyUnavailable, InvalidInput

R = TypeVar("R", bound=BaseModel)

_SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Calls:
    """Typed calls over one connection.

    Every method of a subclass raises the `DumontError` the server named, or `DependencyUnavailable`
    when it does not answer. Reads are repeated when the server asks for patience.
    """

    def __init__(self, *, http: Http) -> None:
        self._http = http

    def _read(self, path: str, kind: type[R], /, **query: str | float | None) -> R:
        return self._parse(self._http.call("GET", path, params=query), kind)

    def _read_list(self, path: str, kind: type[R]) -> list[R]:
        data = self._http.call("GET", path).json()
        items = data.get("items") if isinstance(data, dict) else data
        try:
            return [kind.model_validate(item) for item in items or ()]
        except (ValidationError, TypeError):
            raise self._stranger() from None

    def _parse(self, response: httpx.Response, kind: type[R]) -> R:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise self._stranger() from None

    def _stranger(self) -> DependencyUnavailable:
        return DependencyUnavailable(
            f"{self._http.server.url} answered in a way this version of `dumont` does not understand",
            dependency="api",
            hint="update `dumont`, or check that the address is a Dumont server's",
        )


def body(model: BaseModel) -> object:
    """A request as JSON data."""
    return model.model_dump(mode="json")


def part(text: str, *, field: str = "name") -> str:
    """One path segment; nothing a person types may reach another resource than the one named.

    Args:
        text: What was typed.
        field: What to call it in an error.

    Raises:
        InvalidInput: It is not a name or id.
    """
    if not _SEGMENT.fullmatch(text):
        raise InvalidInput(f"{text!r} is not a name or id", field=field)
    return text
