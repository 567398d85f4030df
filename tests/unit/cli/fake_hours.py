"""The fake API's working hours: what is set, and what the schedules would say."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dumont.domain.hours_resources import PlannedActView, WorkingHoursOrder, WorkingHoursView
from dumont.domain.working_hours import WorkingHours, next_acts, zone

NOW = datetime(2026, 11, 26, 19, 0, tzinfo=UTC)
"""A Thursday evening in Berlin."""


@dataclass
class FakeHours:
    """The state, by what the machine was called; tests read and change it."""

    kept: dict[str, WorkingHours] = field(default_factory=dict)
    temporal_is_away: bool = False

    def routes(self) -> tuple[tuple[str, str, Any], ...]:
        """Method, path and handler of each route."""
        path = "/machines/{ref}/working-hours"
        return (
            ("GET", path, self._show),
            ("PUT", path, self._put),
            ("DELETE", path, self._delete),
        )

    async def _show(self, request: Request, body: Any) -> Response:
        kept = self.kept.get(request.path_params["ref"])
        view = WorkingHoursView(hours=kept, next=self._next(kept))
        return JSONResponse(view.model_dump(mode="json"))

    async def _put(self, request: Request, body: Any) -> Response:
        order = WorkingHoursOrder.model_validate(body)
        self.kept[request.path_params["ref"]] = WorkingHours.model_validate(order.model_dump())
        return await self._show(request, None)

    async def _delete(self, request: Request, body: Any) -> Response:
        self.kept.pop(request.path_params["ref"], None)
        return Response(status_code=204)

    def _next(self, kept: WorkingHours | None) -> list[PlannedActView] | None:
        if self.temporal_is_away:
            return None
        if kept is None:
            return []
        where = zone(kept.timezone)
        return [
            PlannedActView(act=each.act, at=each.at, local=each.at.astimezone(where))
            for each in next_acts(kept, NOW, 4)
        ]
