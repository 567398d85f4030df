"""Batch requests: many calls in one `multipart/mixed` POST, as gcloud sends them.

Each part is a whole HTTP request; it runs through the same application, faults and log included,
and its answer becomes a part of the answer.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from simcloud.gcp import errors
from simcloud.gcp.web import refuse

_PARTS_AT_MOST = 1000


@dataclass(frozen=True, kw_only=True)
class _Part:
    content_id: str
    verb: str
    target: str
    headers: dict[str, str]
    body: bytes


async def serve(request: Request, app: ASGIApp) -> Response:
    """Answer one batch."""
    try:
        parts = _parse(request.headers.get("content-type", ""), await request.body())
    except ValueError as unreadable:
        return refuse(errors.bad_request(f"Failed to parse batch request: {unreadable}"))
    outer = {
        name: value
        for name, value in request.headers.items()
        if name in ("authorization", "x-goog-user-project")
    }
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    base = f"http://{request.headers.get('host', 'localhost')}"
    # in-process: how long a part may take is the outer client's business
    async with httpx.AsyncClient(transport=transport, base_url=base, timeout=86400.0) as client:
        answers = await asyncio.gather(*(_run(client, part, outer) for part in parts))
    boundary = f"batch_{secrets.token_urlsafe(16)}"
    lines = [f"--{boundary}\r\n".encode() + answer for answer in answers]
    return Response(
        b"".join([*lines, f"--{boundary}--\r\n".encode()]),
        media_type=f"multipart/mixed; boundary={boundary}",
    )


def _parse(content_type: str, body: bytes) -> list[_Part]:
    if not content_type.lower().startswith("multipart/mixed"):
        raise ValueError("Content-Type must be multipart/mixed.")
    envelope = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    payload = envelope.get_payload()
    if not isinstance(payload, list) or not 0 < len(payload) <= _PARTS_AT_MOST:
        raise ValueError(f"1 to {_PARTS_AT_MOST} parts are needed.")
    return [_part(message) for message in payload if isinstance(message, Message)]


def _part(message: Message) -> _Part:
    raw = message.get_payload(decode=True)
    if not isinstance(raw, bytes):
        raise ValueError("A part is not an application/http request.")
    head, _, rest = raw.lstrip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n")
    words = head.decode("latin-1").split()
    if len(words) < 2:
        raise ValueError("A part has no request line.")
    block, _, body = rest.partition(b"\n\n")
    headers = BytesParser().parsebytes(block + b"\n\n")
    kept = {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() in ("authorization", "content-type", "accept")
    }
    return _Part(
        content_id=message.get("Content-ID", "").strip(),
        verb=words[0],
        target=words[1],
        headers=kept,
        body=body.strip(),
    )


async def _run(client: httpx.AsyncClient, part: _Part, outer: dict[str, str]) -> bytes:
    answer = await client.request(
        part.verb,
        part.target,
        headers={**outer, **part.headers, "accept-encoding": "identity"},
        content=part.body or None,
    )
    head = f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\r\n"
    content_type = answer.headers.get("content-type", "application/json; charset=UTF-8")
    head += f"Content-Type: {content_type}\r\nContent-Length: {len(answer.content)}\r\n\r\n"
    content_id = part.content_id
    if content_id.startswith("<"):
        content_id = "<response-" + content_id[1:]
    envelope = f"Content-Type: application/http\r\nContent-ID: {content_id}\r\n\r\n"
    return envelope.encode() + head.encode() + answer.content + b"\r\n"
