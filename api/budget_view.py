"""Budgets as the API shows them, and the early answer to what no budget has room for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from api.services import Services
from dumont.domain.budget_resources import BudgetStanding, BudgetView, CapView, SpendingView
from dumont.domain.budget_watch import SetBudget, Standing
from dumont.domain.budgets import Cap, Refused, Scope, projection
from dumont.domain.errors import BudgetExceeded


async def need_room(services: Services, *, owner_id: str, machine_id: str | None) -> None:
    """Refuse at once what could rent nothing at any price. What there is room for is seen again,
    with the price of an offer, before it is rented.

    Raises:
        BudgetExceeded: A budget has no room.
    """
    verdict = await services.budgets.room(
        owner_id=owner_id, machine_id=machine_id, at=datetime.now(UTC)
    )
    if isinstance(verdict, Refused):
        raise BudgetExceeded(verdict.why, hint=verdict.what_to_do)


def budget_view(stored: SetBudget, names: Mapping[str, str]) -> BudgetView:
    """One budget.

    Args:
        stored: It.
        names: Of machines, by id.
    """
    budget = stored.budget
    machine_id = budget.scope_id if budget.scope is Scope.MACHINE else None
    return BudgetView(
        scope=budget.scope,
        machine_id=machine_id,
        machine_name=names.get(machine_id) if machine_id is not None else None,
        usd_per_hour=budget.usd_per_hour,
        usd_per_day=budget.usd_per_day,
        usd_per_month=budget.usd_per_month,
        warn_at=budget.warn_at,
        actions=list(budget.actions),
        set_by=stored.set_by,
        set_at=stored.set_at,
    )


def spending_view(seen: Standing) -> SpendingView:
    """What is known of one scope's spending."""
    spending = seen.spending
    ends = projection(spending, spending.at)
    return SpendingView(
        at=spending.at,
        usd_per_hour=spending.usd_per_hour,
        unknown=spending.unknown,
        renting_usd_per_hour=seen.reserved,
        today_usd=spending.today_usd,
        month_usd=spending.month_usd,
        unknown_lines=spending.unknown_lines,
        projected_today_usd=ends.today_usd,
        projected_month_usd=ends.month_usd,
    )


def standing_view(stored: SetBudget, seen: Standing, names: Mapping[str, str]) -> BudgetStanding:
    """One budget, and how each of its caps stands."""
    spending = seen.spending
    ends = projection(spending, spending.at)
    projected = {
        Cap.DAY: ends.today_usd,
        Cap.MONTH: ends.month_usd,
        Cap.HOUR: spending.usd_per_hour,
    }
    return BudgetStanding(
        budget=budget_view(stored, names),
        spending=spending_view(seen),
        caps=[
            CapView(
                cap=cap,
                limit_usd=limit,
                used_usd=spending.spent(cap),
                projected_usd=projected[cap],
                passes=None if (end := projected[cap]) is None else end > limit,
            )
            for cap, limit in stored.budget.caps.items()
        ],
    )
