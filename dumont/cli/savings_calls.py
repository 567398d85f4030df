"""Savings as typed calls: one method for each thing a command asks of the API."""

from __future__ import annotations

from dumont.cli.calls import Calls
from dumont.domain.savings_resources import ReferencePriceList, SavingsView, ScenarioOrder
from dumont.domain.scenario import Scenario


class SavingsCalls(Calls):
    """What a server knows of savings. Raises what every call does."""

    def report(self, **query: str | float | bool | None) -> SavingsView:
        """The report; the parameters of `GET /savings`."""
        return self._parse(self._http.call("GET", "/savings", params=query), SavingsView)

    def table(self, **query: str | float | bool | None) -> str:
        """The same as CSV."""
        return self._http.call("GET", "/savings", params=query | {"format": "csv"}).text

    def reference_prices(self, *, gpu: str | None = None) -> ReferencePriceList:
        """Dated on-demand prices of one GPU."""
        return self._read("/savings/reference-prices", ReferencePriceList, gpu=gpu)

    def scenario(self, *, order: ScenarioOrder) -> Scenario:
        """Multiply a scenario out; changes nothing."""
        response = self._http.call(
            "POST",
            "/savings/scenario",
            json=order.model_dump(mode="json", exclude_none=True),
            repeatable=True,
        )
        return self._parse(response, Scenario)
