"""The HTTP side of every method: routing by name, authentication, JSON in and out, errors.

A `Method` carries Google's own name for it (`instances.insert`): fault rules and request counts go
by these names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from simcloud.gcp import errors, partial
from simcloud.gcp.auth import ANONYMOUS
from simcloud.gcp.images import IMAGE_PROJECTS
from simcloud.gcp.records import Operation
from simcloud.gcp.regions import REGIONS, ZONES
from simcloud.gcp.service import Service
from simcloud.traffic import Call

PREFIX = "/compute/v1/projects/{project}"

Handler = Callable[["Ask"], Awaitable["dict[str, Any] | None"]]


@dataclass(kw_only=True)
class Ask:
    """One authenticated request, with its path checked."""

    service: Service
    user: str
    path: dict[str, str]
    query: dict[str, str]
    body: Any
    """Decoded JSON; an empty object if none was sent."""

    @property
    def zone(self) -> str:
        """The zone in the path."""
        return self.path["zone"]

    @property
    def region(self) -> str:
        """The region in the path."""
        return self.path["region"]

    @property
    def request_id(self) -> str | None:
        """The client's idempotency key."""
        return self.query.get("requestId") or None

    def render(self, operation: Operation) -> dict[str, Any]:
        """Return an operation as sent on the wire."""
        return self.service.operations.render(operation)


@dataclass(frozen=True)
class Method:
    """One method of the API."""

    name: str
    verb: str
    template: str
    """Path below the project, such as `zones/{zone}/instances`; empty is the project itself."""
    handler: Handler
    any_project: bool = False
    """Whether it may be asked of the public image projects too."""

    @property
    def path(self) -> str:
        """Full path template."""
        return f"{PREFIX}/{self.template}" if self.template else PREFIX

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The path as a regular expression."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path) + "/?")

    def route(self, service: Service) -> Route:
        """Return the route that serves it."""

        async def endpoint(request: Request) -> Response:
            return await _serve(request, self, service)

        return Route(self.path, endpoint, methods=[self.verb], name=self.name)


def reply(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer as Google sends it."""
    return Response(
        json.dumps(body, indent=2, ensure_ascii=False).encode(),
        status,
        media_type="application/json; charset=UTF-8",
        headers={
            "Cache-Control": "private",
            "Vary": "Origin, X-Origin, Referer",
            **(headers or {}),
        },
    )


def refuse(refused: errors.GoogleError) -> Response:
    """Return an error answer."""
    headers = {}
    if refused.code == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/"'
    return reply(refused.body(), status=refused.code, headers=headers)


def authenticate(request: Request, service: Service) -> str:
    """Return who is asking.

    Raises:
        errors.GoogleError: 401.
    """
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    token = bearer.strip() if scheme.lower() == "bearer" else ""
    token = token or request.query_params.get("access_token", "")
    if token:
        return service.tokens.authenticate(token)
    if scheme:
        raise errors.unauthenticated()
    if not service.anonymous_allowed:
        raise errors.login_required()
    return ANONYMOUS


def classifier(methods: Sequence[Method]) -> Callable[[Scope, bytes], Call]:
    """Return what names requests for the log and for fault rules."""

    def classify(scope: Scope, body: bytes) -> Call:
        for method in methods:
            if method.verb != scope["method"]:
                continue
            match = method.pattern.fullmatch(scope["path"])
            if match is None:
                continue
            instance = match.groupdict().get("instance")
            if method.name in ("instances.insert", "disks.insert", "addresses.insert"):
                instance = _name_in(body)
            zone = match.groupdict().get("zone")
            return Call(operation=method.name, instance=instance, label=instance, zone=zone)
        last = scope["path"].rstrip("/").rpartition("/")[2]
        if last == "token":
            return Call(operation="oauth.token")
        return Call(operation={"v1": "batch", "skus": "skus.list"}.get(last, "unknown"))

    return classify


def _name_in(body: bytes) -> str | None:
    try:
        name = json.loads(body).get("name")
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


async def _serve(request: Request, method: Method, service: Service) -> Response:
    try:
        ask = await _ask(request, method, service)
        fault = service.context.faults.fire(
            provider="gcp",
            operation=method.name,
            effects=("google_error",),
            instance=ask.path.get("instance"),
            label=ask.path.get("instance"),
            zone=ask.path.get("zone"),
        )
        if fault is not None:
            limited = errors.rate_limited()
            raise errors.GoogleError(
                code=int(fault.number("code", limited.code)),
                reason=fault.text("reason", limited.reason),
                message=fault.text("message", limited.message),
                domain=fault.text("domain", limited.domain),
            )
        body = await method.handler(ask)
        if body is None:
            return Response(status_code=204)
        fields = request.query_params.get("fields")
        if fields:
            body = partial.apply_fields(body, partial.parse_fields(fields))
        return reply(body)
    except errors.GoogleError as refused:
        return refuse(refused)


async def _ask(request: Request, method: Method, service: Service) -> Ask:
    user = authenticate(request, service)
    path = {key: str(value) for key, value in request.path_params.items()}
    project = path["project"]
    if project != service.project and not (method.any_project and project in IMAGE_PROJECTS):
        raise errors.not_found(f"projects/{project}")
    zone, region = path.get("zone"), path.get("region")
    # zones.get has a 404 of its own; an image family may be viewed from no zone in particular
    odd = method.name == "zones.get" or (zone == "-" and method.name == "imageFamilyViews.get")
    if zone is not None and zone not in ZONES and not odd:
        raise errors.invalid("zone", zone, "Unknown zone.")
    if region is not None and region not in REGIONS and method.name != "regions.get":
        raise errors.invalid("region", region, "Unknown region.")
    return Ask(
        service=service,
        user=user,
        path=path,
        query=dict(request.query_params),
        body=await _json(request),
    )


async def _json(request: Request) -> Any:
    if request.method in ("GET", "DELETE"):
        return {}
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        return json.loads(raw)
    except ValueError as unreadable:
        raise errors.bad_request(f"Invalid JSON payload received. {unreadable}.") from unreadable
