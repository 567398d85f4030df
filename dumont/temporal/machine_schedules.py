"""The Temporal Schedules of machines: which there are, and their end."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, NamedTuple

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

_ID: Final = re.compile(r"machine/(m[0-9a-f]{12})/.+")
_RPC: Final = timedelta(seconds=10)


class MachineSchedule(NamedTuple):
    """One of them."""

    schedule_id: str
    machine_id: str


async def of_machines(client: Client) -> list[MachineSchedule]:
    """Every schedule whose id says that it belongs to a machine.

    Raises:
        RPCError: Temporal does not answer.
    """
    found = []
    async for listed in await client.list_schedules():
        match = _ID.fullmatch(listed.id)
        if match is not None:
            found.append(MachineSchedule(listed.id, match[1]))
    return found


async def delete(client: Client, schedule_id: str) -> None:
    """Delete a schedule; one that is gone is success.

    Raises:
        RPCError: Temporal did not confirm.
    """
    try:
        await client.get_schedule_handle(schedule_id).delete(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
