"""Machines that nobody uses, in skipped time: warned, kept up, ordered; and never on what is unknown."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.idle import IdleActivities
from activities.orders import Order, OrderActivities, Verb
from dumont.domain.errors import Conflict, DependencyUnavailable
from dumont.domain.idle import IdlePolicy, IdleState, KeepAlive
from dumont.domain.instances import SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineState
from dumont.ports import MachineRecord
from dumont.temporal.client import data_converter
from dumont.temporal.queues import CONTROL
from dumont.temporal.search_attributes import register_search_attributes
from tests.support.binaries import binary
from tests.support.idleness import (
    BUSY,
    LEFT_OPEN,
    QUIET,
    TYPING,
    ScriptedActivity,
    ScriptedAgent,
)
from tests.workflows.conftest import KEYS, Stage, now, spec
from worker.compose_idle import idle_served
from worker.machine_orders import MachineOrders
from worker.roles import control_worker, gcp_worker, vast_worker
from workflows.idle import IdleSweep
from workflows.machine import Machine
from workflows.rest import WakeRequest

M = spec().machine_id
MINUTE = timedelta(minutes=1)
HOME = ActiveInstance(
    provider="vast",
    instance_id="24",
    label=f"dmt-test-{M}-g1-a1",
    generation=1,
    ssh=SshAddress(host="127.1.0.1", port=40022),
    usd_per_hour=0.3,
    gpu="RTX 4090",
    gpu_count=1,
)


@dataclass
class Watch:
    """A deployment whose sweep the test starts, a minute apart."""

    stage: Stage
    watched: ScriptedActivity = field(default_factory=ScriptedActivity)
    agent: ScriptedAgent = field(default_factory=ScriptedAgent)
    orders: list[Order] = field(default_factory=list)
    refuses: Exception | None = None
    really: bool = False
    """Orders reach the machine's workflow."""
    sweeps: int = 0

    async def give(self, order: Order) -> None:
        self.orders.append(order)
        if self.refuses is not None:
            raise self.refuses
        if self.really:
            await MachineOrders(self.stage.env.client).give(order)

    async def put(self, phase: MachinePhase = MachinePhase.RUNNING, **state: Any) -> None:
        """Have the machine recorded so; it is `ready` since long ago."""
        given = {"phase": phase, "generation": 1, "instance": HOME, "version": 9} | state
        ready = self.watched.at - timedelta(days=1)
        whole = MachineState.model_validate(given)
        if whole.instance is not None:
            home = whole.instance.model_copy(update={"ready_at": ready})
            whole = whole.model_copy(update={"instance": home})
        await self.stage.store.record(MachineRecord(spec=spec(), state=whole, at=self.watched.at))

    async def sweep(self) -> int:
        self.sweeps += 1
        self.watched.at = await self.stage.env.get_current_time()
        with self.stage.env.auto_time_skipping_disabled():
            return await self.stage.env.client.execute_workflow(
                IdleSweep.run, id=f"idle-{self.sweeps}", task_queue=CONTROL
            )

    async def minutes(self, count: float) -> None:
        """Let time pass, with a sweep each minute."""
        for _ in range(round(count)):
            await self.stage.env.sleep(MINUTE)
            await self.sweep()

    def kinds(self) -> list[str]:
        return self.stage.store.kinds()

    @property
    def state(self) -> IdleState:
        return self.watched.noted.get(M, (1, IdleState()))[1]


@pytest.fixture
async def watch(request: pytest.FixtureRequest) -> AsyncIterator[Watch]:
    can_hibernate = getattr(request, "param", True)
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"),
        data_converter=data_converter(KEYS),
    ) as env:
        await register_search_attributes(env.client)
        made = Watch(Stage(env))
        idle = IdleActivities(
            store=made.stage.store,
            watched=made.watched,
            agent=made.agent,
            can_hibernate=can_hibernate,
        )
        control = made.stage.control()
        orders = OrderActivities(give=made.give)
        others = [each for each in control.money if each.__name__ != "order_machine"]
        money = [*others, orders.order_machine, *idle_served(idle)]
        control = dataclasses.replace(control, money=money)
        made.watched.at = await env.get_current_time()
        async with (
            control_worker(env.client, control),
            vast_worker(env.client, made.stage.vast()),
            gcp_worker(env.client, made.stage.gcp()),
        ):
            yield made


async def test_a_forgotten_machine_is_warned_and_then_put_to_rest(watch: Watch):
    await watch.put()
    watch.watched.does(BUSY)
    await watch.minutes(3)
    watch.watched.does(QUIET)
    await watch.minutes(3)
    assert watch.kinds() == [], "three minutes are not over yet"
    await watch.minutes(2)
    assert watch.kinds() == ["idle.warning"]
    [warning] = watch.stage.store.events.values()
    act_at = watch.state.act_at
    assert act_at is not None
    assert f"hibernates at {act_at:%H:%M} UTC" in warning.summary
    assert "dumont keep-alive my-box" in warning.summary
    assert warning.data["terminals"] == 1
    assert f"{act_at:%H:%M} UTC" in watch.agent.told[0]
    assert watch.orders == []

    await watch.minutes(6)
    [order] = watch.orders
    assert (order.machine_id, order.verb, order.actor) == (M, Verb.HIBERNATE, "idleness")
    assert "3 min are enough" in order.reason
    assert watch.watched.at >= act_at
    assert watch.kinds() == ["idle.warning"]


async def test_the_machine_really_hibernates_and_wakes_without_a_grudge(watch: Watch):
    watch.really = True
    handle = await watch.stage.start()
    ready = await watch.stage.until(handle, MachinePhase.RUNNING)
    assert ready.instance is not None
    watch.watched.at = await watch.stage.env.get_current_time()
    watch.watched.does(QUIET)
    await watch.minutes(14)
    assert watch.kinds().count("idle.warning") == 0, "nobody can have logged in yet"
    await watch.minutes(8)
    assert watch.kinds().count("idle.warning") == 1
    state = await watch.stage.until(handle, MachinePhase.HIBERNATED)
    assert state.instance is None
    hibernating = next(
        e for e in watch.stage.store.events.values() if e.kind == "machine.hibernating"
    )
    assert "idleness" in hibernating.summary
    await watch.minutes(3)
    assert len(watch.orders) == 1, "a machine that rests is left alone"

    assert watch.watched.noted[M][1].refusals == 1, "had it stayed up, it would be asked later"
    await handle.execute_update(Machine.wake, WakeRequest())
    awake = await watch.stage.until(handle, MachinePhase.RUNNING)
    assert awake.generation > 1
    await watch.minutes(3)
    assert watch.kinds().count("idle.withdrawn") == 0
    assert (await watch.watched.states({M: awake.generation})) == {}, "all of it is forgotten"
    await watch.stage.destroy(handle)


async def warned(watch: Watch) -> None:
    await watch.put()
    watch.watched.does(QUIET)
    await watch.minutes(5)
    assert watch.kinds() == ["idle.warning"]
    await watch.minutes(2)


async def test_a_key_pressed_withdraws_the_warning(watch: Watch):
    await warned(watch)
    watch.watched.does(TYPING)
    await watch.minutes(1)
    assert watch.kinds() == ["idle.warning", "idle.withdrawn"]
    assert "1 login" in watch.agent.told[-1]
    assert watch.state == IdleState()
    await watch.minutes(10)
    assert watch.orders == []


async def test_a_key_pressed_and_nothing_more_starts_everything_anew(watch: Watch):
    await warned(watch)
    watch.watched.does(TYPING)
    watch.watched.at += timedelta(seconds=5)
    watch.watched.does(QUIET)
    await watch.minutes(1)
    assert watch.kinds()[-1] == "idle.withdrawn"
    await watch.minutes(4)
    assert watch.kinds().count("idle.warning") == 2
    assert watch.orders == []


async def test_what_happens_while_a_sweep_is_under_way_counts(watch: Watch):
    """The order is given only on what is known at that moment."""
    await warned(watch)
    decided = []
    look = watch.watched.keep_alives

    async def then_somebody_types(machine_ids: Any) -> Any:
        if watch.state.act_at is not None and watch.watched.at >= watch.state.act_at:
            decided.append(watch.watched.at)
            if len(decided) == 2:
                watch.watched.does(TYPING)
        return await look(machine_ids)

    watch.watched.keep_alives = then_somebody_types  # type: ignore[method-assign]
    await watch.minutes(4)
    assert len(decided) > 1, "it would have been ordered"
    assert watch.orders == []
    assert watch.kinds()[-1] == "idle.withdrawn"


async def test_somebody_keeps_it_up(watch: Watch):
    await warned(watch)
    until = watch.watched.at + timedelta(minutes=20)
    watch.watched.kept_up[M] = KeepAlive(until=until, by="ana", reason="a long think")
    await watch.minutes(18)
    assert watch.orders == []
    assert watch.kinds() == ["idle.warning", "idle.withdrawn"]
    assert "a long think" in list(watch.stage.store.events.values())[-1].summary
    await watch.minutes(10)
    assert len(watch.orders) == 1, "a wish ends by itself"
    assert watch.watched.at > until


async def test_switched_off_nothing_happens_and_a_warning_is_withdrawn(watch: Watch):
    await warned(watch)
    watch.watched.wanted[M] = IdlePolicy(enabled=False)
    await watch.minutes(10)
    assert watch.orders == []
    assert watch.kinds() == ["idle.warning", "idle.withdrawn"]


async def test_a_refusal_is_told_once_and_asked_again_less_and_less_often(watch: Watch):
    watch.refuses = Conflict("a former instance is still looked through")
    await warned(watch)
    at = []
    for _ in range(130):
        await watch.minutes(1)
        while len(at) < len(watch.orders):
            at.append(watch.watched.at)
    alerts = [e for e in watch.stage.store.events.values() if e.kind == "alert"]
    assert ["former instance" in alert.summary for alert in alerts] == [True]
    waits = [(b - a) / MINUTE for a, b in itertools.pairwise(at)]
    assert len(at) >= 3
    assert waits[0] >= 15
    assert waits == sorted(waits)
    assert waits[1] >= 30
    assert len({order.order_id for order in watch.orders}) == len(at)
    watch.refuses = None
    watch.watched.does(BUSY)
    await watch.minutes(1)
    assert watch.state == IdleState(), "work wipes the slate clean"


async def test_nobody_takes_the_order(watch: Watch):
    """Then it is the same order a minute later, not a refusal."""
    watch.refuses = DependencyUnavailable("Temporal is away", dependency="temporal")
    await warned(watch)
    await watch.minutes(6)
    assert len(watch.orders) >= 2
    assert len({order.order_id for order in watch.orders}) == 1
    assert "alert" not in watch.kinds()
    watch.refuses = None
    await watch.minutes(1)
    given = len(watch.orders)
    await watch.minutes(5)
    assert len(watch.orders) == given


@pytest.mark.parametrize("unknown", sorted(QUIET.keys() - {"cpu_percent"}))
async def test_a_figure_that_nobody_knows_is_not_idle(unknown: str):
    """Not a workflow's matter alone: the whole way from reading to step."""
    watched = ScriptedActivity()
    watch = Watch(Stage(None), watched)  # type: ignore[arg-type]
    await watch.put()
    watched.does(
        {name: value for name, value in QUIET.items() if name != unknown}
        | ({"cpu_percent": None} if unknown == "cpu_cores" else {})
    )
    watched.script[0] = (watched.at - timedelta(hours=2), watched.script[0][1])
    idle = IdleActivities(
        store=watch.stage.store, watched=watched, agent=watch.agent, can_hibernate=True
    )
    [machine] = await watch.stage.store.live_machines()
    assert await idle._judge([machine]) == []
    watched.script[0] = (watched.script[0][0], QUIET)
    assert [move.step for move in await idle._judge([machine])] == ["warn"]


async def test_a_gap_is_unknown_and_unknown_never_ends_anything(watch: Watch):
    await warned(watch)
    watch.watched.does(None)
    await watch.minutes(4)
    watch.watched.does(QUIET)
    await watch.minutes(1)
    assert watch.orders == []
    assert "idle.withdrawn" in watch.kinds()
    await watch.minutes(20)
    assert len(watch.orders) == 1


async def test_a_sweep_that_was_missed_for_hours_does_not_act_on_an_old_warning(watch: Watch):
    await warned(watch)
    watch.watched.does(None)
    await watch.stage.env.sleep(timedelta(hours=3))
    watch.watched.at = await watch.stage.env.get_current_time()
    watch.watched.does(QUIET)
    await watch.sweep()
    await watch.minutes(2)
    assert watch.orders == []
    assert watch.kinds()[:2] == ["idle.warning", "idle.withdrawn"]


async def test_a_machine_without_a_daemon_is_looked_at(watch: Watch):
    watch.watched.daemon = False
    watch.agent.host = dict(LEFT_OPEN)
    await watch.put()
    await watch.minutes(5)
    assert watch.kinds() == ["idle.warning"]
    watch.agent.host = None
    await watch.minutes(3)
    assert watch.kinds() == ["idle.warning", "idle.withdrawn"], "it cannot be seen: unknown"
    await watch.minutes(10)
    assert watch.orders == []
    watch.agent.host = dict(LEFT_OPEN) | {"gpu_percent": -1}
    await watch.minutes(10)
    assert watch.orders == []
    watch.agent.host = dict(LEFT_OPEN)
    await watch.minutes(12)
    assert len(watch.orders) == 1


@pytest.mark.parametrize("watch", [False], indirect=True)
async def test_without_a_store_nobody_is_warned(watch: Watch):
    watch.watched.daemon = False
    watch.agent.host = dict(QUIET)
    await watch.put()
    await watch.minutes(12)
    assert (watch.kinds(), watch.orders, watch.agent.looks) == ([], [], 0)
    assert watch.watched.settled == 12, "what agents say is still put in order"


@pytest.mark.parametrize(
    "state",
    [
        {"phase": MachinePhase.ON_STANDBY},
        {"phase": MachinePhase.HIBERNATING},
        {"phase": MachinePhase.HIBERNATED, "instance": None},
        {"phase": MachinePhase.STUCK},
        {"stopping": True},
    ],
)
async def test_only_a_machine_that_runs_is_judged(watch: Watch, state: dict[str, Any]):
    await watch.put(**state)
    watch.watched.does(QUIET)
    watch.watched.script[0] = (now() - timedelta(days=2), QUIET)
    await watch.minutes(1)
    await watch.stage.env.sleep(timedelta(minutes=10))
    await watch.minutes(1)
    assert (watch.kinds(), watch.orders) == ([], [])


async def test_another_generation_is_not_held_to_an_old_warning(watch: Watch):
    await warned(watch)
    await watch.put(generation=2, version=10)
    await watch.minutes(1)
    assert watch.state.warned_at is not None
    assert watch.kinds() == ["idle.warning", "idle.warning"], "warned anew, with all its time"
    await watch.minutes(4)
    assert watch.orders == []


async def test_a_week(watch: Watch):
    """Five days of training with nights at work, then a weekend on which it is forgotten."""
    await watch.put()
    start = watch.watched.at
    for hours in range(5 * 24):
        lull = QUIET | {"cpu_cores": 1.0, "user_processes": 2}
        watch.watched.does(lull if hours % 3 == 2 else BUSY)
        await watch.stage.env.sleep(timedelta(minutes=58))
        await watch.minutes(2)
    assert (watch.kinds(), watch.orders) == ([], []), "waiting for data is work"
    watch.watched.does(QUIET)
    forgotten = watch.watched.at
    await watch.minutes(12)
    assert len(watch.orders) == 1
    assert watch.watched.at - forgotten <= timedelta(minutes=13)
    await watch.put(MachinePhase.HIBERNATED, instance=None, version=10)
    await watch.stage.env.sleep(timedelta(days=2))
    await watch.minutes(2)
    assert watch.watched.at - start > timedelta(days=7) - timedelta(hours=1)
    assert len(watch.orders) == 1
    assert watch.kinds() == ["idle.warning"]
