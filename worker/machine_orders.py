"""Orders to machines' workflows, in the words of Temporal."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio.client import (
    Client,
    WorkflowHandle,
)
from temporalio.service import RPCError

from activities.orders import Order, Verb
from dumont.domain.errors import DependencyUnavailable
from dumont.domain.machine import MachineState
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.refusals import refusals
from workflows.machine import Machine
from workflows.rest import HibernateRequest, WakeRequest

_UPDATE: Final = timedelta(seconds=10)
"""An update is accepted by a worker, not by the server: time for one that has to load history."""


class MachineOrders:
    """Gives orders to machines.

    Args:
        client: Temporal.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def give(self, order: Order) -> None:
        """Give one order; the same `order_id` is taken once.

        Raises:
            Conflict: The machine's state does not allow it now.
            NotFound: No such workflow runs.
            DependencyUnavailable: Nobody accepted it.
        """
        machine: WorkflowHandle[Machine, MachineState] = self._client.get_workflow_handle(
            machine_workflow_id(order.machine_id)
        )
        try:
            with refusals(order.machine_id):
                if order.verb is Verb.HIBERNATE:
                    await machine.execute_update(
                        Machine.hibernate,
                        HibernateRequest(actor=order.actor, reason=order.reason),
                        id=order.order_id,
                        rpc_timeout=_UPDATE,
                    )
                else:
                    await machine.execute_update(
                        Machine.wake,
                        WakeRequest(actor=order.actor),
                        id=order.order_id,
                        rpc_timeout=_UPDATE,
                    )
        except RPCError as error:
            raise _nobody(order) from error


def _nobody(order: Order) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"nobody took the order to {order.verb.value} machine {order.machine_id}",
        dependency="temporal",
    )
