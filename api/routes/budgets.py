"""Budgets: what may be spent, how it stands, and what was done to keep them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from api.auth import NEEDS_LOGIN, AccountWriter, MachinesReader, Parts, Principal
from api.budget_view import budget_view, spending_view, standing_view
from api.errors import documented
from api.services import Services
from api.wishes import live
from dumont.domain.budget_resources import (
    BudgetActList,
    BudgetList,
    BudgetOrder,
    BudgetStatus,
    BudgetView,
    act_view,
)
from dumont.domain.budget_watch import SetBudget
from dumont.domain.budgets import Budget, Scope, Whose
from dumont.domain.errors import Forbidden, InvalidInput, NotFound

router = APIRouter(prefix="/budgets", tags=["budgets"])

_WRITES: Final = (*NEEDS_LOGIN, "not_found", "conflict", "invalid_input")
_TOTAL: Final = Whose(scope=Scope.TOTAL)


@router.get("", responses=documented(*NEEDS_LOGIN))
async def list_budgets(principal: MachinesReader, services: Parts) -> BudgetList:
    """Your budgets: yours, your machines', and for administrators that of the whole deployment."""
    found = await _mine(principal, services)
    names = await _names(services, found)
    return BudgetList(items=[budget_view(each, names) for each in found])


@router.put("", responses=documented(*_WRITES))
async def set_budget(body: BudgetOrder, principal: AccountWriter, services: Parts) -> BudgetView:
    """Set a budget for all your machines, for one of them, or for the whole deployment.

    It takes the place of what was set for the same, and holds from now on: nothing more is rented that
    it has no room for, and what runs is judged by it within a minute.
    """
    whose = await _whose(body.machine, body.total, principal, services)
    budget = Budget(
        scope=whose.scope,
        scope_id=whose.scope_id,
        usd_per_hour=body.usd_per_hour,
        usd_per_day=body.usd_per_day,
        usd_per_month=body.usd_per_month,
        warn_at=body.warn_at,
        actions=tuple(body.actions),
    )
    now = datetime.now(UTC)
    owner_id = None if budget.scope is Scope.TOTAL else principal.user.user_id
    await services.budgets.set(budget, owner_id=owner_id, by=principal.actor, at=now)
    stored = SetBudget(budget=budget, owner_id=owner_id, set_by=principal.actor, set_at=now)
    return budget_view(stored, await _names(services, [stored]))


@router.delete("", status_code=204, responses=documented(*_WRITES))
async def clear_budget(
    principal: AccountWriter,
    services: Parts,
    machine: Annotated[
        str | None, Query(max_length=80, description="Name or id; else of all your machines.")
    ] = None,
    total: Annotated[bool, Query(description="Of the whole deployment.")] = False,
) -> Response:
    """Take a budget away. 404 when there is none."""
    whose = await _whose(machine, total, principal, services, even_dead=True)
    if not await services.budgets.clear(whose.key):
        raise NotFound("there is no such budget", hint="see them: dumont budget")
    return Response(status_code=204)


@router.get("/status", responses=documented(*NEEDS_LOGIN))
async def show_budget_status(principal: MachinesReader, services: Parts) -> BudgetStatus:
    """What you spend now, have spent and will have spent, beside your budgets.

    What is not known is counted beside the sums and is in none of them. Projections are estimates:
    everything that runs now runs on, at today's prices.
    """
    found = await _mine(principal, services)
    me = Whose(scope=Scope.OWNER, scope_id=principal.user.user_id)
    wanted: dict[str, Whose] = {each.budget.key: each.budget for each in found}
    wanted.setdefault(me.key, me)
    if principal.user.is_admin:
        wanted.setdefault(_TOTAL.key, _TOTAL)
    seen = await services.budgets.standing(list(wanted.values()), at=datetime.now(UTC))
    names = await _names(services, found)
    return BudgetStatus(
        mine=spending_view(seen[me.key]),
        total=spending_view(seen[_TOTAL.key]) if principal.user.is_admin else None,
        budgets=[standing_view(each, seen[each.budget.key], names) for each in found],
    )


@router.get("/acts", responses=documented(*NEEDS_LOGIN, "invalid_input"))
async def list_budget_acts(
    principal: MachinesReader,
    services: Parts,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> BudgetActList:
    """The receipts of what was done to keep budgets, newest first: why, by which figures, and with what
    result. Administrators see everybody's, and they alone what the whole deployment may spend.
    """
    admin = principal.user.is_admin
    acts = await services.budgets.acts(owner_id=principal.user.user_id, with_all=admin, limit=limit)
    return BudgetActList(items=[act_view(act, administrator=admin) for act in acts])


async def _mine(principal: Principal, services: Services) -> list[SetBudget]:
    return await services.budgets.of_owner(
        principal.user.user_id, with_total=principal.user.is_admin
    )


async def _whose(
    machine: str | None,
    total: bool,
    principal: Principal,
    services: Services,
    *,
    even_dead: bool = False,
) -> Whose:
    """What is meant.

    Raises:
        Forbidden: The whole deployment is not theirs to limit.
        NotFound: They have no such machine.
        Conflict: It is destroyed.
    """
    owner_id = principal.user.user_id
    if machine is not None and total:
        raise InvalidInput("one machine or the whole deployment, not both", field="total")
    if total:
        if not principal.user.is_admin:
            raise Forbidden(
                "only an administrator sets the budget of the whole deployment",
                hint="set your own: leave `total` out",
            )
        return _TOTAL
    if machine is None:
        return Whose(scope=Scope.OWNER, scope_id=owner_id)
    if even_dead:
        row = await services.machines.find(machine, owner_id=owner_id)
    else:
        row = await live(services, machine, principal)
    return Whose(scope=Scope.MACHINE, scope_id=row.spec.machine_id)


async def _names(services: Services, found: Iterable[SetBudget]) -> dict[str, str]:
    ids = [each.budget.scope_id for each in found if each.budget.scope is Scope.MACHINE]
    if not ids:
        return {}
    return {row.spec.machine_id: row.name for row in await services.machines.by_ids(ids)}
