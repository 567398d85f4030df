"""The OAuth endpoints that a service account file points to."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simcloud.gcp.auth import TokenError
from simcloud.gcp.service import Service
from simcloud.gcp.web import reply


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            return reply(service.tokens.exchange(form))
        except TokenError as refused:
            body = {"error": refused.slug, "error_description": refused.description}
            return reply(body, status=400)

    # the older paths are those of accounts.google.com and www.googleapis.com
    paths = ("/token", "/o/oauth2/token", "/oauth2/v4/token")
    return [Route(path, token, methods=["POST"]) for path in paths]
