"""API keys: credentials for programs, with only the rights that they need."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter

from api.auth import NEEDS_LOGIN, AccountWriter, Parts
from api.errors import documented
from dumont.domain.errors import Forbidden, InvalidInput
from dumont.domain.resources import ApiKeyCreate, ApiKeyCreated, ApiKeyView
from dumont.security.tokens import TokenKind, new_token

router = APIRouter(prefix="/api-keys", tags=["account"])


@router.get("", responses=documented(*NEEDS_LOGIN))
async def list_api_keys(principal: AccountWriter, services: Parts) -> list[ApiKeyView]:
    """Your API keys, newest first, without their secrets."""
    return await services.api_keys.of_user(principal.user.user_id)


@router.post("", status_code=201, responses=documented(*NEEDS_LOGIN, "invalid_input"))
async def create_api_key(
    body: ApiKeyCreate, principal: AccountWriter, services: Parts
) -> ApiKeyCreated:
    """Make an API key. Its secret is in this answer and nowhere else, ever."""
    now = datetime.now(UTC)
    beyond = sorted(set(body.scopes) - principal.scopes)
    if beyond:
        raise Forbidden(f"you cannot give the scope {beyond[0]!r}, which you do not have")
    if body.expires_at is not None and body.expires_at.tzinfo is None:
        raise InvalidInput(
            "a time needs its zone, for example 2027-01-31T12:00:00Z", field="expires_at"
        )
    if body.expires_at is not None and body.expires_at <= now:
        raise InvalidInput("this time has passed already", field="expires_at")
    token = new_token(TokenKind.API_KEY)
    view = await services.api_keys.add(
        user_id=principal.user.user_id,
        name=body.name,
        scopes=body.scopes,
        digest=token.digest,
        expires_at=body.expires_at,
        at=now,
    )
    return ApiKeyCreated(**view.model_dump(), secret=token.text)


@router.delete("/{key_id}", status_code=204, responses=documented(*NEEDS_LOGIN, "not_found"))
async def revoke_api_key(key_id: str, principal: AccountWriter, services: Parts) -> None:
    """End an API key at once."""
    await services.api_keys.revoke(key_id, user_id=principal.user.user_id, at=datetime.now(UTC))
