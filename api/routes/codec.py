"""Temporal's remote codec: shows payloads in its Web UI to the deployment's owner, in their browser.

The payloads come from the browser and go back to it; Temporal itself never sees them open.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from google.protobuf import json_format
from temporalio.api.common.v1 import Payloads

from api.auth import NEEDS_LOGIN, CodecUser, Parts
from api.errors import documented
from dumont.domain.errors import Forbidden, InvalidInput
from dumont.temporal.codec import UndecodablePayload

router = APIRouter(prefix="/codec", tags=["codec"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"payloads": {"type": "array", "items": {"type": "object"}}},
                },
                "example": {
                    "payloads": [
                        {
                            "metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZC1hZXMyNTZnY20="},
                            "data": "...",
                        }
                    ]
                },
            }
        },
    }
}


@router.post(
    "/decode",
    responses=documented(*NEEDS_LOGIN, "invalid_input")
    | {200: {"description": "The same payloads, open.", "content": {"application/json": {}}}},
    openapi_extra=_BODY,
    response_class=Response,
)
async def decode_payloads(request: Request, principal: CodecUser, services: Parts) -> Response:
    """Open sealed payloads (protobuf's JSON form of `Payloads`). Administrators only."""
    if not principal.user.is_admin:
        raise Forbidden("payloads belong to the whole deployment; only its administrators see them")
    try:
        sealed = json_format.Parse(await request.body(), Payloads())
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"not Temporal payloads: {error}", field="payloads") from None
    try:
        opened = await services.codec.decode(sealed.payloads)
    except UndecodablePayload as error:
        raise InvalidInput(
            str(error), field="payloads", hint="was it sealed by another deployment?"
        ) from None
    return Response(
        json_format.MessageToJson(Payloads(payloads=opened)), media_type="application/json"
    )
