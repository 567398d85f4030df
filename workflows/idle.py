"""The sweep over machines that nobody uses: looked at once a minute, warned, and then put to rest."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.idle import IdleActivities, IdleMove, OrderGiven
    from activities.orders import OrderActivities
    from dumont.domain.idle import Step
    from dumont.temporal.failures import error_of
    from workflows.options import LOOKUP, READ, RECORD


@workflow.defn
class IdleSweep:
    """Looks at every machine once. What it knows is in the database: a missed sweep decides nothing."""

    @workflow.run
    async def run(self) -> int:
        """Look once; returns how many machines were warned, ordered, or told that they stay up."""
        moves = await workflow.execute_activity_method(IdleActivities.look_for_idle, **READ)
        return sum(await asyncio.gather(*(self._take(move) for move in moves)))

    async def _take(self, move: IdleMove) -> bool:
        """Do what is to be done about one machine; what fails is decided anew a minute later."""
        try:
            match move.step:
                case Step.WARN:
                    await workflow.execute_activity_method(IdleActivities.warn_idle, move, **READ)
                case Step.WITHDRAW:
                    await workflow.execute_activity_method(
                        IdleActivities.withdraw_warning, move, **READ
                    )
                case Step.ACT:
                    return await self._order(move)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("%s: %s", move.machine_id, error_of(error).message)
            return False
        return True

    async def _order(self, move: IdleMove) -> bool:
        order = await workflow.execute_activity_method(IdleActivities.confirm_idle, move, **READ)
        if order is None:
            return False
        answer = await workflow.execute_activity_method(
            OrderActivities.order_machine, order, summary=move.name, **LOOKUP
        )
        await workflow.execute_activity_method(
            IdleActivities.note_idle_order, OrderGiven(move=move, answer=answer), **RECORD
        )
        return True
