"""Budgets: what may be spent, whether there is room to rent, and what is done when there is not.

A budget is a promise, not a chart. It is kept twice: before something is rented (`may_rent`), and
while things run (`next_action`). Only what is known counts: something that runs at a price nobody
knows is shown beside the sums and is never a reason to act.

Days and months are those of UTC, as providers bill and as the ledger counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import Field, field_validator, model_validator

from dumont.domain.instances import Message
from dumont.domain.offers import Choice

HORIZON: Final = timedelta(hours=1)
"""A day's or a month's budget refuses to rent when it would be spent this soon. Such a machine would
be put to sleep again before it has done anything: it needs minutes to start and as many to be kept.
With more than that left, it may work until the budget is spent, and is then put to sleep."""

LEAD: Final = timedelta(minutes=15)
"""A day's or a month's budget counts as reached this long before it is: what runs goes on costing
while it is kept and verified."""

STAYS: Final = timedelta(minutes=10)
"""$/h above its cap for this long is no passing state (a machine that takes over from another)."""

LAG: Final = timedelta(minutes=10)
"""At most so much time since the ledger's last line is counted at today's burn."""

CREDIT_FOR: Final = timedelta(minutes=30)
"""A provider's account has to pay for what is rented for this long: the quarter of an hour that an
attempt may take to become ready, and as much again to keep what is on it."""

LEAST_USD_PER_HOUR: Final = 0.01
"""Nothing is rented for less: without room for this there is none."""

_CENT_OF_A_CENT: Final = 1e-9
"""Sums of floats are compared with this much tolerance."""


class Scope(StrEnum):
    """What a budget is for."""

    MACHINE = "machine"
    OWNER = "owner"
    TOTAL = "total"
    """The whole deployment."""


class Cap(StrEnum):
    """What a budget limits. The names are those of its fields."""

    HOUR = "usd_per_hour"
    DAY = "usd_per_day"
    MONTH = "usd_per_month"


class Step(StrEnum):
    """What is done for a budget, in this order."""

    NOTIFY = "notify"
    CHEAPER = "cheaper"
    HIBERNATE = "hibernate"


LADDER: Final = (Step.NOTIFY, Step.CHEAPER, Step.HIBERNATE)


class Whose(Message):
    """What is counted together: one machine, one owner, or the whole deployment."""

    scope: Scope
    scope_id: str = ""
    """Of the machine or the owner; empty for the whole deployment."""

    @property
    def key(self) -> str:
        """The same in one word."""
        return f"{self.scope.value}/{self.scope_id}".rstrip("/")

    def counts(self, *, owner_id: str, machine_id: str) -> bool:
        """Whether an owner's machine is counted."""
        match self.scope:
            case Scope.MACHINE:
                return self.scope_id == machine_id
            case Scope.OWNER:
                return self.scope_id == owner_id
            case Scope.TOTAL:
                return True


class Budget(Whose):
    """What may be spent on one machine, by one owner, or in the whole deployment."""

    usd_per_hour: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    usd_per_day: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    usd_per_month: float | None = Field(default=None, gt=0, le=1e7, allow_inf_nan=False)
    warn_at: float = Field(default=0.8, gt=0, le=1, allow_inf_nan=False)
    """The share of a cap from which its owner is told."""
    actions: tuple[Step, ...] = LADDER
    """How far it may go: the first, the first two, or all three."""

    @field_validator("actions")
    @classmethod
    def _in_order(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if not value or value != LADDER[: len(value)]:
            raise ValueError(
                "actions come in their order: notify, or notify and cheaper, or all three"
            )
        return value

    @model_validator(mode="after")
    def _some_cap(self) -> Budget:
        if not self.caps:
            raise ValueError("a budget needs at least one cap: $/h, $/day or $/month")
        if (self.scope is Scope.TOTAL) != (self.scope_id == ""):
            raise ValueError("a machine's or an owner's budget names it, the total one does not")
        return self

    @property
    def caps(self) -> dict[Cap, float]:
        """Its limits in dollars."""
        limits = {cap: getattr(self, cap.value) for cap in Cap}
        return {cap: limit for cap, limit in limits.items() if limit is not None}

    @property
    def whose(self) -> str:
        """For people."""
        match self.scope:
            case Scope.MACHINE:
                return "this machine's budget"
            case Scope.OWNER:
                return "the owner's budget"
            case Scope.TOTAL:
                return "the budget of the whole deployment"


class Spent(Message):
    """What the ledger has of a period."""

    usd: float
    """Of the lines whose price is known."""
    unknown: int = 0
    """Lines whose price is not."""
    until: datetime | None = None
    """When the last of them ended: what runs has cost more since."""


class Spending(Message):
    """What one scope costs now and has cost, as far as it is known."""

    at: datetime
    usd_per_hour: float = Field(default=0.0, ge=0)
    """Of everything that runs at a known price."""
    unknown: int = Field(default=0, ge=0)
    """Things that run at a price nobody knows."""
    today_usd: float | None = None
    """Since midnight; None: there is no ledger to ask."""
    month_usd: float | None = None
    unknown_lines: int = Field(default=0, ge=0)
    """Lines of this month's ledger without a price."""

    def spent(self, cap: Cap) -> float | None:
        """Of a day's or a month's cap; for $/h what is spent per hour now."""
        match cap:
            case Cap.HOUR:
                return self.usd_per_hour
            case Cap.DAY:
                return self.today_usd
            case Cap.MONTH:
                return self.month_usd


def spending_of(
    at: datetime,
    *,
    usd_per_hour: float,
    unknown: int,
    today: Spent | None,
    month: Spent | None,
) -> Spending:
    """Put together what runs and what the ledger has; what ran since its last line is estimated.

    Args:
        at: Now.
        usd_per_hour: Of what runs at a known price.
        unknown: How many things run at an unknown one.
        today: The ledger's lines since midnight; None: there is no ledger.
        month: Those since the first.
    """
    return Spending(
        at=at,
        usd_per_hour=usd_per_hour,
        unknown=unknown,
        today_usd=_up_to(at, today, usd_per_hour),
        month_usd=_up_to(at, month, usd_per_hour),
        unknown_lines=month.unknown if month is not None else 0,
    )


def _up_to(at: datetime, spent: Spent | None, usd_per_hour: float) -> float | None:
    if spent is None:
        return None
    if spent.until is None:
        return spent.usd
    since = min(max(at - spent.until, timedelta()), LAG)
    return spent.usd + usd_per_hour * hours(since)


class Projection(Message):
    """What a day and a month come to when everything that runs now runs on."""

    today_usd: float | None
    month_usd: float | None


def projection(spending: Spending, now: datetime) -> Projection:
    """Known parts only, at today's prices; None where nothing is known of what was spent."""

    def end(cap: Cap) -> float | None:
        spent = spending.spent(cap)
        if spent is None:
            return None
        return spent + spending.usd_per_hour * hours(period_ends(cap, now) - now)

    return Projection(today_usd=end(Cap.DAY), month_usd=end(Cap.MONTH))


# Periods ------------------------------------------------------------------------------------------


def hours(span: timedelta) -> float:
    """A span in hours."""
    return span.total_seconds() / 3600


def day_starts(now: datetime) -> datetime:
    """Midnight, UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def month_starts(now: datetime) -> datetime:
    """The first of the month, UTC."""
    return day_starts(now).replace(day=1)


def period_ends(cap: Cap, now: datetime) -> datetime:
    """When a cap begins anew. One of $/h is told of once a day."""
    if cap is Cap.MONTH:
        return month_starts(month_starts(now) + timedelta(days=32))
    return day_starts(now) + timedelta(days=1)


def period_of(cap: Cap, now: datetime) -> str:
    """The name of the period that a moment is in: `2026-05-04`, `2026-05`."""
    moment = now.astimezone(UTC)
    return f"{moment:%Y-%m}" if cap is Cap.MONTH else f"{moment:%Y-%m-%d}"


# Before renting -----------------------------------------------------------------------------------


class Allowed(Message):
    """There is room."""

    remarks: tuple[str, ...] = ()
    """What could not be taken into account, for people."""


class Refused(Message):
    """There is none."""

    budget: Budget | None
    """None: nothing can be said, because the price is unknown."""
    cap: Cap | None
    over_usd: float | None
    """How far beyond the cap it would go, in its unit."""
    why: str
    what_to_do: str


def price_of(choice: Choice) -> float:
    """$/h that a choice will cost: a bid is paid as it is bid, and the disk with it."""
    offer = choice.offer
    if choice.bid_usd_per_hour is None:
        return offer.usd_per_hour
    return offer.usd_per_hour - offer.gpu_usd_per_hour + choice.bid_usd_per_hour


def may_rent(
    budgets: Sequence[Budget],
    spending: Mapping[str, Spending],
    price_per_hour: float | None,
    reserved: Mapping[str, float],
) -> Allowed | Refused:
    """Whether one more thing may be rented.

    A cap of $/h holds for the sum: what runs, what is being rented, and this. One of a day or a month
    refuses what would have spent it within `HORIZON`, or by the period's end if that comes sooner.

    Args:
        budgets: All that the thing falls under.
        spending: By the budgets' keys.
        price_per_hour: Of the new thing; an unknown one is refused.
        reserved: $/h that is being rented at this moment, by the budgets' keys.
    """
    if not budgets:
        return Allowed()
    if price_per_hour is None or not math.isfinite(price_per_hour) or price_per_hour < 0:
        return Refused(
            budget=None,
            cap=None,
            over_usd=None,
            why="its price is unknown, and a budget is set",
            what_to_do="it is tried again with another offer by itself",
        )
    remarks: list[str] = []
    for budget in budgets:
        seen = spending[budget.key]
        burn = seen.usd_per_hour + reserved.get(budget.key, 0.0) + price_per_hour
        for cap, limit in budget.caps.items():
            refused = _no_room(budget, cap, limit, seen, burn=burn, price=price_per_hour)
            if refused is not None:
                return refused
            if cap is not Cap.HOUR and seen.spent(cap) is None:
                remarks.append(f"{budget.whose}: what was spent is not known")
        if seen.unknown:
            things = "1 thing runs" if seen.unknown == 1 else f"{seen.unknown} things run"
            if budget.scope is Scope.TOTAL:
                things = "something runs"  # how many there are is not told
            remarks.append(f"{budget.whose}: {things} at an unknown price")
    return Allowed(remarks=tuple(dict.fromkeys(remarks)))


def has_room(
    budgets: Sequence[Budget], spending: Mapping[str, Spending], reserved: Mapping[str, float]
) -> Allowed | Refused:
    """Whether anything at all may be rented, before it is known what."""
    return may_rent(budgets, spending, LEAST_USD_PER_HOUR, reserved)


def _no_room(
    budget: Budget, cap: Cap, limit: float, seen: Spending, *, burn: float, price: float
) -> Refused | None:
    spent = seen.spent(cap)
    if spent is None:
        return None
    if cap is Cap.HOUR:
        reached = burn
        if reached <= limit + _CENT_OF_A_CENT:
            return None
        why = f"${price:.3f}/h more would make ${reached:.3f}/h"
    else:
        left = period_ends(cap, seen.at) - seen.at
        reached = spent + burn * hours(min(HORIZON, left))
        if reached < limit:
            return None
        per = "today" if cap is Cap.DAY else "this month"
        why = (
            f"${spent:.2f} are spent {per}, and at ${burn:.3f}/h it would be reached within an hour"
        )
    why = f"{budget.whose} is {money(limit, cap)}: {why}"
    if budget.scope is Scope.TOTAL:
        # What all may spend and do spend together is not told.
        why = f"{budget.whose} has no room for ${price:.3f}/h more"
    return Refused(
        budget=budget,
        cap=cap,
        over_usd=reached - limit,
        why=why,
        what_to_do=_WAYS_OUT[budget.scope],
    )


_WAYS_OUT: Final = {
    Scope.MACHINE: "raise it: dumont budget set --machine NAME; or ask for a cheaper GPU",
    Scope.OWNER: "hibernate or destroy another machine, or raise it: dumont budget set",
    Scope.TOTAL: "ask an administrator to raise it, or to end something",
}


def why_no_credit(credit_usd: float | None, price_per_hour: float) -> str | None:
    """Why a provider's account cannot pay for this; None when it can, or when nobody knows."""
    needed = price_per_hour * hours(CREDIT_FOR)
    if credit_usd is None or credit_usd >= needed:
        return None
    return (
        f"the provider's account has ${credit_usd:.2f}, and {CREDIT_FOR.seconds // 60} minutes at "
        f"${price_per_hour:.3f}/h cost ${needed:.2f}"
    )


def money(usd: float, cap: Cap) -> str:
    """`$1.50/h`, `$20.00/day`."""
    return f"${usd:,.2f}{_UNIT[cap]}"


_UNIT: Final = {Cap.HOUR: "/h", Cap.DAY: "/day", Cap.MONTH: "/month"}


# While running ------------------------------------------------------------------------------------


def due_steps(
    budget: Budget, cap: Cap, spending: Spending, *, above_since: datetime | None
) -> tuple[Step, ...]:
    """All that a cap calls for now: each step calls for those before it.

    Args:
        budget: Which.
        cap: Which of its caps.
        spending: What is known.
        above_since: Since when $/h is above its cap, without a break.
    """
    limit = budget.caps[cap]
    spent = spending.spent(cap)
    if spent is None:
        return ()
    if cap is Cap.HOUR:
        passes = spent > limit + _CENT_OF_A_CENT
        reached = passes and above_since is not None and spending.at - above_since >= STAYS
    else:
        left = period_ends(cap, spending.at) - spending.at
        passes = spent + spending.usd_per_hour * hours(left) > limit + _CENT_OF_A_CENT
        soon = spent + spending.usd_per_hour * hours(min(LEAD, left))
        reached = soon >= limit and spending.usd_per_hour > 0
    if reached:
        depth = 3
    elif passes and spending.usd_per_hour > 0:
        depth = 2
    elif spent >= budget.warn_at * limit:
        depth = 1
    else:
        depth = 0
    return tuple(step for step in LADDER[:depth] if step in budget.actions)


def next_action(
    budget: Budget,
    cap: Cap,
    spending: Spending,
    done: Collection[Step],
    *,
    above_since: datetime | None = None,
) -> Step | None:
    """The one step to take now, or None.

    Told once a period, looked for something cheaper once a period; putting to sleep is a matter of
    single machines (`budget_watch.to_rest`) and goes on until it had its effect. No step is taken
    before the ones that come before it.

    Args:
        budget: Which.
        cap: Which of its caps.
        spending: What is known.
        done: The steps that were taken in this period, at this limit.
        above_since: Since when $/h is above its cap.
    """
    for step in due_steps(budget, cap, spending, above_since=above_since):
        if step is Step.HIBERNATE or step not in done:
            return step
    return None
