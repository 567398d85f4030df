"""Budgets: nothing above a cap is ever rented, nothing unknown is ever acted on, steps keep their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dumont.domain.budget_watch import (
    A_LOOK,
    EFFECT,
    ORDERED,
    BudgetAct,
    MachineBurn,
    cheaper,
    judge,
    machine_burn,
    to_rest,
    within_a_look,
)
from dumont.domain.budgets import (
    LADDER,
    LAG,
    LEAD,
    STAYS,
    Allowed,
    Budget,
    Cap,
    Refused,
    Scope,
    Spending,
    Spent,
    Step,
    due_steps,
    has_room,
    may_rent,
    next_action,
    period_ends,
    period_of,
    price_of,
    projection,
    spending_of,
    why_no_credit,
)
from dumont.domain.machine import MachinePhase
from dumont.domain.offers import Choice
from tests.support.fakes import offer

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
usd = st.floats(min_value=0, max_value=1_000, allow_nan=False)
positive = st.floats(min_value=0.01, max_value=1_000, allow_nan=False)


def owner(**caps: Any) -> Budget:
    return Budget(scope=Scope.OWNER, scope_id="ana", **caps)


def spending(burn: float = 0, **known: Any) -> Spending:
    return Spending(at=NOON, usd_per_hour=burn, **({"today_usd": 0, "month_usd": 0} | known))


def machine(name: str, gpu: float | None, **more: Any) -> MachineBurn:
    given = {
        "machine_id": name,
        "owner_id": "ana",
        "name": name,
        "phase": MachinePhase.RUNNING,
        "gpu_usd": gpu,
    }
    return MachineBurn.model_validate(given | more)


def rent(budget: Budget, seen: Spending, price: float | None, reserved: float = 0) -> Any:
    return may_rent([budget], {budget.key: seen}, price, {budget.key: reserved})


# Setting one


def test_what_is_no_budget():
    for bad in (
        {},
        {"usd_per_hour": 0},
        {"usd_per_hour": -1},
        {"usd_per_day": float("inf")},
        {"usd_per_hour": 1, "warn_at": 0},
        {"usd_per_hour": 1, "actions": ()},
        {"usd_per_hour": 1, "actions": ("hibernate",)},
        {"usd_per_hour": 1, "actions": ("cheaper", "notify")},
    ):
        with pytest.raises(ValidationError):
            owner(**bad)
    with pytest.raises(ValidationError):
        Budget(scope=Scope.TOTAL, scope_id="ana", usd_per_hour=1)
    with pytest.raises(ValidationError):
        Budget(scope=Scope.OWNER, usd_per_hour=1)


# Before renting


@given(cap=positive, burn=usd, reserved=usd, price=positive)
def test_a_cap_per_hour_is_never_passed(cap: float, burn: float, reserved: float, price: float):
    verdict = rent(owner(usd_per_hour=cap), spending(burn), price, reserved)
    if isinstance(verdict, Allowed):
        assert burn + reserved + price <= cap + 1e-6
    else:
        assert burn + reserved + price > cap
        assert verdict.cap is Cap.HOUR
        assert verdict.over_usd == pytest.approx(burn + reserved + price - cap)
        assert verdict.what_to_do


@given(
    caps=st.fixed_dictionaries({}, optional={cap.value: positive for cap in Cap}).filter(bool),
    price=st.sampled_from([None, float("nan"), float("inf"), -0.1]),
    burn=usd,
)
def test_an_unknown_price_is_refused(caps: dict[str, float], price: float | None, burn: float):
    assert isinstance(rent(owner(**caps), spending(burn), price), Refused)


def test_without_a_budget_everything_may_be_rented():
    assert may_rent([], {}, None, {}) == Allowed()


def test_a_day_refuses_only_what_would_be_put_to_sleep_within_the_hour():
    day = owner(usd_per_day=20)
    assert isinstance(rent(day, spending(today_usd=19.0), 0.9), Allowed)
    refused = rent(day, spending(today_usd=19.0), 1.1)
    assert isinstance(refused, Refused)
    assert refused.cap is Cap.DAY
    assert "$19.00 are spent today" in refused.why
    running_as_well = rent(day, spending(0.5, today_usd=19.0), 0.9)
    assert isinstance(running_as_well, Refused)
    before_midnight = spending(today_usd=19.0).model_copy(
        update={"at": NOON.replace(hour=23, minute=50)}
    )
    assert isinstance(rent(day, before_midnight, 1.1), Allowed)


def test_the_narrowest_reason_is_told_and_others_spending_is_not():
    total = Budget(scope=Scope.TOTAL, usd_per_hour=1)
    refused = rent(total, spending(0.987), 0.3)
    assert isinstance(refused, Refused)
    assert refused.why == "the budget of the whole deployment has no room for $0.300/h more"
    blind = rent(total, spending(unknown=7), 0.3)
    assert blind.remarks == (
        "the budget of the whole deployment: something runs at an unknown price",
    )


def test_what_is_not_known_is_said_and_refuses_nothing():
    verdict = rent(owner(usd_per_day=20), spending(unknown=2, today_usd=None), 0.3)
    assert isinstance(verdict, Allowed)
    assert any("what was spent is not known" in remark for remark in verdict.remarks)
    assert any("2 things run at an unknown price" in remark for remark in verdict.remarks)


def test_no_room_at_all_is_known_before_there_is_an_offer():
    budget = owner(usd_per_hour=1)
    assert isinstance(has_room([budget], {budget.key: spending(1)}, {}), Refused)
    assert isinstance(has_room([budget], {budget.key: spending(0.5)}, {budget.key: 0.5}), Refused)
    assert isinstance(has_room([budget], {budget.key: spending(0.5)}, {}), Allowed)


def test_a_bid_costs_what_is_bid_and_the_disk():
    with_disk = offer(usd=0.35).model_copy(update={"gpu_usd_per_hour": 0.30})
    assert price_of(Choice(offer=with_disk, bid_usd_per_hour=0.40)) == pytest.approx(0.45)
    assert price_of(Choice(offer=with_disk, bid_usd_per_hour=None)) == 0.35


def test_a_balance_pays_for_half_an_hour_or_is_unknown():
    assert why_no_credit(None, 2.0) is None
    assert why_no_credit(1.0, 2.0) is None
    why = why_no_credit(0.99, 2.0)
    assert why is not None
    assert "$0.99" in why


# Periods and sums


def test_periods_are_those_of_utc():
    late = datetime(2026, 12, 31, 23, 0, tzinfo=UTC)
    assert period_ends(Cap.DAY, late) == datetime(2027, 1, 1, tzinfo=UTC)
    assert period_ends(Cap.MONTH, late) == datetime(2027, 1, 1, tzinfo=UTC)
    assert period_ends(Cap.MONTH, datetime(2028, 2, 1, tzinfo=UTC)) == datetime(
        2028, 3, 1, tzinfo=UTC
    )
    assert (period_of(Cap.DAY, late), period_of(Cap.MONTH, late)) == ("2026-12-31", "2026-12")


def test_a_projection_runs_on_as_now():
    ends = projection(spending(0.5, today_usd=4, month_usd=30), NOON)
    assert ends.today_usd == pytest.approx(4 + 6)
    assert ends.month_usd == pytest.approx(30 + 0.5 * (27 * 24 + 12))
    assert projection(spending(0.5, today_usd=None), NOON).today_usd is None


def test_what_ran_since_the_ledgers_last_line_is_counted_for_a_while():
    def today(until: datetime | None) -> float | None:
        spent = Spent(usd=4, until=until)
        return spending_of(NOON, usd_per_hour=6, unknown=0, today=spent, month=spent).today_usd

    assert today(NOON - timedelta(minutes=5)) == pytest.approx(4.5)
    assert today(NOON - timedelta(hours=5)) == pytest.approx(4 + 6 * LAG / timedelta(hours=1))
    assert today(NOON + timedelta(minutes=1)) == 4
    assert today(None) == 4
    assert spending_of(NOON, usd_per_hour=6, unknown=0, today=None, month=None).today_usd is None


# While running


@given(
    cap=st.sampled_from(Cap),
    limit=positive,
    burn=usd,
    spent=usd,
    minutes=st.none() | st.integers(0, 600),
    far=st.integers(1, 3),
    done=st.sets(st.sampled_from(Step)),
)
def test_no_step_is_taken_before_the_ones_before_it(
    cap: Cap,
    limit: float,
    burn: float,
    spent: float,
    minutes: int | None,
    far: int,
    done: set[Step],
):
    budget = owner(**{cap.value: limit}, actions=LADDER[:far])
    seen = spending(burn, today_usd=spent, month_usd=spent)
    since = NOON - timedelta(minutes=minutes) if minutes is not None else None
    due = due_steps(budget, cap, seen, above_since=since)
    assert due == LADDER[: len(due)]
    step = next_action(budget, cap, seen, done, above_since=since)
    if step is not None:
        assert step in budget.actions
        before = LADDER[: LADDER.index(step)]
        assert all(each in done for each in before)
    if step is Step.HIBERNATE:
        if cap is Cap.HOUR:
            assert burn > limit
            assert minutes is not None
            assert timedelta(minutes=minutes) >= STAYS
        else:
            assert spent + burn * (LEAD / timedelta(hours=1)) >= limit


@given(unknown=st.integers(0, 50), limit=positive, cap=st.sampled_from(Cap))
def test_the_unknown_alone_never_acts(unknown: int, limit: float, cap: Cap):
    budget = owner(**{cap.value: limit})
    seen = spending(unknown=unknown, unknown_lines=unknown)
    assert next_action(budget, cap, seen, (), above_since=NOON - timedelta(days=1)) is None
    nothing = spending(5 * limit, today_usd=None, month_usd=None)
    if cap is not Cap.HOUR:
        assert next_action(budget, cap, nothing, ()) is None


def test_a_day_goes_up_the_ladder():
    day = owner(usd_per_day=20, warn_at=0.8)

    def step(burn: float, spent: float, *done: Step) -> Step | None:
        return next_action(day, Cap.DAY, spending(burn, today_usd=spent), done)

    assert step(0.2, 5) is None
    assert step(0.2, 16) is Step.NOTIFY
    assert step(0.2, 16, Step.NOTIFY) is None
    assert step(0.5, 15) is Step.NOTIFY, "the projection passes it"
    assert step(0.5, 15, Step.NOTIFY) is Step.CHEAPER
    assert step(0.5, 15, Step.NOTIFY, Step.CHEAPER) is None
    assert step(0.5, 19.9) is Step.NOTIFY, "however late it is seen"
    assert step(0.5, 19.9, *LADDER) is Step.HIBERNATE, "until it had its effect"


def test_per_hour_sleeps_only_what_stays_above():
    hour = owner(usd_per_hour=1)

    def step(minutes: int) -> Step | None:
        since = NOON - timedelta(minutes=minutes)
        return next_action(hour, Cap.HOUR, spending(1.2), LADDER[:2], above_since=since)

    assert step(9) is None
    assert step(10) is Step.HIBERNATE


# Whom


def rests(
    *machines: MachineBurn, cap: float, idle: set[str] = frozenset(), acts: Any = ()
) -> list[str]:  # type: ignore[assignment]
    seen = spending(sum(m.usd_per_hour for m in machines))
    chosen = to_rest(owner(usd_per_hour=cap), Cap.HOUR, seen, machines, acts, idle=idle)
    return [m.name for m in chosen]


def test_idle_ones_first_then_the_dearest_and_never_more():
    some = machine("a", 0.3), machine("b", 0.5), machine("c", 0.4)
    assert rests(*some, cap=1.2) == []
    assert rests(*some, cap=1.0) == ["b"]
    assert rests(*some, cap=0.6) == ["b", "c"]
    assert rests(*some, cap=1.0, idle={"a"}) == ["a"]
    assert rests(*some, cap=0.75, idle={"a"}) == ["b"], (
        "the idle one would not be enough, and is not needed"
    )
    assert rests(*some, cap=0.001) == ["b", "c", "a"]


def test_an_unknown_price_is_never_put_to_sleep():
    some = machine("a", None, unknown=1), machine("b", 0.9, standby_usd=None, unknown=1)
    assert rests(*some, machine("c", 0.1), cap=0.5) == ["c"]


def test_one_that_sleeps_on_its_standby_has_given_its_gpu_back():
    """Its record still names it; and there is nothing that it could be ordered to give back."""
    asleep = machine_burn(
        machine_id="a", owner_id="ana", name="a", phase=MachinePhase.HIBERNATED,
        instance={"usd_per_hour": 0.4}, standby={"usd_per_hour": 0.02},
    )  # fmt: skip
    assert (asleep.usd_per_hour, asleep.unknown, asleep.saved_by_rest) == (0.02, 0, 0)
    assert rests(asleep, cap=0.01) == []


def test_a_standby_that_stays_is_no_saving():
    keeps = machine("a", 0.5, standby_usd=0.02, keeps_standby=True)
    assert keeps.saved_by_rest == 0.5
    assert machine("b", 0.5, standby_usd=0.02).saved_by_rest == pytest.approx(0.52)
    asleep = machine("c", None, standby_usd=0.02, keeps_standby=True, phase=MachinePhase.HIBERNATED)
    assert rests(asleep, cap=0.01) == []


def order(name: str, *, minutes: int, accepted: bool, attempt: int = 1) -> BudgetAct:
    return BudgetAct(
        key=f"{name}{attempt}",
        at=NOON - timedelta(minutes=minutes),
        budget=owner(usd_per_hour=0.5),
        cap=Cap.HOUR,
        step=Step.HIBERNATE,
        period="2026-05-04",
        owner_id="ana",
        machine_id=name,
        attempt=attempt,
        cause="",
        figures=(),
        done="ordered",
        accepted=accepted,
        result="",
    )


def test_the_effect_is_waited_for():
    some = machine("a", 0.6), machine("b", 0.4)
    assert rests(*some, cap=0.5, acts=[order("a", minutes=3, accepted=True)]) == []
    long_ago = int(EFFECT / timedelta(minutes=1))
    assert rests(*some, cap=0.5, acts=[order("a", minutes=long_ago, accepted=True)]) == ["a"]
    going = machine("a", 0.6, phase=MachinePhase.HIBERNATING), machine("b", 0.4)
    assert rests(*going, cap=0.5) == []


def test_one_that_refuses_is_left_in_peace_and_another_goes():
    some = machine("a", 0.6), machine("b", 0.5)
    assert rests(*some, cap=0.7, acts=[order("a", minutes=1, accepted=False)]) == ["b"]
    assert rests(*some, cap=0.7, acts=[order("a", minutes=3, accepted=False)]) == ["a"]
    twice = [
        order("a", minutes=9, accepted=False),
        order("a", minutes=3, accepted=False, attempt=2),
    ]
    assert rests(*some, cap=0.7, acts=twice) == ["b"]


@given(
    prices=st.lists(st.floats(min_value=0.01, max_value=5), min_size=1, max_size=8),
    cap=st.floats(min_value=0.01, max_value=20),
    idle=st.sets(st.integers(0, 7)),
)
def test_what_is_chosen_is_enough_and_none_of_it_too_much(
    prices: list[float], cap: float, idle: set[int]
):
    machines = [machine(f"m{n}", price) for n, price in enumerate(prices)]
    chosen = set(rests(*machines, cap=cap, idle={f"m{n}" for n in idle}))
    left = sum(m.usd_per_hour for m in machines if m.name not in chosen)
    assert left <= cap + 1e-6
    for one in machines:
        if one.name in chosen:
            assert left + one.usd_per_hour > cap


def test_a_reached_day_puts_all_to_sleep_but_no_more_than_needed_before():
    day = owner(usd_per_day=20)
    machines = machine("a", 1.0), machine("b", 3.0)
    seen = spending(4.0, today_usd=19.5)
    assert [m.name for m in to_rest(day, Cap.DAY, seen, machines, ())] == ["b"]
    over = spending(4.0, today_usd=20.1)
    assert [m.name for m in to_rest(day, Cap.DAY, over, machines, ())] == ["b", "a"]


def test_what_is_out_of_reach_costs_nobody_knows_what():
    def burn(phase: MachinePhase, **more: Any) -> MachineBurn:
        given: dict[str, Any] = {
            "instance": {"usd_per_hour": 0.4},
            "standby": {"usd_per_hour": 0.02},
        }
        return machine_burn(machine_id="m", owner_id="ana", name="m", phase=phase, **(given | more))

    running = burn(MachinePhase.RUNNING)
    assert (running.usd_per_hour, running.unknown) == (pytest.approx(0.42), 0)
    lost = burn(MachinePhase.ON_STANDBY)
    assert (lost.usd_per_hour, lost.unknown) == (0.02, 1)
    nothing_said = burn(MachinePhase.RUNNING, instance={"usd_per_hour": None}, retiring=2)
    assert (nothing_said.usd_per_hour, nothing_said.unknown) == (0.02, 3)
    asleep = burn(MachinePhase.HIBERNATED, instance=None, standby=None)
    assert (asleep.usd_per_hour, asleep.unknown) == (0, 0)


# Receipts


def test_a_raised_cap_begins_anew_and_a_receipt_has_its_figures():
    low, high = owner(usd_per_hour=0.5), owner(usd_per_hour=0.55)
    seen, some = spending(0.6, unknown=1), [machine("a", 0.6)]
    (told,) = judge(low, seen, some, ())
    assert told.step is Step.NOTIFY
    act = told.act(None, done="told", result="told")
    assert act.owner_id == "ana"
    assert {figure.name: figure.usd for figure in act.figures} == {
        "cap usd_per_hour": 0.5,
        "burn per hour": 0.6,
    }
    assert "1 more at an unknown price" in act.figures[1].basis
    assert [due.step for due in judge(low, seen, some, [act])] == [Step.CHEAPER]
    assert [due.step for due in judge(high, seen, some, [act])] == [Step.NOTIFY]
    assert told.act(some[0], done="", result="").before == "running, $0.600/h"


def test_the_smallest_change_of_a_limit_begins_anew():
    """A receipt of the former limit must not stand in the way: it is filed once by its key."""
    low, high = owner(usd_per_month=1_234_567.0), owner(usd_per_month=1_234_567.5)
    keys = set()
    for budget in (low, high):
        (due,) = judge(budget, spending(0.6, month_usd=2e6), [machine("a", 0.6)], ())
        keys.add(due.act(None, done="told", result="told").key)
    assert len(keys) == 2


def test_what_all_may_spend_is_not_told_to_owners():
    total = Budget(scope=Scope.TOTAL, usd_per_day=987)
    (due,) = judge(total, spending(3.21, today_usd=986), [machine("a", 0.6)], ())
    assert "987" in due.cause, "administrators are told"
    for told in (due.told, due.act(None, done="told", result="told").told):
        assert "whole deployment" in told
        assert not any(letter.isdigit() for letter in told)
    mine = judge(owner(usd_per_day=20), spending(1, today_usd=19), [machine("a", 0.6)], ())[0]
    assert mine.told == mine.cause


def test_so_many_are_ordered_at_one_look_and_the_next_look_takes_the_next():
    many = [machine(f"m{n:04}", 1.0 + n / 1000) for n in range(ORDERED + 50)]
    hour = owner(usd_per_hour=0.5)
    seen = spending(sum(m.usd_per_hour for m in many))
    acts = [
        order("x", minutes=1, accepted=True).model_copy(update={"budget": hour, "step": step})
        for step in LADDER[:2]
    ]
    (first,) = judge(hour, seen, many, acts, above_since=NOON - STAYS)
    assert len(first.machines) == ORDERED
    assert first.machines[0].name == many[-1].name, "the dearest first"
    given = [first.act(m, done="ordered", result="", accepted=True) for m in first.machines]
    (then,) = judge(hour, seen, many, [*acts, *given], above_since=NOON - STAYS)
    assert {m.name for m in then.machines} == {m.name for m in many[:50]}


def test_what_is_begun_at_one_look_stays_small_and_promises_come_first():
    hour, some = owner(usd_per_hour=0.5), [machine(f"m{n}", 0.6) for n in range(100)]
    (notice,) = judge(hour, spending(60), some, ())
    rest = notice.model_copy(update={"step": Step.HIBERNATE})
    begun = within_a_look([*[notice] * 20, rest])
    assert begun[0].step is Step.HIBERNATE
    assert 1 < len(begun) < 20
    assert sum(len(due.machines) for due in begun) <= A_LOOK
    huge = notice.model_copy(update={"machines": tuple(some * 10)})
    assert within_a_look([huge]) == [huge], "one is always begun"
    assert within_a_look([]) == []


def test_one_machine_is_not_ordered_by_two_caps_at_once():
    both = owner(usd_per_hour=0.5, usd_per_day=20)
    seen = spending(0.6, today_usd=20)
    acts = []
    for cap, step in ((c, s) for c in (Cap.HOUR, Cap.DAY) for s in LADDER[:2]):
        like = order("x", minutes=1, accepted=True)
        acts.append(like.model_copy(update={"budget": both, "cap": cap, "step": step}))
    dues = judge(both, seen, [machine("a", 0.6)], acts, above_since=NOON - STAYS)
    assert [(due.cap, [m.name for m in due.machines]) for due in dues] == [(Cap.HOUR, ["a"])]


def test_cheaper_means_worth_a_move():
    choices = [
        Choice(offer=offer(n, usd=p), bid_usd_per_hour=None) for n, p in ((1, 0.44), (2, 0.40))
    ]
    found = cheaper(choices, 0.5)
    assert found is not None
    assert found.offer.offer_id == "1002"
    assert cheaper(choices, 0.46) is None
