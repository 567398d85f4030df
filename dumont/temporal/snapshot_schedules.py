"""The Temporal Schedule of each machine's snapshots, and keeping all of them as policies want them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from dumont.domain.errors import InvalidInput
from dumont.domain.instances import Message
from dumont.domain.snapshots import SnapshotPolicy
from dumont.temporal.ids import snapshot_schedule_id
from dumont.temporal.queues import CONTROL

log = structlog.get_logger(__name__)

WORKFLOW: Final = "Snapshot"
_MEMO: Final = "policy"
_LONGEST: Final = timedelta(hours=24)
_RPC: Final = timedelta(seconds=10)


class ScheduledSnapshot(Message):
    """Input of a `Snapshot` that nobody asked for."""

    machine_id: str


async def apply(client: Client, machine_id: str, policy: SnapshotPolicy | None) -> None:
    """Have a machine's schedule as its policy wants it; none where nothing is to be made by itself.

    Raises:
        InvalidInput: Temporal does not understand its cron line; what was there before is there still.
        RPCError: Temporal did not confirm.
    """
    schedule_id = snapshot_schedule_id(machine_id)
    if policy is None or not policy.is_scheduled:
        try:
            await client.get_schedule_handle(schedule_id).delete(rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        return
    schedule = _schedule(machine_id, policy)
    try:
        await client.create_schedule(
            schedule_id, schedule, memo={_MEMO: _digest(policy)}, rpc_timeout=_RPC
        )
    except ScheduleAlreadyRunningError:
        # A memo cannot be changed: the schedule is made anew where the policy is another one.
        handle = client.get_schedule_handle(schedule_id)
        description = await handle.describe(rpc_timeout=_RPC)
        if await description.memo_value(_MEMO, "", type_hint=str) == _digest(policy):

            async def bring_up_to_date(_: ScheduleUpdateInput) -> ScheduleUpdate:
                return ScheduleUpdate(schedule=schedule)

            await handle.update(bring_up_to_date, rpc_timeout=_RPC)
            return
        await handle.delete(rpc_timeout=_RPC)
        await client.create_schedule(
            schedule_id, schedule, memo={_MEMO: _digest(policy)}, rpc_timeout=_RPC
        )
    except RPCError as error:
        if error.status is RPCStatusCode.INVALID_ARGUMENT and policy.cron is not None:
            raise InvalidInput(
                f"not a cron line: {policy.cron} ({error.message})", field="cron"
            ) from error
        raise


async def align(client: Client, wanted: Mapping[str, SnapshotPolicy]) -> int:
    """Have exactly the schedules that policies want; returns how many had to be changed.

    Args:
        client: Temporal.
        wanted: By machine; those of all other machines are deleted.
    """
    start, end = snapshot_schedule_id("\0").split("\0")
    there: dict[str, str] = {}
    async for found in await client.list_schedules():
        if found.id.startswith(start) and found.id.endswith(end):
            machine_id = found.id.removeprefix(start).removesuffix(end)
            there[machine_id] = await found.memo_value(_MEMO, "", type_hint=str)
    changed = 0
    for machine_id, policy in wanted.items():
        now = there.pop(machine_id, None)
        if now == (_digest(policy) if policy.is_scheduled else None):
            continue
        try:
            await apply(client, machine_id, policy)
        except InvalidInput as error:
            # One owner's mistake must not keep the others from having theirs.
            log.warning("schedule_not_possible", machine=machine_id, error=error.message)
        else:
            changed += 1
    for machine_id in there:
        await apply(client, machine_id, None)
        changed += 1
    return changed


async def next_at(client: Client, machine_id: str) -> datetime | None:
    """When a machine's next snapshot is made; None when none is planned."""
    try:
        handle = client.get_schedule_handle(snapshot_schedule_id(machine_id))
        description = await handle.describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return min(description.info.next_action_times, default=None)


def _schedule(machine_id: str, policy: SnapshotPolicy) -> Schedule:
    if policy.cron is not None:
        spec = ScheduleSpec(cron_expressions=[policy.cron], jitter=timedelta(minutes=1))
        catch_up = timedelta(hours=1)
    else:
        assert policy.every_minutes is not None
        every = timedelta(minutes=policy.every_minutes)
        # All machines at the full hour would be one burst on the store, every hour.
        share = int.from_bytes(hashlib.sha256(machine_id.encode()).digest()[:4]) / 2**32
        interval = ScheduleIntervalSpec(every=every, offset=every * share)
        spec = ScheduleSpec(intervals=[interval], jitter=every / 20)
        catch_up = every
    return Schedule(
        action=ScheduleActionStartWorkflow(
            WORKFLOW,
            ScheduledSnapshot(machine_id=machine_id),
            id=snapshot_schedule_id(machine_id),
            task_queue=CONTROL,
            execution_timeout=_LONGEST,
        ),
        spec=spec,
        # One that takes longer than the interval is not joined by a second one; after a time in which
        # everything was down, one is made up for.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=catch_up),
    )


def _digest(policy: SnapshotPolicy) -> str:
    when = f"{policy.every_minutes} {policy.cron}"
    return hashlib.sha256(when.encode()).hexdigest()[:16]
