"""What an endpoint is: an operation name, where it is served, and what answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from simcloud.vast.cloud import VastCloud
from simcloud.vast.errors import VastError, invalid


@dataclass(frozen=True, kw_only=True)
class Call:
    """One authorized request, read."""

    cloud: VastCloud
    request: Request
    body: Any
    """The JSON body; an empty object when there is none."""

    @property
    def id(self) -> int:
        """The id in the path."""
        return int(self.request.path_params["id"])

    def fields(self) -> dict[str, Any]:
        """Return the body as an object.

        Raises:
            VastError: 400 when it is something else.
        """
        if not isinstance(self.body, dict):
            raise invalid("the request body must be a JSON object")
        return self.body

    def query_json(self, name: str, default: Any) -> Any:
        """Return a query parameter that holds JSON.

        Raises:
            VastError: 400 when it does not.
        """
        text = self.request.query_params.get(name)
        if text is None or text == "":
            return default
        try:
            return json.loads(text)
        except ValueError:
            raise VastError(400, "invalid_request", f"{name}: must be JSON") from None

    def query_int(self, name: str, default: int) -> int:
        """Return a query parameter that holds a whole number.

        Raises:
            VastError: 400 when it does not.
        """
        text = self.request.query_params.get(name)
        if text is None or text == "":
            return default
        try:
            return int(text)
        except ValueError:
            raise VastError(400, "invalid_request", f"{name}: must be a whole number") from None


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One operation at one path; the handler returns JSON data or a Response."""

    operation: str
    method: str
    path: str
    """Starlette path below the root, without a trailing slash."""
    handler: Handler
