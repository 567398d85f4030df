"""What happens to instances and who caused it: each request or event becomes an operation and a
transition of `power.py` in the background.

Google's own acts (preemption, host error, end of the allowed run time) are recorded as operations
of the user `system`, as the real API shows them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from simcloud.context import CloudContext
from simcloud.gcp import errors
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.operations import SYSTEM_USER, Operations
from simcloud.gcp.power import Power
from simcloud.gcp.records import Instance, Operation
from simcloud.gcp.scheduling import is_preemptible, notice_seconds, termination_action

log = logging.getLogger(__name__)

STOP_GRACE_S = 90.0
"""How long a guest may take to shut down when asked to stop."""
PREEMPTION_GRACE_S = 30.0
"""How long a guest may take when its instance is preempted."""
_QUICK_S = 0.15
"""How long operations take that change the resource alone."""


class Lifecycle:
    """Starts transitions; keeps track of them until they end."""

    def __init__(
        self,
        context: CloudContext,
        *,
        inventory: Inventory,
        operations: Operations,
        power: Power,
    ) -> None:
        self._clock = context.clock
        self._machines = context.machines
        self._inventory = inventory
        self._operations = operations
        self._power = power
        self._tasks: set[asyncio.Task[None]] = set()
        context.machines.on_exit(self._machine_exited)

    def begin(
        self,
        instance: Instance,
        *,
        type: str,
        user: str,
        request_id: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> Operation:
        """Record an operation on an instance; the caller starts the work."""
        return self._operations.start(
            type=type,
            scope=f"zones/{instance.zone}",
            target=self._inventory.instance_path(zone=instance.zone, name=instance.name),
            target_id=instance.id,
            user=user,
            request_id=request_id,
            arguments={"instance": instance.key, **(arguments or {})},
        )

    def insert(self, instance: Instance, operation: Operation) -> None:
        """Boot a new instance; if that fails the instance is gone again."""

        async def work() -> None:
            try:
                await self._power.turn_on(instance)
            except errors.OperationError:
                if self._inventory.exists(instance):
                    await self._power.discard(instance)
                raise

        self._run(instance, operation, work)

    def start(self, instance: Instance, operation: Operation) -> None:
        """Boot an instance that is off; nothing to do for one that is on."""

        async def work() -> None:
            if instance.status == "TERMINATED":
                await self._power.turn_on(instance)

        self._run(instance, operation, work)

    def stop(
        self, instance: Instance, operation: Operation, *, grace_s: float = STOP_GRACE_S
    ) -> None:
        """Shut an instance down."""

        async def work() -> None:
            if instance.status == "SUSPENDED":
                await self._power.cut(instance)
            await self._power.turn_off(instance, grace_s=grace_s)

        self._run(instance, operation, work)

    def delete(
        self, instance: Instance, operation: Operation, *, grace_s: float = STOP_GRACE_S
    ) -> None:
        """Shut an instance down and remove it, with its auto-delete disks."""

        async def work() -> None:
            if instance.status == "SUSPENDED":
                await self._power.cut(instance)
            await self._power.turn_off(instance, grace_s=grace_s)
            if self._inventory.exists(instance):
                await self._power.discard(instance)

        self._power.abandon_boot(instance)
        self._run(instance, operation, work)

    def reset(self, instance: Instance, operation: Operation) -> None:
        """Restart the machine hard."""
        self._run(instance, operation, lambda: self._power.reset(instance))

    def suspend(self, instance: Instance, operation: Operation) -> None:
        """Freeze the machine."""
        self._run(instance, operation, lambda: self._power.suspend(instance))

    def resume(self, instance: Instance, operation: Operation) -> None:
        """Thaw the machine."""
        self._run(instance, operation, lambda: self._power.resume(instance))

    def settle(self, operation: Operation) -> None:
        """Finish an operation whose change is made already, after a moment."""

        async def work() -> None:
            await asyncio.sleep(_QUICK_S)
            self._operations.finish(operation)

        self._spawn(work())

    def preempt(self, instance: Instance) -> Operation:
        """Take a Spot instance away, with the notice it is due.

        Raises:
            errors.GoogleError: 400 if it is not preemptible, or not running.
        """
        if not is_preemptible(instance.scheduling):
            raise errors.invalid("instance", instance.name, "Only Spot VMs can be preempted.")
        if instance.status != "RUNNING" or instance.preempted:
            raise errors.not_ready(
                self._inventory.instance_path(zone=instance.zone, name=instance.name)
            )
        instance.preempted = True
        instance.maintenance_event = "TERMINATE_ON_HOST_MAINTENANCE"
        self._inventory.save(instance)
        record = self._record_event(
            instance, "compute.instances.preempted", "Instance was preempted."
        )
        notice = notice_seconds(instance.scheduling)
        at_once = bool(instance.scheduling.get("skipGuestOsShutdown"))
        grace = 0.0 if at_once else PREEMPTION_GRACE_S

        async def work() -> None:
            if notice > 0:
                await asyncio.sleep(notice)
            await self._end(instance, grace_s=grace)

        self._spawn(work())
        return record

    def expire(self, instance: Instance) -> Operation:
        """End an instance whose allowed run time is over."""
        instance.termination_time = None
        self._inventory.save(instance)
        legacy = instance.scheduling["provisioningModel"] != "SPOT" and is_preemptible(
            instance.scheduling
        )
        if legacy and "maxRunDuration" not in instance.scheduling:
            # the older preemptible VMs live for a day at most, and end by preemption
            return self.preempt(instance)
        action = termination_action(instance.scheduling)
        operation = self.begin(instance, type=action.lower(), user=SYSTEM_USER)
        if action == "DELETE":
            self.delete(instance, operation)
        else:
            self.stop(instance, operation)
        return operation

    def fail_host(self, instance: Instance) -> Operation:
        """Let the host under an instance fail: no notice, everything in it dies at once."""
        if not instance.up:
            raise errors.not_ready(
                self._inventory.instance_path(zone=instance.zone, name=instance.name)
            )
        record = self._record_event(
            instance, "compute.instances.hostError", "Instance terminated by Compute Engine."
        )

        async def work() -> None:
            # before the queue: a failing host waits for no shutdown in progress
            await self._machines.kill(instance.machine)
            async with self._power.lock(instance):
                if instance.status != "TERMINATED":
                    await self._power.cut(instance)
            self._restart_if_due(instance)

        self._power.abandon_boot(instance)
        self._spawn(work())
        return record

    def maintain(self, instance: Instance) -> None:
        """Play a host maintenance event: Spot is preempted, others move or restart."""
        if is_preemptible(instance.scheduling):
            self.preempt(instance)
            return
        migrates = instance.scheduling["onHostMaintenance"] == "MIGRATE"
        verb = "MIGRATE" if migrates else "TERMINATE"
        instance.maintenance_event = f"{verb}_ON_HOST_MAINTENANCE"
        self._inventory.save(instance)
        self._record_event(
            instance,
            f"compute.instances.{verb.lower()}OnHostMaintenance",
            f"Instance {'migrated' if migrates else 'terminated'} during Compute Engine maintenance.",
        )

        async def work() -> None:
            if not migrates:
                await self._end(instance, grace_s=STOP_GRACE_S)
                self._restart_if_due(instance)
                return
            await asyncio.sleep(1.0)
            instance.maintenance_event = "NONE"
            self._inventory.save(instance)

        self._spawn(work())

    def take_up(self, *, last_seen: float) -> None:
        """Go on after a restart of simcloud, which is to its instances what a host reboot is.

        What was running is off now (`automaticRestart` is left to the user, so that a restart
        shows); what was being done is done to its end.

        Args:
            last_seen: When the previous simcloud was last known to run; bills end there.
        """
        resumed: set[str] = set()
        for operation in list(self._operations.unfinished()):
            instance = self._named(operation.arguments.get("instance", ""))
            if instance is None:
                self._operations.finish(operation)
                continue
            resumed.add(instance.key)
            self._take_up_operation(instance, operation, last_seen=last_seen)
        for instance in self._inventory.instances():
            if instance.key not in resumed and instance.status != "TERMINATED":
                self._power.note_death(instance, at=last_seen)
                self._record_event(
                    instance,
                    "compute.instances.hostError",
                    "Instance terminated by Compute Engine.",
                )

    async def close(self) -> None:
        """Abandon all work in progress; `take_up` of the next simcloud goes on with it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_up_operation(
        self, instance: Instance, operation: Operation, *, last_seen: float
    ) -> None:
        beginning = instance.status in ("PROVISIONING", "STAGING")
        self._power.note_death(instance, at=last_seen)
        if operation.type == "insert" and beginning:
            self.insert(instance, operation)
        elif operation.type in ("start", "compute.instances.automaticRestart"):
            self.start(instance, operation)
        elif operation.type == "delete":
            self.delete(instance, operation)
        else:
            self._operations.finish(operation)

    def _named(self, key: str) -> Instance | None:
        zone, _, name = key.partition("/")
        if not self._inventory.has_instance(zone=zone, name=name):
            return None
        return self._inventory.instance(zone=zone, name=name)

    async def _end(self, instance: Instance, *, grace_s: float) -> None:
        """Shut down and do what the termination action says."""
        async with self._power.lock(instance):
            if not self._inventory.exists(instance):
                return
            await self._power.turn_off(instance, grace_s=grace_s)
            preempted_for_good = (
                is_preemptible(instance.scheduling)
                and termination_action(instance.scheduling) == "DELETE"
            )
            if preempted_for_good:
                await self._power.discard(instance)

    def _restart_if_due(self, instance: Instance) -> None:
        if instance.scheduling["automaticRestart"] and self._inventory.exists(instance):
            operation = self.begin(
                instance, type="compute.instances.automaticRestart", user=SYSTEM_USER
            )
            self.start(instance, operation)

    def _record_event(self, instance: Instance, type: str, message: str) -> Operation:
        return self._operations.finish(
            self.begin(instance, type=type, user=SYSTEM_USER), message=message
        )

    def _machine_exited(self, machine: str) -> None:
        """The guest switched itself off, or its init died."""
        instance = self._inventory.by_machine(machine)
        if instance is None or instance.status == "TERMINATED":
            return
        log.info("instance %s ended by itself", instance.key)
        self._power.note_death(instance)
        self._record_event(
            instance,
            "compute.instances.guestTerminate",
            "Guest OS shutdown: instance terminated.",
        )

    def _run(
        self,
        instance: Instance,
        operation: Operation,
        work: Callable[[], Awaitable[None]],
    ) -> None:
        async def carry_out() -> None:
            failure: errors.OperationError | None = None
            try:
                async with self._power.lock(instance):
                    await work()
            except errors.OperationError as refused:
                failure = refused
            except Exception:
                # a bug or a full disk here must show to the client as what it is at Google
                log.exception("operation %s on %s failed", operation.type, instance.key)
                failure = errors.OperationError(
                    code="INTERNAL_ERROR",
                    message="Internal error. Please try again or contact Google Support.",
                    http_status=500,
                    http_message="INTERNAL SERVER ERROR",
                )
            self._operations.finish(operation, error=failure)

        self._spawn(carry_out())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background work failed", exc_info=task.exception())
