"""What the API takes and gives about working hours: `/machines/{machine}/working-hours`."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from dumont.domain.resources import Resource
from dumont.domain.working_hours import HoursAct, WorkingHours


class WorkingHoursOrder(WorkingHours):
    """PUT /machines/{machine}/working-hours: all of it; what is not given is the default again."""

    model_config = ConfigDict(extra="forbid")


class PlannedActView(Resource):
    """One act to come."""

    act: HoursAct
    at: datetime
    local: datetime = Field(description="The same moment by the clock of the hours' time zone.")


class WorkingHoursView(Resource):
    """GET /machines/{machine}/working-hours."""

    hours: WorkingHours | None = Field(description="Null: it has none.")
    next: list[PlannedActView] | None = Field(
        description="What Temporal is going to do, by its own word. Null: it does not say at this "
        "moment; a sweep brings its schedules up to date within a minute."
    )
