"""Budgets as typed calls: one method for each thing a command asks of the API."""

from __future__ import annotations

from dumont.cli.calls import Calls, body
from dumont.domain.budget_resources import BudgetActList, BudgetOrder, BudgetStatus, BudgetView


class BudgetCalls(Calls):
    """The calls at `/budgets`."""

    def status(self) -> BudgetStatus:
        """What is spent, beside the budgets."""
        return self._read("/budgets/status", BudgetStatus)

    def put(self, *, order: BudgetOrder) -> BudgetView:
        """Set one in place of what was set for the same."""
        response = self._http.call("PUT", "/budgets", json=body(order), repeatable=True)
        return self._parse(response, BudgetView)

    def delete(self, *, machine: str | None, total: bool) -> None:
        """Take one away.

        Args:
            machine: Of this one; None for all of the owner's.
            total: Of the whole deployment.
        """
        query = {"machine": machine, "total": "true" if total else None}
        self._http.call("DELETE", "/budgets", params=query, repeatable=True)

    def acts(self, *, limit: int) -> BudgetActList:
        """What was done to keep budgets, newest first."""
        return self._read("/budgets/acts", BudgetActList, limit=limit)
