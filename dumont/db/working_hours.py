"""Working hours as owners want them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import working_hours
from dumont.domain.errors import InvalidInput
from dumont.domain.working_hours import WorkingHours

log = structlog.get_logger(__name__)

_who = working_hours.c


class PostgresWorkingHours:
    """The working hours of all machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, machine_id: str) -> WorkingHours | None:
        """A machine's; None where it has none.

        Raises:
            InvalidInput: This version cannot read what is stored.
        """
        found = await self.of([machine_id])
        if machine_id in found and found[machine_id] is None:
            raise InvalidInput(
                "the working hours that are stored cannot be read by this version",
                hint="set them anew; its log says what is wrong with them",
            )
        return found.get(machine_id)

    async def of(self, machine_ids: Sequence[str]) -> dict[str, WorkingHours | None]:
        """Of those machines that have any.

        None: this version cannot read what is stored, for example because its database of time zones
        is another. Nothing may be concluded from that.
        """
        query = select(working_hours).where(_who.machine_id.in_(machine_ids))
        found: dict[str, WorkingHours | None] = {}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                try:
                    found[row.machine_id] = WorkingHours.model_validate(row.hours)
                except ValidationError as error:
                    found[row.machine_id] = None
                    log.warning("hours_not_readable", machine=row.machine_id, error=str(error))
        return found

    async def put(self, machine_id: str, hours: WorkingHours) -> None:
        """Note what the owner wants from now on."""
        document = hours.model_dump(mode="json")
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(working_hours)
                .values(machine_id=machine_id, hours=document)
                .on_conflict_do_update(index_elements=[_who.machine_id], set_={"hours": document})
            )

    async def remove(self, machine_id: str) -> None:
        """Note that the owner wants none; none before is success."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(working_hours).where(_who.machine_id == machine_id))
