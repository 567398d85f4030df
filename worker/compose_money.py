"""From settings to the activities that watch over idleness, working hours, spending and budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from activities.orders import OrderActivities
from worker.compose import Parts
from worker.machine_orders import MachineOrders


def money_activities(parts: Parts) -> list[Callable[..., Any]]:
    """All of them, as the `control` queue serves them."""
    orders = OrderActivities(give=MachineOrders(parts.client).give)
    return [orders.order_machine]


async def ensure_money_sweeps(parts: Parts) -> None:
    """Have the sweeps run, whoever started first."""
