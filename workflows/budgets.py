"""Keeping budgets while things run: told, then something cheaper, then sleep; each with a receipt."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.budgets import BudgetActivities, FileAct, JudgeBudgets, Judged
    from activities.market import MarketActivities, RankOffers
    from activities.orders import Answer, Order, OrderActivities, Verb
    from dumont.domain.budget_watch import CHEAPER_BY, BudgetAct, Due, MachineBurn, cheaper
    from dumont.domain.budgets import Step, price_of
    from dumont.domain.errors import DumontError, ProviderError
    from dumont.domain.offers import Choice
    from dumont.temporal.failures import error_of
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.options import LOOKUP, READ, RECORD

ACTOR = "the budget"

LOOKUPS = 10
"""The market is asked at most so often at one look. What is not asked for now waits for the next."""


@workflow.defn
class EnforceBudgets:
    """Look at all budgets once, and do what they call for."""

    @workflow.init
    def __init__(self) -> None:
        self._lookups_left = LOOKUPS

    @workflow.run
    async def run(self) -> int:
        """Returns how many receipts were filed."""
        judged = await workflow.execute_activity_method(
            BudgetActivities.judge_budgets, JudgeBudgets(at=workflow.now()), **READ
        )
        filed = 0
        # The market is asked last: it may be slow, and a promise must not wait for it.
        for due in sorted(judged.dues, key=lambda due: due.step is Step.CHEAPER):
            match due.step:
                case Step.NOTIFY:
                    acts = [due.act(None, done="the owner was told", result="told")]
                case Step.HIBERNATE:
                    acts = [await self._put_to_sleep(due, machine) for machine in due.machines]
                case Step.CHEAPER if len(due.machines) > self._lookups_left:
                    continue  # nothing is filed: the next look finds it again
                case Step.CHEAPER:
                    acts = await self._look_for_cheaper(due, judged)
            for act in acts:
                await self._file(act, due)
            filed += len(acts)
        return filed

    async def _file(self, act: BudgetAct, due: Due) -> None:
        about = (act.machine_id,) if act.machine_id else tuple(m.machine_id for m in due.machines)
        await workflow.execute_activity_method(
            BudgetActivities.file_budget_act,
            FileAct(act=act, told=about),
            summary=f"{act.step.value} for {act.budget.key}",
            **RECORD,
        )

    async def _put_to_sleep(self, due: Due, machine: MachineBurn) -> BudgetAct:
        """Order one machine to hibernate. That it will not now is an answer, and asked again later."""
        order_id = due.act(machine, done="", result="").key
        try:
            answer = await workflow.execute_activity_method(
                OrderActivities.order_machine,
                Order(
                    machine_id=machine.machine_id,
                    verb=Verb.HIBERNATE,
                    actor=ACTOR,
                    reason=due.told,
                    order_id=order_id,
                ),
                summary=f"hibernate {machine.name}",
                **LOOKUP,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            error = error_of(failure)
            answer = Answer(accepted=False, why_not=error.message, code=error.code)
        saved = machine.saved_by_rest
        return due.act(
            machine,
            done="ordered to hibernate",
            after=f"asleep it costs ${machine.usd_per_hour - saved:.3f}/h, and its snapshots",
            accepted=answer.accepted,
            result=f"it goes to sleep, which saves ${saved:.3f}/h"
            if answer.accepted
            else f"it does not go to sleep now: {answer.why_not}",
        )

    async def _look_for_cheaper(self, due: Due, judged: Judged) -> list[BudgetAct]:
        """Name an offer that would do for less. Moving there is the owner's decision today."""
        acts = []
        away = ""
        for machine in due.machines:
            need = judged.needs.get(machine.machine_id)
            if need is None or machine.gpu_usd is None:
                continue
            if away:
                acts.append(_advice(due, machine, None, away))
                continue
            self._lookups_left -= 1
            most = min(need.max_usd_per_hour, machine.gpu_usd * (1 - CHEAPER_BY))
            ask = RankOffers(requirement=need.model_copy(update={"max_usd_per_hour": most}))
            try:
                choices = await workflow.execute_activity_method(
                    MarketActivities.rank_offers,
                    ask,
                    task_queue=PROVIDER_VAST,
                    summary=f"cheaper than ${machine.gpu_usd:.3f}/h for {machine.name}",
                    **LOOKUP,
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                error = error_of(failure)
                found, why = None, "" if error.code == "no_capacity" else f": {error.message}"
                if _is_outage(error):
                    away, self._lookups_left = why, 0
            else:
                found, why = cheaper(choices, machine.gpu_usd), ""
            acts.append(_advice(due, machine, found, why))
        return acts or [
            due.act(None, done="the market was not asked", result="no machine has a known price")
        ]


def _is_outage(error: DumontError) -> bool:
    """Whether the next question would meet the same; a time-out is none of our errors."""
    return error.retryable or isinstance(error, ProviderError) or type(error) is DumontError


def _advice(due: Due, machine: MachineBurn, found: Choice | None, why: str) -> BudgetAct:
    assert machine.gpu_usd is not None
    if found is None:
        return due.act(
            machine,
            done="looked for something cheaper",
            result=f"no offer that fits is known to save {CHEAPER_BY:.0%}{why}",
        )
    price, offer = price_of(found), found.offer
    return due.act(
        machine,
        done="looked for something cheaper; a recommendation, nothing was moved",
        after=f"there it would cost ${price:.3f}/h: an offer, not a promise",
        result=f"offer {offer.offer_id} ({offer.gpu_count}x {offer.gpu}, "
        f"{offer.region or 'somewhere'}) would save ${machine.gpu_usd - price:.3f}/h of "
        f"${machine.gpu_usd:.3f}/h",
    )
