"""What the API takes and gives about budgets: `/budgets` and what is below it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, model_validator

from dumont.domain.budget_watch import BudgetAct
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


class BudgetActList(Resource):
    """GET /budgets/acts, newest first."""

    items: list[BudgetAct]
