"""The phases of an owner's machines, from the event log."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import or_, select

from dumont.db.engine import Database
from dumont.db.tables import events, machines
from dumont.domain.events import MachineEvent
from dumont.domain.machine import MachinePhase
from dumont.domain.spans import TELLING, PhaseSpan, build_spans

_TELLING: Final = [kind.value for kind in TELLING]


class MachineSpans:
    """Which phase each machine was in, when."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_owner(self, owner_id: str, *, since: datetime, until: datetime) -> list[PhaseSpan]:
        """Spans of the owner's machines that were there at any time of a period.

        They begin where the machine does, so that what was so when the period began is known; what
        happened after it is left out.
        """
        query = (
            select(events)
            .join(machines, machines.c.machine_id == events.c.machine_id)
            .where(
                machines.c.owner_id == owner_id,
                # A machine is not written to again once it is destroyed.
                or_(
                    machines.c.phase != MachinePhase.DESTROYED.value, machines.c.updated_at >= since
                ),
                events.c.kind.in_(_TELLING),
                events.c.at < until,
            )
            .order_by(events.c.seq)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return build_spans(
            MachineEvent(
                key=row.key,
                machine_id=row.machine_id,
                kind=row.kind,
                at=row.at,
                generation=row.generation,
                summary=row.summary,
                data=row.data,
            )
            for row in rows
        )
