"""Budgets as tables for people. What is not known is named beside each sum, and is in none of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from dumont.cli.tables import plain_table
from dumont.cli.text import UNKNOWN, clock, money, usd
from dumont.domain.budget_resources import (
    BudgetActView,
    BudgetStanding,
    BudgetView,
    CapView,
    SpendingView,
)
from dumont.domain.budgets import Cap, Scope

_PER = {Cap.HOUR: "/h", Cap.DAY: "/day", Cap.MONTH: "/month"}


def spending_lines(spending: SpendingView, *, whose: str) -> list[str]:
    """What is spent now, today and this month; the ends are estimates and say so."""
    renting = spending.renting_usd_per_hour
    more = f", and {money(renting)} is being rented" if renting else ""
    lines = [
        f"{whose}: {money(spending.usd_per_hour)} now{more}",
        f"  today       {usd(spending.today_usd)}, by its end about "
        f"{usd(spending.projected_today_usd)} (UTC; if everything runs on as now)",
        f"  this month  {usd(spending.month_usd)}, by its end about "
        f"{usd(spending.projected_month_usd)}",
    ]
    if spending.unknown:
        things = "1 thing runs" if spending.unknown == 1 else f"{spending.unknown} things run"
        lines.append(f"  besides     {things} at a price nobody knows")
    if spending.unknown_lines:
        lines.append(f"  besides     {spending.unknown_lines} lines of the ledger have no price")
    return lines


def whose(budget: BudgetView) -> str:
    """What a budget is for."""
    match budget.scope:
        case Scope.MACHINE:
            return budget.machine_name or budget.machine_id or "a machine"
        case Scope.OWNER:
            return "all your machines"
        case Scope.TOTAL:
            return "the whole deployment"


def caps(budget: BudgetView) -> str:
    """`$1.50/h, $20.00/day`."""
    limits = {cap: getattr(budget, cap.value) for cap in Cap}
    return ", ".join(f"${limit:,.2f}{_PER[cap]}" for cap, limit in limits.items() if limit)


def standing_table(budgets: Sequence[BudgetStanding]) -> Table:
    """`dumont budget`: each cap, how much of it is used, and what it comes to."""
    table = plain_table("BUDGET OF", ">CAP", ">USED", ">SHARE", ">BY ITS END", "DOES")
    for each in budgets:
        for cap in each.caps:
            table.add_row(
                Text(whose(each.budget)),
                f"${cap.limit_usd:,.2f}{_PER[cap.cap]}",
                money(cap.used_usd) if cap.cap is Cap.HOUR else usd(cap.used_usd),
                UNKNOWN if cap.used_usd is None else f"{cap.used_usd / cap.limit_usd:.0%}",
                _end(cap),
                each.budget.actions[-1].value,
            )
    return table


def _end(cap: CapView) -> Text:
    if cap.projected_usd is None:
        return Text(UNKNOWN)
    value = money(cap.projected_usd) if cap.cap is Cap.HOUR else usd(cap.projected_usd)
    return Text(f"{value} too much", style="red") if cap.passes else Text(value)


def acts_table(acts: Sequence[BudgetActView]) -> Table:
    """`dumont budget acts`."""
    table = plain_table("WHEN", "STEP", "MACHINE", "WHY", "RESULT")
    for act in acts:
        table.add_row(
            clock(act.at),
            act.step.value,
            Text(act.machine_name or UNKNOWN),
            Text(act.cause),
            Text(act.result, style="" if act.accepted is not False else "yellow"),
        )
    return table
