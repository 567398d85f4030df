"""What running machines cost, which of them rest for a budget, and the receipt of each act."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import Field

from dumont.domain.budgets import (
    LEAD,
    Budget,
    Cap,
    Scope,
    Spending,
    Step,
    hours,
    money,
    next_action,
    period_ends,
    period_of,
    price_of,
    projection,
)
from dumont.domain.instances import Message
from dumont.domain.machine import MachinePhase
from dumont.domain.offers import Choice

CHEAPER_BY: Final = 0.15
"""An offer that saves a smaller share is not worth a move."""

TOLD: Final = 100
"""At most so many machines' event logs tell of one notice, the dearest ones'."""

LOOKED_AT: Final = 5
"""Something cheaper is looked for in place of at most so many machines, the dearest ones."""

ORDERED: Final = 200
"""At most so many machines are ordered to sleep for one cap at one look; the next look goes on."""

A_LOOK: Final = 600
"""At most so much is begun at one look, a machine counting one and each step `_A_STEP` more: what a
workflow is told must stay small. What is left over is found again by the next look."""
_A_STEP: Final = 4

EFFECT: Final = timedelta(minutes=20)
"""A machine that took the order is on its way to sleep for this long, whatever its record says."""

BACK_OFF: Final = tuple(timedelta(minutes=m) for m in (2, 5, 15, 30, 60))
"""Waits before a machine that did not go to sleep is asked again; the last one repeats."""

OUT_OF_REACH: Final = (MachinePhase.ON_STANDBY, MachinePhase.REPLACING, MachinePhase.STUCK)
"""Phases in which nobody knows what the machine's GPU costs."""
_LEAVING: Final = (MachinePhase.HIBERNATING, MachinePhase.DESTROYING, MachinePhase.DESTROYED)


class MachineBurn(Message):
    """What one machine costs now, by its record."""

    machine_id: str
    owner_id: str
    name: str
    phase: MachinePhase
    gpu_usd: float | None = None
    """$/h of its GPU instance; None: there is none, or its price is unknown."""
    standby_usd: float | None = None
    unknown: int = Field(default=0, ge=0)
    """Bodies that it has at an unknown price."""
    keeps_standby: bool = False
    """Its standby stays when it sleeps."""

    @property
    def usd_per_hour(self) -> float:
        """What is known of it."""
        return (self.gpu_usd or 0.0) + (self.standby_usd or 0.0)

    @property
    def saved_by_rest(self) -> float:
        """$/h less when it sleeps; one that sleeps on its standby has nothing more to give back."""
        if self.phase is MachinePhase.HIBERNATED:
            return 0.0
        return (self.gpu_usd or 0.0) + (0.0 if self.keeps_standby else self.standby_usd or 0.0)


def machine_burn(
    *,
    machine_id: str,
    owner_id: str,
    name: str,
    phase: MachinePhase,
    instance: dict[str, Any] | None,
    standby: dict[str, Any] | None,
    retiring: int = 0,
    keeps_standby: bool = False,
) -> MachineBurn:
    """What a machine costs by its record.

    What an instance out of reach costs is unknown: a stopped one is paid for its disk alone. So is
    that of a former instance whose files are still being looked through.

    Args:
        machine_id: Which.
        owner_id: Whose.
        name: For people.
        phase: Where it is in its life.
        instance: `MachineState.instance` as JSON data.
        standby: `MachineState.standby` as JSON data.
        retiring: How many former instances are kept for now.
        keeps_standby: Its standby stays when it sleeps.
    """
    if phase is MachinePhase.HIBERNATED:
        instance = None  # the record may still name the one it has given back
    gpu_usd = instance.get("usd_per_hour") if instance is not None else None
    if phase in OUT_OF_REACH:
        gpu_usd = None
    standby_usd = standby.get("usd_per_hour") if standby is not None else None
    return MachineBurn(
        machine_id=machine_id,
        owner_id=owner_id,
        name=name,
        phase=phase,
        gpu_usd=gpu_usd,
        standby_usd=standby_usd,
        unknown=(instance is not None and gpu_usd is None)
        + (standby is not None and standby_usd is None)
        + retiring,
        keeps_standby=keeps_standby,
    )


class SetBudget(Message):
    """A budget, by whom it was set, and how its cap of $/h holds."""

    budget: Budget
    owner_id: str | None
    """None: of the whole deployment."""
    set_by: str
    set_at: datetime
    above_since: datetime | None = None
    """Since when $/h is above its cap, without a break."""


class Standing(Message):
    """How one budget's scope stands."""

    spending: Spending
    reserved: float = 0.0
    """$/h that is being rented at this moment."""
    machines: tuple[MachineBurn, ...] = ()


class Figure(Message):
    """A number of a receipt, and how it is known."""

    name: str
    usd: float | None
    """None: unknown."""
    basis: str


class BudgetAct(Message):
    """The receipt of one thing that was done for a budget. Filed once, never changed."""

    key: str
    """The same act twice is filed once."""
    at: datetime
    budget: Budget
    cap: Cap
    step: Step
    period: str
    owner_id: str | None
    """None: of the whole deployment, not of one owner."""
    machine_id: str | None
    machine_name: str | None = None
    attempt: int = 1
    cause: str
    """Why, in one sentence."""
    figures: tuple[Figure, ...]
    """What it was decided by."""
    before: str = ""
    """The machine when it was decided."""
    done: str
    """What was done."""
    after: str = ""
    """What that leads to, at the prices known: an estimate."""
    accepted: bool | None = None
    """Whether the machine took the order; None where none was given."""
    result: str

    @property
    def told(self) -> str:
        """Why, as the owners of machines are told it."""
        return _as_told(self.budget, self.cause)


class Due(Message):
    """One step that a cap calls for now, and the machines it is about."""

    budget: Budget
    cap: Cap
    step: Step
    at: datetime
    period: str
    cause: str
    figures: tuple[Figure, ...]
    owner_id: str | None
    """None: of the whole deployment."""
    machines: tuple[MachineBurn, ...]
    attempts: dict[str, int] = Field(default_factory=dict)
    """By machine: which try this one is."""

    @property
    def told(self) -> str:
        """Why, as the owners of machines are told it."""
        return _as_told(self.budget, self.cause)

    def act(
        self,
        machine: MachineBurn | None,
        *,
        done: str,
        result: str,
        after: str = "",
        accepted: bool | None = None,
    ) -> BudgetAct:
        """The receipt of what was done with one machine, or of a step that met none."""
        attempt = self.attempts.get(machine.machine_id, 1) if machine is not None else 1
        limit = self.budget.caps[self.cap]
        # The limit to its last digit: another limit begins anew, however little it differs.
        parts = [self.budget.key, self.cap.value, f"{limit!r}", self.period, self.step.value]
        if machine is not None:
            parts.append(machine.machine_id)
        if self.step is Step.HIBERNATE:
            parts.append(str(attempt))
        return BudgetAct(
            key="/".join(parts),
            at=self.at,
            budget=self.budget,
            cap=self.cap,
            step=self.step,
            period=self.period,
            owner_id=machine.owner_id if machine is not None else self.owner_id,
            machine_id=machine.machine_id if machine is not None else None,
            machine_name=machine.name if machine is not None else None,
            attempt=attempt,
            cause=self.cause,
            figures=self.figures,
            before=_described(machine) if machine is not None else "",
            done=done,
            after=after,
            accepted=accepted,
            result=result,
        )


def _as_told(budget: Budget, cause: str) -> str:
    """A cause without what is the administrators' alone: what all may spend, and do spend, together."""
    if budget.scope is Scope.TOTAL:
        return "the budget of the whole deployment is reached, or is going to be"
    return cause


def within_a_look(dues: Iterable[Due]) -> list[Due]:
    """Those to begin with now, the promises first; never none of them, and never more than `A_LOOK`."""
    order = (Step.HIBERNATE, Step.NOTIFY, Step.CHEAPER)
    taken: list[Due] = []
    weight = 0
    for due in sorted(dues, key=lambda due: order.index(due.step)):
        weight += _A_STEP + len(due.machines)
        if taken and weight > A_LOOK:
            break
        taken.append(due)
    return taken


def _described(machine: MachineBurn) -> str:
    unknown = f", {machine.unknown} at an unknown price" if machine.unknown else ""
    return f"{machine.phase.value}, ${machine.usd_per_hour:.3f}/h{unknown}"


def judge(
    budget: Budget,
    spending: Spending,
    machines: Sequence[MachineBurn],
    acts: Sequence[BudgetAct],
    *,
    idle: Collection[str] = (),
    above_since: datetime | None = None,
    leaving: Collection[str] = (),
) -> list[Due]:
    """What a budget calls for now, at most one step for each of its caps.

    Args:
        budget: Which.
        spending: What is known of its scope.
        machines: Those in its scope that have something rented.
        acts: What was done for it in the present periods.
        idle: Machines of which it is known that nobody uses them.
        above_since: Since when $/h is above its cap.
        leaving: Machines that took, or are given, an order to sleep for another budget.
    """
    dues: list[Due] = []
    leaves = set(leaving)
    for cap, limit in budget.caps.items():
        period = period_of(cap, spending.at)
        mine = [
            act
            for act in acts
            if act.cap is cap and act.period == period and act.budget.caps.get(cap) == limit
        ]
        step = next_action(
            budget, cap, spending, {act.step for act in mine}, above_since=above_since
        )
        if step is None:
            continue
        costing = [each for each in machines if each.usd_per_hour > 0]
        concerned = sorted(costing, key=lambda m: -m.usd_per_hour)[:TOLD]
        attempts: dict[str, int] = {}
        if step is Step.CHEAPER:
            running = [m for m in costing if m.phase is MachinePhase.RUNNING and m.gpu_usd]
            concerned = sorted(running, key=lambda m: -(m.gpu_usd or 0.0))[:LOOKED_AT]
        elif step is Step.HIBERNATE:
            rests = to_rest(budget, cap, spending, machines, mine, idle=idle, leaving=leaves)
            concerned = rests[:ORDERED]
            leaves |= {m.machine_id for m in concerned}
            given = orders_of(mine)
            attempts = {m.machine_id: len(given.get(m.machine_id, ())) + 1 for m in concerned}
            if not concerned:
                continue
        dues.append(
            Due(
                budget=budget,
                cap=cap,
                step=step,
                at=spending.at,
                period=period,
                cause=_cause(budget, cap, spending, step),
                figures=_figures(cap, limit, spending),
                owner_id=_owner_of(budget, machines),
                machines=tuple(concerned),
                attempts=attempts,
            )
        )
    return dues


def _owner_of(budget: Budget, machines: Sequence[MachineBurn]) -> str | None:
    if budget.scope is Scope.OWNER:
        return budget.scope_id
    if budget.scope is Scope.MACHINE and machines:
        return machines[0].owner_id
    return None


def to_rest(
    budget: Budget,
    cap: Cap,
    spending: Spending,
    machines: Iterable[MachineBurn],
    acts: Sequence[BudgetAct],
    *,
    idle: Collection[str] = (),
    leaving: Collection[str] = (),
) -> list[MachineBurn]:
    """The machines to put to sleep now: none of them could be left out, and never more.

    Idle ones first, then the dearest. What is on its way to sleep is waited for, and a machine that
    refused is left in peace for a while; meanwhile another one may have to go. A machine of which a
    price is unknown is never chosen.

    Args:
        budget: Which.
        cap: Which of its caps.
        spending: What is known.
        machines: Those in its scope.
        acts: What was done for this cap in this period.
        idle: Machines that are known to be idle.
        leaving: Machines that took an order for another budget.
    """
    burn, free, given = spending.usd_per_hour, list[MachineBurn](), orders_of(acts)
    for machine in machines:
        orders = given.get(machine.machine_id, ())
        left = machine.phase in _LEAVING or machine.machine_id in leaving
        if left or is_on_its_way(orders, spending.at):
            burn -= machine.saved_by_rest
        elif machine.saved_by_rest <= 0 or machine.unknown:
            continue  # nothing to win, or nobody knows what
        elif not _is_left_in_peace(orders, spending.at):
            free.append(machine)
    free.sort(
        key=lambda m: (
            m.phase is not MachinePhase.RUNNING,
            m.machine_id not in idle,
            -m.saved_by_rest,
            m.machine_id,
        )
    )
    chosen: list[MachineBurn] = []
    for machine in free:
        if _holds(budget, cap, spending, burn):
            break
        chosen.append(machine)
        burn -= machine.saved_by_rest
    # A later one may have made an earlier one needless; those in use are spared first.
    for machine in sorted(chosen, key=lambda m: m.machine_id in idle):
        if _holds(budget, cap, spending, burn + machine.saved_by_rest):
            chosen.remove(machine)
            burn += machine.saved_by_rest
    return chosen


def _holds(budget: Budget, cap: Cap, spending: Spending, burn: float) -> bool:
    """Whether a cap holds for now at another burn."""
    limit, spent = budget.caps[cap], spending.spent(cap)
    if cap is Cap.HOUR or spent is None:
        return burn <= limit + 1e-9
    left = period_ends(cap, spending.at) - spending.at
    return burn <= 1e-9 or spent + burn * hours(min(LEAD, left)) < limit


def orders_of(acts: Iterable[BudgetAct]) -> dict[str, list[BudgetAct]]:
    """The orders to sleep that were given, by machine, oldest first."""
    given: dict[str, list[BudgetAct]] = {}
    for act in sorted(acts, key=lambda act: act.at):
        if act.step is Step.HIBERNATE and act.machine_id is not None:
            given.setdefault(act.machine_id, []).append(act)
    return given


def is_on_its_way(orders: Sequence[BudgetAct], at: datetime) -> bool:
    """Whether a machine took the last of these orders, and has had no time yet to sleep."""
    return bool(orders) and bool(orders[-1].accepted) and at - orders[-1].at < EFFECT


def _is_left_in_peace(orders: Sequence[BudgetAct], at: datetime) -> bool:
    if not orders:
        return False
    return at - orders[-1].at < BACK_OFF[min(len(orders), len(BACK_OFF)) - 1]


def cheaper(choices: Iterable[Choice], than_usd: float) -> Choice | None:
    """The cheapest choice that saves at least `CHEAPER_BY` of a price; None: there is none."""
    good = [c for c in choices if price_of(c) <= than_usd * (1 - CHEAPER_BY)]
    return min(good, key=price_of, default=None)


def _cause(budget: Budget, cap: Cap, spending: Spending, step: Step) -> str:
    limit, spent = budget.caps[cap], spending.spent(cap)
    assert spent is not None
    cap_is = f"{budget.whose} is {money(limit, cap)}"
    if cap is Cap.HOUR:
        return f"{cap_is}, and what runs costs ${spent:.3f}/h"
    per = "today" if cap is Cap.DAY else "this month"
    if step is Step.HIBERNATE:
        return f"{cap_is}, and ${spent:.2f} are spent {per}: it is reached, or within minutes"
    ends = projection(spending, spending.at)
    end = ends.today_usd if cap is Cap.DAY else ends.month_usd
    return f"{cap_is}; ${spent:.2f} are spent {per}, and at this burn it becomes ${end:.2f}"


def _figures(cap: Cap, limit: float, spending: Spending) -> tuple[Figure, ...]:
    ends = projection(spending, spending.at)
    unknown = f"; {spending.unknown} more at an unknown price" if spending.unknown else ""
    lines = f"; {spending.unknown_lines} lines have no price" if spending.unknown_lines else ""
    burn = Figure(
        name="burn per hour",
        usd=spending.usd_per_hour,
        basis=f"prices of what runs, as its providers listed them{unknown}",
    )
    bound = Figure(name=f"cap {cap.value}", usd=limit, basis="as it was set")
    if cap is Cap.HOUR:
        return bound, burn
    word = "today" if cap is Cap.DAY else "this month"
    end = ends.today_usd if cap is Cap.DAY else ends.month_usd
    ledger = f"the ledger, and what ran since its last line at the present burn{lines}"
    return (
        bound,
        burn,
        Figure(name=f"spent {word}", usd=spending.spent(cap), basis=ledger),
        Figure(name=f"projected {word}", usd=end, basis="an estimate: everything runs on as now"),
    )
