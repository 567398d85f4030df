"""The API's documentation in a browser: Swagger UI from an installed package, no CDN."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

router = APIRouter(prefix="/api/docs", include_in_schema=False)

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dumont API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/api/docs/swagger-ui.js"></script>
<script src="/api/docs/start.js"></script>
</body>
</html>
"""

_START: Final = """SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: false,
  validatorUrl: null
});
"""

# Swagger UI writes inline styles; scripts come from here only.
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_ASSETS: Final = {
    "swagger-ui.css": ("swagger-ui.css", "text/css"),
    "swagger-ui.js": ("swagger-ui-bundle.js", "text/javascript"),
}


@router.get("")
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CSP})


@router.get("/start.js")
async def start() -> Response:
    """What makes Swagger UI show our description."""
    return Response(_START, media_type="text/javascript")


def _asset(name: str) -> Response:
    file, media_type = _ASSETS[name]
    content = (files("fastapi_swagger") / "resources" / file).read_bytes()
    return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=86400"})


@router.get("/swagger-ui.css")
async def css() -> Response:
    """Swagger UI's styles."""
    return _asset("swagger-ui.css")


@router.get("/swagger-ui.js")
async def script() -> Response:
    """Swagger UI."""
    return _asset("swagger-ui.js")
