"""The dashboard's files, from memory: a request is a look-up in a dictionary, never in a file system.

Files whose name holds their hash are kept for ever by browsers; the page itself is asked for each
time and answered with 304. Compressed forms lie beside the files since the build (`.br`, `.gz`).
"""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
_NOT_PAGES: Final = ("/api/", "/assets/", "/metrics")

_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Dumont</title></head><body>
<h1>The API is up</h1>
<p>The dashboard is not built yet. Run <code>make web</code>, then start the API again.</p>
<p><a href="/api/docs">API documentation</a></p>
</body></html>
"""


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of the dashboard in all its forms."""

    content: bytes
    encoded: dict[str, bytes]
    """By content coding."""
    media_type: str
    etag: str
    immutable: bool


class Dashboard:
    """Serves the built dashboard; a plain page when there is none.

    Args:
        directory: The build. Read once, now.
    """

    def __init__(self, directory: Path) -> None:
        self._files = {
            "/" + path.relative_to(directory).as_posix(): _read(path, directory)
            for path in (sorted(directory.rglob("*")) if directory.is_dir() else ())
            if path.is_file() and path.suffix not in (".br", ".gz")
        }

    async def __call__(self, request: Request) -> Response:
        """The file, or the page for a place inside the dashboard.

        Raises:
            HTTPException: 404 for anything else.
        """
        path = request.url.path
        file = self._files.get(path)
        if file is None and _is_navigation(request):
            path = "/index.html"
            file = self._files.get(path)
            if file is None:
                return HTMLResponse(_NOT_BUILT, headers=HEADERS)
        if file is None:
            raise HTTPException(404)
        return _answer(request, file)


def _read(path: Path, directory: Path) -> File:
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    encoded = {
        coding: beside.read_bytes()
        for coding, suffix in _ENCODINGS
        if (beside := path.with_name(path.name + suffix)).is_file()
    }
    return File(
        content=content,
        encoded=encoded,
        media_type=media_type,
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        immutable=path.relative_to(directory).parts[0] == "assets",
    )


def _is_navigation(request: Request) -> bool:
    path = request.url.path
    return path == "/" or (
        "text/html" in request.headers.get("accept", "")
        and "." not in path.rsplit("/", 1)[-1]
        and not path.startswith(_NOT_PAGES)
        and path != "/api"
    )


def _answer(request: Request, file: File) -> Response:
    headers = {
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
        "Cache-Control": "public, max-age=31536000, immutable" if file.immutable else "no-cache",
    }
    if file.media_type == "text/html":
        headers |= HEADERS
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    accepted = {
        part.split(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")
    }
    content = file.content
    for coding, _ in _ENCODINGS:
        if coding in accepted and coding in file.encoded:
            content = file.encoded[coding]
            headers["Content-Encoding"] = coding
            break
    return Response(content, media_type=file.media_type, headers=headers)
