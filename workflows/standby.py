"""The standby of a machine: rented near its GPU, configured, mirrored to, replaced when it is lost.

A peer of the entity, not its child: it must outlive the entity's continue-as-new. The entity tells
it what the machine lives on; it tells the entity where the standby is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.endings import EndTarget
    from activities.mirroring import MirrorActivities, Pair
    from activities.readiness import ReadinessActivities, WaitUntilReachable
    from activities.records import CloseIntent, RecordActivities
    from activities.vms import EnsureVm, PickZones, VmActivities, VmAt, ZonePick, disk_for
    from dumont.domain.errors import DumontError, NoCapacity
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.fleet import InstanceReport, Presence
    from dumont.domain.instances import Instance, InstanceState, Message, SshAddress
    from dumont.domain.labels import Label
    from dumont.domain.machine import ActiveInstance, MachineSpec, Timing
    from dumont.domain.protection import (
        ENDPOINT_PORT,
        ActiveStandby,
        ProtectionStatus,
        StandbyNews,
    )
    from dumont.ports import Intent
    from dumont.temporal.failures import error_of
    from dumont.temporal.ids import end_workflow_id, machine_workflow_id, run_workflow_id
    from dumont.temporal.queues import PROVIDER_GCP
    from workflows.end_instances import EndInput, EndInstances
    from workflows.options import ENSURE, PATIENT, READ, RECORD, WAIT
    from workflows.snapshots import Snapshot, SnapshotInput

_LOST_IS_KEPT_ELSEWHERE = "when a standby is lost, the workspace is kept in the object store"
_KEEPS_LOST = "a lost standby is kept until another has everything"
"""Patches: standbys that were alive before it replay as they were."""

_ZONES_TRIED = 3
"""In one go, nearest first; then a pause, and from the nearest again."""


class PrimaryIs(Message):
    """Signal `primary_is`: what the machine lives on, and under which authority."""

    primary: ActiveInstance | None
    """None: nothing to mirror from."""
    generation: int
    epoch: int
    in_use: bool = False
    """People work on the standby: it must keep its disk and is mirrored to by nobody."""


class StandbyInput(Message):
    """Input of `Standby`, and what it carries through continue-as-new."""

    spec: MachineSpec
    timing: Timing = Timing()
    now: PrimaryIs
    standby: ActiveStandby | None = None
    number: int = 0
    mirrored_epoch: int = 0
    """The newest epoch whose mirror is set up."""
    whole: bool = False
    """The standby's disk has had everything once: if all else is lost, it is what there is."""
    kept: ActiveStandby | None = None
    """A lost standby that was whole, stopped, until another one is."""


@workflow.defn
class Standby:
    """Rent, mirror, watch, replace; until the machine releases it."""

    @workflow.init
    def __init__(self, input: StandbyInput) -> None:
        self._spec = input.spec
        self._timing = input.timing
        self._now = input.now
        self._standby = input.standby
        self._number = input.number
        self._mirrored_epoch = input.mirrored_epoch
        self._whole = input.whole
        self._kept = input.kept
        self._reports: list[InstanceReport] = []
        self._preempting: str | None = None
        self._released = False
        self._tries = 0
        self._events = 0

    @workflow.run
    async def run(self, input: StandbyInput) -> None:
        """Live until released."""
        while not self._released:
            try:
                await self._step()
            except (ActivityError, DumontError) as failure:
                if is_cancelled_exception(failure):
                    raise
                await self._failed(error_of(failure))
            if workflow.info().is_continue_as_new_suggested():
                await self._continue_as_new()
        await workflow.wait_condition(workflow.all_handlers_finished)

    # What the machine and the fleet watch say --------------------------------------------------

    @workflow.signal
    def primary_is(self, now: PrimaryIs) -> None:
        """The machine lives on another instance, or people work on the standby now."""
        if now.epoch >= self._now.epoch:
            self._now = now
            if self._released:
                # Its machine woke before it had ended: what it had is given back, so it begins anew.
                self._released, self._standby, self._kept = False, None, None
                self._mirrored_epoch, self._whole = 0, False

    @workflow.signal
    def instance_changed(self, report: InstanceReport) -> None:
        """News about the VM from the watch over its project."""
        self._reports.append(report)

    @workflow.signal
    def preempting(self, instance_id: str = "") -> None:
        """A VM itself says that Google takes it back in 30 seconds; without an id, the one of now."""
        self._preempting = instance_id

    @workflow.signal
    def release(self) -> None:
        """The machine is destroyed or gives its standby back; it ends the VM itself."""
        self._released = True

    # A life -----------------------------------------------------------------------------------

    async def _step(self) -> None:
        if self._kept is not None and self._now.in_use and not self._whole:
            await self._fall_back_on(self._kept)
        elif self._standby is None:
            await self._unless(self._rent(), lambda: self._kept is not None and self._now.in_use)
        elif self._mirror_is_due() and not self._is_going(self._standby):
            await self._unless_superseded(self._mirror(self._standby))
        else:
            await self._next_news(self._standby)

    async def _rent(self) -> None:
        """A VM in the nearest zone that has one, with a guard on it."""
        policy = self._spec.protection
        assert policy is not None
        home = self._now.primary
        disk_gb = disk_for(self._spec.requirement.disk_gb)
        zones = await workflow.execute_activity_method(
            VmActivities.pick_zones,
            PickZones(
                region=home.region if home is not None else None,
                address=home.ssh.host if home is not None else None,
                machine_type=policy.standby_type,
                spot=policy.standby_spot,
                disk_gb=disk_gb,
                machine_id=self._spec.machine_id,
            ),
            task_queue=PROVIDER_GCP,
            summary="zones near the primary",
            **READ,
        )
        failures: list[DumontError] = []
        for zone in zones[:_ZONES_TRIED]:
            if self._released:
                return
            try:
                standby = await self._rent_in(zone, disk_gb)
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                failures.append(error_of(failure))
                continue
            self._standby, self._tries = standby, 0
            await self._event(
                EventKind.STANDBY_READY,
                f"standby ready in {zone.zone}: {zone.why}" if zone.why else "standby ready",
                usd_per_hour=standby.usd_per_hour,
                km=zone.km,
            )
            await self._tell(StandbyNews(standby=standby, status=ProtectionStatus.MIRRORING))
            return
        reasons = "; ".join(dict.fromkeys(f.message for f in failures)) or "no zone is up"
        raise NoCapacity(f"no standby could be had: {reasons}")

    async def _rent_in(self, zone: ZonePick, disk_gb: int) -> ActiveStandby:
        spec, policy = self._spec, self._spec.protection
        assert policy is not None
        self._number += 1
        label = str(Label(spec.env, spec.machine_id, self._number, 1))
        await workflow.execute_activity_method(
            RecordActivities.record_intent,
            Intent(
                label=f"standby/{label}",
                machine_id=spec.machine_id,
                generation=self._number,
                attempt=1,
                provider="gcp",
                offer_id=zone.zone,
                host_id=None,
                usd_per_hour=zone.usd_per_hour or 0.0,
                at=workflow.now(),
            ),
            summary=f"intend {label}",
            **RECORD,
        )
        await self._event(
            EventKind.STANDBY_CHOSEN, f"{policy.standby_type} in {zone.zone}", zone=zone.zone
        )
        try:
            await workflow.execute_activity_method(
                VmActivities.ensure_vm,
                EnsureVm(
                    spec=spec,
                    label=label,
                    zone=zone.zone,
                    machine_type=policy.standby_type,
                    spot=policy.standby_spot,
                    disk_gb=disk_gb,
                ),
                task_queue=PROVIDER_GCP,
                summary=f"rent {label} in {zone.zone}",
                **ENSURE,
            )
            vm = await self._running(label, zone.zone)
            return await self._guarded(vm, label, zone, number=self._number)
        except (ActivityError, asyncio.CancelledError):
            await asyncio.shield(self._end(label, "the standby did not become usable"))
            raise

    async def _running(self, label: str, zone: str) -> Instance:
        return await workflow.execute_activity_method(
            VmActivities.wait_until_vm_runs,
            VmAt(label=label, zone=zone),
            task_queue=PROVIDER_GCP,
            summary=f"until {label} runs",
            **WAIT,
        )

    async def _guarded(
        self, vm: Instance, label: str, zone: ZonePick, *, number: int
    ) -> ActiveStandby:
        """Wait for the VM's SSH, put the guard there, and know it as a standby."""
        assert vm.ssh is not None
        standby = ActiveStandby(
            provider=vm.provider,
            instance_id=vm.instance_id,
            label=label,
            zone=zone.zone,
            number=number,
            ssh=SshAddress(host=vm.ssh.host, port=vm.ssh.port, user="root"),
            endpoint=SshAddress(host=vm.ssh.host, port=ENDPOINT_PORT, user="root"),
            usd_per_hour=zone.usd_per_hour,
            ready_at=workflow.now(),
        )
        await workflow.execute_activity_method(
            ReadinessActivities.wait_until_reachable,
            WaitUntilReachable(
                machine_id=self._spec.machine_id,
                address=standby.ssh,
                within_s=self._timing.attempt_s,
            ),
            summary=f"until {label} answers",
            **WAIT,
        )
        if not self._now.in_use:
            await self._apply_guard(standby)
        return standby

    async def _mirror(self, standby: ActiveStandby) -> None:
        """Set up both agents for the primary's epoch, and see the first copy through."""
        primary, epoch = self._now.primary, self._now.epoch
        assert primary is not None
        rtt_ms = await workflow.execute_activity_method(
            MirrorActivities.measure_rtt,
            self._pair(standby),
            summary="round trip to the primary",
            **PATIENT,
        )
        standby = self._standby = standby.model_copy(update={"rtt_ms": rtt_ms})
        await self._apply_guard(standby)
        await workflow.execute_activity_method(
            MirrorActivities.apply_mirror,
            self._pair(standby),
            summary=f"mirror under epoch {epoch}",
            **PATIENT,
        )
        await workflow.execute_activity_method(
            MirrorActivities.wait_until_mirrored,
            self._pair(standby),
            summary="first copy",
            **WAIT,
        )
        self._mirrored_epoch, self._whole = epoch, True
        if self._kept is not None:
            await self._end(self._kept.label, "another standby has everything")
            self._kept = None
        await self._tell(
            StandbyNews(standby=standby, status=ProtectionStatus.PROTECTED, mirrored_epoch=epoch)
        )

    async def _apply_guard(self, standby: ActiveStandby) -> None:
        await workflow.execute_activity_method(
            MirrorActivities.apply_guard,
            self._pair(standby),
            summary=f"guard under epoch {self._now.epoch}",
            **PATIENT,
        )

    async def _next_news(self, standby: ActiveStandby) -> None:
        """Nothing happens until somebody says something."""
        await workflow.wait_condition(
            lambda: (
                self._released
                or self._is_taken_back(standby)
                or bool(self._reports)
                or self._mirror_is_due()
                or workflow.info().is_continue_as_new_suggested()
            )
        )
        reports, self._reports = self._reports, []
        lost = [report for report in reports if _is_lost(standby, report)]
        moved = _moved(standby, reports)
        if self._is_taken_back(standby) or lost:
            self._preempting = None
            gone = any(report.presence is Presence.GONE for report in lost)
            await self._lost(standby, has_disk=not gone)
            if self._preempting == standby.instance_id:
                self._preempting = None  # a guard says it as often as it says anything
        elif moved is not None:
            await self._moved_to(standby, moved)

    async def _lost(self, standby: ActiveStandby, *, has_disk: bool) -> None:
        """The VM is going or gone. Where people work on it, its disk is what must be kept."""
        await self._event(
            EventKind.STANDBY_LOST,
            "the standby is being taken back"
            + (
                "; it is started again with its disk" if self._now.in_use else "; another is rented"
            ),
            zone=standby.zone,
        )
        if workflow.patched(_LOST_IS_KEPT_ELSEWHERE):
            await self._keep_elsewhere(standby)
        if self._now.in_use:
            await self._tell(
                StandbyNews(
                    standby=standby,
                    status=ProtectionStatus.DEGRADED,
                    reason="the standby is restarting; its disk is kept",
                )
            )
            await self._start_again(standby)
            return
        if self._whole and has_disk and workflow.patched(_KEEPS_LOST):
            self._kept = standby
        self._standby, self._mirrored_epoch, self._whole = None, 0, False
        await self._tell(
            StandbyNews(
                standby=None,
                status=ProtectionStatus.DEGRADED,
                reason="the standby was taken back by its provider; another is being rented",
            )
        )
        if self._kept is standby:
            await self._stop(standby)
        else:
            await self._end(standby.label, "the standby was lost")

    async def _keep_elsewhere(self, standby: ActiveStandby) -> None:
        """For some minutes there is one copy less: the object store gets what is newest."""
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                Snapshot.run,
                SnapshotInput(machine_id=self._spec.machine_id, tags=("standby-lost",)),
                id=run_workflow_id(self._spec.machine_id, f"snapshot-lost-{standby.label}"),
                parent_close_policy=ParentClosePolicy.ABANDON,
            )

    async def _stop(self, standby: ActiveStandby) -> None:
        """Two standbys must not both believe that they may take over. What stops anyway may fail to."""
        try:
            await workflow.execute_activity_method(
                VmActivities.stop_vm,
                VmAt(label=standby.label, zone=standby.zone),
                task_queue=PROVIDER_GCP,
                summary=f"stop {standby.label}, keep its disk",
                **READ,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            workflow.logger.warning("not stopped: %s", error_of(failure).message)

    async def _fall_back_on(self, kept: ActiveStandby) -> None:
        """The GPU is lost too, before another standby had everything: this one has what there is."""
        partial = self._standby
        self._standby, self._kept, self._whole = kept, None, True
        await self._event(
            EventKind.STANDBY_LOST,
            "the GPU was lost before the new standby had everything; the one before is started again "
            "with its disk",
            zone=kept.zone,
        )
        await self._start_again(kept)
        if self._standby is None:
            self._standby = partial
        elif partial is not None:
            await self._end(partial.label, "it never had everything")

    async def _start_again(self, standby: ActiveStandby) -> None:
        """Start the same VM until it runs: its disk is the newest copy there is."""
        while not self._released and self._now.in_use:
            try:
                await workflow.execute_activity_method(
                    VmActivities.start_vm,
                    VmAt(label=standby.label, zone=standby.zone),
                    task_queue=PROVIDER_GCP,
                    summary=f"start {standby.label} again",
                    **ENSURE,
                )
                vm = await self._running(standby.label, standby.zone)
                await self._moved_to(standby, vm)
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                if error_of(failure).code == "instance_gone":
                    self._standby, self._whole = None, False
                    gone = "the standby and its disk are gone"
                    await self._tell(
                        StandbyNews(standby=None, status=ProtectionStatus.DEGRADED, reason=gone)
                    )
                    return
                await workflow.sleep(timedelta(seconds=self._timing.start_again_s))
            else:
                return
        if not self._released:
            # The GPU is back, with everything: this disk is needed until another standby has it too.
            self._standby, self._kept, self._whole = None, standby, False
            await self._stop(standby)

    async def _moved_to(self, standby: ActiveStandby, vm: Instance) -> None:
        """The VM runs at another address."""
        assert vm.ssh is not None
        moved = await self._guarded(
            vm,
            standby.label,
            ZonePick(zone=standby.zone, usd_per_hour=standby.usd_per_hour),
            number=standby.number,
        )
        self._standby = moved
        if self._now.in_use:
            # Fenced or not, it has to serve the endpoint at its new address.
            await workflow.execute_activity_method(
                MirrorActivities.move_guard,
                self._pair(moved),
                summary="endpoint at the new address",
                **PATIENT,
            )
        status = ProtectionStatus.DEGRADED if self._now.in_use else ProtectionStatus.MIRRORING
        self._mirrored_epoch = 0
        await self._tell(StandbyNews(standby=moved, status=status, reason="the standby has moved"))

    async def _failed(self, error: DumontError) -> None:
        """Say why there is no protection, and try again later or when something changes."""
        ladder = self._timing.retry_ladder_s
        self._tries += 1
        wait = timedelta(seconds=ladder[min(self._tries, len(ladder)) - 1])
        await self._event(EventKind.STANDBY_FAILED, error.message, code=error.code)
        await self._tell(
            StandbyNews(
                standby=self._standby, status=ProtectionStatus.DEGRADED, reason=error.message
            )
        )
        before = self._now
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._released or self._now != before,
                timeout=wait,
                timeout_summary="next try",
            )

    async def _unless_superseded(self, step: Coroutine[Any, Any, None]) -> None:
        """Do it, but not beyond the moment when it has become pointless."""
        asked, standby = self._now, self._standby
        await self._unless(step, lambda: self._now != asked or self._is_going(standby))

    async def _unless(self, step: Coroutine[Any, Any, None], is_over: Callable[[], bool]) -> None:
        """Do a step, and cancel it when it is over or the machine is."""
        task = asyncio.create_task(step)
        await workflow.wait_condition(lambda: task.done() or self._released or is_over())
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            try:
                await task
            except ActivityError as failure:
                if not is_cancelled_exception(failure):
                    raise

    def _is_going(self, standby: ActiveStandby | None) -> bool:
        """Whether there is unread news that this VM, not an earlier one, is lost or being taken back."""
        return self._is_taken_back(standby) or any(
            standby is not None and _is_lost(standby, report) for report in self._reports
        )

    def _is_taken_back(self, standby: ActiveStandby | None) -> bool:
        """Its own guard says so. What an earlier VM's says late must not cost the next one its life."""
        of = self._preempting
        return of == "" or (standby is not None and of == standby.instance_id)

    def _mirror_is_due(self) -> bool:
        return (
            self._standby is not None
            and self._now.primary is not None
            and not self._now.in_use
            and self._mirrored_epoch < self._now.epoch
        )

    def _pair(self, standby: ActiveStandby) -> Pair:
        return Pair(
            spec=self._spec,
            standby=standby,
            primary=self._now.primary,
            generation=self._now.generation,
            epoch=self._now.epoch,
        )

    async def _end(self, label: str, why: str) -> None:
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                EndInstances.run,
                EndInput(
                    machine_id=self._spec.machine_id,
                    target=EndTarget(label=label),
                    why=why,
                    confirm_s=self._timing.gone_confirm_s,
                    queue=PROVIDER_GCP,
                ),
                id=end_workflow_id(f"standby/{label}"),
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
        await workflow.execute_activity_method(
            RecordActivities.close_intent,
            CloseIntent(label=f"standby/{label}", outcome=f"ended: {why}"),
            **RECORD,
        )

    async def _tell(self, news: StandbyNews) -> None:
        machine = workflow.get_external_workflow_handle(machine_workflow_id(self._spec.machine_id))
        kept = self._kept.label if self._kept is not None else None
        news = news.model_copy(update={"whole": self._whole, "kept": kept})
        with suppress(FailureError):  # a machine that has ended needs no news
            await machine.signal("standby_changed", news)

    async def _event(self, kind: EventKind, summary: str, **data: object) -> None:
        self._events += 1
        event = MachineEvent(
            key=f"{self._spec.machine_id}/standby/{workflow.info().run_id}/{self._events}",
            machine_id=self._spec.machine_id,
            kind=kind,
            at=workflow.now(),
            generation=self._now.generation,
            summary=summary,
            data={"standby": self._number, **data},
        )
        await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)

    async def _continue_as_new(self) -> None:
        """Start a fresh history when nothing is unread."""
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._released or self._reports or self._is_taken_back(self._standby):
            return
        workflow.continue_as_new(
            StandbyInput(
                spec=self._spec,
                timing=self._timing,
                now=self._now,
                standby=self._standby,
                number=self._number,
                mirrored_epoch=self._mirrored_epoch,
                whole=self._whole,
                kept=self._kept,
            )
        )


def _is_lost(standby: ActiveStandby, report: InstanceReport) -> bool:
    if report.instance_id != standby.instance_id:
        return False
    if report.presence is Presence.GONE:
        return True
    return report.instance is not None and report.instance.state in (
        InstanceState.STOPPED,
        InstanceState.FAILED,
    )


def _moved(standby: ActiveStandby, reports: list[InstanceReport]) -> Instance | None:
    """The VM as it was last listed, when it runs at another address than we know."""
    for report in reversed(reports):
        vm = report.instance
        if (
            vm is not None
            and vm.instance_id == standby.instance_id
            and vm.state is InstanceState.RUNNING
            and vm.ssh is not None
            and vm.ssh.host != standby.ssh.host
        ):
            return vm
    return None
