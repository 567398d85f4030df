"""What is known of machines' snapshots, and what owners want of them. Implements `ports.SnapshotStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import machines, snapshot_policies, snapshot_tries, snapshots
from dumont.domain.errors import InvalidInput, NotFound
from dumont.domain.snapshots import LATEST, SnapshotHealth, SnapshotPolicy, SnapshotRecord

_MAX_ERROR: Final = 500
_WHO: Final = snapshots.c


class PostgresSnapshots:
    """The snapshots of all machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What the workflows write -----------------------------------------------------------------

    async def record(self, record: SnapshotRecord) -> None:
        """Note one that was made; the same twice is one."""
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(snapshots)
                .values(
                    machine_id=record.machine_id,
                    snapshot_id=record.snapshot_id,
                    taken_at=record.taken_at,
                    whole=record.whole,
                    pinned=record.pinned,
                    verified_at=record.verified_at,
                    record=record.model_dump(mode="json"),
                )
                .on_conflict_do_nothing()
            )

    async def record_failure(self, machine_id: str, *, error: str, at: datetime) -> int:
        """Note a try that failed; returns how many did so in a row. The same time twice is one."""
        tried = insert(snapshot_tries).values(
            machine_id=machine_id, tried_at=at, failures=1, error=error[:_MAX_ERROR]
        )
        async with self._database.transaction() as connection:
            await connection.execute(
                tried.on_conflict_do_update(
                    index_elements=[snapshot_tries.c.machine_id],
                    set_={
                        "tried_at": tried.excluded.tried_at,
                        "failures": snapshot_tries.c.failures + 1,
                        "error": tried.excluded.error,
                    },
                    where=snapshot_tries.c.tried_at < tried.excluded.tried_at,
                )
            )
            counted = await connection.execute(
                select(snapshot_tries.c.failures).where(snapshot_tries.c.machine_id == machine_id)
            )
            return int(counted.scalar_one())

    async def verified(self, machine_id: str, snapshot_id: str, *, at: datetime) -> None:
        """Note that one was found whole in the store: only then has making it succeeded."""
        tried = insert(snapshot_tries).values(
            machine_id=machine_id, tried_at=at, failures=0, error=""
        )
        await self._set(machine_id, [snapshot_id], verified_at=at)
        async with self._database.transaction() as connection:
            await connection.execute(
                tried.on_conflict_do_update(
                    index_elements=[snapshot_tries.c.machine_id],
                    set_={"tried_at": tried.excluded.tried_at, "failures": 0, "error": ""},
                    where=snapshot_tries.c.tried_at < tried.excluded.tried_at,
                )
            )

    async def pinned(self, machine_id: str, snapshot_id: str, *, pinned: bool) -> None:
        """Note that no rule deletes one, or that rules decide again."""
        await self._set(machine_id, [snapshot_id], pinned=pinned)

    async def forgotten(self, machine_id: str, snapshot_ids: Sequence[str]) -> None:
        """Note that some are deleted."""
        await self._set(machine_id, snapshot_ids, forgotten_at=func.now())

    async def set_policy(self, machine_id: str, policy: SnapshotPolicy) -> None:
        """Note what the owner wants from now on."""
        document = policy.model_dump(mode="json")
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(snapshot_policies)
                .values(machine_id=machine_id, policy=document)
                .on_conflict_do_update(
                    index_elements=[snapshot_policies.c.machine_id], set_={"policy": document}
                )
            )

    # What is read -----------------------------------------------------------------------------

    async def of_machine(self, machine_id: str) -> list[SnapshotRecord]:
        """All that a machine has, newest first."""
        query = _there(machine_id).order_by(_WHO.snapshot_id.desc())
        async with self._database.reading() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def newest(self, machine_id: str) -> SnapshotRecord | None:
        """The newest whole one, of those that were found in the store if any was; None: there is none."""
        found_first = (_WHO.verified_at.is_not(None).desc(), _WHO.snapshot_id.desc())
        query = _there(machine_id).where(_WHO.whole).order_by(*found_first).limit(1)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _record(row) if row is not None else None

    async def find(self, machine_id: str, name: str) -> SnapshotRecord:
        """One by its id, the beginning of it, or `latest`.

        Raises:
            NotFound: There is none.
            InvalidInput: Several begin so.
        """
        if name == LATEST:
            newest = await self.newest(machine_id)
            if newest is None:
                raise NotFound("this machine has no snapshot yet", hint="make one: dumont snapshot")
            return newest
        query = (
            _there(machine_id)
            .where(_WHO.snapshot_id.startswith(name, autoescape=True))
            .order_by(_WHO.snapshot_id)
            .limit(2)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            raise NotFound(
                f"this machine has no snapshot {name}", hint="see them: dumont snapshots"
            )
        if len(rows) > 1:
            raise InvalidInput(f"several snapshots begin with {name}", field="snapshot")
        return _record(rows[0])

    async def before(self, machine_id: str, snapshot_id: str) -> SnapshotRecord | None:
        """The one before it; None when it is the first."""
        query = (
            _there(machine_id)
            .where(_WHO.snapshot_id < snapshot_id)
            .order_by(_WHO.snapshot_id.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _record(row) if row is not None else None

    async def policy(self, machine_id: str) -> SnapshotPolicy:
        """What the owner wants; the default where nothing was said."""
        return (await self.policies([machine_id])).get(machine_id, SnapshotPolicy())

    async def policies(self, machine_ids: Sequence[str]) -> dict[str, SnapshotPolicy]:
        """Of those machines whose owner said something."""
        query = select(snapshot_policies).where(snapshot_policies.c.machine_id.in_(machine_ids))
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return {row.machine_id: SnapshotPolicy.model_validate(row.policy) for row in rows}

    async def health(self, machine_id: str) -> SnapshotHealth:
        """How it is going."""
        newest = await self.newest(machine_id)
        query = select(snapshot_tries).where(snapshot_tries.c.machine_id == machine_id)
        async with self._database.reading() as connection:
            tried = (await connection.execute(query)).one_or_none()
        return SnapshotHealth(
            newest_at=newest.taken_at if newest is not None else None,
            tried_at=tried.tried_at if tried is not None else None,
            failures=tried.failures if tried is not None else 0,
            error=tried.error if tried is not None else "",
        )

    async def owners(self) -> list[str]:
        """Everybody who has, or had, a snapshot."""
        owner = machines.c.owner_id
        query = (
            select(owner).distinct().join(snapshots, _WHO.machine_id == machines.c.machine_id)
        ).order_by(owner)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def _set(self, machine_id: str, snapshot_ids: Sequence[str], **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                update(snapshots)
                .where(_WHO.machine_id == machine_id, _WHO.snapshot_id.in_(snapshot_ids))
                .values(**values)
            )


def _there(machine_id: str) -> Select[Any]:
    return select(snapshots).where(_WHO.machine_id == machine_id, _WHO.forgotten_at.is_(None))


def _record(row: Any) -> SnapshotRecord:
    stored = SnapshotRecord.model_validate(row.record)
    return stored.model_copy(update={"pinned": row.pinned, "verified_at": row.verified_at})
