"""What the sweeps over leftovers found last. Implements `ports.LeftoverStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import leftover_surveys, machines, snapshots
from dumont.domain.leftovers import Leftover, LeftoverPlan, kept_snapshots


class Survey(NamedTuple):
    """The last sweep of one source."""

    source: str
    at: datetime
    plan: LeftoverPlan


class Whose(NamedTuple):
    """The machine that a leftover belonged to."""

    owner_id: str
    name: str


class PostgresLeftovers:
    """The last survey of each source, and what of snapshots is left."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_survey(self, source: str, plan: LeftoverPlan, *, at: datetime) -> None:
        """Replace what was found there before; an older sweep does not."""
        written = insert(leftover_surveys).values(
            source=source, surveyed_at=at, survey=plan.model_dump(mode="json")
        )
        async with self._database.transaction() as connection:
            await connection.execute(
                written.on_conflict_do_update(
                    index_elements=[leftover_surveys.c.source],
                    set_={
                        "surveyed_at": written.excluded.surveyed_at,
                        "survey": written.excluded.survey,
                    },
                    where=leftover_surveys.c.surveyed_at <= written.excluded.surveyed_at,
                )
            )

    async def surveys(self) -> list[Survey]:
        """The last one of each source, by its name."""
        query = select(leftover_surveys).order_by(leftover_surveys.c.source)
        async with self._database.reading() as connection:
            return [
                Survey(row.source, row.surveyed_at, LeftoverPlan.model_validate(row.survey))
                for row in await connection.execute(query)
            ]

    async def whose(self, machine_ids: Sequence[str]) -> dict[str, Whose]:
        """Owners and names of machines, destroyed ones too; unknown ids are left out."""
        query = select(machines.c.machine_id, machines.c.owner_id, machines.c.name).where(
            machines.c.machine_id.in_(machine_ids)
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return {row.machine_id: Whose(row.owner_id, row.name) for row in rows}

    async def snapshots_of_destroyed(self, *, usd_per_gb_month: float | None) -> list[Leftover]:
        """What destroyed machines still have in the store, by what their snapshots sent there.

        Args:
            usd_per_gb_month: What the store costs; None is unknown.
        """
        sent = cast(snapshots.c.record["stored_bytes"].astext, BigInteger)
        query = (
            select(
                snapshots.c.machine_id,
                func.count().label("snapshots"),
                cast(func.sum(sent), BigInteger).label("stored"),
            )
            .join(machines, machines.c.machine_id == snapshots.c.machine_id)
            .where(machines.c.phase == literal_column("'destroyed'"))
            .where(snapshots.c.forgotten_at.is_(None))
            .group_by(snapshots.c.machine_id)
            .order_by(snapshots.c.machine_id)
        )
        async with self._database.reading() as connection:
            return [
                kept_snapshots(
                    row.machine_id,
                    snapshots=row.snapshots,
                    stored_bytes=row.stored,
                    usd_per_gb_month=usd_per_gb_month,
                )
                for row in await connection.execute(query)
            ]
