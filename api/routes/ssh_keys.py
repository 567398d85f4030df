"""Your public SSH keys: new machines let them in."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from api.auth import NEEDS_LOGIN, AccountWriter, Anyone, Parts
from api.errors import documented
from dumont.domain.resources import SshKeyCreate, SshKeyView
from dumont.security.ssh import parse_public_key

router = APIRouter(prefix="/ssh-keys", tags=["account"])


@router.get("", responses=documented(*NEEDS_LOGIN))
async def list_ssh_keys(principal: Anyone, services: Parts) -> list[SshKeyView]:
    """Your stored public keys, oldest first."""
    return await services.ssh_keys.of_user(principal.user.user_id)


@router.post("", status_code=201, responses=documented(*NEEDS_LOGIN, "invalid_input"))
async def add_ssh_key(
    body: SshKeyCreate, response: Response, principal: AccountWriter, services: Parts
) -> SshKeyView:
    """Store a public key. One that is stored already is answered with 200."""
    key = parse_public_key(body.public_key)
    view, added = await services.ssh_keys.add(
        user_id=principal.user.user_id,
        name=body.name,
        public_key=key.line,
        fingerprint=key.fingerprint,
        at=datetime.now(UTC),
    )
    response.status_code = 201 if added else 200
    return view


@router.delete("/{key_id}", status_code=204, responses=documented(*NEEDS_LOGIN, "not_found"))
async def remove_ssh_key(key_id: str, principal: AccountWriter, services: Parts) -> None:
    """Forget a public key. Machines that let it in already still do."""
    await services.ssh_keys.remove(key_id, user_id=principal.user.user_id)
