"""The event log: appending, paging, and resuming a stream without missing a line.

`seq` is handed out before a transaction commits, so two writers can become visible out of order, and
a reader that has seen 10 would never ask for a 9 that commits later. Therefore appends take one
advisory lock before they draw numbers and hold it until they are committed: seq order is the order of
becoming visible. It costs nothing extra, for NOTIFY makes PostgreSQL take such a lock at commit
anyway. Append last in a transaction, so that the lock is held only for the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.tables import events, machines
from dumont.domain.events import MachineEvent
from dumont.domain.resources import EventView

EVENTS_CHANNEL: Final = "dumont_events"
"""NOTIFY channel: an event was appended; the payload is its seq."""
MACHINES_CHANNEL: Final = "dumont_machines"
"""NOTIFY channel: a machine's row changed; the payload is its id."""

_APPEND_LOCK: Final = 0x6576656E7473


class LoggedEvent(NamedTuple):
    """An event and who may see it."""

    owner_id: str | None
    """None when no machine of ours is known by that id: only administrators see it."""
    view: EventView


async def append(connection: AsyncConnection, new: Sequence[MachineEvent]) -> None:
    """Append events to the log; the same key of the same machine is stored once."""
    if not new:
        return
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _APPEND_LOCK})
    statement = (
        insert(events)
        .on_conflict_do_nothing(index_elements=[events.c.machine_id, events.c.key])
        .returning(events.c.seq)
    )
    rows = [
        {
            "machine_id": event.machine_id,
            "key": event.key,
            "kind": event.kind.value,
            "at": event.at,
            "generation": event.generation,
            "summary": event.summary,
            "data": event.model_dump(mode="json")["data"],
        }
        for event in new
    ]
    appended = [await connection.scalar(statement.values(row)) for row in rows]
    newest = max((seq for seq in appended if seq is not None), default=None)
    if newest is not None:
        await notify(connection, EVENTS_CHANNEL, str(newest))


async def notify(connection: AsyncConnection, channel: str, payload: str) -> None:
    """Wake listeners once this transaction is committed."""
    await connection.execute(select(func.pg_notify(channel, payload)))


def _logged() -> Select[Any]:
    return select(
        events, machines.c.owner_id, func.coalesce(machines.c.name, events.c.machine_id).label("n")
    ).select_from(events.outerjoin(machines, machines.c.machine_id == events.c.machine_id))


def _event(row: Any) -> LoggedEvent:
    return LoggedEvent(
        row.owner_id,
        EventView(
            seq=row.seq,
            machine_id=row.machine_id,
            machine_name=row.n,
            kind=row.kind,
            at=row.at,
            generation=row.generation,
            summary=row.summary,
            data=row.data,
        ),
    )


class EventLog:
    """Reading the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest_seq(self) -> int:
        """The last seq that is visible; 0 for an empty log."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(func.coalesce(func.max(events.c.seq), 0))) or 0

    async def after(
        self,
        seq: int,
        *,
        limit: int = 500,
        owner_id: str | None = None,
        with_unowned: bool = True,
        machine_id: str | None = None,
    ) -> list[LoggedEvent]:
        """Events after a seq, oldest first.

        Args:
            seq: The last one that was seen.
            limit: At most so many; fewer means that there are no more now.
            owner_id: Only of this owner's machines; None for all.
            with_unowned: Also those of machines that nobody owns.
            machine_id: Only of this machine.
        """
        query = _logged().where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
        if owner_id is not None:
            mine = machines.c.owner_id == owner_id
            query = query.where(or_(mine, machines.c.owner_id.is_(None)) if with_unowned else mine)
        if machine_id is not None:
            query = query.where(events.c.machine_id == machine_id)
        async with self._database.reading() as connection:
            return [_event(row) for row in await connection.execute(query)]

    async def page(
        self, machine_id: str, *, before: int | None = None, limit: int = 50
    ) -> list[EventView]:
        """Events of one machine, newest first, before a seq."""
        wanted = [events.c.machine_id == machine_id]
        if before is not None:
            wanted.append(events.c.seq < before)
        query = _logged().where(and_(*wanted)).order_by(events.c.seq.desc()).limit(limit)
        async with self._database.reading() as connection:
            return [_event(row).view for row in await connection.execute(query)]
