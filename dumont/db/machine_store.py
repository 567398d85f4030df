"""What the workflows write: the projection of machines, their ladder, intents and sightings.

Implements `ports.MachineStore`. Every write may come twice and late: repeating one changes nothing,
and an older one does not overwrite a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy.exc
from sqlalchemy import Select, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.events import MACHINES_CHANNEL, append, notify
from dumont.db.ladder import Ladder
from dumont.db.tables import bad_hosts, intents, machines, sightings
from dumont.domain.events import EventKind, MachineEvent
from dumont.ports import Intent, LadderRecord, MachineRecord, OwnedMachine

_LIVE_NAME_INDEX: Final = "uq_machines_live_name"
_BATCH: Final = 1_000


class PostgresMachineStore:
    """The read model and the event log in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, record: MachineRecord) -> None:
        """Upsert the projection and append events, in one transaction.

        Of two states the one with the higher version stays. A name that another live machine of the owner took meanwhile gets the machine's id behind
        it: the row has to appear, for it may cost money.

        Raises:
            DependencyUnavailable: The database cannot serve it.
        """
        async with self._database.transaction() as connection:
            try:
                async with connection.begin_nested():
                    changed = await _upsert(connection, record, name=record.spec.name)
            except sqlalchemy.exc.IntegrityError as error:
                if _LIVE_NAME_INDEX not in str(error.orig):
                    raise
                name = f"{record.spec.name}-{record.spec.machine_id}"
                changed = await _upsert(connection, record, name=name)
            if changed:
                await notify(connection, MACHINES_CHANNEL, record.spec.machine_id)
            await append(connection, record.events)

    async def record_events(self, events: Sequence[MachineEvent]) -> None:
        """Append events alone; the same key of the same machine is stored once."""
        async with self._database.transaction() as connection:
            await append(connection, events)

    async def record_rung(self, rung: LadderRecord) -> None:
        """Note a rung of the ladder, with its event."""
        async with self._database.transaction() as connection:
            stored = await connection.scalar(
                select(machines.c.ladder)
                .where(machines.c.machine_id == rung.machine_id)
                .with_for_update()
            )
            if stored is not None:
                ladder = Ladder.model_validate(stored)
                climbed = ladder.climbed(rung)
                if climbed is not ladder:
                    await connection.execute(
                        update(machines)
                        .where(machines.c.machine_id == rung.machine_id)
                        .values(ladder=climbed.model_dump(mode="json"))
                    )
                    await notify(connection, MACHINES_CHANNEL, rung.machine_id)
            await append(connection, [_rung_event(rung)])

    async def record_intent(self, intent: Intent) -> None:
        """Upsert an intent by its label."""
        values = intent.model_dump()
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(intents)
                .values(values)
                .on_conflict_do_update(
                    index_elements=[intents.c.label],
                    set_=values,
                    where=intents.c.closed_at.is_(None),
                )
            )

    async def close_intent(self, label: str, *, outcome: str) -> None:
        """Mark an intent as finished: `ready`, `failed: ...`, `destroyed`."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(intents)
                .where(intents.c.label == label)
                .values(outcome=outcome, closed_at=func.now())
            )

    async def record_bad_host(self, *, provider: str, host_id: str, reason: str) -> None:
        """Remember that a host failed us."""
        statement = insert(bad_hosts).values(
            provider=provider,
            host_id=host_id,
            reason=reason,
            failures=1,
            last_failed_at=func.now(),
        )
        async with self._database.transaction() as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[bad_hosts.c.provider, bad_hosts.c.host_id],
                    set_={
                        "reason": statement.excluded.reason,
                        "failures": bad_hosts.c.failures + 1,
                        "last_failed_at": statement.excluded.last_failed_at,
                    },
                )
            )

    async def bad_hosts(self, *, provider: str, since: datetime) -> list[str]:
        """Hosts that failed us since then, the latest first."""
        query = (
            select(bad_hosts.c.host_id)
            .where(bad_hosts.c.provider == provider, bad_hosts.c.last_failed_at >= since)
            .order_by(bad_hosts.c.last_failed_at.desc())
        )
        async with self._database.reading() as connection:
            return list(await connection.scalars(query))

    async def owned_machines(self, machine_ids: Sequence[str]) -> list[OwnedMachine]:
        """Records of these machines; unknown ids are left out."""
        query = _owned().where(machines.c.machine_id.in_(machine_ids))
        async with self._database.reading() as connection:
            return [_owned_machine(row) for row in await connection.execute(query)]

    async def live_machines(self) -> list[OwnedMachine]:
        """Records of all machines that are not destroyed."""
        found: list[OwnedMachine] = []
        last = ""
        while True:
            query = (
                _owned()
                .where(machines.c.phase != literal_column("'destroyed'"))
                .where(machines.c.machine_id > last)
                .order_by(machines.c.machine_id)
                .limit(_BATCH)
            )
            async with self._database.reading() as connection:
                batch = [_owned_machine(row) for row in await connection.execute(query)]
            found += batch
            if len(batch) < _BATCH:
                return found
            last = batch[-1].spec.machine_id

    async def record_sightings(
        self, *, provider: str, keys: Sequence[str], at: datetime
    ) -> dict[str, datetime]:
        """Note suspicious things seen by a sweep; returns when each was first seen without a break.

        Keys not named in this call are forgotten: a sighting must be uninterrupted to count.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(sightings).where(
                    sightings.c.provider == provider, sightings.c.key.not_in(keys)
                )
            )
            if not keys:
                return {}
            statement = insert(sightings).values(
                [
                    {"provider": provider, "key": key, "first_seen_at": at, "last_seen_at": at}
                    for key in dict.fromkeys(keys)
                ]
            )
            rows = await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[sightings.c.provider, sightings.c.key],
                    set_={"last_seen_at": statement.excluded.last_seen_at},
                ).returning(sightings.c.key, sightings.c.first_seen_at)
            )
            return {row.key: row.first_seen_at for row in rows}


async def _upsert(connection: AsyncConnection, record: MachineRecord, *, name: str) -> bool:
    """Write the row unless it is as new already; tells whether it was written."""
    new = insert(machines).values(
        machine_id=record.spec.machine_id,
        owner_id=record.spec.owner_id,
        name=name,
        phase=record.state.phase.value,
        generation=record.state.generation,
        version=record.state.version,
        spec=record.spec.model_dump(mode="json"),
        state=record.state.model_dump(mode="json"),
        created_at=record.at,
        updated_at=record.at,
    )
    kept = ("machine_id", "owner_id", "name", "created_at", "ladder")
    written = await connection.execute(
        new.on_conflict_do_update(
            index_elements=[machines.c.machine_id],
            set_={c.name: new.excluded[c.name] for c in machines.c if c.name not in kept},
            where=machines.c.version < new.excluded.version,
        ).returning(machines.c.machine_id)
    )
    return written.first() is not None


def _rung_event(rung: LadderRecord) -> MachineEvent:
    return MachineEvent(
        key=f"rung/g{rung.generation}/a{rung.attempt}/{rung.rung}",
        machine_id=rung.machine_id,
        kind=EventKind.RUNG,
        at=rung.at,
        generation=rung.generation,
        summary=f"{rung.rung.sentence}: {rung.detail}" if rung.detail else rung.rung.sentence,
        data={"rung": rung.rung.value, "attempt": rung.attempt, "detail": rung.detail},
    )


def _owned() -> Select[Any]:
    return select(machines.c.spec, machines.c.state, machines.c.updated_at)


def _owned_machine(row: Any) -> OwnedMachine:
    return OwnedMachine.model_validate(row._mapping)
