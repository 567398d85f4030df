"""Provision one generation: try the best offers, let them race, keep the first that is ready."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.accounts import AccountActivities
    from activities.budgets import BudgetActivities, Reserve
    from activities.endings import EndTarget
    from activities.instances import EnsureInstance, InstanceActivities, WaitUntilRunning
    from activities.market import MarketActivities, RankOffers
    from activities.readiness import ReadinessActivities, WaitUntilUsable
    from activities.records import BadHost, CloseIntent, RecordActivities
    from dumont.domain.budgets import price_of
    from dumont.domain.errors import DumontError, InstanceDead, NoCapacity
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.instances import Instance, Message, Rental
    from dumont.domain.labels import Label
    from dumont.domain.ladder import AgentHello
    from dumont.domain.machine import ActiveInstance, MachineSpec, Timing
    from dumont.domain.offers import Choice
    from dumont.ports import Intent
    from dumont.temporal.failures import error_of, to_application_error
    from dumont.temporal.ids import end_workflow_id
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.end_instances import EndInput, EndInstances
    from workflows.options import ENSURE, LOOKUP, READ, RECORD, WAIT

_BUDGETED = "nothing is rented that a budget or a balance has no room for"
"""Patch: what was alive before it replays as it was."""


class ProvisionInput(Message):
    """Input of `Provision`."""

    spec: MachineSpec
    generation: int
    timing: Timing = Timing()
    avoid_hosts: tuple[str, ...] = ()


class LostInstance(Message):
    """Argument of the signal `instance_lost`."""

    instance_id: str
    why: str


class _AttemptFailed(Exception):
    """One attempt ended; what it rented is being ended."""

    def __init__(self, error: DumontError) -> None:
        super().__init__(error.message)
        self.error = error


class _NoRoom(_AttemptFailed):
    """A budget had no room for an attempt: nothing was rented, and its offer is as good as before."""

    def __init__(self, error: DumontError, choice: Choice) -> None:
        super().__init__(error)
        self.choice = choice


@workflow.defn
class Provision:
    """Rank the offers, start an attempt on the best, join in the next one when it takes too long or
    fails, return the first machine that is ready, and end everything else that was rented.
    """

    @workflow.init
    def __init__(self, input: ProvisionInput) -> None:
        self._input = input
        self._attempts = 0
        self._open: set[str] = set()
        """Labels that may have an instance and belong to nobody yet."""
        self._held: set[str] = set()
        """Labels that may have taken room in a budget, and belong to nobody yet."""
        self._failures: list[DumontError] = []
        self._refusals: list[DumontError] = []
        """Of attempts that were not begun: there was no room for them."""
        self._lost: dict[str, str] = {}
        """Why instances that are still starting are not worth waiting for."""
        self._credit_usd: float | None = None
        """Left on the provider's account; None: nobody knows."""

    @workflow.run
    async def run(self, input: ProvisionInput) -> ActiveInstance:
        """Return a ready instance, or fail with the reason and with nothing left behind.

        Raises:
            ApplicationError: `no_capacity`, `budget_exceeded`, or what every attempt would run into
                (`insufficient_credit`, `provider_auth_failed`).
        """
        try:
            if workflow.patched(_BUDGETED):
                self._credit_usd = await self._credit()
            winner = await self._race(await self._ranked_offers())
        except DumontError as error:
            await self._end_everything_open("provision failed")
            raise to_application_error(error) from error
        except (Exception, asyncio.CancelledError):
            # Cancelled, or a failure nobody foresaw: nothing may be left behind.
            await asyncio.shield(self._end_everything_open("provision was cancelled"))
            raise
        self._open.discard(winner.label)
        self._held.discard(winner.label)
        await self._end_everything_open("another offer was ready first")
        await workflow.execute_activity_method(
            RecordActivities.close_intent,
            CloseIntent(label=winner.label, outcome="ready"),
            **RECORD,
        )
        return winner

    @workflow.signal
    def instance_lost(self, lost: LostInstance) -> None:
        """One of the instances being started will not become usable, says its provider."""
        self._lost[lost.instance_id] = lost.why

    async def _credit(self) -> float | None:
        """What is left on the provider's account; one that does not say is no reason to wait."""
        try:
            told = await workflow.execute_activity_method(
                AccountActivities.account_status,
                task_queue=PROVIDER_VAST,
                summary="the provider's balance",
                **LOOKUP,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            return None
        return next((each.account.credit_usd for each in told if each.account is not None), None)

    async def _ranked_offers(self) -> list[Choice]:
        try:
            return await workflow.execute_activity_method(
                MarketActivities.rank_offers,
                RankOffers(
                    requirement=self._input.spec.requirement,
                    avoid_hosts=self._input.avoid_hosts,
                    limit=self._input.timing.max_attempts,
                ),
                task_queue=PROVIDER_VAST,
                summary=f"offers for {self._input.spec.requirement.gpu}",
                **READ,
            )
        except ActivityError as failure:
            raise error_of(failure) from failure

    async def _race(self, choices: list[Choice]) -> ActiveInstance:
        """Run attempts side by side, never more than `race_width`, until one is ready."""
        timing = self._input.timing
        waiting = list(choices)
        running: list[asyncio.Task[ActiveInstance]] = []
        width = timing.race_width
        try:
            while waiting or running:
                if waiting and len(running) < width:
                    running.append(asyncio.create_task(self._attempt(waiting.pop(0))))
                may_join = bool(waiting) and len(running) < width
                done, running = await workflow.wait(
                    running,
                    timeout=timing.race_stagger_s if may_join else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for attempt in done:
                    try:
                        return attempt.result()
                    except _NoRoom as refused:
                        self._refusals.append(refused.error)
                        if running or len(done) > 1:
                            # There may be room once those that run beside it have ended.
                            waiting.insert(0, refused.choice)
                            width = max(1, len(running))
                    except _AttemptFailed as failed:
                        self._failures.append(failed.error)
                        if failed.error.code in _HOPELESS:
                            raise failed.error from failed
        finally:
            for attempt in running:
                attempt.cancel()
            if running:
                await workflow.wait(running)
        if self._refusals and not self._failures:
            raise self._refusals[0]
        raise NoCapacity(self._summary(len(choices)))

    def _summary(self, offers: int) -> str:
        said = (error.message for error in (*self._failures, *self._refusals))
        reasons = "; ".join(dict.fromkeys(said))
        return f"none of {offers} offers became a ready machine: {reasons}"

    async def _attempt(self, choice: Choice) -> ActiveInstance:
        """Intend, rent, climb. Whatever goes wrong, what was rented is ended."""
        self._attempts += 1
        number = self._attempts
        spec = self._input.spec
        label = str(Label(spec.env, spec.machine_id, self._input.generation, number))
        remarks = await self._reserve(choice, label, number)
        await self._intend(choice, label, number, remarks)
        self._open.add(label)
        try:
            return await self._climb(choice, label, number)
        except (ActivityError, InstanceDead) as failure:
            if is_cancelled_exception(failure):
                raise
            error = failure if isinstance(failure, InstanceDead) else error_of(failure)
            await self._give_up(choice, label, number, error)
            raise _AttemptFailed(error) from failure

    async def _reserve(self, choice: Choice, label: str, number: int) -> tuple[str, ...]:
        """Take room in every budget before anything is rented; returns what could not be seen.

        Raises:
            _NoRoom: There is none, or the provider's account cannot pay for it.
        """
        if not workflow.patched(_BUDGETED):
            return ()
        self._held.add(label)
        try:
            reserved = await workflow.execute_activity_method(
                BudgetActivities.reserve_budget,
                Reserve(
                    label=label,
                    machine_id=self._input.spec.machine_id,
                    owner_id=self._input.spec.owner_id,
                    generation=self._input.generation,
                    usd_per_hour=price_of(choice),
                    credit_usd=self._credit_usd,
                    at=workflow.now(),
                ),
                summary=f"room for {label}",
                **RECORD,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            error = error_of(failure)
            if error.code not in _NO_ROOM:
                raise
            self._held.discard(label)
            await self._event(
                EventKind.ATTEMPT_FAILED,
                number,
                f"attempt {number} was not begun: {error.message}",
                code=error.code,
                host_id=choice.offer.host_id,
            )
            raise _NoRoom(error, choice) from failure
        return reserved.remarks

    async def _release(self, label: str) -> None:
        """Give back the room of a label that is not going to be ours."""
        if label in self._held:
            self._held.discard(label)
            await workflow.execute_activity_method(BudgetActivities.release_budget, label, **RECORD)

    async def _intend(
        self, choice: Choice, label: str, number: int, remarks: tuple[str, ...]
    ) -> None:
        offer = choice.offer
        await workflow.execute_activity_method(
            RecordActivities.record_intent,
            Intent(
                label=label,
                machine_id=self._input.spec.machine_id,
                generation=self._input.generation,
                attempt=number,
                provider=offer.provider,
                offer_id=offer.offer_id,
                host_id=offer.host_id,
                usd_per_hour=offer.usd_per_hour,
                at=workflow.now(),
            ),
            summary=f"intend {label}",
            **RECORD,
        )
        bid = choice.bid_usd_per_hour
        paid = f"bid ${bid:.3f}/h" if bid is not None else f"${offer.usd_per_hour:.3f}/h on demand"
        await self._event(
            EventKind.OFFER_CHOSEN,
            number,
            f"offer {offer.offer_id}: {offer.gpu_count}x {offer.gpu}, {offer.region or 'somewhere'},"
            f" {paid}",
            offer_id=offer.offer_id,
            host_id=offer.host_id,
            bid_usd_per_hour=bid,
            usd_per_hour=offer.usd_per_hour,
            # What else the market said of it then: savings are held against its price on demand.
            offer=offer.model_dump(mode="json"),
            **({"not_seen": list(remarks)} if remarks else {}),
        )

    async def _climb(self, choice: Choice, label: str, number: int) -> ActiveInstance:
        spec, generation = self._input.spec, self._input.generation
        give_up_at = workflow.now() + timedelta(seconds=self._input.timing.attempt_s)
        rented = await workflow.execute_activity_method(
            InstanceActivities.ensure_instance,
            EnsureInstance(
                spec=spec, label=label, generation=generation, attempt=number, choice=choice
            ),
            task_queue=PROVIDER_VAST,
            summary=f"rent offer {choice.offer.offer_id} as {label}",
            **ENSURE,
        )
        instance = await workflow.execute_activity_method(
            InstanceActivities.wait_until_running,
            WaitUntilRunning(
                machine_id=spec.machine_id,
                label=label,
                generation=generation,
                attempt=number,
                instance_id=rented.instance_id,
                rental=Rental.SPOT if choice.bid_usd_per_hour is not None else Rental.ON_DEMAND,
                within_s=(give_up_at - workflow.now()).total_seconds(),
            ),
            task_queue=PROVIDER_VAST,
            summary=f"until {label} runs",
            **WAIT,
        )
        assert instance.ssh is not None
        usable = workflow.start_activity_method(
            ReadinessActivities.wait_until_usable,
            WaitUntilUsable(
                machine_id=spec.machine_id,
                generation=generation,
                attempt=number,
                address=instance.ssh,
                gpu_count=spec.requirement.gpu_count,
                within_s=(give_up_at - workflow.now()).total_seconds(),
            ),
            summary=f"until {label} is usable",
            **WAIT,
        )
        await self._unless_lost(instance.instance_id, usable)
        return active(instance, choice=choice, label=label, generation=generation)

    async def _unless_lost(
        self, instance_id: str, usable: workflow.ActivityHandle[AgentHello]
    ) -> None:
        """Wait for it, but not for an instance that its provider has given up.

        Raises:
            ActivityError: As the activity.
            InstanceDead: It was lost meanwhile.
        """
        try:
            await workflow.wait_condition(lambda: usable.done() or instance_id in self._lost)
        except asyncio.CancelledError:
            usable.cancel()
        if not usable.done() and instance_id in self._lost:
            usable.cancel()
            with suppress(ActivityError):
                await usable
            raise InstanceDead(self._lost[instance_id])
        await usable

    async def _give_up(self, choice: Choice, label: str, number: int, error: DumontError) -> None:
        self._open.discard(label)
        await self._end(label, f"attempt failed: {error.message}")
        await self._event(
            EventKind.ATTEMPT_FAILED,
            number,
            f"attempt {number} failed: {error.message}",
            code=error.code,
            host_id=choice.offer.host_id,
        )
        if isinstance(error, InstanceDead) and choice.offer.host_id is not None:
            await workflow.execute_activity_method(
                RecordActivities.record_bad_host,
                BadHost(
                    provider=choice.offer.provider,
                    host_id=choice.offer.host_id,
                    reason=error.message[:500],
                ),
                **RECORD,
            )

    async def _end_everything_open(self, why: str) -> None:
        for label in sorted(self._open):
            await self._end(label, why)
        self._open.clear()
        for label in sorted(self._held):
            await self._release(label)

    async def _end(self, label: str, why: str) -> None:
        """Hand a label over to a workflow of its own, which outlives this one."""
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                EndInstances.run,
                EndInput(
                    machine_id=self._input.spec.machine_id,
                    target=EndTarget(label=label),
                    why=why,
                    confirm_s=self._input.timing.gone_confirm_s,
                ),
                id=end_workflow_id(label),
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
        await self._release(label)

    async def _event(self, kind: EventKind, number: int, summary: str, **data: object) -> None:
        spec, generation = self._input.spec, self._input.generation
        event = MachineEvent(
            key=f"{spec.machine_id}/g{generation}/a{number}/{kind.value}",
            machine_id=spec.machine_id,
            kind=kind,
            at=workflow.now(),
            generation=generation,
            summary=summary,
            data={"attempt": number, **data},
        )
        await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)


_HOPELESS = frozenset({"insufficient_credit", "provider_auth_failed", "quota_exceeded"})
"""Errors that the next offer would run into as well."""

_NO_ROOM = frozenset({"budget_exceeded", "insufficient_credit"})
"""Errors of an attempt that was not begun; a cheaper offer may fit."""


def active(instance: Instance, *, choice: Choice, label: str, generation: int) -> ActiveInstance:
    """What the entity adopts: the instance as the provider lists it, filled up from the offer."""
    assert instance.ssh is not None
    offer = choice.offer
    return ActiveInstance(
        provider=instance.provider,
        instance_id=instance.instance_id,
        label=label,
        generation=generation,
        ssh=instance.ssh,
        usd_per_hour=instance.usd_per_hour,
        gpu=instance.gpu or offer.gpu,
        gpu_count=instance.gpu_count or offer.gpu_count,
        host_id=instance.host_id or offer.host_id,
        region=instance.region or offer.region,
        ready_at=workflow.now(),
    )
