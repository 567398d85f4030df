"""API keys of the account."""

from __future__ import annotations

import json
from typing import Any

from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.auth import ApiKey
from simcloud.vast.errors import VastError, invalid


def _public(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "permissions": key.permissions,
        "created_at": key.created_at,
        # the text is shown once, when the key is made
        "key": f"{key.key[:4]}...{key.key[-4:]}",
    }


async def _list(call: Call) -> Any:
    return {"success": True, "apikeys": [_public(key) for key in call.cloud.keys.list()]}


async def _show(call: Call) -> Any:
    return _public(_find(call))


async def _create(call: Call) -> Any:
    body = call.fields()
    permissions = body.get("permissions")
    if isinstance(permissions, str):
        try:
            permissions = json.loads(permissions)
        except ValueError:
            raise invalid("permissions: must be JSON") from None
    if permissions is not None and not isinstance(permissions, dict):
        raise invalid("permissions: must be an object")
    key = call.cloud.keys.create(
        name=str(body.get("name") or ""),
        permissions=permissions,
        now=call.cloud.context.clock.now(),
    )
    return {"success": True, **_public(key), "key": key.key}


async def _delete(call: Call) -> Any:
    if not call.cloud.keys.remove(_find(call).id):
        raise VastError(400, "invalid_args", "the account's first key cannot be deleted")
    return {"success": True}


def _find(call: Call) -> ApiKey:
    found = next((key for key in call.cloud.keys.list() if key.id == call.id), None)
    if found is None:
        raise VastError(404, "not_found", f"api key {call.id} not found")
    return found


_PATH = "/api/v0/auth/apikeys"

ENDPOINTS = [
    Endpoint(operation="api_keys.list", method="GET", path=_PATH, handler=_list),
    Endpoint(operation="api_keys.create", method="POST", path=_PATH, handler=_create),
    Endpoint(operation="api_keys.show", method="GET", path=f"{_PATH}/{{id:int}}", handler=_show),
    Endpoint(
        operation="api_keys.delete", method="DELETE", path=f"{_PATH}/{{id:int}}", handler=_delete
    ),
]
