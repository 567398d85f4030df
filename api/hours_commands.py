"""What the API asks of Temporal about working hours: its schedules."""

from __future__ import annotations

from datetime import UTC, datetime

from api.commands import Commands
from dumont.domain.working_hours import PlannedAct, WorkingHours
from dumont.temporal import hour_schedules


class HoursCommands:
    """Schedules of working hours.

    Every method may raise `DependencyUnavailable` when Temporal does not answer.

    Args:
        commands: The connection.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def apply(self, machine_id: str, hours: WorkingHours | None) -> None:
        """Have a machine's schedules as its hours want them; None: it has none.

        Raises:
            InvalidInput: Temporal does not know the time zone.
        """
        async with self._commands.answering() as client:
            await hour_schedules.apply(client, machine_id, hours, now=datetime.now(UTC))

    async def next_acts(self, machine_id: str, hours: WorkingHours) -> list[PlannedAct]:
        """What Temporal is going to do."""
        async with self._commands.answering() as client:
            return await hour_schedules.next_acts(client, machine_id, hours)
