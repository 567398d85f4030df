"""`dumont budget` as a person meets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse

from dumont.domain.budget_resources import (
    BudgetActList,
    BudgetStanding,
    BudgetStatus,
    BudgetView,
    CapView,
    SpendingView,
    act_view,
)
from dumont.domain.budget_watch import BudgetAct
from dumont.domain.budgets import Budget, Cap, Scope, Step
from tests.unit.cli.fake_api import T0, FakeApi, problem

Dumont = Callable[..., Any]


def spending(**known: Any) -> SpendingView:
    given = {
        "at": T0, "usd_per_hour": 0.712, "unknown": 0, "renting_usd_per_hour": 0, "today_usd": 6.1,
        "month_usd": 41.25, "unknown_lines": 0, "projected_today_usd": 14.64,
        "projected_month_usd": 170.2,
    }  # fmt: skip
    return SpendingView.model_validate(given | known)


def view(**changes: Any) -> BudgetView:
    given = {
        "scope": "owner", "machine_id": None, "machine_name": None, "usd_per_hour": None,
        "usd_per_day": 10, "usd_per_month": None, "warn_at": 0.8, "actions": ["notify", "cheaper"],
        "set_by": "ana", "set_at": T0,
    }  # fmt: skip
    return BudgetView.model_validate(given | changes)


def answers(fake: FakeApi, method: str, path: str, value: Any) -> None:
    fake.answer_once(method, path, JSONResponse(value.model_dump(mode="json")))


def test_the_status_says_what_is_spent_what_it_comes_to_and_what_is_unknown(
    user: FakeApi, dumont: Dumont
):
    cap = CapView(cap=Cap.DAY, limit_usd=10, used_usd=6.1, projected_usd=14.64, passes=True)
    status = BudgetStatus(
        mine=spending(unknown=1, unknown_lines=2),
        total=spending(usd_per_hour=3.5),
        budgets=[BudgetStanding(budget=view(), spending=spending(), caps=[cap])],
    )
    for words in (("budget",), ("budget", "status")):
        answers(user, "GET", "/budgets/status", status)
        result = dumont(*words)
        assert result.exit_code == 0, result.output
        assert "You: $0.712/h now" in result.stdout
        assert "$6.10, by its end about $14.64 (UTC; if everything runs on as now)" in result.stdout
        assert "1 thing runs at a price nobody knows" in result.stdout
        assert "2 lines of the ledger have no price" in result.stdout
        assert "The whole deployment: $3.500/h" in result.stdout
        row = next(line for line in result.stdout.splitlines() if "all your machines" in line)
        assert row.split() == [
            "all", "your", "machines", "$10.00/day", "$6.10", "61%", "$14.64", "too", "much", "cheaper",
        ]  # fmt: skip


def test_without_a_ledger_nothing_is_shown_as_zero(user: FakeApi, dumont: Dumont):
    blind = spending(
        today_usd=None, month_usd=None, projected_today_usd=None, projected_month_usd=None
    )
    answers(user, "GET", "/budgets/status", BudgetStatus(mine=blind, total=None, budgets=[]))
    result = dumont("budget")
    assert "today       -, by its end about -" in result.stdout
    assert "No budget is set" in result.stdout


def test_setting_one(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    own = view(scope="machine", machine_id="m1", machine_name="my-box", usd_per_hour=1.5)
    answers(user, "PUT", "/budgets", own)
    result = dumont(
        "budget", "set", "--machine", "my-box", "--hour", "1.5", "--day", "10", "--act", "cheaper"
    )
    assert result.exit_code == 0, result.output
    assert "The budget of my-box is $1.50/h, $10.00/day; told from 80% of it." in result.stdout
    ((sent, _),) = user.called("PUT", "/budgets")
    assert sent == {
        "machine": "my-box", "total": False, "usd_per_hour": 1.5, "usd_per_day": 10.0,
        "usd_per_month": None, "warn_at": 0.8, "actions": ["notify", "cheaper"],
    }  # fmt: skip


def test_what_is_no_budget_is_never_sent(user: FakeApi, dumont: Dumont):
    for words, said in (
        ((), "at least one cap"),
        (("--hour", "0"), "--hour"),
        (("--hour", "nan"), "--hour"),
        (("--hour", "1", "--warn-at", "80"), "--warn-at"),
        (("--hour", "1", "--act", "destroy"), "--act"),
        (("--hour", "1", "--machine", "my-box", "--total"), "not both"),
    ):
        result = dumont("budget", "set", *words)
        assert result.exit_code == 2, (words, result.output)
        assert said in result.stderr, (words, result.stderr)
    assert user.called("PUT", "/budgets") == []


def test_a_total_is_for_administrators(user: FakeApi, dumont: Dumont):
    user.answer_once("PUT", "/budgets", problem(403, "forbidden", "only an administrator"))
    result = dumont("budget", "set", "--total", "--month", "900")
    assert result.exit_code == 4
    assert "only an administrator" in result.stderr


def test_taking_one_away(user: FakeApi, dumont: Dumont):
    answers(user, "DELETE", "/budgets", view())
    assert dumont("budget", "clear", "--machine", "my-box").exit_code == 0
    user.answer_once("DELETE", "/budgets", problem(404, "not_found", "there is no such budget"))
    assert dumont("budget", "clear").exit_code == 3
    assert dumont("budget", "clear", "--machine", "my-box", "--total").exit_code == 2


def test_receipts(user: FakeApi, dumont: Dumont):
    act = BudgetAct(
        key="k", at=T0, budget=Budget(scope=Scope.OWNER, scope_id="u1", usd_per_day=10),
        cap=Cap.DAY, step=Step.HIBERNATE, period="2026-11-23", owner_id="u1", machine_id="m1",
        machine_name="my-box", cause="$9.98 are spent today", figures=(), done="ordered",
        accepted=False, result="it does not go to sleep now: the machine is stuck",
    )  # fmt: skip
    answers(user, "GET", "/budgets/acts", BudgetActList(items=[act_view(act, administrator=False)]))
    result = dumont("budget", "acts")
    assert result.exit_code == 0, result.output
    for word in ("hibernate", "my-box", "$9.98 are spent today", "the machine is stuck"):
        assert word in result.stdout
    answers(user, "GET", "/budgets/acts", BudgetActList(items=[]))
    assert "Nothing had to be done" in dumont("budget", "acts").stdout


def test_a_machine_without_room_ends_with_its_own_code(user: FakeApi, dumont: Dumont):
    user.add_running("my-box").update(phase="hibernated", reason="nothing is rented")
    user.answer_once(
        "POST", "/machines/my-box/wake",
        problem(409, "budget_exceeded", "the owner's budget is $1.00/h", hint="raise it"),
    )  # fmt: skip
    user.answer_once(
        "POST", "/machines/m000000000001/wake",
        problem(409, "budget_exceeded", "the owner's budget is $1.00/h", hint="raise it"),
    )  # fmt: skip
    result = dumont("wake", "my-box")
    assert result.exit_code == 6, result.output
    assert "the owner's budget is $1.00/h" in result.stderr
