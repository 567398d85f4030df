"""What machines were seen doing, by the minute, and what owners want of idleness.

Implements `ports.ActivityStore`. A heartbeat adds one small row; the sweep merges the rows of a minute
that is over. All times are this database's: the clocks of machines decide nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Table, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.tables import activity, activity_readings, idle_policies, idle_states, keep_alives
from dumont.domain.idle import IdlePolicy, IdleState, KeepAlive, Sample, merge
from dumont.domain.idle_watch import Reading

KEPT: Final = timedelta(days=8)
"""The last week, and a day to look at it."""

_MINUTE: Final = timedelta(minutes=1)
_SETTLES: Final = timedelta(minutes=1)
"""After a minute is over, before it is merged: what was heard in it is written by then."""
_AT_ONCE: Final = 60
"""Minutes merged in one call: after a long rest they are made up for bit by bit."""
_BATCH: Final = 500


class PostgresActivity:
    """The activity of all machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What machines do --------------------------------------------------------------------------

    async def add(self, machine_id: str, reading: Reading) -> None:
        """Note one look at a machine, at this moment; a second one in the same second is dropped.

        Raises:
            DependencyUnavailable: The database cannot serve it.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(activity_readings)
                .values(
                    machine_id=machine_id,
                    at=func.date_trunc("second", func.now()),
                    reading=reading,
                )
                .on_conflict_do_nothing()
            )

    async def now(self) -> datetime:
        """The database's clock."""
        async with self._database.reading() as connection:
            at: datetime = (await connection.execute(select(func.now()))).scalar_one()
            return at

    async def samples(
        self, machine_ids: Sequence[str], *, since: datetime
    ) -> dict[str, list[Sample]]:
        """Each machine's minutes since then, oldest first; a minute without a word is not there."""
        found: defaultdict[str, dict[datetime, Sample]] = defaultdict(dict)
        heard: defaultdict[tuple[str, datetime], list[Reading]] = defaultdict(list)
        async with self._database.reading() as connection:
            for start in range(0, len(machine_ids), _BATCH):
                ids = machine_ids[start : start + _BATCH]
                for row in await connection.execute(_since(activity, "minute", ids, since)):
                    found[row.machine_id][row.minute] = Sample.model_validate(row.sample)
                for row in await connection.execute(_since(activity_readings, "at", ids, since)):
                    heard[row.machine_id, _minute(row.at)].append(row.reading)
        for (machine_id, minute), readings in heard.items():
            found[machine_id].setdefault(minute, merge(minute, readings))
        return {
            machine_id: [minutes[minute] for minute in sorted(minutes)]
            for machine_id, minutes in found.items()
        }

    async def last_heard(self, machine_ids: Sequence[str]) -> dict[str, float]:
        """Seconds since each machine was last seen, of those that were within two minutes."""
        at, who = activity_readings.c.at, activity_readings.c.machine_id
        age = func.extract("epoch", func.now() - func.max(at)).label("age_s")
        ages: dict[str, float] = {}
        async with self._database.reading() as connection:
            for start in range(0, len(machine_ids), _BATCH):
                query = (
                    select(who, age)
                    .where(who.in_(machine_ids[start : start + _BATCH]))
                    .where(at >= func.now() - 2 * _MINUTE)
                    .group_by(who)
                )
                for row in await connection.execute(query):
                    ages[row.machine_id] = max(float(row.age_s), 0.0)
        return ages

    async def settle(self) -> int:
        """Merge the minutes that are over and delete what is too old; returns how many were merged."""
        merged = 0
        while merged < _AT_ONCE and await self._merge_oldest():
            merged += 1
        async with self._database.transaction() as connection:
            await connection.execute(delete(activity).where(activity.c.minute < func.now() - KEPT))
        return merged

    async def _merge_oldest(self) -> bool:
        async with self._database.transaction() as connection:
            return await _merge_oldest(connection)

    # What owners want --------------------------------------------------------------------------

    async def policy(self, machine_id: str) -> IdlePolicy:
        """What the owner wants; the default where nothing was said."""
        return (await self.policies([machine_id])).get(machine_id, IdlePolicy())

    async def policies(self, machine_ids: Sequence[str]) -> dict[str, IdlePolicy]:
        """Of those machines whose owner said something."""
        rows = await self._of(idle_policies, machine_ids)
        return {row.machine_id: IdlePolicy.model_validate(row.policy) for row in rows}

    async def set_policy(self, machine_id: str, policy: IdlePolicy) -> None:
        """Note what the owner wants from now on."""
        await self._put(idle_policies, machine_id, policy=policy.model_dump(mode="json"))

    async def keep_alive(self, machine_id: str) -> KeepAlive | None:
        """Until when somebody wants it kept up; None: nobody said so. It may be over."""
        return (await self.keep_alives([machine_id])).get(machine_id)

    async def keep_alives(self, machine_ids: Sequence[str]) -> dict[str, KeepAlive]:
        """Of those machines that somebody wanted kept up."""
        rows = await self._of(keep_alives, machine_ids)
        return {row.machine_id: KeepAlive.model_validate(row.keep_alive) for row in rows}

    async def set_keep_alive(self, machine_id: str, keep_alive: KeepAlive | None) -> None:
        """Note until when it is wanted; None: not any more."""
        if keep_alive is None:
            await self._drop(keep_alives, machine_id)
        else:
            document = keep_alive.model_dump(mode="json")
            await self._put(keep_alives, machine_id, keep_alive=document)

    # How far idleness is with it ---------------------------------------------------------------

    async def state(self, machine_id: str, *, generation: int) -> IdleState:
        """How far idleness is with one machine."""
        return (await self.states({machine_id: generation})).get(machine_id, IdleState())

    async def states(self, generations: Mapping[str, int]) -> dict[str, IdleState]:
        """How far idleness is with machines of these generations; those of earlier ones are over."""
        rows = await self._of(idle_states, list(generations))
        return {
            row.machine_id: IdleState.model_validate(row.state)
            for row in rows
            if row.generation == generations[row.machine_id]
        }

    async def set_state(self, machine_id: str, state: IdleState, *, generation: int) -> None:
        """Note how far it is."""
        await self._put(
            idle_states, machine_id, generation=generation, state=state.model_dump(mode="json")
        )

    async def _of(self, table: Table, machine_ids: Sequence[str]) -> list[Any]:
        found: list[Any] = []
        async with self._database.reading() as connection:
            for start in range(0, len(machine_ids), _BATCH):
                ids = machine_ids[start : start + _BATCH]
                query = select(table).where(table.c.machine_id.in_(ids))
                found += (await connection.execute(query)).all()
        return found

    async def _put(self, table: Table, machine_id: str, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(table)
                .values(machine_id=machine_id, **values)
                .on_conflict_do_update(index_elements=[table.c.machine_id], set_=values)
            )

    async def _drop(self, table: Table, machine_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(table).where(table.c.machine_id == machine_id))


def _since(table: Table, time: str, machine_ids: Sequence[str], since: datetime) -> Any:
    column = table.c[time]
    return (
        select(table)
        .where(table.c.machine_id.in_(machine_ids), column >= since)
        .order_by(table.c.machine_id, column)
    )


async def _merge_oldest(connection: AsyncConnection) -> bool:
    """Merge the oldest minute that is over, of all machines; tells whether there was one.

    A minute that was merged before keeps what it has: what comes later is a part of it at most.
    """
    at = activity_readings.c.at
    over = func.date_trunc("minute", func.now()) - _SETTLES
    oldest = (await connection.execute(select(func.min(at)).where(at < over))).scalar()
    if oldest is None:
        return False
    minute = _minute(oldest)
    within = (at >= minute, at < minute + _MINUTE)
    heard: defaultdict[str, list[Reading]] = defaultdict(list)
    rows = delete(activity_readings).where(*within)
    taken = await connection.execute(rows.returning(activity_readings))
    for row in sorted(taken, key=lambda row: row.at):
        heard[row.machine_id].append(row.reading)
    merged = [
        {
            "machine_id": machine_id,
            "minute": minute,
            "sample": merge(minute, readings).model_dump(mode="json"),
        }
        for machine_id, readings in heard.items()
    ]
    for start in range(0, len(merged), _BATCH):
        batch = merged[start : start + _BATCH]
        await connection.execute(insert(activity).values(batch).on_conflict_do_nothing())
    return True


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
