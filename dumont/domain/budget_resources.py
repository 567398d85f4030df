"""What the API takes and gives about budgets: `/budgets` and what is below it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, model_validator

from dumont.domain.budget_watch import BudgetAct, Figure
from dumont.domain.budgets import LADDER, Cap, Scope, Step
from dumont.domain.resources import Request, Resource


class BudgetOrder(Request):
    """PUT /budgets: set in place of what was set for the same."""

    machine: str | None = Field(
        default=None, max_length=80, description="Name or id; null: for all your machines."
    )
    total: bool = Field(default=False, description="For the whole deployment; administrators only.")
    usd_per_hour: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    usd_per_day: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    usd_per_month: float | None = Field(default=None, gt=0, le=1e7, allow_inf_nan=False)
    warn_at: float = Field(
        default=0.8, gt=0, le=1, allow_inf_nan=False, description="A share of each cap."
    )
    actions: list[Step] = Field(
        default=list(LADDER), min_length=1, max_length=3, description="How far it may go, in order."
    )

    @model_validator(mode="after")
    def _possible(self) -> BudgetOrder:
        if self.machine is not None and self.total:
            raise ValueError("a budget is for one machine or for the whole deployment, not both")
        if self.usd_per_hour is None and self.usd_per_day is None and self.usd_per_month is None:
            raise ValueError("a budget needs at least one cap: $/h, $/day or $/month")
        if tuple(self.actions) != LADDER[: len(self.actions)]:
            raise ValueError(
                "actions come in their order: notify, or notify and cheaper, or all three"
            )
        return self


class BudgetView(Resource):
    """One budget."""

    scope: Scope
    machine_id: str | None = Field(description="Of a machine's budget.")
    machine_name: str | None
    usd_per_hour: float | None
    usd_per_day: float | None
    usd_per_month: float | None
    warn_at: float
    actions: list[Step]
    set_by: str
    set_at: datetime


class BudgetList(Resource):
    """GET /budgets."""

    items: list[BudgetView]


class SpendingView(Resource):
    """What is spent now and was spent, as far as it is known. Days and months are UTC's."""

    at: datetime
    usd_per_hour: float = Field(description="Of everything that runs at a known price.")
    unknown: int = Field(description="Things that run at a price nobody knows; in no sum.")
    renting_usd_per_hour: float = Field(description="Being rented at this moment.")
    today_usd: float | None = Field(description="Null: there is no ledger to ask.")
    month_usd: float | None
    unknown_lines: int = Field(description="This month's ledger lines without a price; in no sum.")
    projected_today_usd: float | None = Field(
        description="An estimate: the day's end if everything runs on as now."
    )
    projected_month_usd: float | None


class CapView(Resource):
    """How one cap of a budget stands."""

    cap: Cap
    limit_usd: float
    used_usd: float | None = Field(description="Per hour now, today or this month; null: unknown.")
    projected_usd: float | None = Field(description="At the period's end; an estimate.")
    passes: bool | None = Field(description="Whether the cap would be passed; null: unknown.")


class BudgetStanding(Resource):
    """One budget, and how it stands."""

    budget: BudgetView
    spending: SpendingView
    caps: list[CapView]


class BudgetStatus(Resource):
    """GET /budgets/status."""

    mine: SpendingView
    total: SpendingView | None = Field(description="Of the whole deployment, for administrators.")
    budgets: list[BudgetStanding]


class BudgetAsItWas(Resource):
    """The budget that something was done for."""

    scope: Scope
    scope_id: str
    usd_per_hour: float | None = Field(
        description="No cap; or one of the whole deployment, which is for administrators."
    )
    usd_per_day: float | None
    usd_per_month: float | None
    warn_at: float | None = Field(description="Null: not for you to see.")
    actions: list[Step]


class BudgetActView(Resource):
    """The receipt of one thing that was done for a budget."""

    key: str
    at: datetime
    budget: BudgetAsItWas
    cap: Cap
    step: Step
    period: str
    owner_id: str | None = Field(description="Null: of the whole deployment, not of one owner.")
    machine_id: str | None
    machine_name: str | None
    attempt: int
    cause: str = Field(description="Why, in one sentence.")
    figures: list[Figure] = Field(
        description="What it was decided by; of the whole deployment for administrators only."
    )
    before: str = Field(description="The machine when it was decided.")
    done: str
    after: str = Field(description="What that leads to, at the prices known: an estimate.")
    accepted: bool | None = Field(
        description="Whether the machine took the order; null where none was given."
    )
    result: str


class BudgetActList(Resource):
    """GET /budgets/acts, newest first."""

    items: list[BudgetActView]


def act_view(act: BudgetAct, *, administrator: bool) -> BudgetActView:
    """A receipt as somebody may see it.

    Args:
        act: It.
        administrator: Whether they may know what the whole deployment may spend and spends.
    """
    budget, hidden = act.budget, act.budget.scope is Scope.TOTAL and not administrator
    limits = {cap.value: None if hidden else budget.caps.get(cap) for cap in Cap}
    # The key has the limit in it.
    nameless = (budget.key, act.cap.value, act.step.value, act.machine_id or "", act.at.isoformat())
    return BudgetActView(
        key="/".join(nameless) if hidden else act.key,
        at=act.at,
        budget=BudgetAsItWas(
            scope=budget.scope,
            scope_id=budget.scope_id,
            warn_at=None if hidden else budget.warn_at,
            actions=list(budget.actions),
            **limits,
        ),
        cap=act.cap,
        step=act.step,
        period=act.period,
        owner_id=act.owner_id,
        machine_id=act.machine_id,
        machine_name=act.machine_name,
        attempt=act.attempt,
        cause=act.told if hidden else act.cause,
        figures=[] if hidden else list(act.figures),
        before=act.before,
        done=act.done,
        after=act.after,
        accepted=act.accepted,
        result=act.result,
    )
