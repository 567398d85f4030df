"""A failover, from the lost link to a GPU again. The redirect itself has happened on the standby.

Read it so: look until the evidence is clear; fence; get a GPU; bring the files back, verified; wait
for the moment; hand back; write the receipt. Whatever fails on the way, work goes on on the standby.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.endings import EndTarget
    from activities.evidence import (
        EvidenceActivities,
        LookAt,
        ProviderAsk,
        ProviderEvidence,
    )
    from activities.mirroring import MirrorActivities, Pair
    from activities.receipts import ReceiptActivities
    from activities.records import RecordActivities
    from activities.takeover import (
        Fence,
        HandBack,
        HandedBack,
        Redirect,
        TakeoverActivities,
        WaitUntilIdle,
    )
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.machine import ActiveInstance
    from dumont.domain.protection import ActiveStandby, Failback
    from dumont.domain.takeover import Account, Decision, Evidence, decide, receipt_of
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import (
        end_workflow_id,
        machine_workflow_id,
        provision_workflow_id,
    )
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.end_instances import EndInput, EndInstances
    from workflows.failover_messages import (
        RESTING,
        DrillRequest,
        FailoverInput,
        FailoverProgress,
        FailoverResult,
        Former,
        Outcome,
    )
    from workflows.options import MUST, ONCE, RECORD, TRANSFER, URGENT
    from workflows.provision import LostInstance, Provision, ProvisionInput

T = TypeVar("T")

_FIRST_PAUSE = timedelta(milliseconds=250)
"""Before the second look; then twice as long each time."""
_PAUSE = timedelta(seconds=2)
"""Before the next look when a step did not succeed."""
_HAND_BACK_TRIES = 5
"""Then the new instance itself is taken for the trouble."""

_KEEPS_SHORT_LIVED = "an instance that may have had the authority is looked through before its end"
"""Patch: failovers that were under way before it replay as they were."""


class _TargetLost(Exception):
    """The instance that was to take over will not: another one is needed."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@workflow.defn
class Failover:
    """Look, fence, replace, restore, fail back."""

    @workflow.init
    def __init__(self, input: FailoverInput) -> None:
        self._input = input
        self._standby = input.standby
        self._generation = input.generation
        self._epoch = input.epoch
        self._home = input.home
        """Where the former instance is now: one that comes back may have another address."""
        self._lost: dict[str, str] = {}
        self._now_please = False
        self._standby_gone = False
        self._awake = False
        self._ending: ChildWorkflowHandle[EndInstances, Any] | None = None
        """The end of the GPU of a machine that goes to rest."""
        self._target: ActiveInstance | None = None
        """The instance that is to take over, while there is one."""
        self._short_lived: list[Former] = []
        self._steps = 0
        self._account = Account(
            number=input.number,
            cause=input.cause,
            drill=input.drill is not None,
            detected_at=input.detected_at,
            former=input.home,
            standby=input.standby,
            epoch_before=input.epoch,
        )

    @workflow.run
    async def run(self, input: FailoverInput) -> FailoverResult:
        """Return what the machine lives on afterwards."""
        self._account.reached("reported", workflow.now())
        decision = await (self._drill(input.drill) if input.drill else self._look_until_clear())
        if decision is Decision.HEALED:
            return await self._false_alarm()
        await self._fence()
        if input.drill is not None and input.drill.rest:
            await self._rest()
        try:
            home = await self._back_on_a_gpu(decision)
        except asyncio.CancelledError:
            home = await self._newest_copy()
        returned = home.instance_id == input.home.instance_id
        self._account.adopted = home
        await self._receipt(Outcome.RETURNED if returned else Outcome.REPLACED)
        return FailoverResult(
            outcome=Outcome.RETURNED if returned else Outcome.REPLACED,
            home=home,
            generation=self._generation,
            epoch=self._epoch,
            former=None if returned else input.home,
            former_epoch=input.epoch,
            short_lived=tuple(self._short_lived),
        )

    # What the machine passes on ---------------------------------------------------------------

    @workflow.signal
    def instance_lost(self, lost: LostInstance) -> None:
        """Its provider has given an instance up."""
        self._lost[lost.instance_id] = lost.why

    @workflow.signal
    def home_moved(self, home: ActiveInstance) -> None:
        """The former instance runs (again), at another address."""
        self._home = home

    @workflow.signal
    def standby_moved(self, standby: ActiveStandby) -> None:
        """The standby runs at another address now."""
        self._standby = standby

    @workflow.signal
    def standby_gone(self) -> None:
        """The standby and its disk are gone for good; the failover is cancelled next."""
        self._standby_gone = True

    @workflow.signal
    def fail_back_now(self) -> None:
        """The owner does not want to wait for the moment."""
        self._now_please = True

    @workflow.signal
    def wake(self) -> None:
        """Somebody wants a GPU again."""
        self._awake = True

    # The steps --------------------------------------------------------------------------------

    async def _look_until_clear(self) -> Decision:
        """Gather evidence until it says what to do. Nothing is destroyed meanwhile."""
        pause = _FIRST_PAUSE
        while True:
            evidence = await self._look()
            decision = decide(evidence, moved=self._home.ssh != self._input.home.ssh)
            self._account.evidence = evidence
            if decision is not Decision.WAIT:
                return decision
            await workflow.sleep(pause)
            pause = min(2 * pause, timedelta(seconds=self._input.timing.assess_s))

    async def _look(self) -> Evidence:
        home = self._home
        bodies, provider = await asyncio.gather(
            workflow.execute_activity_method(
                EvidenceActivities.look_at_bodies,
                LookAt(machine_id=self._input.spec.machine_id, primary=home, standby=self._standby),
                summary="what guard, agent and link say",
                **MUST,
            ),
            workflow.execute_activity_method(
                ProviderEvidence.provider_view,
                ProviderAsk(instance_id=home.instance_id, label=home.label),
                task_queue=PROVIDER_VAST,
                summary="what the provider says",
                **MUST,
            ),
        )
        return Evidence(epoch=self._epoch, at=workflow.now(), bodies=bodies, provider=provider)

    async def _drill(self, drill: DrillRequest) -> Decision:
        """Do on purpose what usually happens by accident."""
        pair = self._pair(self._input.home)
        if drill.flush:
            # A barrier that cannot be had ends the drill before anything was touched.
            self._account.barrier = await workflow.execute_activity_method(
                MirrorActivities.barrier, pair, summary="flush before the drill", **ONCE
            )
        guard = await self._step(
            lambda: workflow.execute_activity_method(
                TakeoverActivities.redirect,
                Redirect(
                    machine_id=self._input.spec.machine_id,
                    standby=self._standby,
                    cause=drill.cause,
                ),
                summary="redirect",
                **URGENT,
            )
        )
        self._account.reached("redirected", guard.since or workflow.now())
        if drill.redirect_only:
            return Decision.RETURN
        self._ending = await self._end(self._input.home, drill.cause)
        return Decision.REPLACE

    async def _fence(self) -> None:
        """From here on only a key of the new epoch opens the standby."""
        self._epoch += 1
        guard = await self._step(
            lambda: workflow.execute_activity_method(
                TakeoverActivities.fence,
                Fence(
                    machine_id=self._input.spec.machine_id,
                    standby=self._standby,
                    epoch=self._epoch,
                ),
                summary=f"fence: epoch {self._epoch}",
                **URGENT,
            )
        )
        self._account.guard = guard
        self._account.reached("fenced", workflow.now())
        await self._tell("fenced", "the former GPU can write nothing any more")

    async def _rest(self) -> None:
        """No GPU, and the workspace on the standby, until somebody wakes the machine."""
        if self._ending is not None:
            # Verified gone: before that it may cost something. Cancelling us must not cancel that.
            await asyncio.shield(self._ending)
        await self._until_woken("no GPU is rented; the address leads to the standby")

    async def _until_woken(self, summary: str) -> None:
        await self._tell(RESTING, summary)
        await workflow.wait_condition(lambda: self._awake)

    async def _back_on_a_gpu(self, decision: Decision) -> ActiveInstance:
        """Try until an instance has the files and the address; each failure takes another one."""
        target = self._home if decision is Decision.RETURN else None
        while True:
            if target is None:
                target = await self._replacement()
            self._target, self._account.restored = target, None
            handing_back = False
            try:
                await self._unless_lost(target, self._restore(target))
                await self._unless_lost(target, self._moment())
                handing_back = True
                await self._unless_lost(target, self._hand_back(target))
            except _TargetLost as lost:
                await self._tell("lost_again", f"the new GPU was lost as well: {lost.why}")
                await self._give_up(target, lost.why, had_authority=handing_back)
                self._target = target = None
            else:
                return target

    async def _give_up(self, target: ActiveInstance, why: str, *, had_authority: bool) -> None:
        """It will not take over. What it may have written for a moment is rescued before it is ended."""
        former = Former(instance=target, epoch=self._epoch)
        if had_authority:
            await self._fence()
        if target.instance_id == self._input.home.instance_id:
            return  # the machine retires it
        if had_authority and workflow.patched(_KEEPS_SHORT_LIVED):
            self._short_lived.append(former)
        else:
            await self._end(target, why)

    async def _newest_copy(self) -> ActiveInstance:
        """Cancelled: where the standby is gone, an instance that had been restored has the files.

        Raises:
            CancelledError: There is none, or the machine is being destroyed.
        """
        target = self._target
        if target is None or not self._standby_gone:
            raise asyncio.CancelledError
        if self._account.restored is None:
            if target.instance_id != self._input.home.instance_id:
                await self._end(target, "the standby was gone before it had the files")
            raise asyncio.CancelledError
        await self._tell("standby_gone", "the standby is gone; the new GPU has what was restored")
        return target

    async def _replacement(self) -> ActiveInstance:
        """A new instance on another host, however long the market needs to have one."""
        ladder = self._input.timing.retry_ladder_s
        tries = 0
        while True:
            self._generation += 1
            await self._tell(
                "replacing",
                f"renting another {self._input.spec.requirement.gpu}",
                replacing=True,
            )
            try:
                found = await workflow.execute_child_workflow(
                    Provision.run,
                    ProvisionInput(
                        spec=self._input.spec,
                        generation=self._generation,
                        timing=self._input.timing,
                        avoid_hosts=self._avoid(),
                    ),
                    id=provision_workflow_id(self._input.spec.machine_id, self._generation),
                    parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                    static_summary=f"{self._input.spec.name} generation {self._generation}",
                )
            except ChildWorkflowError as failure:
                if is_cancelled_exception(failure):
                    raise
                error = error_of(failure)
                if self._input.drill is not None and error.code == "budget_exceeded":
                    # A GPU that is rented the moment a month begins is rented for nobody.
                    self._awake = False
                    await self._until_woken(f"not woken: {error.message}")
                    continue
                tries += 1
                wait = ladder[min(tries, len(ladder)) - 1]
                await self._tell(
                    "no_gpu",
                    f"{error.message}; next try in {wait:g} s, work goes on on the standby",
                    replacing=True,
                )
                await workflow.sleep(timedelta(seconds=wait))
            else:
                self._account.reached("provisioned", workflow.now())
                return found

    async def _restore(self, target: ActiveInstance) -> None:
        """Everything from the standby, verified by hash; work goes on there meanwhile."""
        while True:
            pair = self._pair(target, paused=True)
            try:
                await workflow.execute_activity_method(
                    MirrorActivities.apply_mirror, pair, summary="prepare the restore", **URGENT
                )
                restored = await workflow.execute_activity_method(
                    TakeoverActivities.restore, pair, summary="restore the workspace", **TRANSFER
                )
            except ActivityError as failure:
                await self._think_again(target, failure)
            else:
                self._account.restored = restored
                self._account.reached("restored", workflow.now())
                await self._tell(
                    "restored",
                    f"{restored.files} files, {restored.bytes} bytes are back and verified",
                    replacing=True,
                )
                return

    async def _moment(self) -> None:
        """When the address may move without cutting anybody off, as the owner's policy says."""
        policy = self._input.spec.protection
        failback = policy.failback if policy is not None else Failback.AT_ONCE
        drill = self._input.drill
        asked = self._now_please or (drill is not None and not drill.rest)
        if failback is Failback.AT_ONCE or asked:
            return
        if failback is Failback.ON_COMMAND:
            await self._tell("waiting", "waiting for `dumont failback`", replacing=True)
            await workflow.wait_condition(lambda: self._now_please)
            return
        await self._tell("waiting", "waiting until nobody works on the standby", replacing=True)
        idle = asyncio.create_task(self._until_idle())
        await workflow.wait_condition(lambda: self._now_please or idle.done())
        if not idle.done():
            idle.cancel()
            with suppress(asyncio.CancelledError, ActivityError):
                await idle
        else:
            await idle

    async def _until_idle(self) -> None:
        while True:
            try:
                await workflow.execute_activity_method(
                    TakeoverActivities.wait_until_idle,
                    WaitUntilIdle(
                        machine_id=self._input.spec.machine_id,
                        standby=self._standby,
                        idle_s=self._input.timing.idle_s,
                    ),
                    summary="until nobody works on the standby",
                    **TRANSFER,
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                await workflow.sleep(_PAUSE)
            else:
                return

    async def _hand_back(self, target: ActiveInstance) -> None:
        """The last changes, then the address and the authority."""
        tries = 0
        while True:
            try:
                handed = await workflow.execute_activity_method(
                    TakeoverActivities.hand_back,
                    HandBack(pair=self._pair(target, paused=True), cut=True),
                    summary="hand back",
                    **ONCE,
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                tries += 1
                if tries >= _HAND_BACK_TRIES and await self._is_still_held(target):
                    raise _TargetLost(error_of(failure).message) from failure
                await workflow.sleep(_PAUSE)
            else:
                self._handed(handed)
                await self._tell(
                    "failed_back", "the address leads to the GPU again", replacing=True
                )
                return

    def _handed(self, handed: HandedBack) -> None:
        self._account.final = handed.restored
        self._account.quiesced_s = handed.quiesced_s
        self._account.reached("verified", handed.at)
        self._account.reached("failed_back", handed.at)

    # Help -------------------------------------------------------------------------------------

    async def _step(self, act: Callable[[], Awaitable[T]]) -> T:
        """A step on the standby that must succeed: again and again, at its newest address."""
        while True:
            try:
                return await act()
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                error = error_of(failure)
                await self._tell("waiting", f"the standby does not answer: {error.message}")
                await workflow.sleep(_PAUSE)

    async def _think_again(self, target: ActiveInstance, failure: ActivityError) -> None:
        """After a failed transfer: is it the new instance that is lost?

        Raises:
            ActivityError: Cancelled.
            _TargetLost: The instance does not answer, or its provider has given it up.
        """
        if is_cancelled_exception(failure):
            raise failure
        error = error_of(failure)
        seen = await workflow.execute_activity_method(
            EvidenceActivities.look_at_bodies,
            LookAt(machine_id=self._input.spec.machine_id, primary=target, standby=self._standby),
            **MUST,
        )
        if seen.guard is not None and seen.primary_answers is False:
            raise _TargetLost(f"{error.message}; {seen.primary_words}")
        await self._tell("waiting", error.message, replacing=True)
        await workflow.sleep(_PAUSE)

    async def _is_still_held(self, target: ActiveInstance) -> bool:
        """Whether the guard says that nobody but the standby has had the authority since the fence.

        A guard that says nothing may have handed back: people may work on the new instance. One whose
        record is lost lets nobody write, and is fenced anew.
        """
        seen = await workflow.execute_activity_method(
            EvidenceActivities.look_at_bodies,
            LookAt(machine_id=self._input.spec.machine_id, primary=target, standby=self._standby),
            **MUST,
        )
        return seen.guard is not None and (seen.guard.held or seen.guard.authority is None)

    async def _unless_lost(self, target: ActiveInstance, step: Coroutine[Any, Any, None]) -> None:
        """Do a step, but not with an instance that its provider has given up."""
        task: asyncio.Task[None] = asyncio.create_task(step)
        try:
            await workflow.wait_condition(lambda: task.done() or target.instance_id in self._lost)
        except asyncio.CancelledError:
            task.cancel()
            with suppress(asyncio.CancelledError, FailureError):
                await task
            raise
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, FailureError, _TargetLost):
                await task
            raise _TargetLost(self._lost[target.instance_id])
        await task

    def _pair(self, primary: ActiveInstance, *, paused: bool = False) -> Pair:
        return Pair(
            spec=self._input.spec,
            standby=self._standby,
            primary=primary,
            generation=primary.generation,
            epoch=self._epoch,
            paused=paused,
        )

    def _avoid(self) -> tuple[str, ...]:
        """Never the same host again, in this failover."""
        hosts = [*self._input.avoid_hosts, self._input.home.host_id]
        return tuple(dict.fromkeys(host for host in hosts if host))

    async def _false_alarm(self) -> FailoverResult:
        await self._receipt(Outcome.HEALED)
        return FailoverResult(
            outcome=Outcome.HEALED,
            home=self._home,
            generation=self._generation,
            epoch=self._epoch,
        )

    async def _end(
        self, instance: ActiveInstance, why: str
    ) -> ChildWorkflowHandle[EndInstances, Any] | None:
        """Have it ended by a workflow of its own; None: one does so already."""
        with suppress(WorkflowAlreadyStartedError):
            return await workflow.start_child_workflow(
                EndInstances.run,
                EndInput(
                    machine_id=self._input.spec.machine_id,
                    target=EndTarget(label=instance.label, known_ids=(instance.instance_id,)),
                    why=why,
                    confirm_s=self._input.timing.gone_confirm_s,
                ),
                id=end_workflow_id(instance.label),
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
        return None

    async def _receipt(self, outcome: Outcome) -> None:
        receipt = receipt_of(
            self._account,
            spec=self._input.spec,
            outcome=outcome.value,
            epoch=self._epoch,
            closed_at=workflow.now(),
        )
        await workflow.execute_activity_method(
            ReceiptActivities.record_receipt, receipt, summary="receipt", **RECORD
        )

    async def _tell(self, step: str, summary: str, *, replacing: bool = False) -> None:
        """Tell the machine, which shows it, and the event log."""
        spec = self._input.spec
        progress = FailoverProgress(
            number=self._input.number,
            step=step,
            summary=summary,
            epoch=self._epoch,
            generation=self._generation,
            replacing=replacing,
        )
        machine = workflow.get_external_workflow_handle(machine_workflow_id(spec.machine_id))
        with suppress(FailureError):
            await machine.signal("failover_progress", progress)
        self._steps += 1
        event = MachineEvent(
            key=f"{spec.machine_id}/failover/{self._input.number}/{self._steps}",
            machine_id=spec.machine_id,
            kind=EventKind.FAILOVER_STEP,
            at=workflow.now(),
            generation=self._generation,
            summary=summary,
            data={"failover": self._input.number, "step": step},
        )
        await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)
