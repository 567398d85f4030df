"""Addresses that providers call when something happened. They only make us look sooner.

What such a call says is never believed: it carries no instance, and anybody could have sent it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Final

from fastapi import APIRouter, Response

from api.auth import NEEDS_LOGIN, Anyone, Parts
from api.errors import documented
from dumont.domain.errors import Forbidden, NotFound
from dumont.domain.resources import Webhooks
from dumont.security.keys import Keys

PATH: Final = "/api/v1/webhooks/"

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


def secrets_of(keys: Keys, provider: str) -> Iterator[str]:
    """The secrets that stand in a provider's address, newest key first; old ones still serve."""
    for key in keys.token:
        yield hmac.new(key.key, f"webhook/{provider}".encode(), hashlib.sha256).hexdigest()


@router.get("", responses=documented(*NEEDS_LOGIN))
async def list_webhooks(principal: Anyone, services: Parts) -> Webhooks:
    """The addresses to register with providers. Each holds a secret; administrators only."""
    if not principal.user.is_admin:
        raise Forbidden("webhooks belong to the whole deployment; only its administrators see them")
    base = f"{services.settings.api_url.rstrip('/')}{PATH}"
    return Webhooks(vast=f"{base}vast/{next(secrets_of(services.keys, 'vast'))}")


@router.post(
    "/vast/{secret}",
    status_code=204,
    responses=documented("not_found", "dependency_unavailable"),
)
async def hear_vast(secret: str, services: Parts) -> Response:
    """Vast.ai says that something changed: look at the account now, not at the next turn.

    The body is not read.
    """
    given = secret.encode()
    ours = [
        hmac.compare_digest(known.encode(), given) for known in secrets_of(services.keys, "vast")
    ]
    if not any(ours):
        raise NotFound("there is no such webhook")
    await services.commands.wake_watches("vast")
    return Response(status_code=204)
