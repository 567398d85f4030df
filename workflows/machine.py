"""The machine: a name, a workspace and a policy that outlive every instance.

One entity workflow owns one machine's life and is the only writer of it. It waits without ticking:
an idle machine adds nothing to its history, for years.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    is_cancelled_exception,
)
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from dumont.domain.events import EventKind
    from dumont.domain.fleet import InstanceReport
    from dumont.domain.instances import Message
    from dumont.domain.machine import (
        ActiveInstance,
        MachinePhase,
        MachineSpec,
        MachineState,
        Timing,
    )
    from dumont.domain.protection import AgentNews, ProtectionStatus, StandbyNews
    from dumont.domain.report import Consequence, consequence, moved_home, why_unusable
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import failover_workflow_id
    from workflows.chronicle import Chronicle
    from workflows.comeback import COMES_BACK, STARTS_AGAIN, Comeback
    from workflows.ending import end_machine
    from workflows.failover import Failover
    from workflows.failover_messages import (
        RESTING,
        DrillRequest,
        FailBackRequest,
        FailoverInput,
        FailoverProgress,
        FailoverResult,
        Outcome,
    )
    from workflows.protection_axis import ProtectionAxis
    from workflows.provision import LostInstance
    from workflows.renting import provisioned
    from workflows.rest import HibernateRequest, Rest, WakeRequest, why_stay_awake
    from workflows.retire import Retired, retire
    from workflows.standby_peer import StandbyPeer


class MachineInput(Message):
    """Input of `Machine`, and what it carries through continue-as-new."""

    spec: MachineSpec
    timing: Timing = Timing()
    state: MachineState | None = None
    """None for a new machine."""


_STUCK_TELLS_STANDBY = "a stuck machine tells its standby"
_FAILOVER_KEEPS_RESTORED = "a failover whose standby is gone keeps the GPU that has the files"
_RESTORES_ON = "an instance that comes back gets the rest of its files first"
"""Patches: machines that were alive before them replay as they were."""


class DestroyRequest(Message):
    """Argument of the update `destroy`."""

    reason: str = "the owner asked for it"


@workflow.defn
class Machine:
    """A machine provisions, runs, waits for news, and is destroyed when its owner says so."""

    @workflow.init
    def __init__(self, input: MachineInput) -> None:
        self._spec = input.spec
        self._timing = input.timing
        self._life = Chronicle(input.spec, input.state)
        self._protection = ProtectionAxis(self._life)
        self._reports: list[InstanceReport] = []
        self._why_destroy = DestroyRequest().reason
        self._provisioning: asyncio.Task[Any] | None = None
        self._failing_over: asyncio.Task[FailoverResult] | None = None
        self._inbox: list[News] = []
        """What was said about protection and is not digested yet, in order."""
        self._drill: DrillRequest | None = None
        self._last_reports: dict[str, InstanceReport] = {}
        self._last_guard: AgentNews | None = None
        """What was said last of each instance, and by the guard, during the failover under way."""
        common = self._common = (input.spec, input.timing, self._life)
        self._standby = StandbyPeer(*common)
        self._comeback = Comeback(*common)
        self._rest = Rest(*common, self._protection, self._standby, self._comeback)
        self._woken: WakeRequest | None = None
        """Who woke it from the rest under way."""
        self._wanted: HibernateRequest | WakeRequest | None = None
        """What somebody asked for last of sleeping and waking."""

    @workflow.run
    async def run(self, input: MachineInput) -> MachineState:
        """Live until destroyed. Returns the last state."""
        recorder = asyncio.create_task(self._life.keep_records())
        if input.state is None:
            self._life.note(EventKind.REQUESTED, f"{self._spec.name} requested")
        self._life.show()
        while not self._state.stopping:
            match self._state.phase:
                case MachinePhase.REQUESTED | MachinePhase.PROVISIONING | MachinePhase.WAKING:
                    await self._get_home()
                case MachinePhase.RUNNING:
                    await self._keep_standby_told()
                    await self._next_news()
                case MachinePhase.ON_STANDBY | MachinePhase.REPLACING:
                    await self._keep_standby_told()
                    await self._fail_over()
                case MachinePhase.STUCK:
                    if workflow.patched(_STUCK_TELLS_STANDBY):
                        await self._keep_standby_told()
                    await self._next_try()
                case MachinePhase.HIBERNATING:
                    await self._rest.interrupted()
                case MachinePhase.HIBERNATED if self._state.standby is not None:
                    # Started again from its record: what it rested in has to go on.
                    self._drill = self._rest.resumed()
                    await self._keep_standby_told()
                    await self._fail_over()
                case MachinePhase.HIBERNATED:
                    await self._sleep()
                case MachinePhase.DESTROYING | MachinePhase.DESTROYED:
                    break
            if workflow.info().is_continue_as_new_suggested() and not self._state.stopping:
                await self._continue_as_new()
        await end_machine(*self._common, self._standby, why=self._why_destroy)
        await self._life.all_recorded()
        recorder.cancel()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._state

    # What people and the fleet watch say ----------------------------------------------------

    @workflow.update
    async def destroy(self, request: DestroyRequest) -> MachineState:
        """End the machine for good. Accepted at once; asking again changes nothing."""
        if not self._state.stopping:
            # An intent, nothing more: the main loop alone changes the life and tells of it.
            self._life.state = self._state.model_copy(update={"stopping": True})
            self._why_destroy = request.reason
            for under_way in (self._provisioning, self._failing_over):
                if under_way is not None:
                    under_way.cancel()
        return self._state

    @destroy.validator
    def _may_destroy(self, request: DestroyRequest) -> None:
        if self._state.phase.final:
            raise ApplicationError("the machine is destroyed already", type="conflict")

    @workflow.update
    async def drill(self, request: DrillRequest) -> MachineState:
        """Fail over on purpose. Accepted at once; the receipt tells how it went."""
        self._drill = request
        return self._state

    @drill.validator
    def _may_drill(self, request: DrillRequest) -> None:
        why = self._protection.why_no_drill()
        if why is not None:
            raise ApplicationError(why, type="conflict")

    @workflow.update
    async def fail_back(self, request: FailBackRequest) -> MachineState:
        """Move the address back to the GPU as soon as everything is there, whoever is working."""
        self._inbox.append(request)
        return self._state

    @fail_back.validator
    def _may_fail_back(self, request: FailBackRequest) -> None:
        if self._state.phase not in (MachinePhase.ON_STANDBY, MachinePhase.REPLACING):
            raise ApplicationError(
                f"the machine is {self._state.phase.value}: there is nothing to fail back from",
                type="conflict",
            )

    @workflow.update
    async def hibernate(self, request: HibernateRequest) -> MachineState:
        """Keep the workspace, verify it, and give back what is rented. Accepted at once."""
        self._wanted = request
        return self._state

    @hibernate.validator
    def _may_hibernate(self, request: HibernateRequest) -> None:
        why = self._rest.why_not(request)
        if why is not None:
            raise ApplicationError(why, type="conflict")

    @workflow.update
    async def wake(self, request: WakeRequest) -> MachineState:
        """Come back with everything. Accepted at once; asking again changes nothing."""
        self._wanted = request
        return self._state

    @wake.validator
    def _may_wake(self, request: WakeRequest) -> None:
        if not self._rest.may_wake():
            why = f"the machine does not hibernate: it is {self._state.phase.value}"
            raise ApplicationError(why, type="conflict")

    @workflow.signal
    def agent_news(self, news: AgentNews) -> None:
        """Something changed at one of its agents."""
        self._inbox.append(news)

    @workflow.signal
    def standby_changed(self, news: StandbyNews) -> None:
        """From the workflow that keeps its standby."""
        self._inbox.append(news)

    @workflow.signal
    def failover_progress(self, progress: FailoverProgress) -> None:
        """From the failover under way."""
        self._inbox.append(progress)

    @workflow.signal
    def retired(self, former: Retired) -> None:
        """What only a former instance had is rescued, and it is being ended."""
        self._inbox.append(former)

    @workflow.signal
    def instance_changed(self, report: InstanceReport) -> None:
        """News about an instance of this machine, from the watch over its provider."""
        self._reports.append(report)

    @workflow.query
    def status(self) -> MachineState:
        """The state, for debugging; screens read the database."""
        return self._state

    # A life -----------------------------------------------------------------------------------

    async def _get_home(self) -> None:
        if self._state.instance is not None and self._state.restoring is not None:
            await self._bring_back(self._state.instance, self._state.restoring)
        else:
            await self._provision()

    async def _provision(self) -> None:
        """Get the next generation an instance, or get stuck with a reason and a next try."""
        generation = max(self._state.generation, self._state.generations_used) + 1
        waking = self._state.phase is MachinePhase.WAKING
        phase = MachinePhase.WAKING if waking else MachinePhase.PROVISIONING
        self._life.move(
            phase,
            f"looking for {self._spec.requirement.gpu}",
            kind=EventKind.PROVISIONING,
            generation=generation,
            generations_used=generation,
            instance=None,
            next_try_at=None,
        )
        self._reports.clear()
        self._provisioning = asyncio.create_task(
            provisioned(self._spec, self._timing, self._state, news=lambda: self._reports)
        )
        try:
            instance = await self._provisioning
        except (ChildWorkflowError, asyncio.CancelledError) as failure:
            if self._state.stopping:
                return
            if is_cancelled_exception(failure):
                raise
            error = error_of(failure)
            if not self._rest.sleeps_on(error):
                self._comeback.stuck(error)
        else:
            if self._state.stopping:
                return
            if self._state.restoring is not None:
                words = f"on {instance.gpu}; its files are coming back from a snapshot"
                self._life.move(phase, words, instance=instance)
            else:
                self._running(instance, f"ready: {instance.gpu_count}x {instance.gpu}")
        finally:
            self._provisioning = None

    async def _bring_back(self, home: ActiveInstance, snapshot_id: str) -> None:
        """Give an instance that is ready the files of a snapshot, before anybody works on it."""
        self._provisioning = asyncio.create_task(self._comeback.bring_back(home, snapshot_id))
        try:
            back = await self._provisioning
        except (ChildWorkflowError, asyncio.CancelledError) as failure:
            if self._state.stopping:
                return
            if is_cancelled_exception(failure):
                raise
            self._comeback.stuck(error_of(failure))
        else:
            if not self._state.stopping:
                self._life.change(restoring=None)
                self._running(home, f"ready: {back.files:,} files are back from {snapshot_id}")
                await self._rest.awake(snapshot_id, problems=back.problems)
        finally:
            self._provisioning = None

    async def _next_news(self) -> None:
        """Running: nothing happens until somebody says something."""
        await workflow.wait_condition(
            lambda: (
                self._state.stopping
                or bool(self._reports)
                or bool(self._inbox)
                or self._drill is not None
                or self._wanted is not None
                or self._is_long()
            )
        )
        self._digest_reports()
        self._digest_inbox()
        wanted, self._wanted = self._wanted, None
        if isinstance(wanted, HibernateRequest) and self._rest.why_not(wanted) is None:
            self._drill = await self._rest.hibernate(
                wanted,
                why_no_more=lambda keep: why_stay_awake(
                    self._wanted, self._inbox, self._state, keeps_standby=keep
                ),
            )
            if self._drill is not None:
                self._on_standby(self._drill.cause)
        if self._drill is not None and self._state.phase is MachinePhase.RUNNING:
            self._on_standby(f"a drill of {self._drill.actor}", kind=EventKind.DRILL)

    async def _sleep(self) -> None:
        """Hibernated: until somebody wakes it, or ends it. What its former bodies say is history."""
        await workflow.wait_condition(
            lambda: self._state.stopping or self._wanted is not None or self._is_long()
        )
        self._reports.clear()
        self._inbox.clear()
        wanted, self._wanted = self._wanted, None
        if isinstance(wanted, WakeRequest) and not self._state.stopping:
            self._rest.wake(wanted)

    async def _fail_over(self) -> None:
        """On the standby: until a GPU has everything again, or the alarm was false."""
        drill, self._drill, self._woken = self._drill, None, None
        self._last_reports, self._last_guard = {}, None
        self._failing_over = asyncio.create_task(self._run_failover(drill))
        try:
            result = await self._failing_over
        except (ChildWorkflowError, asyncio.CancelledError) as failure:
            if self._state.stopping:
                return
            if self._state.standby is None and drill is not None and drill.rest:
                await self._rest.without_standby()
                self._wanted = self._wanted or self._woken
            elif self._state.standby is None:
                self._comeback.lost_both()
            elif drill is not None:
                what = "not hibernated" if drill.rest else "the drill did not begin"
                why = f"{what}: {error_of(failure).message}"
                assert self._state.instance is not None
                self._running(self._state.instance, why, kind=EventKind.ALERT)
                await self._rest.forget_snapshot()
            elif is_cancelled_exception(failure):
                raise
            else:
                self._comeback.stuck(error_of(failure))
        else:
            if not self._state.stopping:
                await self._failed_over(result, drill)
        finally:
            self._failing_over = None

    async def _run_failover(self, drill: DrillRequest | None) -> FailoverResult:
        state = self._state
        assert state.instance is not None
        assert state.standby is not None
        failover = await workflow.start_child_workflow(
            Failover.run,
            FailoverInput(
                spec=self._spec,
                timing=self._timing,
                number=state.failovers,
                cause=state.reason,
                detected_at=workflow.now(),
                home=state.instance,
                standby=state.standby,
                generation=max(state.generation, state.generations_used),
                epoch=state.epoch,
                avoid_hosts=state.avoid_hosts,
                drill=drill,
            ),
            id=failover_workflow_id(self._spec.machine_id, state.failovers),
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
            static_summary=f"{self._spec.name}: {state.reason}"[:200],
        )
        with suppress(asyncio.CancelledError):
            await self._accompany(failover)
        if not failover.done():
            failover.cancel()
        # Shielded: whoever cancels us as well must not cancel it twice, which Temporal refuses.
        return await asyncio.shield(failover)

    async def _accompany(self, failover: ChildWorkflowHandle[Failover, FailoverResult]) -> None:
        """Until it ends or its standby is gone, show how far it is, and pass on what it must know."""
        while True:
            await workflow.wait_condition(
                lambda: (
                    failover.done()
                    or bool(self._reports)
                    or bool(self._inbox)
                    or isinstance(self._wanted, WakeRequest)
                )
            )
            if failover.done():
                return
            if isinstance(self._wanted, WakeRequest):
                wanted, self._wanted = self._wanted, None
                if self._woken is None:
                    self._woken = wanted
                    self._life.note(EventKind.WAKING, f"{wanted.actor} woke it")
                    with suppress(FailureError):
                        await failover.signal(Failover.wake)
            reports, self._reports = self._reports, []
            with suppress(FailureError):  # it may have ended just now
                for report in reports:
                    self._last_reports[report.instance_id] = report
                    why = why_unusable(report)
                    moved = moved_home(self._state.instance, report)
                    if why is not None:
                        lost = LostInstance(instance_id=report.instance_id, why=why)
                        await failover.signal(Failover.instance_lost, lost)
                    elif moved is not None:
                        self._life.change(instance=moved)
                        await failover.signal(Failover.home_moved, moved)
                for news in self._digest_inbox():
                    if isinstance(news, FailBackRequest):
                        await failover.signal(Failover.fail_back_now)
                    elif isinstance(news, StandbyNews) and news.standby is not None:
                        await failover.signal(Failover.standby_moved, news.standby)
                    elif isinstance(news, AgentNews) and news.guard is not None:
                        self._last_guard = news
            if self._state.standby is None:
                if workflow.patched(_FAILOVER_KEEPS_RESTORED):
                    await failover.signal(Failover.standby_gone)
                return
            await self._pass_on_preemption()

    async def _failed_over(self, result: FailoverResult, drill: DrillRequest | None) -> None:
        """Adopt what the machine lives on now, and let the former instance be retired."""
        healed = result.outcome is Outcome.HEALED
        summary = {
            Outcome.HEALED: "a false alarm: the link is back, nothing was written on the standby",
            Outcome.RETURNED: "back on the same GPU, with everything",
            Outcome.REPLACED: f"back on a GPU: {result.home.gpu_count}x {result.home.gpu}",
        }[result.outcome]
        formers = result.all_formers()
        self._life.change(
            generation=result.home.generation,
            generations_used=max(result.generation, self._state.generations_used),
            epoch=result.epoch,
            retiring=(*self._state.retiring, *(former.instance.label for former in formers)),
        )
        if not healed:
            self._life.change(
                protection=ProtectionStatus.MIRRORING,
                protection_reason="the mirror begins anew",
            )
        self._running(
            result.home,
            summary,
            kind=EventKind.FALSE_ALARM if healed else EventKind.FAILED_BACK,
        )
        await self._rest.forget_snapshot()
        for former in formers:
            await retire(
                self._spec, self._timing, former, to=result.home, at_once=drill is not None
            )
        self._hear_again(result)

    def _hear_again(self, result: FailoverResult) -> None:
        """The instance may have been lost as it took over: nobody tells that twice."""
        report, news = self._last_reports.get(result.home.instance_id), self._last_guard
        if report is not None:
            self._reports.append(report)
        # A guard lets go of a fenced epoch only by handing back; what it says after that is new.
        handed_back = news is not None and news.guard is not None and not news.guard.held
        if news is not None and handed_back and result.outcome is not Outcome.HEALED:
            self._inbox.append(news)

    async def _keep_standby_told(self) -> None:
        await self._pass_on_preemption()
        await self._standby.keep_told()

    async def _pass_on_preemption(self) -> None:
        going, self._protection.going_standby = self._protection.going_standby, None
        if going is not None:
            await self._standby.tell("preempting", going)

    async def _next_try(self) -> None:
        """Stuck: until the next try is due, or news makes it unnecessary."""
        due = self._state.next_try_at
        try:
            await workflow.wait_condition(
                lambda: (
                    self._state.stopping or bool(self._reports or self._inbox) or self._is_long()
                ),
                timeout=max(due - workflow.now(), timedelta(0)) if due else None,
                timeout_summary="next try",
            )
        except TimeoutError:
            await self._try_again()
        else:
            self._digest_reports()
            self._digest_inbox()

    async def _try_again(self) -> None:
        home = self._state.instance
        if self._state.mirrored:
            # The standby holds the files: a new GPU gets them from there and nowhere else.
            self._life.state = self._state.model_copy(update={"phase": MachinePhase.ON_STANDBY})
        elif home is not None:
            await self._comeback.start_again(home)
        else:
            self._life.state = self._state.model_copy(update={"phase": MachinePhase.PROVISIONING})

    # News -------------------------------------------------------------------------------------

    def _digest_reports(self) -> None:
        reports, self._reports = self._reports, []
        for report in reports:
            home = self._state.instance
            if home is None or self._state.stopping:
                continue
            self._apply(consequence(self._state.phase, home, report))

    def _apply(self, news: Consequence) -> None:
        if news.changes_nothing:
            return
        if news.phase is MachinePhase.STUCK and self._protection.why_no_failover() is None:
            self._on_standby(news.summary)
        elif news.phase is MachinePhase.STUCK:
            due = None
            again = news.may_start_again and workflow.patched(STARTS_AGAIN)
            if again or (news.gone and workflow.patched(COMES_BACK)):
                due = workflow.now() + self._comeback.wait(self._state.provision_tries)
            self._life.move(MachinePhase.STUCK, news.summary, kind=news.kind, next_try_at=due)
        elif news.phase is MachinePhase.RUNNING and news.instance is not None:
            if self._state.restoring is not None and workflow.patched(_RESTORES_ON):
                self._life.move(MachinePhase.PROVISIONING, news.summary, instance=news.instance)
                return
            self._running(news.instance, news.summary, kind=news.kind)
        else:
            self._life.note(news.kind, news.summary, instance=news.instance or self._state.instance)

    def _digest_inbox(self) -> list[News]:
        """Take in what was said about protection; returns it for those whom it concerns too."""
        inbox, self._inbox = self._inbox, []
        for news in inbox:
            match news:
                case AgentNews():
                    if self._rest.is_woken_by(news):
                        self._wanted = WakeRequest(actor="somebody on its standby")
                    redirected = self._protection.hear_agent(news)
                    able = self._protection.why_no_failover() is None
                    if redirected is not None and able and self._drill is None:
                        self._on_standby(redirected)
                case StandbyNews():
                    self._protection.hear_standby(news)
                    if self._protection.can_live_on(news.standby):
                        self._on_standby("the GPU is lost; an earlier standby takes its place")
                case FailoverProgress():
                    self._protection.hear_failover(news)
                    self._woken = None if news.step == RESTING else self._woken
                case Retired():
                    left = tuple(label for label in self._state.retiring if label != news.label)
                    self._life.change(retiring=left)
        return inbox

    def _on_standby(self, why: str, *, kind: EventKind = EventKind.ON_STANDBY) -> None:
        self._life.move(
            MachinePhase.ON_STANDBY,
            why,
            kind=kind,
            failovers=self._state.failovers + 1,
            next_try_at=None,
        )

    def _running(
        self, instance: ActiveInstance, summary: str, *, kind: EventKind = EventKind.READY
    ) -> None:
        self._life.move(
            MachinePhase.RUNNING,
            summary,
            kind=kind,
            instance=instance,
            provision_tries=0,
            next_try_at=None,
            running_since=workflow.now(),
        )

    def _is_long(self) -> bool:
        return workflow.info().is_continue_as_new_suggested()

    @property
    def _state(self) -> MachineState:
        return self._life.state

    async def _continue_as_new(self) -> None:
        """Start a fresh history. Everything that must be known is in the state by now."""
        await self._life.all_recorded()
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._digest_reports()
        self._digest_inbox()
        wanted = self._drill is not None or self._wanted is not None
        busy = wanted or self._state.phase is MachinePhase.ON_STANDBY
        if self._state.stopping or busy or not self._life.is_recorded():
            return
        workflow.continue_as_new(
            MachineInput(spec=self._spec, timing=self._timing, state=self._state)
        )


News = AgentNews | StandbyNews | FailoverProgress | Retired | FailBackRequest
"""What the inbox holds."""
