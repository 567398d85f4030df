"""Budgets that hold: nothing is rented without room, and what runs is put to sleep before it is too much."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle

from activities.budgets import BudgetActivities
from dumont.domain.budget_watch import BudgetAct
from dumont.domain.budgets import LADDER, Budget, Cap, Scope, Spent, Step, Whose
from dumont.domain.errors import DependencyUnavailable, InstanceGone
from dumont.domain.events import EventKind
from dumont.domain.instances import InstanceOrder, InstanceState, ProviderAccount
from dumont.domain.machine import MachinePhase, MachineState
from dumont.temporal.queues import CONTROL
from tests.support.fakes import offer, refuse_ssh
from tests.workflows.conftest import TIMING, Stage, spec
from worker.compose_budgets import budgets_served
from workflows.budgets import LOOKUPS, EnforceBudgets
from workflows.machine import Machine

Handle = WorkflowHandle[Machine, MachineState]
OWNER = "owner"


def capped(**caps: Any) -> Budget:
    return Budget(scope=Scope.OWNER, scope_id=OWNER, **caps)


def machine_id(number: int) -> str:
    return f"m{number:012x}"


async def running(stage: Stage, *prices: float) -> list[Handle]:
    """Machines that run, one at each price."""
    handles = []
    for number, usd in enumerate(prices, 1):
        stage.cloud.offers = [offer(number, usd=usd)]
        one = spec(machine_id(number), max_usd_per_hour=5).model_copy(
            update={"name": f"box-{number}"}
        )
        handles.append(await stage.start(machine=one))
        await stage.until(handles[-1], MachinePhase.RUNNING)
    return handles


async def look(stage: Stage) -> list[BudgetAct]:
    """One round of the sweep; returns the receipts that it filed."""
    before = set(stage.budgets.filed)
    at = await stage.env.get_current_time()
    with stage.env.auto_time_skipping_disabled():
        await stage.env.client.execute_workflow(
            EnforceBudgets.run, id=f"budgets-{at}", task_queue=CONTROL
        )
    return [act for key, act in stage.budgets.filed.items() if key not in before]


def phases(stage: Stage) -> dict[str, MachinePhase]:
    return {r.spec.name: r.state.phase for r in stage.store.records.values()}


async def asleep(stage: Stage, handle: Handle) -> None:
    await stage.until(handle, MachinePhase.HIBERNATED)


def told(stage: Stage) -> list[str]:
    return [e.summary for e in stage.store.events.values() if e.kind is EventKind.BUDGET]


def metered(stage: Stage) -> Callable[[Whose, date], Awaitable[Spent | None]]:
    """A ledger that adds up, at each look, what the recorded machines cost since the last one."""
    lines: dict[date, float] = {}
    last: datetime | None = None

    async def spent(whose: Whose, since: date) -> Spent | None:
        nonlocal last
        now = await stage.env.get_current_time()
        burn = sum(each.usd_per_hour for each in stage.budgets.burns())
        at = last or now
        while at < now:
            midnight = datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1)
            until = min(now, midnight)
            lines[at.date()] = lines.get(at.date(), 0) + burn * (until - at) / timedelta(hours=1)
            at = until
        last = now
        return Spent(usd=sum(usd for day, usd in lines.items() if day >= since), until=now)

    return spent


def test_a_worker_serves_every_activity_of_budgets():
    """One that no worker serves is waited for until its time is over."""
    alone: Any = object.__new__(BudgetActivities)
    assert {each.__name__ for each in budgets_served(alone)} == {
        name
        for name, member in vars(BudgetActivities).items()
        if activity._Definition.from_callable(member)
    }


# Before renting


async def test_without_room_nothing_is_rented_and_it_says_so_and_when_it_tries_again(stage: Stage):
    stage.budgets.set(capped(usd_per_hour=0.2))
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.STUCK)
    assert "the owner's budget is $0.20/h" in state.reason
    assert "$0.3" in state.reason
    assert state.next_try_at is not None
    assert stage.cloud.orders == []
    assert stage.store.intents == {}

    stage.budgets.set(capped(usd_per_hour=0.5))
    await stage.until(handle, MachinePhase.RUNNING)


async def test_a_cheaper_offer_that_fits_is_taken_instead(stage: Stage):
    dear = offer(1, usd=0.5).model_copy(update={"reliability": 0.999})
    stage.cloud.offers = [dear, offer(2, usd=0.3)]
    stage.budgets.set(capped(usd_per_hour=0.4))
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    assert [order.offer_id for order in stage.cloud.orders] == ["1002"]


async def test_two_machines_share_what_one_of_them_fits_into(stage: Stage):
    stage.budgets.set(capped(usd_per_hour=0.5))
    first, second = [
        await stage.start(machine=spec(machine_id(n)).model_copy(update={"name": f"box-{n}"}))
        for n in (1, 2)
    ]
    states = []
    for handle in (first, second):
        for _ in range(600):
            state = await handle.query(Machine.status)
            if state.phase in (MachinePhase.RUNNING, MachinePhase.STUCK):
                break
            await stage.env.sleep(timedelta(seconds=1))
        states.append(state.phase)
    assert sorted(states) == [MachinePhase.RUNNING, MachinePhase.STUCK]
    assert len(stage.cloud.alive()) == 1


async def test_an_attempt_that_fails_gives_its_room_to_the_next(stage: Stage):
    stage.budgets.set(capped(usd_per_hour=0.4))

    def first_is_broken(order: InstanceOrder) -> InstanceState:
        return InstanceState.FAILED if order.offer_id == "1001" else InstanceState.RUNNING

    stage.cloud.born = first_is_broken
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    (label,) = stage.budgets.released
    assert label.endswith("-a1")
    assert list(stage.budgets.held) == [label.removesuffix("1") + "2"]


async def test_a_second_attempt_without_room_waits_for_the_first(stage: Stage):
    """It is no reason to give up the one that is starting."""
    stage.budgets.set(capped(usd_per_hour=0.4))
    slow = {"127.1.1.1"}

    def reached(address: Any) -> None:
        if address.host in slow:
            refuse_ssh(address)

    stage.shell.on_ssh = reached
    handle = await stage.start(
        timing=TIMING.model_copy(update={"race_width": 2, "race_stagger_s": 1, "attempt_s": 4})
    )
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    assert [order.offer_id for order in stage.cloud.orders] == ["1001", "1002"]
    assert len(stage.cloud.destroyed) == 1


async def test_a_machine_that_is_ended_while_it_starts_holds_no_room(stage: Stage):
    stage.budgets.set(capped(usd_per_hour=0.4))
    stage.shell.on_ssh = refuse_ssh
    handle = await stage.start(
        timing=TIMING.model_copy(update={"attempt_s": 4, "gone_confirm_s": 0.5})
    )
    while not stage.cloud.orders:
        await stage.env.sleep(timedelta(seconds=1))
    with stage.env.auto_time_skipping_disabled():
        await stage.destroy(handle)
    assert stage.budgets.held == {}


async def test_a_balance_that_cannot_pay_for_it(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    async def poor() -> ProviderAccount:
        return ProviderAccount(account_id="1", credit_usd=0.1)

    monkeypatch.setattr(stage.cloud, "account_status", poor)
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.STUCK)
    assert "$0.10" in state.reason
    assert stage.cloud.orders == []


async def test_a_balance_that_nobody_knows_is_said_and_refuses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    async def silent() -> ProviderAccount:
        return ProviderAccount(account_id="1", credit_usd=None)

    monkeypatch.setattr(stage.cloud, "account_status", silent)
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    chosen = next(e for e in stage.store.events.values() if e.kind is EventKind.OFFER_CHOSEN)
    assert chosen.data["not_seen"] == ["the provider's balance is not known"]


# While running


async def test_told_then_something_cheaper_then_the_fewest_sleep(stage: Stage):
    _, big, _ = await running(stage, 0.3, 0.9, 0.5)
    stage.budgets.set(capped(usd_per_hour=1.0))
    stage.cloud.offers = [offer(7, usd=0.4)]

    (notice,) = await look(stage)
    assert notice.step is Step.NOTIFY
    assert "$1.00/h" in notice.cause
    assert "$1.700/h" in notice.cause
    assert len(told(stage)) == 3, "each machine's events tell of it"

    advice = await look(stage)
    assert {act.step for act in advice} == {Step.CHEAPER}
    by_name = {act.machine_name: act for act in advice}
    assert "offer 1007" in by_name["box-2"].result
    assert "would save $0.4" in by_name["box-2"].result
    assert "no offer" in by_name["box-1"].result
    assert set(phases(stage).values()) == {MachinePhase.RUNNING}, "a recommendation moves nothing"

    assert await look(stage) == [], "it may be passing"
    await stage.env.sleep(timedelta(minutes=11))
    (order,) = await look(stage)
    assert (order.step, order.machine_name, order.accepted) == (Step.HIBERNATE, "box-2", True)
    assert "running, $0.900/h" in order.before
    assert {figure.name for figure in order.figures} == {"cap usd_per_hour", "burn per hour"}
    await asleep(stage, big)
    assert await look(stage) == []
    assert phases(stage)["box-1"] is phases(stage)["box-3"] is MachinePhase.RUNNING
    events = [e for e in stage.store.events.values() if e.kind is EventKind.HIBERNATING]
    assert events[0].summary.startswith("the budget asked for it: the owner's budget is $1.00/h")


async def test_the_effect_is_waited_for_and_a_refusal_is_a_receipt(stage: Stage):
    await running(stage, 0.9, 0.5)

    def away(word: str, owner_id: str) -> None:
        if word == "verify":
            raise DependencyUnavailable("the store is away")

    stage.repositories.on_call = away
    stage.budgets.set(capped(usd_per_hour=1.0))
    for minutes in (0, 0, 11):
        await stage.env.sleep(timedelta(minutes=minutes))
        await look(stage)
    orders = [a for a in stage.budgets.filed.values() if a.step is Step.HIBERNATE]
    assert [order.machine_name for order in orders] == ["box-1"]
    assert await look(stage) == [], "it is on its way"


async def test_a_machine_that_cannot_sleep_now_is_a_receipt_and_another_one_goes(stage: Stage):
    first, second = await running(stage, 0.9, 0.5)
    stage.budgets.set(capped(usd_per_hour=1.0))
    await look(stage)
    await look(stage)
    await stage.env.sleep(timedelta(minutes=11))
    await first.signal(Machine.instance_changed, _stopped(stage, first))
    await stage.until(first, MachinePhase.STUCK)
    # Its record is late: the sweep still believes that it runs.
    known = stage.store.records[machine_id(1)]
    late = known.state.model_copy(update={"phase": MachinePhase.RUNNING})
    stage.store.records[machine_id(1)] = known.model_copy(update={"state": late})

    (refused,) = await look(stage)
    assert (refused.machine_name, refused.accepted) == ("box-1", False)
    assert "does not go to sleep now: the machine is stuck" in refused.result
    (order,) = await look(stage)
    assert (order.machine_name, order.accepted) == ("box-2", True)
    await asleep(stage, second)


def _stopped(stage: Stage, handle: Handle) -> Any:
    from dumont.domain.fleet import InstanceReport, Presence

    instance = next(iter(stage.cloud.instances.values()))
    stopped = instance.model_copy(update={"state": InstanceState.STOPPED})
    return InstanceReport(
        label=instance.label or "", instance_id=instance.instance_id, presence=Presence.LISTED,
        instance=stopped, at=datetime.now(UTC) + timedelta(days=400),
    )  # fmt: skip


async def test_idle_ones_go_first(stage: Stage):
    await running(stage, 0.9, 0.5)
    stage.budgets.set(capped(usd_per_hour=1.0))
    stage.budgets.idle = {machine_id(2)}
    await look(stage)
    await look(stage)
    await stage.env.sleep(timedelta(minutes=11))
    (order,) = await look(stage)
    assert order.machine_name == "box-2"


async def test_an_unknown_price_never_acts(stage: Stage):
    await running(stage, 0.9)
    known = stage.store.records[machine_id(1)]
    assert known.state.instance is not None
    priceless = known.state.instance.model_copy(update={"usd_per_hour": None})
    state = known.state.model_copy(update={"instance": priceless})
    stage.store.records[machine_id(1)] = known.model_copy(update={"state": state})
    stage.budgets.set(capped(usd_per_hour=0.01))
    for _ in range(3):
        assert await look(stage) == []
        await stage.env.sleep(timedelta(minutes=11))
    assert phases(stage)["box-1"] is MachinePhase.RUNNING


async def test_a_budget_that_may_only_tell_does_nothing_else(stage: Stage):
    await running(stage, 0.9)
    stage.budgets.set(capped(usd_per_hour=0.5, actions=(Step.NOTIFY,)))
    for _ in range(4):
        await look(stage)
        await stage.env.sleep(timedelta(minutes=11))
    assert {act.step for act in stage.budgets.filed.values()} == {Step.NOTIFY}
    assert phases(stage)["box-1"] is MachinePhase.RUNNING


async def test_what_all_may_spend_is_not_told_to_those_whose_machines_it_is_about(stage: Stage):
    (handle,) = await running(stage, 0.9)
    stage.budgets.set(Budget(scope=Scope.TOTAL, usd_per_hour=0.543))
    for minutes in (0, 0, 11):
        await stage.env.sleep(timedelta(minutes=minutes))
        await look(stage)
    await asleep(stage, handle)
    assert len(told(stage)) == 3
    slept = [e.summary for e in stage.store.events.values() if e.kind is EventKind.HIBERNATING]
    for words in (*told(stage), *slept):
        assert "the budget of the whole deployment" in words
        assert "0.54" not in words
    assert all("$0.54/h" in act.cause for act in stage.budgets.filed.values()), "the receipt knows"


async def test_the_market_is_asked_so_often_at_one_look_and_then_goes_on(stage: Stage):
    each_its_own(stage, await alike(stage, LOOKUPS + 2))
    assert len(await look(stage)) == LOOKUPS + 2, "all are told at once"
    stage.cloud.offers = [offer(7, usd=0.4)]
    first, then = await look(stage), await look(stage)
    assert (len(first), len(then)) == (LOOKUPS, 2)
    assert {act.machine_id for act in (*first, *then)} == set(stage.store.records)
    assert all("offer 1007" in act.result for act in (*first, *then))


async def test_what_does_not_fit_into_one_look_is_done_by_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dumont.domain.budget_watch.A_LOOK", 20)
    each_its_own(stage, await alike(stage, 6))
    first, then = await look(stage), await look(stage)
    assert len(first) == 4
    notices = [act for act in (*first, *then) if act.step is Step.NOTIFY]
    assert {act.budget.scope_id for act in notices} == set(stage.store.records)


async def test_a_market_that_is_away_is_asked_once_at_one_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    each_its_own(stage, await alike(stage, 4))
    await look(stage)
    asked = []

    async def down(*_: object, **__: object) -> Any:
        asked.append(1)
        raise InstanceGone("the market is closed", provider="vast")

    with monkeypatch.context() as away:
        away.setattr(stage.cloud, "search_offers", down)
        (act,) = await look(stage)
        once = len(asked)
        assert "the market is closed" in act.result
        stage.budgets.budgets.clear()
        stage.budgets.set(capped(usd_per_hour=0.5))
        await look(stage)
        acts = await look(stage)
    assert len(acts) == 4, "each machine has its receipt"
    assert all("the market is closed" in act.result for act in acts)
    assert len(asked) == 2 * once


async def alike(stage: Stage, count: int) -> list[str]:
    """Records of machines that run, of which only the first one does."""
    await running(stage, 0.9)
    known = stage.store.records[machine_id(1)]
    for number in range(2, count + 1):
        spec_ = known.spec.model_copy(
            update={"machine_id": machine_id(number), "name": f"box-{number}"}
        )
        stage.store.records[machine_id(number)] = known.model_copy(update={"spec": spec_})
    return [machine_id(number) for number in range(1, count + 1)]


def each_its_own(stage: Stage, machine_ids: list[str]) -> None:
    """Give each of them a budget that it passes, and that may do everything but put it to sleep."""
    for each in machine_ids:
        stage.budgets.set(
            Budget(scope=Scope.MACHINE, scope_id=each, usd_per_hour=0.5, actions=LADDER[:2])
        )


async def test_a_market_that_does_not_answer_is_in_the_receipt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    await running(stage, 0.9)

    async def down(*_: object, **__: object) -> Any:
        raise InstanceGone("the market is closed", provider="vast")

    monkeypatch.setattr(stage.cloud, "search_offers", down)
    stage.budgets.set(capped(usd_per_hour=0.5))
    await look(stage)
    (act,) = await look(stage)
    assert "the market is closed" in act.result


async def test_a_month_of_running_machines_stays_within_it(stage: Stage):
    """Looked at every quarter of an hour: two machines at $0.80/h in all, $300 a month."""
    await running(stage, 0.5, 0.3)
    stage.budgets.spent = metered(stage)
    stage.budgets.set(capped(usd_per_month=300))
    begun = await stage.env.get_current_time()
    next_month = (begun.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0)
    await stage.env.sleep(next_month - begun)
    when: dict[Step, datetime] = {}
    for _ in range(17 * 24 * 4):
        for act in await look(stage):
            when.setdefault(act.step, act.at)
        if len([p for p in phases(stage).values() if p is MachinePhase.HIBERNATED]) == 2:
            break
        await stage.env.sleep(timedelta(minutes=15))
    spent = await stage.budgets.spent(capped(usd_per_month=300), next_month.date())
    assert spent is not None
    assert 298 < spent.usd <= 300
    assert when[Step.NOTIFY] <= when[Step.CHEAPER] < when[Step.HIBERNATE]
    days = (when[Step.HIBERNATE] - next_month) / timedelta(days=1)
    assert days == pytest.approx(300 / 0.8 / 24, abs=0.05)
    orders = [a for a in stage.budgets.filed.values() if a.step is Step.HIBERNATE and a.accepted]
    assert len(orders) == 2, "each was asked once"
    assert all(order.cap is Cap.MONTH for order in orders)
