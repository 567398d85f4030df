"""Machines as the API asks for them: requesting, finding and paging their rows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy.exc
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    any_,
    case,
    cast,
    delete,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.events import MACHINES_CHANNEL, notify
from dumont.db.ladder import Ladder
from dumont.db.tables import heartbeats, machine_secrets, machines
from dumont.domain.errors import Conflict, InvalidInput, NotFound
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState
from dumont.domain.protection import AgentRole

# Spelled out, not bound: only then can PostgreSQL prove that the partial indexes apply.
_LIVE: Final = machines.c.phase != literal_column("'destroyed'")

NEVER_STARTED: Final = 0
"""Version of a row that no workflow has written yet."""


class MirrorSeen(NamedTuple):
    """What the agent on a primary said last of its mirror."""

    instance_id: str
    epoch: int
    age_s: float
    """Since it was heard, by the database's clock."""
    lag_s: float | None
    replicated_at: datetime | None


class Standing(NamedTuple):
    """As much of a machine as decides whether a body of it may still write."""

    phase: MachinePhase
    epoch: int
    standby_id: str | None
    """The instance that is its standby now."""


@dataclass(frozen=True, kw_only=True)
class MachineRow:
    """One machine as the database has it."""

    name: str
    """As it is listed; differs from the spec's only when another machine took that name."""
    spec: MachineSpec
    state: MachineState
    ladder: Ladder
    host_key: str | None
    created_at: datetime
    updated_at: datetime
    mirror: MirrorSeen | None = None
    """None: no agent of a primary was ever heard."""


class Cursor(NamedTuple):
    """Where a page ended."""

    created_at: datetime
    machine_id: str

    def encode(self) -> str:
        """The cursor as clients carry it."""
        text = f"{self.created_at.isoformat()} {self.machine_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor again.

        Raises:
            InvalidInput: It is none of ours.
        """
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            created_at, machine_id = raw.split(" ")
            at = datetime.fromisoformat(created_at)
            if at.tzinfo is None:
                raise ValueError
            return cls(at, machine_id)
        except (ValueError, binascii.Error):
            raise InvalidInput(
                "not a cursor of this list",
                field="cursor",
                hint="pass `next_cursor` of the page before, unchanged",
            ) from None


class Machines:
    """The rows of machines, by owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, spec: MachineSpec, *, at: datetime) -> tuple[MachineRow, bool]:
        """Write the row of a machine that is about to start; returns it and whether it is new.

        Raises:
            Conflict: Another live machine of the owner has the name.
        """
        state = MachineState(version=NEVER_STARTED)
        statement = (
            insert(machines)
            .values(
                machine_id=spec.machine_id,
                owner_id=spec.owner_id,
                name=spec.name,
                phase=state.phase.value,
                generation=state.generation,
                version=state.version,
                spec=spec.model_dump(mode="json"),
                state=state.model_dump(mode="json"),
                created_at=at,
                updated_at=at,
            )
            .on_conflict_do_nothing(index_elements=[machines.c.machine_id])
            .returning(machines.c.machine_id)
        )
        try:
            async with self._database.transaction() as connection:
                created = (await connection.execute(statement)).first() is not None
                if created:
                    await notify(connection, MACHINES_CHANNEL, spec.machine_id)
        except sqlalchemy.exc.IntegrityError as error:
            # The name's index may notice the very same request sooner than the id's does.
            same = await self.by_ids([spec.machine_id])
            if same:
                return same[0], False
            raise Conflict(
                f"a machine called {spec.name!r} exists already",
                field="name",
                hint=f"choose another name, or end it first: dumont destroy {spec.name}",
            ) from error
        return await self.find(spec.machine_id, owner_id=spec.owner_id), created

    async def withdraw(self, machine_id: str) -> None:
        """Remove the row of a machine that did not start. One that did start stays."""
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(machines).where(
                    machines.c.machine_id == machine_id, machines.c.version == NEVER_STARTED
                )
            )
            await notify(connection, MACHINES_CHANNEL, machine_id)

    async def find(self, reference: str, *, owner_id: str) -> MachineRow:
        """An owner's machine by id or by name; a live one of that name before destroyed ones.

        Raises:
            NotFound: The owner has no such machine.
        """
        order = (
            case((machines.c.machine_id == reference, 0), (_LIVE, 1), else_=2),
            machines.c.created_at.desc(),
        )
        query = (
            _rows()
            .where(machines.c.owner_id == owner_id)
            .where((machines.c.machine_id == reference) | (machines.c.name == reference))
            .order_by(*order)
            .limit(1)
        )
        found: list[MachineRow] = []
        if "\0" not in reference:  # PostgreSQL takes no such text, so nothing has that name
            async with self._database.reading() as connection:
                found = await _read(connection, query)
        if not found:
            raise NotFound(
                f"there is no machine {reference!r}", field="machine", hint="see: dumont ls"
            )
        return found[0]

    async def by_ids(self, machine_ids: Sequence[str]) -> list[MachineRow]:
        """These machines, of whatever owner; unknown ids are left out."""
        query = _rows().where(machines.c.machine_id.in_(machine_ids))
        async with self._database.reading() as connection:
            return await _read(connection, query)

    async def standing(self, machine_id: str) -> Standing | None:
        """Who may write a machine's workspace by its record; None when there is no such machine."""
        query = select(
            machines.c.phase,
            machines.c.state["epoch"].as_integer().label("epoch"),
            machines.c.state["standby"]["instance_id"].astext.label("standby_id"),
        ).where(machines.c.machine_id == machine_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        return Standing(MachinePhase(row.phase), row.epoch or 0, row.standby_id)

    async def page(
        self,
        *,
        owner_id: str,
        phases: Sequence[MachinePhase] = (),
        name: str | None = None,
        after: Cursor | None = None,
        limit: int = 50,
    ) -> tuple[list[MachineRow], Cursor | None]:
        """One page of an owner's machines, newest first, and where the next page begins.

        Args:
            owner_id: Whose.
            phases: Only in these phases; all but destroyed when empty.
            name: Only of this name.
            after: End of the page before.
            limit: Length of the page.
        """
        query = page_query(owner_id=owner_id, phases=phases, name=name, after=after, limit=limit)
        async with self._database.reading() as connection:
            rows = await _read(connection, query)
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        return rows[:limit], Cursor(last.created_at, last.spec.machine_id)


def page_query(
    *,
    owner_id: str,
    phases: Sequence[MachinePhase] = (),
    name: str | None = None,
    after: Cursor | None = None,
    limit: int = 50,
) -> Select[Any]:
    """The query of a page and of one row more, which tells whether another page follows."""
    wanted: list[ColumnElement[bool]] = [machines.c.owner_id == owner_id]
    if not phases:
        wanted.append(_LIVE)
    elif len(phases) == 1:
        wanted.append(machines.c.phase == phases[0].value)
    else:
        wanted.append(machines.c.phase.in_([phase.value for phase in phases]))
        if not any(phase.final for phase in phases):
            wanted.append(_LIVE)  # says nothing new, but lets the index of live ones serve
    if name is not None:
        wanted.append(machines.c.name == name)
    if after is not None:
        place = tuple_(machines.c.created_at, machines.c.machine_id)
        wanted.append(place < tuple_(after.created_at, after.machine_id))
    return (
        _rows()
        .where(*wanted)
        .order_by(machines.c.created_at.desc(), machines.c.machine_id.desc())
        .limit(limit + 1)
    )


def _rows() -> Select[Any]:
    """What a machine's view needs of its own tables, in one query."""
    return select(
        machines.c.machine_id,
        machines.c.name,
        # As text: pydantic reads JSON faster than anybody makes dictionaries of it.
        cast(machines.c.spec, Text).label("spec"),
        cast(machines.c.state, Text).label("state"),
        cast(machines.c.ladder, Text).label("ladder"),
        machines.c.created_at,
        machines.c.updated_at,
        machine_secrets.c.host_key_public,
    ).select_from(
        machines.outerjoin(machine_secrets, machine_secrets.c.machine_id == machines.c.machine_id)
    )


async def _read(connection: AsyncConnection, query: Select[Any]) -> list[MachineRow]:
    """The rows of a query, with what their primaries said last: a join would cost the page its index."""
    rows = (await connection.execute(query)).all()
    mirrors = await _mirrors(connection, [row.machine_id for row in rows])
    return [
        MachineRow(
            name=row.name,
            spec=MachineSpec.model_validate_json(row.spec),
            state=MachineState.model_validate_json(row.state),
            ladder=Ladder.model_validate_json(row.ladder),
            host_key=row.host_key_public,
            created_at=row.created_at,
            updated_at=row.updated_at,
            mirror=mirrors.get(row.machine_id),
        )
        for row in rows
    ]


async def _mirrors(
    connection: AsyncConnection, machine_ids: Sequence[str]
) -> dict[str, MirrorSeen]:
    if not machine_ids:
        return {}
    said = heartbeats.c.heartbeat["protection"]
    query = select(
        heartbeats.c.machine_id,
        heartbeats.c.instance_id,
        heartbeats.c.epoch,
        func.extract("epoch", func.now() - heartbeats.c.received_at).label("age_s"),
        said["lag_s"].astext.label("lag_s"),
        said["replicated_at"].astext.label("replicated_at"),
    ).where(
        # One parameter, not one for each: a page has two hundred.
        heartbeats.c.machine_id == any_(cast(list(machine_ids), ARRAY(Text))),
        heartbeats.c.role == AgentRole.PRIMARY.value,
    )
    return {
        row.machine_id: MirrorSeen(
            instance_id=row.instance_id,
            epoch=row.epoch,
            age_s=float(row.age_s),
            lag_s=float(row.lag_s) if row.lag_s is not None else None,
            replicated_at=datetime.fromisoformat(row.replicated_at) if row.replicated_at else None,
        )
        for row in await connection.execute(query)
    }
