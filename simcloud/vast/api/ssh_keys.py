"""SSH keys: of the account (for new instances) and of one instance."""

from __future__ import annotations

import json
from typing import Any

from simcloud.vast.account import SshKey, read_key, same_key
from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.errors import VastError
from simcloud.vast.instance import AttachedKey, Instance


async def _list(call: Call) -> Any:
    return [key.public() for key in call.cloud.account.ssh_keys()]


async def _create(call: Call) -> Any:
    cloud = call.cloud
    key = cloud.account.add(call.fields().get("ssh_key"), now=cloud.context.clock.now())
    if cloud.knobs.values.account_keys_reach_existing:
        for instance in cloud.roster.listed():
            _attach_to(call, instance, AttachedKey(id=key.id, key=key.key))
    return {"success": True, "key": key.public()}


async def _update(call: Call) -> Any:
    key: SshKey = call.cloud.account.update(call.id, call.fields().get("ssh_key"))
    return {"success": True, "key": key.public()}


async def _delete(call: Call) -> Any:
    call.cloud.account.remove(call.id)
    return {"success": True}


async def _list_of_instance(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    rows = [
        {"id": key.id, "user_id": call.cloud.account.user_id, "public_key": key.key}
        for key in instance.keys
    ]
    # a JSON text inside JSON, as the real service answers
    return {"success": True, "ssh_keys": json.dumps(rows)}


async def _attach(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    text = read_key(call.fields().get("ssh_key"))
    key = AttachedKey(id=call.cloud.account.next_id(), key=text)
    added = _attach_to(call, instance, key)
    message = "SSH key added to instance." if added else "SSH key already associated with instance."
    return {"success": True, "msg": message}


async def _detach(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    wanted = str(call.request.path_params["key_id"])
    kept = [key for key in instance.keys if str(key.id) != wanted]
    if len(kept) == len(instance.keys):
        raise VastError(404, "not_found", f"ssh key {wanted} is not on instance {instance.id}")
    instance.keys = kept
    call.cloud.roster.save(instance)
    call.cloud.roster.containers.set_keys(instance)
    return {"success": True, "msg": "SSH key removed from instance."}


def _attach_to(call: Call, instance: Instance, key: AttachedKey) -> bool:
    if any(same_key(each.key, key.key) for each in instance.keys):
        # it may have been lost inside; attaching again puts it back
        call.cloud.roster.containers.set_keys(instance)
        return False
    instance.keys = [*instance.keys, key]
    call.cloud.roster.save(instance)
    call.cloud.roster.containers.set_keys(instance)
    return True


_ACCOUNT = "/api/v0/ssh"
_INSTANCE = "/api/v0/instances/{id:int}/ssh"

ENDPOINTS = [
    Endpoint(operation="ssh_keys.list", method="GET", path=_ACCOUNT, handler=_list),
    Endpoint(operation="ssh_keys.create", method="POST", path=_ACCOUNT, handler=_create),
    Endpoint(
        operation="ssh_keys.update", method="PUT", path=f"{_ACCOUNT}/{{id:int}}", handler=_update
    ),
    Endpoint(
        operation="ssh_keys.delete",
        method="DELETE",
        path=f"{_ACCOUNT}/{{id:int}}",
        handler=_delete,
    ),
    Endpoint(
        operation="instances.ssh_keys.list",
        method="GET",
        path=_INSTANCE,
        handler=_list_of_instance,
    ),
    Endpoint(operation="instances.ssh_keys.attach", method="POST", path=_INSTANCE, handler=_attach),
    Endpoint(
        operation="instances.ssh_keys.detach",
        method="DELETE",
        path=f"{_INSTANCE}/{{key_id}}",
        handler=_detach,
    ),
]
