"""Webhooks: registering receivers."""

from __future__ import annotations

from typing import Any

from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.webhooks import NOTIFICATIONS


async def _list(call: Call) -> Any:
    return {"success": True, "webhooks": [hook.public() for hook in call.cloud.webhooks.list()]}


async def _show(call: Call) -> Any:
    return {"success": True, "webhook": call.cloud.webhooks.get(call.id).public()}


async def _create(call: Call) -> Any:
    hook = call.cloud.webhooks.create(call.fields(), now=call.cloud.context.clock.now())
    # the secret is told once
    return {"success": True, "webhook": hook.model_dump(), "secret": hook.secret}


async def _update(call: Call) -> Any:
    return {"success": True, "webhook": call.cloud.webhooks.update(call.id, call.fields()).public()}


async def _delete(call: Call) -> Any:
    call.cloud.webhooks.remove(call.id)
    return {"success": True}


async def _test(call: Call) -> Any:
    call.cloud.webhooks.test(call.id)
    return {"success": True}


async def _types(call: Call) -> Any:
    rows = [
        {"slug": f"client:{slug}", "name": subject} for slug, (subject, _) in NOTIFICATIONS.items()
    ]
    return {"success": True, "notification_types": rows}


_PATH = "/api/v0/webhooks"
_ONE = f"{_PATH}/{{id:int}}"

ENDPOINTS = [
    Endpoint(operation="webhooks.list", method="GET", path=_PATH, handler=_list),
    Endpoint(operation="webhooks.create", method="POST", path=_PATH, handler=_create),
    Endpoint(
        operation="webhooks.types",
        method="GET",
        path=f"{_PATH}/notification-types",
        handler=_types,
    ),
    Endpoint(operation="webhooks.show", method="GET", path=_ONE, handler=_show),
    Endpoint(operation="webhooks.update", method="PUT", path=_ONE, handler=_update),
    Endpoint(operation="webhooks.patch", method="PATCH", path=_ONE, handler=_update),
    Endpoint(operation="webhooks.delete", method="DELETE", path=_ONE, handler=_delete),
    Endpoint(operation="webhooks.test", method="POST", path=f"{_ONE}/test", handler=_test),
]
