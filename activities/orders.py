"""Orders to machines from what watches over them: idleness, working hours, budgets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from temporalio import activity

from dumont.domain.errors import DumontError
from dumont.domain.instances import Message


class Verb(StrEnum):
    """What a machine is asked to do."""

    HIBERNATE = "hibernate"
    WAKE = "wake"


class Order(Message):
    """Input of `order_machine`."""

    machine_id: str
    verb: Verb
    actor: str
    """Who asks, for people: `idleness`, `working hours`, `the budget of ana`."""
    reason: str = ""
    order_id: str
    """The same order twice is given once."""


class Answer(Message):
    """What a machine said to an order."""

    accepted: bool
    why_not: str = ""
    code: str = ""
    """Of the error, when it was not accepted."""


GiveOrder = Callable[[Order], Awaitable[None]]
"""Gives an order to a machine's workflow.

Raises:
    Conflict: The machine's state does not allow it now.
    NotFound: No such workflow runs.
    DependencyUnavailable: Nobody accepted it; the same order may be given again.
"""


class OrderActivities:
    """Gives orders."""

    def __init__(self, *, give: GiveOrder) -> None:
        self._give = give

    @activity.defn
    async def order_machine(self, order: Order) -> Answer:
        """Give one order. A machine that does not take it now is an answer, not a failure.

        Safe to repeat: Temporal takes the same `order_id` once.

        Raises:
            DependencyUnavailable: Nobody accepted it.
        """
        try:
            await self._give(order)
        except DumontError as error:
            if error.retryable:
                raise
            return Answer(accepted=False, why_not=error.message, code=error.code)
        return Answer(accepted=True)
