"""A machine at its hours, in skipped time: warned, put to sleep, woken, and otherwise left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.orders import Order, OrderActivities, Verb
from activities.records import RecordActivities
from activities.working_hours import HoursActivities
from dumont.domain.errors import Conflict, DependencyUnavailable, NotFound
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.working_hours import HoursAct, HoursCall, PlannedAct, WorkingHours, next_acts
from dumont.ports import MachineRecord
from dumont.temporal.client import data_converter
from dumont.temporal.failures import ErrorInterceptor
from dumont.temporal.queues import CONTROL
from tests.support.binaries import binary
from tests.support.fakes import MemoryStore
from tests.workflows.conftest import KEYS, spec
from worker.roles import sandbox
from workflows.working_hours import ACTOR, HourSchedules, KeepHours

ME = spec().machine_id
WAKE, HIBERNATE = HoursAct.WAKE, HoursAct.HIBERNATE
RUNNING, HIBERNATED = MachinePhase.RUNNING, MachinePhase.HIBERNATED
MINUTE = timedelta(minutes=1)


@dataclass
class World:
    """One machine with hours, that does what it is told, and what tests let happen meanwhile."""

    env: WorkflowEnvironment
    hour: datetime
    store: MemoryStore = field(default_factory=MemoryStore)
    hours: dict[str, WorkingHours | None] = field(default_factory=dict)
    kept: datetime | None = None
    orders: list[tuple[datetime, Order]] = field(default_factory=list)
    refuse: Callable[[Order], None] = lambda order: None
    """Raise here to refuse."""
    takes: Callable[[World, Verb], None] = lambda world, verb: world.becomes(
        HIBERNATED if verb is Verb.HIBERNATE else RUNNING
    )
    """What becomes of the machine when it took an order."""
    later: list[tuple[datetime, Callable[[], None]]] = field(default_factory=list)
    """What happens before the first look at or after a moment."""
    kept_is_unknown_until: datetime | None = None
    aligned: list[Mapping[str, WorkingHours | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hours[ME] = WorkingHours(
            wake=(self.hour + timedelta(hours=13, minutes=45)).time(),
            hibernate=self.hour.time(),
            days="daily",
            timezone="UTC",
        )
        self.becomes(RUNNING)

    def becomes(self, phase: MachinePhase, **state: Any) -> None:
        state = {"generation": 1, **state}
        self.store.records[ME] = MachineRecord(
            spec=spec(), state=MachineState(phase=phase, **state), at=self.hour
        )

    def soon(self, minutes: float, what: Callable[[], None]) -> None:
        """So many minutes after the hour."""
        self.later.append((self.hour + minutes * MINUTE, what))

    async def until(self, moment: datetime) -> None:
        """Let time pass until then."""
        await self.env.sleep(max(moment - await self.env.get_current_time(), timedelta(0)))

    async def keep(self, act: HoursAct = HIBERNATE, at: datetime | None = None) -> str:
        """One call of the schedule for an act at a moment; the hour if none is given."""
        at = at or self.hour
        handle = await self.env.client.start_workflow(
            KeepHours.run,
            HoursCall(machine_id=ME, act=act, called_at=at - act.notice),
            id=f"machine/{ME}/hours/{act}-{at}",
            task_queue=CONTROL,
        )
        # Waiting for its result alone would skip to the end of time once it has ended.
        while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            await self.env.sleep(MINUTE)
        with self.env.auto_time_skipping_disabled():
            return await handle.result()

    def told(self) -> list[str]:
        events: list[MachineEvent] = list(self.store.events.values())
        assert all(event.kind is EventKind.HOURS for event in events)
        return [event.summary for event in events]

    def asked(self) -> list[tuple[str, int]]:
        """What the machine was asked, and how many minutes after the hour."""
        return [(o.verb.value, round((at - self.hour) / MINUTE)) for at, o in self.orders]

    def activities(self) -> list[Callable[..., Any]]:
        hours = HoursActivities(
            store=self.store, hours=self._hours, kept_alive_until=self._kept, align=self._align
        )
        return [
            hours.look_at_hours,
            hours.align_hours,
            OrderActivities(give=self._give).order_machine,
            RecordActivities(store=self.store).record_events,
        ]

    async def _hours(self, machine_ids: Sequence[str]) -> dict[str, WorkingHours | None]:
        now = activity.info().current_attempt_scheduled_time
        due = [what for at, what in self.later if at <= now]
        self.later = [(at, what) for at, what in self.later if at > now]
        for what in due:
            what()
        return {each: self.hours[each] for each in machine_ids if each in self.hours}

    async def _kept(self, machine_id: str) -> datetime | None:
        unknown = self.kept_is_unknown_until
        if unknown is not None and activity.info().current_attempt_scheduled_time < unknown:
            raise DependencyUnavailable("the database does not answer", dependency="postgres")
        return self.kept

    async def _align(self, wanted: Mapping[str, WorkingHours | None]) -> int:
        self.aligned.append(wanted)
        return 1

    async def _give(self, order: Order) -> None:
        self.orders.append((activity.info().current_attempt_scheduled_time, order))
        self.refuse(order)
        self.takes(self, order.verb)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"),
        data_converter=data_converter(KEYS),
    ) as env:
        soon = await env.get_current_time() + 12 * MINUTE
        made = World(env, soon.astimezone(UTC).replace(second=0, microsecond=0))
        await made.until(made.hour - HIBERNATE.notice)
        async with Worker(
            env.client,
            task_queue=CONTROL,
            workflows=[KeepHours, HourSchedules],
            activities=made.activities(),
            workflow_runner=sandbox(),
            interceptors=[ErrorInterceptor()],
        ):
            yield made


def refuses(message: str) -> Callable[[Order], None]:
    def refuse(order: Order) -> None:
        raise Conflict(message)

    return refuse


async def test_people_are_told_and_then_it_hibernates(world: World):
    assert await world.keep() == "done"
    [warning] = world.told()
    assert f"working hours end at {world.hour:%H:%M} (UTC): it hibernates in 10 minutes" in warning
    [event] = world.store.events.values()
    assert event.at <= world.hour - 9 * MINUTE
    assert event.data["due"] == world.hour.isoformat()
    [(_, order)] = world.orders
    assert (order.verb, order.actor) == (Verb.HIBERNATE, ACTOR)
    assert world.asked() == [("hibernate", 0)]


async def test_one_that_hibernates_already_is_left_in_silence(world: World):
    world.becomes(HIBERNATED)
    assert await world.keep() == "it was so already"
    assert (world.told(), world.orders) == ([], [])


async def test_it_wakes_at_its_hour(world: World):
    world.becomes(HIBERNATED)
    [_, wake] = next_acts(world.hours[ME], world.hour - MINUTE, 2)  # type: ignore[arg-type]
    await world.until(wake.at)
    assert await world.keep(WAKE, wake.at) == "done"
    [(_, order)] = world.orders
    assert (order.verb, order.actor) == (Verb.WAKE, ACTOR)
    assert world.told() == []


async def test_one_that_is_up_is_not_woken(world: World):
    [_, wake] = next_acts(world.hours[ME], world.hour - MINUTE, 2)  # type: ignore[arg-type]
    for phase in (RUNNING, MachinePhase.ON_STANDBY, MachinePhase.STUCK, MachinePhase.WAKING):
        world.becomes(phase)
        at = wake.at
        assert await world.keep(WAKE, at) == "it was so already"
        wake = PlannedAct(act=WAKE, at=at + timedelta(days=1))
    assert (world.told(), world.orders) == ([], [])


async def test_who_keeps_it_up_postpones_it_to_the_end_of_that(world: World):
    def later() -> None:
        world.kept = world.hour + 150 * MINUTE

    world.soon(-1, later)
    assert await world.keep() == "done"
    assert world.asked() == [("hibernate", 150)]
    assert "kept up: it hibernates in 150 minutes" in world.told()[-1]


async def test_while_nobody_knows_whether_it_is_kept_up_nothing_is_done(world: World):
    def unknown() -> None:
        world.kept_is_unknown_until = world.hour + 20 * MINUTE

    world.soon(-1, unknown)
    assert await world.keep() == "done"
    [(what, minutes)] = world.asked()
    assert what == "hibernate"
    assert 20 <= minutes <= 22


async def test_kept_up_until_the_next_hour_it_stays_up_and_says_so(world: World):
    world.kept = world.hour + timedelta(hours=20)
    assert await world.keep() == "kept up longer"
    assert world.orders == []
    assert world.told() == [f"not hibernated at {world.hour:%H:%M} (UTC): kept up longer"]


async def test_a_refusal_is_tried_again_for_an_hour_and_then_explained(world: World):
    world.refuse = refuses("a former instance is still looked through")
    assert (await world.keep()).startswith("given up")
    assert [minutes for _, minutes in world.asked()] == [0, 2, 7, 17, 32]
    assert "nor in the hour after: a former instance is still looked through" in world.told()[-1]
    ended = list(world.store.events.values())[-1].at
    assert abs(ended - (world.hour + 60 * MINUTE)) < MINUTE
    assert len({order.order_id for _, order in world.orders}) == 5, "each is an order of its own"


async def test_a_refusal_that_passes(world: World):
    world.refuse = refuses("not now")
    world.soon(6, lambda: setattr(world, "refuse", lambda order: None))
    assert await world.keep() == "done"
    assert [minutes for _, minutes in world.asked()] == [0, 2, 7]
    assert len(world.told()) == 1, "it worked in the end: nothing to explain"


async def test_on_its_standby_it_is_waited_for_and_warned_before_it_sleeps(world: World):
    world.becomes(MachinePhase.ON_STANDBY)
    world.soon(1, lambda: world.becomes(RUNNING))
    assert await world.keep() == "done"
    assert world.asked() == [("hibernate", 12)], "two minutes later it ran; ten minutes of warning"
    assert len(world.told()) == 1


async def test_on_its_standby_for_an_hour_it_is_never_asked(world: World):
    world.becomes(MachinePhase.ON_STANDBY)
    assert (await world.keep()).startswith("given up")
    assert world.orders == []
    assert "the machine is on_standby" in world.told()[-1]


async def test_somebody_who_goes_on_writing_is_no_end_of_it(world: World):
    """It took the order and could not: its own words say so."""
    world.takes = lambda world, verb: world.becomes(
        RUNNING, reason="not hibernated: somebody is writing"
    )
    assert (await world.keep()).startswith("given up")
    assert len(world.orders) == 5
    assert world.told()[-1].endswith("nor in the hour after: somebody is writing")


@pytest.mark.parametrize(
    "woken",
    [
        {"generation": 2, "reason": "ready"},
        {"reason": "not hibernated: somebody wants to use it"},
    ],
)
async def test_who_wakes_it_by_hand_is_left_alone(world: World, woken: dict[str, Any]):
    world.takes = lambda world, verb: world.becomes(MachinePhase.HIBERNATING)
    world.soon(1, lambda: world.becomes(RUNNING, **woken))
    assert await world.keep() == "done"
    assert len(world.orders) == 1
    assert len(world.told()) == 1


async def test_a_long_way_to_sleep_is_waited_for_without_asking_again(world: World):
    world.takes = lambda world, verb: world.becomes(MachinePhase.HIBERNATING)
    assert await world.keep() == "on its way"
    assert len(world.orders) == 1
    assert len(world.told()) == 1


@pytest.mark.parametrize("how", ["paused", "removed", "another hour", "unreadable", "destroyed"])
async def test_what_changed_after_the_warning_counts(world: World, how: str):
    mine = world.hours[ME]
    assert mine is not None

    def change() -> None:
        if how == "destroyed":
            world.becomes(MachinePhase.DESTROYING)
        elif how == "removed":
            del world.hours[ME]
        elif how == "unreadable":
            world.hours[ME] = None
        else:
            what = {"paused": True} if how == "paused" else {"hibernate": "00:07"}
            world.hours[ME] = WorkingHours.model_validate(mine.model_dump() | what)

    world.soon(-5, change)
    assert await world.keep() == "not planned any more"
    assert world.orders == []


async def test_a_call_for_no_hour_does_nothing(world: World):
    for at in (world.hour + 11 * MINUTE, world.hour - timedelta(days=1, minutes=30)):
        assert await world.keep(at=at) == "nothing is planned for this moment"
    assert (world.told(), world.orders) == ([], [])


async def test_nobody_was_there_for_a_while(world: World):
    """The workers were away: within the hour it is made up for, warned; later it is not."""
    await world.until(world.hour + 40 * MINUTE)
    assert await world.keep() == "done"
    assert world.asked() == [("hibernate", 50)]
    assert "in 10 minutes" in world.told()[0]


async def test_nobody_was_there_for_too_long(world: World):
    await world.until(world.hour + 61 * MINUTE)
    assert await world.keep() == "too late"
    assert world.orders == []
    assert world.told() == [f"not hibernated at {world.hour:%H:%M} (UTC): nobody was there"]


async def test_a_wake_that_nobody_hears_is_tried_again(world: World):
    world.becomes(HIBERNATED)
    [_, wake] = next_acts(world.hours[ME], world.hour - MINUTE, 2)  # type: ignore[arg-type]
    await world.until(wake.at)

    def gone(order: Order) -> None:
        raise NotFound("no workflow of machine runs")

    world.refuse = gone
    assert (await world.keep(WAKE, wake.at)).startswith("given up")
    assert len(world.orders) == 5
    [words] = world.told()
    assert words.startswith("not woken at")
    assert words.endswith("no workflow of machine runs")


async def test_three_weeks(world: World):
    """Twenty-one nights, one of them on holiday: each act once, and the GPU is off in between."""
    mine = world.hours[ME]
    assert mine is not None
    holiday = (world.hour + timedelta(days=9)).date()
    world.hours[ME] = mine = WorkingHours.model_validate(
        mine.model_dump() | {"holidays": [holiday]}
    )
    start = world.hour - 10 * MINUTE
    acts = [a for a in next_acts(mine, start, 60) if a.at < start + timedelta(days=21)]
    for one in acts:
        await world.until(one.at - one.act.notice)
        assert await world.keep(one.act, one.at) == "done", (
            one,
            await world.env.get_current_time(),
        )
        assert world.store.records[ME].state.phase is (RUNNING if one.act is WAKE else HIBERNATED)
    assert [(o.verb.value, at.replace(second=0, microsecond=0)) for at, o in world.orders] == [
        (one.act.value, one.at) for one in acts
    ]
    assert len(world.told()) == sum(one.act is HIBERNATE for one in acts)
    assert 38 <= len(acts) <= 42


async def test_the_sweep_names_only_machines_that_live(world: World):
    for number, phase in enumerate((RUNNING, HIBERNATED, MachinePhase.DESTROYING, RUNNING)):
        machine = spec(f"m{number:012x}")
        state = MachineState(phase=phase, generation=1, stopping=number == 3)
        world.store.records[machine.machine_id] = MachineRecord(
            spec=machine, state=state, at=world.hour
        )
        world.hours[machine.machine_id] = world.hours[ME]
    world.hours[f"m{1:012x}"] = None
    swept = await world.env.client.execute_workflow(
        HourSchedules.run, id="hour-schedules", task_queue=CONTROL
    )
    assert swept == 1
    assert world.aligned == [
        {ME: world.hours[ME], f"m{0:012x}": world.hours[ME], f"m{1:012x}": None}
    ]
