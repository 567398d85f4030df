"""Working hours as typed calls: one method for each thing a command asks of the API."""

from __future__ import annotations

from dumont.cli.calls import Calls, body, part
from dumont.domain.hours_resources import WorkingHoursOrder, WorkingHoursView


class HoursCalls(Calls):
    """The calls at `/machines/{machine}/working-hours`. In each, `ref` is the machine's name or id."""

    def get(self, *, ref: str) -> WorkingHoursView:
        """A machine's working hours, and what comes next."""
        return self._read(_at(ref), WorkingHoursView)

    def put(self, *, ref: str, order: WorkingHoursOrder) -> WorkingHoursView:
        """Wake and hibernate a machine by the clock."""
        response = self._http.call("PUT", _at(ref), json=body(order), repeatable=True)
        return self._parse(response, WorkingHoursView)

    def delete(self, *, ref: str) -> None:
        """Wake and hibernate it only when somebody asks."""
        self._http.call("DELETE", _at(ref), repeatable=True)


def _at(ref: str) -> str:
    return f"/machines/{part(ref)}/working-hours"
