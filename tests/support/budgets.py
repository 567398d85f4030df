"""Budgets in memory, over the machines of a `MemoryStore`. The judging is the product's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from activities.budgets import BudgetActivities
from dumont.domain.budget_watch import BudgetAct, MachineBurn, SetBudget, Standing, machine_burn
from dumont.domain.budgets import (
    Allowed,
    Budget,
    Refused,
    Scope,
    Spent,
    Whose,
    day_starts,
    may_rent,
    month_starts,
    spending_of,
)
from dumont.domain.events import MachineEvent
from tests.support.fakes import MemoryStore


async def nothing_spent(whose: Whose, since: date) -> Spent | None:
    """A ledger without a line."""
    return Spent(usd=0)


@dataclass
class MemoryBudgets:
    """A `BudgetStore`. What was released, asked for and filed stays to be looked at."""

    store: MemoryStore
    budgets: dict[str, SetBudget] = field(default_factory=dict)
    held: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """label -> owner, machine, $/h."""
    released: list[str] = field(default_factory=list)
    filed: dict[str, BudgetAct] = field(default_factory=dict)
    spent: Callable[[Whose, date], Awaitable[Spent | None]] = nothing_spent
    idle: set[str] = field(default_factory=set)

    def set(self, budget: Budget) -> None:
        self.budgets[budget.key] = SetBudget(
            budget=budget,
            owner_id=budget.scope_id if budget.scope is Scope.OWNER else None,
            set_by="a test",
            set_at=datetime.now(UTC),
        )

    def served(self) -> list[Any]:
        """The activities over it."""

        async def idle(_: Sequence[str]) -> set[str]:
            return set(self.idle)

        acts = BudgetActivities(budgets=self, machines=self.store.owned_machines, idle=idle)
        return [
            acts.reserve_budget, acts.release_budget, acts.judge_budgets, acts.file_budget_act,
        ]  # fmt: skip

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
        found = [
            each.budget
            for each in self.budgets.values()
            if each.budget.counts(owner_id=owner_id, machine_id=machine_id)
        ]
        seen = await self.standing(found, at=at)
        verdict = may_rent(
            found,
            {key: each.spending for key, each in seen.items()},
            usd_per_hour,
            {key: each.reserved for key, each in seen.items()},
        )
        if isinstance(verdict, Allowed):
            self.held[label] = owner_id, machine_id, usd_per_hour
        return verdict

    async def release(self, label: str) -> None:
        self.held.pop(label, None)
        self.released.append(label)

    async def every(self) -> list[SetBudget]:
        return list(self.budgets.values())

    async def standing(self, wanted: Sequence[Whose], *, at: datetime) -> dict[str, Standing]:
        burns, adopted = self.burns(), self._adopted()
        found = {}
        for whose in wanted:
            mine = [b for b in burns if whose.counts(owner_id=b.owner_id, machine_id=b.machine_id)]
            found[whose.key] = Standing(
                spending=spending_of(
                    at,
                    usd_per_hour=sum(each.usd_per_hour for each in mine),
                    unknown=sum(each.unknown for each in mine),
                    today=await self.spent(whose, day_starts(at).date()),
                    month=await self.spent(whose, month_starts(at).date()),
                ),
                reserved=sum(
                    usd
                    for label, (owner, machine, usd) in self.held.items()
                    if label not in adopted and whose.counts(owner_id=owner, machine_id=machine)
                ),
                machines=tuple(mine),
            )
        return found

    def burns(self) -> list[MachineBurn]:
        """What each machine costs by its record."""
        return [
            machine_burn(
                machine_id=each.spec.machine_id,
                owner_id=each.spec.owner_id,
                name=each.spec.name,
                phase=each.state.phase,
                instance=each.state.instance.model_dump() if each.state.instance else None,
                standby=each.state.standby.model_dump() if each.state.standby else None,
                retiring=len(each.state.retiring),
            )
            for each in self.store.records.values()
            if not each.state.phase.final
        ]

    def _adopted(self) -> set[str]:
        records = self.store.records.values()
        return {r.state.instance.label for r in records if r.state.instance is not None}

    async def note_above(self, key: str, since: datetime | None) -> None:
        self.budgets[key] = self.budgets[key].model_copy(update={"above_since": since})

    async def acts_of(self, key: str, periods: Iterable[str]) -> list[BudgetAct]:
        wanted = set(periods)
        return [a for a in self.filed.values() if a.budget.key == key and a.period in wanted]

    async def record(self, act: BudgetAct, events: Sequence[MachineEvent]) -> bool:
        if act.key in self.filed:
            return False
        self.filed[act.key] = act
        await self.store.record_events(events)
        return True

    async def forget_old_reservations(self) -> None:
        return None
