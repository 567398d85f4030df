"""The machine: a name, a workspace and a policy that outlive every instance.

One entity workflow owns one machine's life and is the only writer of it. It waits without ticking:
an idle machine adds nothing to its history, for years.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    is_cancelled_exception,
)
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.instances import EndTarget
    from activities.records import RecordActivities
    from dumont.domain import labels
    from dumont.domain.errors import DumontError
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.fleet import InstanceReport
    from dumont.domain.instances import Message
    from dumont.domain.machine import (
        TRANSITIONS,
        ActiveInstance,
        MachinePhase,
        MachineSpec,
        MachineState,
        Timing,
    )
    from dumont.domain.report import Consequence, consequence, why_unusable
    from dumont.ports import MachineRecord
    from dumont.temporal import search_attributes as attributes
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import end_workflow_id, provision_workflow_id
    from workflows.end_instances import EndInput, EndInstances
    from workflows.options import RECORD
    from workflows.provision import LostInstance, Provision, ProvisionInput


class MachineInput(Message):
    """Input of `Machine`, and what it carries through continue-as-new."""

    spec: MachineSpec
    timing: Timing = Timing()
    state: MachineState | None = None
    """None for a new machine."""


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
        self._state = input.state or MachineState()
        self._events: list[MachineEvent] = []
        """Not yet recorded."""
        self._recorded_version = -1 if input.state is None else self._state.version
        self._reports: list[InstanceReport] = []
        self._why_destroy = DestroyRequest().reason
        self._provisioning: asyncio.Task[ActiveInstance] | None = None

    @workflow.run
    async def run(self, input: MachineInput) -> MachineState:
        """Live until destroyed. Returns the last state."""
        recorder = asyncio.create_task(self._keep_records())
        if input.state is None:
            self._note(EventKind.REQUESTED, f"{self._spec.name} requested")
        self._show()
        while not self._state.stopping:
            match self._state.phase:
                case MachinePhase.REQUESTED | MachinePhase.PROVISIONING:
                    await self._provision()
                case MachinePhase.RUNNING:
                    await self._next_news()
                case MachinePhase.STUCK:
                    await self._next_try()
                case MachinePhase.DESTROYING | MachinePhase.DESTROYED:
                    break
            if workflow.info().is_continue_as_new_suggested() and not self._state.stopping:
                await self._continue_as_new()
        await self._destroy()
        await self._all_recorded()
        recorder.cancel()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._state

    # What people and the fleet watch say ----------------------------------------------------

    @workflow.update
    async def destroy(self, request: DestroyRequest) -> MachineState:
        """End the machine for good. Accepted at once; asking again changes nothing."""
        if not self._state.stopping:
            # An intent, nothing more: the main loop alone changes the life and tells of it.
            self._state = self._state.model_copy(update={"stopping": True})
            self._why_destroy = request.reason
            if self._provisioning is not None:
                self._provisioning.cancel()
        return self._state

    @destroy.validator
    def _may_destroy(self, request: DestroyRequest) -> None:
        if self._state.phase.final:
            raise ApplicationError("the machine is destroyed already", type="conflict")

    @workflow.signal
    def instance_changed(self, report: InstanceReport) -> None:
        """News about an instance of this machine, from the watch over its provider."""
        self._reports.append(report)

    @workflow.query
    def status(self) -> MachineState:
        """The state, for debugging; screens read the database."""
        return self._state

    # A life -----------------------------------------------------------------------------------

    async def _provision(self) -> None:
        """Get the next generation an instance, or get stuck with a reason and a next try."""
        generation = self._state.generation + 1
        self._move(
            MachinePhase.PROVISIONING,
            f"looking for {self._spec.requirement.gpu}",
            kind=EventKind.PROVISIONING,
            generation=generation,
            instance=None,
            next_try_at=None,
        )
        self._reports.clear()
        self._provisioning = asyncio.create_task(self._run_provision(generation))
        try:
            instance = await self._provisioning
        except (ChildWorkflowError, asyncio.CancelledError) as failure:
            if self._state.stopping:
                return
            if is_cancelled_exception(failure):
                raise
            self._stuck(error_of(failure))
        else:
            if not self._state.stopping:
                self._running(instance, f"ready: {instance.gpu_count}x {instance.gpu}")
        finally:
            self._provisioning = None

    async def _run_provision(self, generation: int) -> ActiveInstance:
        provision = await workflow.start_child_workflow(
            Provision.run,
            ProvisionInput(
                spec=self._spec,
                generation=generation,
                timing=self._timing,
                avoid_hosts=self._state.avoid_hosts,
            ),
            id=provision_workflow_id(self._spec.machine_id, generation),
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
            static_summary=f"{self._spec.name} generation {generation}",
        )
        try:
            await self._pass_bad_news_on(provision)
        except asyncio.CancelledError:
            provision.cancel()
        return await provision

    async def _pass_bad_news_on(
        self, provision: ChildWorkflowHandle[Provision, ActiveInstance]
    ) -> None:
        """Until provisioning ends, tell it which of its instances are lost already."""
        told = 0
        while True:
            await workflow.wait_condition(
                lambda: provision.done() or len(self._reports) > told  # noqa: B023
            )
            if provision.done():
                return
            report, told = self._reports[told], told + 1
            why = why_unusable(report)
            if why is not None:
                with suppress(FailureError):  # it may have ended just now
                    await provision.signal(
                        Provision.instance_lost,
                        LostInstance(instance_id=report.instance_id, why=why),
                    )

    async def _next_news(self) -> None:
        """Running: nothing happens until somebody says something."""
        await workflow.wait_condition(
            lambda: self._state.stopping or bool(self._reports) or self._is_long()
        )
        self._digest_reports()

    async def _next_try(self) -> None:
        """Stuck: until the next try is due, or news makes it unnecessary."""
        due = self._state.next_try_at
        try:
            await workflow.wait_condition(
                lambda: self._state.stopping or bool(self._reports) or self._is_long(),
                timeout=max(due - workflow.now(), timedelta(0)) if due else None,
                timeout_summary="next try",
            )
        except TimeoutError:
            self._state = self._state.model_copy(update={"phase": MachinePhase.PROVISIONING})
            return
        self._digest_reports()

    async def _destroy(self) -> None:
        """End everything that this machine ever rented, however long it takes."""
        self._move(
            MachinePhase.DESTROYING,
            f"ending what it rents: {self._why_destroy}",
            kind=EventKind.DESTROYING,
            next_try_at=None,
        )
        home = self._state.instance
        await workflow.execute_child_workflow(
            EndInstances.run,
            EndInput(
                machine_id=self._spec.machine_id,
                target=EndTarget(
                    label=labels.machine_prefix(
                        env=self._spec.env, machine_id=self._spec.machine_id
                    ),
                    whole_machine=True,
                    known_ids=(home.instance_id,) if home is not None else (),
                ),
                why="the machine is destroyed",
                confirm_s=self._timing.gone_confirm_s,
            ),
            id=end_workflow_id(self._spec.machine_id),
            parent_close_policy=ParentClosePolicy.ABANDON,
        )
        self._move(
            MachinePhase.DESTROYED,
            "everything it rented is ended and verified gone",
            kind=EventKind.DESTROYED,
            instance=None,
        )

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
        if news.phase is MachinePhase.STUCK:
            self._move(MachinePhase.STUCK, news.summary, kind=news.kind, next_try_at=None)
        elif news.phase is MachinePhase.RUNNING and news.instance is not None:
            self._running(news.instance, news.summary, kind=news.kind)
        else:
            self._note(news.kind, news.summary, instance=news.instance or self._state.instance)

    def _running(
        self, instance: ActiveInstance, summary: str, *, kind: EventKind = EventKind.READY
    ) -> None:
        self._move(
            MachinePhase.RUNNING,
            summary,
            kind=kind,
            instance=instance,
            provision_tries=0,
            next_try_at=None,
        )

    def _stuck(self, error: DumontError) -> None:
        ladder = self._timing.retry_ladder_s
        tries = self._state.provision_tries + 1
        wait = timedelta(seconds=ladder[min(tries, len(ladder)) - 1])
        self._move(
            MachinePhase.STUCK,
            error.message,
            kind=EventKind.STUCK,
            provision_tries=tries,
            next_try_at=workflow.now() + wait,
            data={"code": error.code, "hint": error.hint},
        )

    # State, events and their record -----------------------------------------------------------

    def _move(
        self,
        phase: MachinePhase,
        reason: str,
        *,
        kind: EventKind | None = None,
        data: dict[str, object] | None = None,
        **changes: object,
    ) -> None:
        """Go to another phase, or stay in it with another reason."""
        assert phase is self._state.phase or phase in TRANSITIONS[self._state.phase]
        self._state = self._state.model_copy(update={"phase": phase, "reason": reason})
        if kind is not None:
            self._note(kind, reason, data=data, **changes)
        else:
            self._change(**changes)
        self._show()

    def _note(
        self,
        kind: EventKind,
        summary: str,
        *,
        data: dict[str, object] | None = None,
        **changes: object,
    ) -> None:
        """Add a line to the event log, together with the change it tells."""
        self._change(**changes)
        self._events.append(
            MachineEvent(
                key=f"{self._spec.machine_id}/v{self._state.version}",
                machine_id=self._spec.machine_id,
                kind=kind,
                at=workflow.now(),
                generation=self._state.generation,
                summary=summary,
                data=data or {},
            )
        )

    def _change(self, **changes: object) -> None:
        self._state = self._state.model_copy(update={**changes, "version": self._state.version + 1})

    async def _keep_records(self) -> None:
        """Project each change, beside the life itself: a database that is down delays no destroy.

        It wakes only on what the main loop has changed, so its command always comes after those of
        the main loop. Were it woken by a handler, the order of the two would hang on how a replay
        groups the workflow tasks.
        """
        while True:
            await workflow.wait_condition(lambda: not self._is_recorded())
            state, events = self._state, tuple(self._events)
            await workflow.execute_activity_method(
                RecordActivities.record_machine,
                MachineRecord(spec=self._spec, state=state, at=workflow.now(), events=events),
                summary=f"record {state.phase.value}",
                **RECORD,
            )
            self._recorded_version = state.version
            del self._events[: len(events)]

    def _is_recorded(self) -> bool:
        return self._recorded_version == self._state.version and not self._events

    async def _all_recorded(self) -> None:
        await workflow.wait_condition(self._is_recorded)

    def _show(self) -> None:
        """Tell Temporal's UI what this machine is and where it stands."""
        state, home = self._state, self._state.instance
        workflow.upsert_search_attributes(
            [
                attributes.STATE.value_set(state.phase.value),
                attributes.OWNER.value_set(self._spec.owner_id),
                attributes.GPU.value_set(self._spec.requirement.gpu),
                attributes.PROTECTION.value_set("unprotected"),
                attributes.GENERATION.value_set(state.generation),
                attributes.HOURLY_USD.value_set((home.usd_per_hour or 0.0) if home else 0.0),
            ]
        )
        workflow.set_current_details(_details(self._spec, state))

    def _is_long(self) -> bool:
        return workflow.info().is_continue_as_new_suggested()

    async def _continue_as_new(self) -> None:
        """Start a fresh history. Everything that must be known is in the state by now."""
        await self._all_recorded()
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._digest_reports()
        if self._state.stopping or not self._is_recorded():
            return
        workflow.continue_as_new(
            MachineInput(spec=self._spec, timing=self._timing, state=self._state)
        )


def _details(spec: MachineSpec, state: MachineState) -> str:
    lines = [f"### {spec.name}: {state.phase.value}", state.reason]
    if state.instance is not None:
        home = state.instance
        price = "unknown" if home.usd_per_hour is None else f"${home.usd_per_hour:.3f}/h"
        lines.append(
            f"`{home.label}` is {home.provider} instance `{home.instance_id}`: "
            f"{home.gpu_count}x {home.gpu}, {home.region or 'place unknown'}, {price}"
        )
    if state.next_try_at is not None:
        lines.append(f"next try {_clock(state.next_try_at)}")
    return "\n\n".join(line for line in lines if line)


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
