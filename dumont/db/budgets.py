"""Budgets, what is being rented at this moment, and the receipts of what was done for budgets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, and_, delete, func, literal_column, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.events import append
from dumont.db.tables import budget_acts, budget_reservations, budgets, ledger, machines
from dumont.domain.budget_watch import BudgetAct, MachineBurn, SetBudget, Standing, machine_burn
from dumont.domain.budgets import (
    Allowed,
    Budget,
    Cap,
    Refused,
    Scope,
    Spending,
    Spent,
    Whose,
    day_starts,
    has_room,
    may_rent,
    month_starts,
    spending_of,
)
from dumont.domain.events import MachineEvent
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import Asleep

SpentOf = Callable[[str | None, str | None, date], Awaitable[Spent | None]]
"""What the ledger has of an owner, of a machine, or of all (both None) since a day of UTC; None: there is
no ledger to ask."""


def spent_of_ledger(database: Database) -> SpentOf:
    """Ask the ledger's own table."""

    async def spent(owner_id: str | None, machine_id: str | None, since: date) -> Spent:
        query = select(
            func.coalesce(func.sum(ledger.c.usd), 0.0).label("usd"),
            func.count().filter(ledger.c.usd.is_(None)).label("unknown"),
            func.max(ledger.c.end).filter(ledger.c.seconds > 0).label("until"),
        ).where(ledger.c.day >= since)
        if owner_id is not None:
            query = query.where(ledger.c.owner_id == owner_id)
        if machine_id is not None:
            query = query.where(ledger.c.machine_id == machine_id)
        async with database.reading() as connection:
            row = (await connection.execute(query)).one()
        return Spent(usd=row.usd, unknown=row.unknown, until=row.until)

    return spent


RESERVED_FOR: Final = timedelta(hours=1)
"""A reservation that nobody released ends after this long: an attempt takes a quarter of an hour."""
REPLACING_FOR: Final = timedelta(hours=24)
"""One whose machine is still bringing its files to the new GPU holds on: its record does not show that
GPU before everything is there."""
_KEPT_FOR: Final = timedelta(days=2)

_LOCK: Final = 0x62756467
"""First half of the advisory locks' keys."""
_TOTAL: Final = "total"


class PostgresBudgets:
    """Budgets of all scopes.

    Args:
        database: The database.
        spent: Asks the ledger.
    """

    def __init__(self, database: Database, *, spent: SpentOf) -> None:
        self._database = database
        self._spent = spent

    # What people set ----------------------------------------------------------------------------

    async def set(self, budget: Budget, *, owner_id: str | None, by: str, at: datetime) -> None:
        """Set one in place of what was set for the same."""
        values = {
            "owner_id": owner_id,
            "budget": budget.model_dump(mode="json"),
            "set_by": by,
            "set_at": at,
            "above_since": None,
        }
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(budgets)
                .values(key=budget.key, **values)
                .on_conflict_do_update(index_elements=[budgets.c.key], set_=values)
            )

    async def clear(self, key: str) -> bool:
        """Take one away; tells whether there was one."""
        async with self._database.transaction() as connection:
            gone = await connection.execute(
                delete(budgets).where(budgets.c.key == key).returning(budgets.c.key)
            )
            return gone.first() is not None

    async def of_owner(self, owner_id: str, *, with_total: bool) -> list[SetBudget]:
        """An owner's, and those of its machines; for administrators the total one as well."""
        mine = budgets.c.owner_id == owner_id
        query = select(budgets).where(or_(mine, budgets.c.key == _TOTAL) if with_total else mine)
        async with self._database.reading() as connection:
            return [_set(row) for row in await connection.execute(query.order_by(budgets.c.key))]

    async def every(self) -> list[SetBudget]:
        """All of them."""
        async with self._database.reading() as connection:
            return [_set(row) for row in await connection.execute(select(budgets))]

    async def over(self, *, owner_id: str, machine_id: str | None) -> list[Budget]:
        """All that a machine of an owner falls under; None: one that there is not yet."""
        async with self._database.reading() as connection:
            return await _over(connection, owner_id, machine_id)

    # How they stand -----------------------------------------------------------------------------

    async def standing(self, wanted: Sequence[Whose], *, at: datetime) -> dict[str, Standing]:
        """What is known of some budgets' scopes, by their keys."""
        if not wanted:
            return {}
        spent = await self._ledger(wanted, at)
        async with self._database.reading() as connection:
            return await _standing(connection, wanted, spent, at)

    async def room(
        self, *, owner_id: str, machine_id: str | None, at: datetime
    ) -> Allowed | Refused:
        """Whether anything at all may be rented for a machine; one query when nothing is set."""
        found = await self.over(owner_id=owner_id, machine_id=machine_id)
        seen = await self.standing(found, at=at)
        return has_room(found, _spending(seen), _reserved(seen))

    async def note_above(self, key: str, since: datetime | None) -> None:
        """Remember since when a cap of $/h is passed; None: it holds."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(budgets).where(budgets.c.key == key).values(above_since=since)
            )

    # Before renting -----------------------------------------------------------------------------

    async def reserve(
        self,
        label: str,
        *,
        machine_id: str,
        owner_id: str,
        generation: int,
        usd_per_hour: float,
        at: datetime,
    ) -> Allowed | Refused:
        """See that every budget has room for one more thing, and take that room.

        Two that are asked for at once are looked at one after the other: a lock of the owner, and one
        of the deployment when it has a budget. The same label again changes nothing. Without any
        budget nothing is written, and one query is all that it costs.

        Args:
            label: Of the attempt that rents it.
            machine_id: For which machine.
            owner_id: Whose.
            generation: Of the machine that it would be.
            usd_per_hour: What it will cost.
            at: Now.

        Raises:
            DependencyUnavailable: The database cannot serve it; then nothing may be rented.
        """
        first = await self.over(owner_id=owner_id, machine_id=machine_id)
        if not first:
            return Allowed()
        spent = await self._ledger(first, at, limits_only=True)
        async with self._database.transaction() as connection:
            # Everybody takes the owner's before the deployment's: nobody waits for each other.
            await _lock(connection, owner_id)
            if any(budget.scope is Scope.TOTAL for budget in first):
                await _lock(connection, _TOTAL)
            found = [b for b in await _over(connection, owner_id, machine_id) if b.key in spent]
            if not found:
                return Allowed()
            seen = await _standing(connection, found, spent, at, without=label)
            verdict = may_rent(found, _spending(seen), usd_per_hour, _reserved(seen))
            if isinstance(verdict, Allowed):
                await connection.execute(
                    insert(budget_reservations)
                    .values(
                        label=label,
                        machine_id=machine_id,
                        owner_id=owner_id,
                        generation=generation,
                        usd_per_hour=usd_per_hour,
                        reserved_at=func.now(),
                    )
                    .on_conflict_do_nothing()
                )
            return verdict

    async def release(self, label: str) -> None:
        """Give the room back: what was rented under this label is being ended, or never was."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(budget_reservations)
                .where(
                    budget_reservations.c.label == label,
                    budget_reservations.c.released_at.is_(None),
                )
                .values(released_at=func.now())
            )

    async def forget_old_reservations(self) -> None:
        """Delete those that have long ended."""
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(budget_reservations).where(
                    budget_reservations.c.reserved_at < func.now() - _KEPT_FOR
                )
            )

    # Receipts -----------------------------------------------------------------------------------

    async def record(self, act: BudgetAct, events: Sequence[MachineEvent]) -> bool:
        """File a receipt with its events; the same act twice is filed once. Tells whether it was new."""
        async with self._database.transaction() as connection:
            filed = await connection.execute(
                insert(budget_acts)
                .values(
                    key=act.key,
                    at=act.at,
                    budget_key=act.budget.key,
                    period=act.period,
                    owner_id=act.owner_id,
                    machine_id=act.machine_id,
                    act=act.model_dump(mode="json"),
                )
                .on_conflict_do_nothing()
                .returning(budget_acts.c.key)
            )
            new = filed.first() is not None
            if new:
                await append(connection, events)
            return new

    async def acts_of(self, key: str, periods: Iterable[str]) -> list[BudgetAct]:
        """What was done for a budget in some periods, oldest first."""
        query = (
            select(budget_acts.c.act)
            .where(budget_acts.c.budget_key == key, budget_acts.c.period.in_(list(periods)))
            .order_by(budget_acts.c.at)
        )
        async with self._database.reading() as connection:
            return [BudgetAct.model_validate(row.act) for row in await connection.execute(query)]

    async def acts(self, *, owner_id: str, with_all: bool, limit: int) -> list[BudgetAct]:
        """The last receipts of an owner, newest first; `with_all` adds everybody's."""
        query = select(budget_acts.c.act).order_by(budget_acts.c.at.desc(), budget_acts.c.key)
        if not with_all:
            query = query.where(budget_acts.c.owner_id == owner_id)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.limit(limit))
            return [BudgetAct.model_validate(row.act) for row in rows]

    async def _ledger(
        self, wanted: Sequence[Whose], at: datetime, *, limits_only: bool = False
    ) -> dict[str, tuple[Spent | None, Spent | None]]:
        """What the ledger has of each budget's day and month."""
        found: dict[str, tuple[Spent | None, Spent | None]] = {}
        for budget in wanted:
            if limits_only and isinstance(budget, Budget) and set(budget.caps) == {Cap.HOUR}:
                found[budget.key] = None, None
                continue
            owner_id = budget.scope_id if budget.scope is Scope.OWNER else None
            machine_id = budget.scope_id if budget.scope is Scope.MACHINE else None
            found[budget.key] = (
                await self._spent(owner_id, machine_id, day_starts(at).date()),
                await self._spent(owner_id, machine_id, month_starts(at).date()),
            )
        return found


async def _lock(connection: AsyncConnection, what: str) -> None:
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(:half, hashtext(:what))"), {"half": _LOCK, "what": what}
    )


async def _over(connection: AsyncConnection, owner_id: str, machine_id: str | None) -> list[Budget]:
    keys = [_TOTAL, f"{Scope.OWNER.value}/{owner_id}"]
    if machine_id is not None:
        keys.append(f"{Scope.MACHINE.value}/{machine_id}")
    rows = await connection.execute(select(budgets.c.budget).where(budgets.c.key.in_(keys)))
    return [Budget.model_validate(row.budget) for row in rows]


async def _standing(
    connection: AsyncConnection,
    wanted: Sequence[Whose],
    spent: Mapping[str, tuple[Spent | None, Spent | None]],
    at: datetime,
    *,
    without: str | None = None,
) -> dict[str, Standing]:
    """Read what runs and what is being rented, once for all of them."""
    burns = [_burn(row) for row in await connection.execute(_burning(wanted))]
    held = (await connection.execute(_held(wanted, without))).all()
    found: dict[str, Standing] = {}
    for budget in wanted:
        mine = [b for b in burns if budget.counts(owner_id=b.owner_id, machine_id=b.machine_id)]
        today, month = spent[budget.key]
        found[budget.key] = Standing(
            spending=spending_of(
                at,
                usd_per_hour=sum(each.usd_per_hour for each in mine),
                unknown=sum(each.unknown for each in mine),
                today=today,
                month=month,
            ),
            reserved=sum(
                row.usd_per_hour
                for row in held
                if budget.counts(owner_id=row.owner_id, machine_id=row.machine_id)
            ),
            machines=tuple(mine),
        )
    return found


def _within(wanted: Sequence[Whose], table: Any) -> Any:
    """Only rows of the owners and machines that are asked for; all for the deployment."""
    if any(budget.scope is Scope.TOTAL for budget in wanted):
        return literal_column("true")
    owners = [budget.scope_id for budget in wanted if budget.scope is Scope.OWNER]
    some = [budget.scope_id for budget in wanted if budget.scope is Scope.MACHINE]
    return or_(table.c.owner_id.in_(owners), table.c.machine_id.in_(some))


def _burning(wanted: Sequence[Whose]) -> Select[Any]:
    state = machines.c.state
    return select(
        machines.c.machine_id,
        machines.c.owner_id,
        machines.c.name,
        machines.c.phase,
        state["instance"].label("instance"),
        state["standby"].label("standby"),
        func.jsonb_array_length(state["retiring"]).label("retiring"),
        machines.c.spec["protection"]["asleep"].astext.label("asleep"),
    ).where(
        # Spelled out, not bound: only then do the partial indexes apply.
        machines.c.phase != literal_column("'destroyed'"),
        _within(wanted, machines),
    )


def _held(wanted: Sequence[Whose], without: str | None) -> Select[Any]:
    """Reservations that still stand for something that is in no record yet."""
    held, age = budget_reservations.c, func.now() - budget_reservations.c.reserved_at
    replacing = machines.c.phase.in_([MachinePhase.ON_STANDBY.value, MachinePhase.REPLACING.value])
    gone = machines.c.phase.in_([MachinePhase.HIBERNATED.value, MachinePhase.DESTROYED.value])
    adopted = func.coalesce(machines.c.state["instance"]["label"].astext, "")
    return (
        select(held.machine_id, held.owner_id, held.usd_per_hour)
        .select_from(
            budget_reservations.outerjoin(
                machines, machines.c.machine_id == budget_reservations.c.machine_id
            )
        )
        .where(
            _within(wanted, budget_reservations),
            held.released_at.is_(None),
            held.label != (without or ""),
            or_(age < RESERVED_FOR, and_(replacing, age < REPLACING_FOR)),
            # A machine that has no row yet has nothing else that counts.
            or_(
                machines.c.machine_id.is_(None),
                and_(
                    ~gone,
                    held.generation >= machines.c.generation,
                    held.label != adopted,
                ),
            ),
        )
    )


def _burn(row: Any) -> MachineBurn:
    return machine_burn(
        machine_id=row.machine_id,
        owner_id=row.owner_id,
        name=row.name,
        phase=MachinePhase(row.phase),
        instance=row.instance,
        standby=row.standby,
        retiring=row.retiring or 0,
        keeps_standby=row.asleep == Asleep.KEEP.value,
    )


def _set(row: Any) -> SetBudget:
    return SetBudget(
        budget=Budget.model_validate(row.budget),
        owner_id=row.owner_id,
        set_by=row.set_by,
        set_at=row.set_at,
        above_since=row.above_since,
    )


def _spending(seen: Mapping[str, Standing]) -> dict[str, Spending]:
    return {key: each.spending for key, each in seen.items()}


def _reserved(seen: Mapping[str, Standing]) -> dict[str, float]:
    return {key: each.reserved for key, each in seen.items()}
