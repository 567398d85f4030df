"""From settings to the activities that keep budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from activities.budgets import BudgetActivities
from dumont.db.activity import PostgresActivity
from dumont.db.budgets import PostgresBudgets, spent_of_ledger
from dumont.temporal.ids import BUDGETS
from dumont.temporal.queues import CONTROL
from dumont.temporal.schedules import ensure_schedule
from worker.compose import Parts

BUDGETS_EVERY: Final = timedelta(seconds=60)


def budget_activities(parts: Parts) -> BudgetActivities:
    """What keeps budgets, before something is rented and while it runs."""
    activity = PostgresActivity(parts.database)

    async def idle(machine_ids: Sequence[str]) -> set[str]:
        """Those whom idleness has warned: of the others it is not known that nobody uses them."""
        if not machine_ids:
            return set()
        found = await parts.store.owned_machines(machine_ids)
        states = await activity.states({m.spec.machine_id: m.state.generation for m in found})
        return {each for each, state in states.items() if state.warned_at is not None}

    return BudgetActivities(
        budgets=PostgresBudgets(parts.database, spent=spent_of_ledger(parts.database)),
        machines=parts.store.owned_machines,
        idle=idle,
    )


def budgets_served(budgets: BudgetActivities) -> list[Callable[..., Any]]:
    """All of them."""
    return [
        budgets.reserve_budget,
        budgets.release_budget,
        budgets.judge_budgets,
        budgets.file_budget_act,
    ]


async def ensure_budgets_sweep(parts: Parts) -> None:
    """Have all budgets looked at, whoever started first."""
    await ensure_schedule(
        parts.client,
        schedule_id=BUDGETS,
        workflow="EnforceBudgets",
        task_queue=CONTROL,
        every=BUDGETS_EVERY,
    )
