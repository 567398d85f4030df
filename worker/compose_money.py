"""From settings to the activities that watch over idleness, working hours, spending and budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from activities.orders import OrderActivities
from dumont.temporal.queues import CONTROL
from worker.compose import Parts
from worker.compose_budgets import budget_activities, budgets_served, ensure_budgets_sweep
from worker.compose_hours import ensure_hours_sweep, hours_activities
from worker.compose_idle import ensure_idle_sweep, idle_activities, idle_served
from worker.compose_ledger import ensure_ledger, ledger_activities
from worker.compose_leftovers import control_leftovers, ensure_leftovers_sweep
from worker.machine_orders import MachineOrders
from worker.roles import leftovers_served


def money_activities(parts: Parts) -> list[Callable[..., Any]]:
    """All of them, as the `control` queue serves them."""
    orders = OrderActivities(give=MachineOrders(parts.client).give)
    return [
        orders.order_machine,
        *hours_activities(parts),
        *idle_served(idle_activities(parts)),
        *leftovers_served(control_leftovers(parts)),
        *budgets_served(budget_activities(parts)),
        *ledger_activities(parts),
    ]


async def ensure_money_sweeps(parts: Parts) -> None:
    """Have the sweeps run, whoever started first."""
    await asyncio.gather(  # one after the other they would delay every start of a worker
        ensure_hours_sweep(parts),
        ensure_leftovers_sweep(parts, CONTROL),
        ensure_budgets_sweep(parts),
        ensure_ledger(parts),
        ensure_idle_sweep(parts),
    )
