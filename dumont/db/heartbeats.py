"""The newest heartbeat of each body of each machine, and what its workflow was told of it.

Heartbeats never enter workflow history: here they are one row that is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import heartbeats
from dumont.domain.protection import AgentRole, Heartbeat, ProtectionReport


class Heard(NamedTuple):
    """A heartbeat as it is kept."""

    heartbeat: Heartbeat
    received_at: datetime
    """By the database's clock."""
    told: dict[str, Any] | None
    """What the workflow was told last; None: nothing yet."""
    age_s: float = 0.0
    """Since it was received, by the database's clock."""


class PostgresHeartbeats:
    """Implements `ports.HeartbeatTimes`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hear(self, heartbeat: Heartbeat) -> Heard | None:
        """Keep a heartbeat if it is the newest of its body; None when a newer one is known.

        A later epoch, another instance or another boot begins its sequence anew.

        Raises:
            DependencyUnavailable: The database cannot serve it.
        """
        values = {
            "machine_id": heartbeat.machine_id,
            "role": heartbeat.role.value,
            "instance_id": heartbeat.instance_id,
            "epoch": heartbeat.epoch,
            "sequence": heartbeat.sequence,
            "boot_id": heartbeat.boot_id,
            "received_at": func.now(),
            "heartbeat": heartbeat.model_dump(mode="json"),
        }
        new = insert(heartbeats).values(**values)
        old, newer = heartbeats.c, new.excluded
        another = or_(
            old.instance_id != newer.instance_id, old.boot_id.is_distinct_from(newer.boot_id)
        )
        statement = new.on_conflict_do_update(
            index_elements=[old.machine_id, old.role],
            set_={name: newer[name] for name in values if name not in ("machine_id", "role")},
            where=or_(
                old.epoch < newer.epoch,
                and_(old.epoch == newer.epoch, or_(another, old.sequence < newer.sequence)),
            ),
        ).returning(old.received_at, old.told)
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else Heard(heartbeat, row.received_at, row.told)

    async def set_told(self, heartbeat: Heartbeat, told: dict[str, Any]) -> None:
        """Note what the workflow was told of this body, so that it is told once."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(heartbeats)
                .where(
                    heartbeats.c.machine_id == heartbeat.machine_id,
                    heartbeats.c.role == heartbeat.role.value,
                    heartbeats.c.instance_id == heartbeat.instance_id,
                )
                .values(told=told)
            )

    async def latest(self, machine_ids: Sequence[str]) -> dict[str, dict[AgentRole, Heard]]:
        """The newest heartbeats of some machines, by machine and role."""
        age = func.extract("epoch", func.now() - heartbeats.c.received_at).label("age_s")
        query = select(heartbeats, age).where(heartbeats.c.machine_id.in_(machine_ids))
        found: dict[str, dict[AgentRole, Heard]] = {}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                said = Heartbeat.model_validate(row.heartbeat)
                heard = Heard(said, row.received_at, row.told, max(float(row.age_s), 0.0))
                found.setdefault(row.machine_id, {})[AgentRole(row.role)] = heard
        return found

    async def last_heard(
        self, machine_id: str, role: AgentRole, *, instance_id: str
    ) -> datetime | None:
        """When the agent of an instance was last heard; None: never, or another instance was."""
        query = select(heartbeats.c.received_at).where(
            heartbeats.c.machine_id == machine_id,
            heartbeats.c.role == role.value,
            heartbeats.c.instance_id == instance_id,
        )
        async with self._database.reading() as connection:
            at: datetime | None = (await connection.execute(query)).scalar()
            return at

    async def last_report(self, machine_id: str, *, instance_id: str) -> ProtectionReport | None:
        """What an instance's agent said last of its mirror; None: nothing, or another instance did."""
        heard = (await self.latest([machine_id])).get(machine_id, {}).get(AgentRole.PRIMARY)
        if heard is None or heard.heartbeat.instance_id != instance_id:
            return None
        return heard.heartbeat.protection
