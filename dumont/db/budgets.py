"""Budgets, what is being rented at this moment, and the receipts of what was done for budgets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Double,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dumont.db.engine import Database
from dumont.db.events import append
from dumont.db.tables import budget_acts, budget_reservations, budgets, ledger, machines
from dumont.domain.budget_watch import (
    OUT_OF_REACH,
    BudgetAct,
    MachineBurn,
    SetBudget,
    Standing,
    machine_burn,
)
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
from dumont.domain.ledger import Item
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import Asleep

SpentOf = Callable[[str | None, str | None, date], Awaitable[Spent | None]]
"""What the ledger has of an owner, of a machine, or of all (both None) since a day of UTC; None: there is
no ledger to ask."""


def spent_of_ledger(database: Database) -> SpentOf:
    """Ask the ledger's own table. Of a line with an unknown part, what is known of it counts."""
    known = func.greatest(ledger.c.known_usd, ledger.c.billed_usd)
    least = func.coalesce(ledger.c.usd, known, 0.0)
    running = ledger.c.item.in_([Item.GPU.value, Item.DISK.value])

    async def spent(owner_id: str | None, machine_id: str | None, since: date) -> Spent:
        query = select(
            func.coalesce(func.sum(least), 0.0).label("usd"),
            func.count().filter(ledger.c.usd.is_(None)).label("unknown"),
            # Lines of storage and of bills end at other times than what runs was last looked at.
            func.max(ledger.c.end).filter(running, ledger.c.seconds > 0).label("until"),
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

_GIVEN_BACK: Final = Refused(
    budget=None,
    cap=None,
    over_usd=None,
    why="the room for this attempt was refused or given back before",
    what_to_do="it is tried again by itself",
)

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
        """All of them but those of machines that are destroyed: nothing can be done for these."""
        machines_own = f"{Scope.MACHINE.value}/"
        of_a_dead_one = exists().where(
            budgets.c.key.startswith(machines_own),
            machines.c.machine_id == func.substr(budgets.c.key, len(machines_own) + 1),
            machines.c.phase == MachinePhase.DESTROYED.value,
        )
        async with self._database.reading() as connection:
            return [
                _set(row) for row in await connection.execute(select(budgets).where(~of_a_dead_one))
            ]

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
        if not found:
            return Allowed()
        spent = await self._ledger(found, at)
        async with self._database.reading() as connection:
            seen = await _sums(connection, found, spent, at)
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
        of the deployment when it has a budget. The same label again changes nothing: one that was
        refused or released gets no room any more, however late it comes (each attempt has a label of
        its own). What an earlier generation of the machine still holds is given back: a machine gets
        its next GPU when the one before will not take over. Without any budget nothing is written, and
        one query is all that it costs.

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
            held = budget_reservations.c
            await connection.execute(
                update(budget_reservations)
                .where(
                    held.owner_id == owner_id,
                    held.machine_id == machine_id,
                    held.generation < generation,
                    held.released_at.is_(None),
                )
                .values(released_at=func.now())
            )
            seen = await _sums(connection, found, spent, at, without=label)
            verdict = may_rent(found, _spending(seen), usd_per_hour, _reserved(seen))
            if isinstance(verdict, Refused):
                await _give_back(connection, label)
                return verdict
            taken = await connection.execute(
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
                .returning(held.label)
            )
            if taken.first() is None:
                ended = select(held.released_at).where(held.label == label)
                if await connection.scalar(ended) is not None:
                    return _GIVEN_BACK
            return verdict

    async def release(self, label: str) -> None:
        """Give the room back: what was rented under this label is being ended, or never was.

        One whose request is still on its way, after its sender was cancelled, takes nothing any more.
        """
        async with self._database.transaction() as connection:
            await _give_back(connection, label)

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


async def _give_back(connection: AsyncConnection, label: str) -> None:
    """Mark a label as ended, whether or not it had any room: it gets none after this."""
    held = budget_reservations.c
    # Without a budget nobody takes room, and there is nothing to write down.
    matters = or_(exists(select(budgets.c.key)), exists().where(held.label == label))
    ended = select(
        literal(label), literal(""), literal(""), literal(0), literal(0.0), func.now(), func.now()
    ).where(matters)
    await connection.execute(
        insert(budget_reservations)
        .from_select(
            [
                held.label,
                held.machine_id,
                held.owner_id,
                held.generation,
                held.usd_per_hour,
                held.reserved_at,
                held.released_at,
            ],
            ended,
        )
        .on_conflict_do_update(
            index_elements=[held.label],
            set_={"released_at": func.now()},
            where=held.released_at.is_(None),
        )
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
) -> dict[str, Standing]:
    """Read what runs and what is being rented, once for all of them."""
    # What is being rented first: what becomes a machine's between the two is counted twice, not never.
    held = _grouped((await connection.execute(_held(wanted, None))).all())
    burns = _grouped([_burn(row) for row in await connection.execute(_burning(wanted))])
    found: dict[str, Standing] = {}
    for budget in wanted:
        mine = burns(budget)
        today, month = spent[budget.key]
        found[budget.key] = Standing(
            spending=spending_of(
                at,
                usd_per_hour=sum(each.usd_per_hour for each in mine),
                unknown=sum(each.unknown for each in mine),
                today=today,
                month=month,
            ),
            reserved=sum(row.usd_per_hour for row in held(budget)),
            machines=tuple(mine),
        )
    return found


def _grouped(rows: Sequence[Any]) -> Callable[[Whose], Sequence[Any]]:
    """Find the rows of an owner or a machine without looking through all of them each time."""
    by_owner: dict[str, list[Any]] = {}
    by_machine: dict[str, list[Any]] = {}
    for row in rows:
        by_owner.setdefault(row.owner_id, []).append(row)
        by_machine.setdefault(row.machine_id, []).append(row)

    def of(whose: Whose) -> Sequence[Any]:
        match whose.scope:
            case Scope.MACHINE:
                return by_machine.get(whose.scope_id, ())
            case Scope.OWNER:
                return by_owner.get(whose.scope_id, ())
            case Scope.TOTAL:
                return rows

    return of


async def _sums(
    connection: AsyncConnection,
    wanted: Sequence[Whose],
    spent: Mapping[str, tuple[Spent | None, Spent | None]],
    at: datetime,
    *,
    without: str | None = None,
) -> dict[str, Standing]:
    """The same without the machines: one query that adds up, for the few budgets of one machine."""
    live, held = _burning(wanted).subquery(), _held(wanted, without).subquery()
    usd, unknown = _burn_in_sql(live)
    burns: list[Any] = []
    reserved: list[Any] = []
    for number, each in enumerate(wanted):
        mine = _counts(each, live)
        burns += [
            func.coalesce(func.sum(usd).filter(mine), 0.0).label(f"usd_{number}"),
            func.coalesce(func.sum(unknown).filter(mine), 0).label(f"unknown_{number}"),
        ]
        theirs = func.sum(held.c.usd_per_hour).filter(_counts(each, held))
        reserved.append(func.coalesce(theirs, 0.0).label(f"reserved_{number}"))
    running = select(*burns).select_from(live).subquery()
    renting = select(*reserved).select_from(held).subquery()
    # In one statement: what becomes a machine's meanwhile is counted once.
    both = select(running, renting).select_from(running.join(renting, true()))
    row = (await connection.execute(both)).mappings().one()
    return {
        each.key: Standing(
            spending=spending_of(
                at,
                usd_per_hour=row[f"usd_{number}"],
                unknown=row[f"unknown_{number}"],
                today=spent[each.key][0],
                month=spent[each.key][1],
            ),
            reserved=row[f"reserved_{number}"],
        )
        for number, each in enumerate(wanted)
    }


def _counts(whose: Whose, rows: Any) -> Any:
    """`Whose.counts` in SQL."""
    match whose.scope:
        case Scope.MACHINE:
            return rows.c.machine_id == whose.scope_id
        case Scope.OWNER:
            return rows.c.owner_id == whose.scope_id
        case Scope.TOTAL:
            return true()


def _burn_in_sql(live: Any) -> tuple[Any, Any]:
    """`machine_burn` in SQL, of rows of `_burning`: known $/h, and bodies at an unknown price."""
    gone = live.c.phase == MachinePhase.HIBERNATED.value
    unseen = live.c.phase.in_([MachinePhase.HIBERNATED.value, *(p.value for p in OUT_OF_REACH)])
    gpu = case((unseen, null()), else_=live.c.instance["usd_per_hour"].astext.cast(Double))
    standby = live.c.standby["usd_per_hour"].astext.cast(Double)
    there = func.jsonb_typeof(live.c.instance) == "object"
    stands_by = func.jsonb_typeof(live.c.standby) == "object"
    usd = func.coalesce(gpu, 0.0) + func.coalesce(standby, 0.0)
    unknown = (
        case((and_(there, ~gone, gpu.is_(None)), 1), else_=0)
        + case((and_(stands_by, standby.is_(None)), 1), else_=0)
        + func.coalesce(live.c.retiring, 0)
    )
    return usd, unknown


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
