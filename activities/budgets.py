"""Budgets: taking room before something is rented, and judging what runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import Field
from temporalio import activity

from activities.heartbeat import heartbeating
from dumont.domain.budget_watch import (
    BudgetAct,
    Due,
    SetBudget,
    Standing,
    is_on_its_way,
    judge,
    orders_of,
    within_a_look,
)
from dumont.domain.budgets import (
    Allowed,
    Cap,
    Refused,
    Scope,
    Step,
    Whose,
    period_of,
    why_no_credit,
)
from dumont.domain.errors import BudgetExceeded, InsufficientCredit
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import Message
from dumont.domain.offers import GpuRequirement
from dumont.ports import OwnedMachine


class BudgetStore(Protocol):
    """Budgets, reservations and receipts. Every method may raise `DependencyUnavailable`."""

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
        """See that every budget has room for one more thing, and take it; idempotent by label.

        A label that was refused or released gets no room any more.
        """
        ...

    async def release(self, label: str) -> None:
        """Give the room of a label back."""
        ...

    async def every(self) -> list[SetBudget]:
        """All budgets that something can still be done for."""
        ...

    async def standing(self, wanted: Sequence[Whose], *, at: datetime) -> dict[str, Standing]:
        """What is known of some budgets' scopes, by their keys."""
        ...

    async def note_above(self, key: str, since: datetime | None) -> None:
        """Remember since when a cap of $/h is passed; None: it holds."""
        ...

    async def acts_of(self, key: str, periods: Iterable[str]) -> list[BudgetAct]:
        """What was done for a budget in some periods, oldest first."""
        ...

    async def record(self, act: BudgetAct, events: Sequence[MachineEvent]) -> bool:
        """File a receipt with its events, once."""
        ...

    async def forget_old_reservations(self) -> None:
        """Delete those that have long ended."""
        ...


class Reserve(Message):
    """Input of `reserve_budget`."""

    label: str
    machine_id: str
    owner_id: str
    generation: int
    usd_per_hour: float
    """Of what is about to be rented."""
    credit_usd: float | None
    """Left on the provider's account; None: nobody knows."""
    at: datetime


class Reserved(Message):
    """There was room, and it is taken."""

    remarks: tuple[str, ...] = ()
    """What could not be taken into account, for people."""


class JudgeBudgets(Message):
    """Input of `judge_budgets`."""

    at: datetime


class Judged(Message):
    """What budgets call for now."""

    dues: tuple[Due, ...] = ()
    needs: dict[str, GpuRequirement] = Field(default_factory=dict)
    """Of the machines for which something cheaper is looked for."""


class FileAct(Message):
    """Input of `file_budget_act`."""

    act: BudgetAct
    told: tuple[str, ...] = ()
    """Machines whose event log tells of it."""


class BudgetActivities:
    """What keeps budgets.

    Args:
        budgets: Budgets, reservations and receipts.
        machines: The records of some machines.
        idle: Which of some machines are known to be idle; one of which nothing is known is not.
    """

    def __init__(
        self,
        *,
        budgets: BudgetStore,
        machines: Callable[[Sequence[str]], Awaitable[list[OwnedMachine]]],
        idle: Callable[[Sequence[str]], Awaitable[set[str]]],
    ) -> None:
        self._budgets = budgets
        self._machines = machines
        self._idle = idle

    @activity.defn
    async def reserve_budget(self, ask: Reserve) -> Reserved:
        """See that there is money and room for one more thing before it is rented, and take the room.

        Safe to repeat: a label takes its room once.

        Raises:
            InsufficientCredit: The provider's account cannot pay for it.
            BudgetExceeded: A budget has no room for it.
            DependencyUnavailable: Nobody can say; then nothing may be rented.
        """
        why = why_no_credit(ask.credit_usd, ask.usd_per_hour)
        if why is not None:
            raise InsufficientCredit(why, hint="put money on the provider's account")
        verdict = await self._budgets.reserve(
            ask.label,
            machine_id=ask.machine_id,
            owner_id=ask.owner_id,
            generation=ask.generation,
            usd_per_hour=ask.usd_per_hour,
            at=ask.at,
        )
        if isinstance(verdict, Refused):
            raise BudgetExceeded(verdict.why, hint=verdict.what_to_do)
        unknown = ("the provider's balance is not known",) if ask.credit_usd is None else ()
        return Reserved(remarks=(*unknown, *verdict.remarks))

    @activity.defn
    async def release_budget(self, label: str) -> None:
        """Give the room of a label back: what was rented under it is being ended. Safe to repeat."""
        await self._budgets.release(label)

    @activity.defn
    async def judge_budgets(self, ask: JudgeBudgets) -> Judged:
        """See how all budgets stand, and what they call for. Without any, one query is all it costs."""
        async with heartbeating():
            return await self._judge(ask)

    async def _judge(self, ask: JudgeBudgets) -> Judged:
        found = await self._budgets.every()
        if not found:
            return Judged()
        await self._budgets.forget_old_reservations()
        standing = await self._budgets.standing([each.budget for each in found], at=ask.at)
        idle = await self._idle(
            sorted({m.machine_id for seen in standing.values() for m in seen.machines})
        )
        acts = {
            each.budget.key: await self._budgets.acts_of(
                each.budget.key, sorted({period_of(cap, ask.at) for cap in each.budget.caps})
            )
            for each in found
        }
        leaving = _leaving(acts.values(), ask.at)
        dues: list[Due] = []
        # The narrowest first: what rests for a machine's own budget need not rest for its owner's.
        for each in sorted(found, key=lambda each: list(Scope).index(each.budget.scope)):
            key, seen = each.budget.key, standing[each.budget.key]
            called_for = judge(
                each.budget,
                seen.spending,
                seen.machines,
                acts[key],
                idle=idle,
                above_since=await self._above_since(each, seen),
                leaving=leaving,
            )
            for due in called_for:
                if due.step is Step.HIBERNATE:
                    leaving |= {m.machine_id for m in due.machines}
            dues += called_for
        begun = within_a_look(dues)
        return Judged(dues=tuple(begun), needs=await self._needs(begun))

    async def _above_since(self, each: SetBudget, seen: Standing) -> datetime | None:
        """Since when a cap of $/h is passed, kept from one look to the next."""
        limit = each.budget.caps.get(Cap.HOUR)
        if limit is None:
            return None
        if seen.spending.usd_per_hour <= limit:
            if each.above_since is not None:
                await self._budgets.note_above(each.budget.key, None)
            return None
        if each.above_since is None:
            await self._budgets.note_above(each.budget.key, seen.spending.at)
        return each.above_since or seen.spending.at

    async def _needs(self, dues: Iterable[Due]) -> dict[str, GpuRequirement]:
        wanted = {m.machine_id for due in dues if due.step is Step.CHEAPER for m in due.machines}
        if not wanted:
            return {}
        found = await self._machines(sorted(wanted))
        return {each.spec.machine_id: each.spec.requirement for each in found}

    @activity.defn
    async def file_budget_act(self, filed: FileAct) -> None:
        """File a receipt, and tell of it in the machines' event logs. Safe to repeat."""
        act = filed.act
        events = [
            MachineEvent(
                key=f"budget/{act.key}/{machine_id}",
                machine_id=machine_id,
                kind=EventKind.BUDGET,
                at=act.at,
                summary=f"{act.told}: {act.result}",
                data={
                    "step": act.step.value,
                    "cap": act.cap.value,
                    "budget": act.budget.key,
                    "accepted": act.accepted,
                },
            )
            for machine_id in filed.told
        ]
        await self._budgets.record(act, events)


def _leaving(acts: Iterable[Sequence[BudgetAct]], at: datetime) -> set[str]:
    """Machines that took an order to sleep, for whatever budget, and had no time for it yet."""
    orders = orders_of(act for some in acts for act in some)
    return {machine_id for machine_id, given in orders.items() if is_on_its_way(given, at)}
