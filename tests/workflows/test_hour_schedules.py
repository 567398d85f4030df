"""The schedules of working hours on a real server: its calendars say what we say, and no more is done."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.orders import Order, OrderActivities, Verb
from activities.records import RecordActivities
from activities.working_hours import HoursActivities
from dumont.domain.errors import InvalidInput
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.working_hours import HoursAct, HoursCall, WorkingHours, due_act
from dumont.domain.working_hours import next_acts as planned
from dumont.ports import MachineRecord
from dumont.temporal import hour_schedules
from dumont.temporal.hour_schedules import align, apply, next_acts, schedule
from dumont.temporal.ids import hours_schedule_id
from dumont.temporal.queues import CONTROL
from tests.support.fakes import MemoryStore
from tests.workflows import test_snapshot_schedules as others
from tests.workflows.conftest import spec
from worker.roles import sandbox
from workflows.working_hours import KeepHours

server, client = others.server, others.client
"""Fixtures: a server for this module, and a namespace of each test's own."""

WAKE, HIBERNATE = HoursAct.WAKE, HoursAct.HIBERNATE
HOURS = WorkingHours.model_validate(
    {"wake": "08:45", "hibernate": "19:00", "timezone": "Europe/Berlin"}
)
BERLIN = ZoneInfo("Europe/Berlin")
ALWAYS = {"days": "daily", "holidays": []}


def hours(**said: Any) -> WorkingHours:
    return WorkingHours.model_validate(HOURS.model_dump() | said)


def now() -> datetime:
    return datetime.now(UTC)


async def of(client: Client, machine_id: str, act: HoursAct) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(hours_schedule_id(machine_id, act)).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def test_two_schedules_call_for_a_machine(client: Client) -> None:
    await apply(client, "m1", HOURS, now=now())
    for act, at in ((WAKE, "08:45"), (HIBERNATE, "18:50")):
        found = await of(client, "m1", act)
        assert found is not None
        action = found.schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        assert (action.workflow, action.task_queue) == ("KeepHours", CONTROL)
        [given] = await client.data_converter.decode([*action.args], [HoursCall])
        assert given == HoursCall(machine_id="m1", act=act)
        assert found.schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
        assert found.schedule.policy.catchup_window == timedelta(hours=1)
        assert found.schedule.spec.time_zone_name == "Europe/Berlin"
        times = [each.astimezone(BERLIN) for each in found.info.next_action_times]
        assert {f"{each:%H:%M}" for each in times} == {at}
        assert {f"{each:%a}" for each in times} == {"Mon", "Tue", "Wed", "Thu", "Fri"}


async def test_what_temporal_says_comes_next_is_what_is_planned(client: Client) -> None:
    for said in (HOURS, hours(wake=None, days="sat"), hours(wake="22:00", hibernate="00:05")):
        await apply(client, "m1", said, now=now())
        told = await next_acts(client, "m1", said)
        assert told[:8] == list(planned(said, now(), 8))
    await apply(client, "m1", hours(paused=True), now=now())
    assert await next_acts(client, "m1", hours(paused=True)) == []
    await apply(client, "m1", None, now=now())
    assert await next_acts(client, "m1", HOURS) == []


async def test_holidays_are_skipped_by_temporal_itself(client: Client) -> None:
    coming = planned(HOURS, now(), 6)
    free = sorted({each.at.astimezone(BERLIN).date() for each in coming})[1]
    said = hours(holidays=[free])
    await apply(client, "m1", said, now=now())
    for act in HoursAct:
        found = await of(client, "m1", act)
        assert found is not None
        days = {t.astimezone(BERLIN).date() for t in found.info.next_action_times}
        assert free not in days
        assert len(days) == len(found.info.next_action_times)


@pytest.mark.parametrize(
    ("where", "start"),
    [
        ("Europe/Berlin", "2027-03-26T00:00+00:00"),
        ("Europe/Berlin", "2027-10-29T00:00+00:00"),
        ("America/New_York", "2027-03-12T00:00+00:00"),
        ("America/New_York", "2027-11-05T00:00+00:00"),
        ("Australia/Lord_Howe", "2027-10-01T00:00+00:00"),
        ("Australia/Lord_Howe", "2027-04-02T00:00+00:00"),
        ("Africa/Cairo", "2027-04-28T00:00+00:00"),
        ("America/Santiago", "2027-09-03T00:00+00:00"),
        ("Asia/Kolkata", "2027-03-26T00:00+00:00"),
    ],
)
@pytest.mark.parametrize("act", HoursAct)
async def test_when_clocks_change_temporal_calls_for_each_act_once(
    client: Client, act: HoursAct, where: str, start: str
) -> None:
    """Its calendars alone skip times, or take the second of two: see `docs/working-hours.md`."""
    since = datetime.fromisoformat(start)
    for at in ("00:05", "01:45", "02:00", "02:15", "02:30", "03:05"):
        said = hours(**ALWAYS | {"wake": None, "hibernate": None, act.value: at, "timezone": where})
        schedule_id = f"{act.value}-{at}"
        made = schedule(schedule_id, act, said, now=since)
        made.spec.start_at = since
        await client.create_schedule(schedule_id, made)
        described = await client.get_schedule_handle(schedule_id).describe()
        times = described.info.next_action_times
        due = [one for t in times if (one := due_act(said, act, t)) is not None]
        called = sorted({one.at for one in due})
        just = since + act.notice - timedelta(seconds=1)
        wanted = [one.at for one in planned(said, just, 5)]
        assert called[:5] == wanted, (where, at)
        first = {one.at: t for t, one in reversed(list(zip_due(said, act, times)))}
        for moment in wanted:
            assert moment - first[moment] == act.notice, "nobody is warned too late"


def zip_due(said: WorkingHours, act: HoursAct, times: Sequence[datetime]) -> Any:
    for each in times:
        one = due_act(said, act, each)
        if one is not None:
            yield each, one


async def test_another_hour_is_in_force_at_once_and_none_is_none(client: Client) -> None:
    await apply(client, "m1", HOURS, now=now())
    before = await of(client, "m1", WAKE)
    later = hours(wake="09:30", hibernate=None)
    await apply(client, "m1", later, now=now())
    assert await of(client, "m1", HIBERNATE) is None
    after = await of(client, "m1", WAKE)
    assert before is not None
    assert after is not None
    assert after.info.created_at == before.info.created_at, "it was changed, not made anew"
    assert (await next_acts(client, "m1", later))[:3] == list(planned(later, now(), 3))
    await apply(client, "m1", None, now=now())
    assert await of(client, "m1", WAKE) is None
    await apply(client, "m1", None, now=now())


async def test_a_zone_that_temporal_does_not_know(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(client, "m1", HOURS, now=now())
    real = hour_schedules._spec
    monkeypatch.setattr(
        hour_schedules,
        "_spec",
        lambda *args, **how: dataclasses.replace(real(*args, **how), time_zone_name="Mars/Base"),
    )
    with pytest.raises(InvalidInput) as refused:
        await apply(client, "m1", hours(wake="10:00"), now=now())
    assert refused.value.field == "timezone"
    assert await next_acts(client, "m1", HOURS) != [], "what was there before is there still"
    assert await align(client, {"m1": None, "m2": HOURS}, now=now()) == 0, (
        "and nobody else pays for it"
    )


async def listed(client: Client, *machines: str) -> None:
    ids = [hours_schedule_id(machine, act) for machine in machines for act in HoursAct]
    await others.until_listed(client, *ids)


async def test_a_sweep_leaves_exactly_what_hours_want(client: Client) -> None:
    for machine_id in ("same", "drifted", "unreadable", "orphan"):
        await apply(client, machine_id, HOURS, now=now())
    await listed(client, "same", "drifted", "unreadable", "orphan")
    before = await of(client, "same", WAKE)
    wanted: Mapping[str, WorkingHours | None] = {
        "same": HOURS,
        "new": HOURS,
        "drifted": hours(paused=True),
        "unreadable": None,
    }
    assert await align(client, wanted, now=now()) == 3
    drifted, same = await of(client, "drifted", WAKE), await of(client, "same", WAKE)
    assert drifted is not None
    assert drifted.schedule.state.paused
    assert same is not None
    assert before is not None
    assert same.info.last_updated_at == before.info.last_updated_at
    assert await of(client, "new", HIBERNATE) is not None
    assert await of(client, "unreadable", WAKE) is not None, "nothing is known of what it wants"
    for act in HoursAct:
        assert await of(client, "orphan", act) is None
    await listed(client, "same", "new", "drifted", "unreadable")
    async with asyncio.timeout(20):
        while await align(client, wanted, now=now()):  # listings lag behind
            await asyncio.sleep(0.05)


async def test_a_pause_in_temporals_ui_is_put_right(client: Client) -> None:
    await apply(client, "m1", HOURS, now=now())
    await client.get_schedule_handle(hours_schedule_id("m1", WAKE)).pause(note="somebody")
    async with asyncio.timeout(20):
        while await align(client, {"m1": HOURS}, now=now()) == 0:
            await asyncio.sleep(0.05)
    found = await of(client, "m1", WAKE)
    assert found is not None
    assert not found.schedule.state.paused


async def test_a_sweep_touches_no_other_schedules(client: Client) -> None:
    names = ["hour-schedules", "machine/m1", "machine/m1/snapshot", "machine/m1/hours/other"]
    for schedule_id in names:
        await client.create_schedule(
            schedule_id,
            Schedule(
                action=ScheduleActionStartWorkflow("Reconcile", id="x", task_queue="nobody"),
                spec=ScheduleSpec(cron_expressions=["0 0 1 1 *"]),
            ),
        )
    await others.until_listed(client, *names)
    assert await align(client, {}, now=now()) == 0
    assert await others.listed(client) == set(names)


async def ended(client: Client, *which: str, but: str = "") -> dict[str, str]:
    """What became of workflows, once there are any."""
    async with asyncio.timeout(30):
        while True:
            ids = [found.id async for found in client.list_workflows() if found.id != but]
            if ids and set(which) <= set(ids):
                runs = [client.get_workflow_handle(each, result_type=str) for each in ids]
                return {run.id: await run.result() for run in runs}
            await asyncio.sleep(0.05)


async def test_a_schedule_really_wakes_a_machine(client: Client) -> None:
    """A wake of five minutes ago is made up for, as after a time in which the server was down."""
    store, given, machine = MemoryStore(), [], spec()
    ago = (now() - timedelta(minutes=5)).replace(second=0, microsecond=0)
    said = hours(wake=ago.time(), hibernate=None, days="daily", timezone="UTC")
    store.records[machine.machine_id] = MachineRecord(
        spec=machine,
        state=MachineState(phase=MachinePhase.HIBERNATED, generation=1),
        at=now(),
    )

    async def give(order: Order) -> None:
        given.append(order)

    async def read(machine_ids: Sequence[str]) -> dict[str, WorkingHours | None]:
        return {machine.machine_id: said}

    async def none(wanted: object) -> int:
        return 0

    activities = HoursActivities(store=store, hours=read, align=none)
    await apply(client, machine.machine_id, said, now=now())
    schedule_id = hours_schedule_id(machine.machine_id, WAKE)
    async with Worker(
        client,
        task_queue=CONTROL,
        workflows=[KeepHours],
        activities=[
            activities.look_at_hours,
            OrderActivities(give=give).order_machine,
            RecordActivities(store=store).record_events,
        ],
        workflow_runner=sandbox(),
    ):
        handle = client.get_schedule_handle(schedule_id)
        minute = timedelta(minutes=1)
        await handle.backfill(ScheduleBackfill(start_at=ago - minute, end_at=ago + minute))
        missed = f"{schedule_id}-{ago:%Y-%m-%dT%H:%M:%SZ}"
        assert await ended(client, missed) == {missed: "done"}
        await handle.trigger()
        by_hand = await ended(client, but=missed)
    assert list(by_hand.values()) == ["nothing is planned for this moment"]
    [order] = given
    assert (order.verb, order.actor) == (Verb.WAKE, "working hours")
    assert order.reason == f"it is {ago:%H:%M} (UTC)"
