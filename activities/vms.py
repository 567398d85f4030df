"""Renting the CPU VM that stands by. Every write is keyed by the VM's name, which is its label."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.deadline import Deadline
from activities.heartbeat import heartbeating
from dumont.domain.errors import InstanceDead, InstanceGone, ProviderError
from dumont.domain.instances import Instance, InstanceState, Message
from dumont.domain.labels import MACHINE_KEY
from dumont.domain.machine import MachineSpec
from dumont.ports import MachineSecrets, SecretStore, VmOrder, VmProvider

POLL_S = 2.0
MISSING_PATIENCE = timedelta(seconds=60)
LEAST_DISK_GB = 10
SYSTEM_GB = 6
"""What the VM's own system needs beside the workspace."""


class ZonePick(Message):
    """A zone for a standby, and why there."""

    zone: str
    km: float | None = None
    """From the primary, great circle; None when its place is unknown."""
    usd_per_hour: float | None = None
    """VM, disk and address, estimated from list prices; None when unknown."""
    why: str = ""


class PickZones(Message):
    """Input of `pick_zones`."""

    region: str | None
    """The primary's location in its provider's words."""
    address: str | None = None
    """The primary's public address, for a second opinion."""
    machine_type: str
    spot: bool
    disk_gb: int
    machine_id: str = ""
    """Spreads the standbys of a place over its zones."""
    avoid: tuple[str, ...] = ()


PlaceZones = Callable[[PickZones, Sequence[str]], list[ZonePick]]
"""The domain's choice among the zones that are up, best first."""

StandbyStart = Callable[[MachineSecrets, Sequence[str]], str]
"""Writes the startup script from the machine's keys and its owner's."""


class EnsureVm(Message):
    """Input of `ensure_vm`."""

    spec: MachineSpec
    label: str
    zone: str
    machine_type: str
    spot: bool
    disk_gb: int


class VmAt(Message):
    """Input of `wait_until_vm_runs`, `start_vm` and `stop_vm`."""

    label: str
    zone: str
    within_s: float = 300.0


class VmActivities:
    """Reads and writes of one Google project."""

    def __init__(
        self,
        *,
        provider: VmProvider,
        secrets: SecretStore,
        place: PlaceZones,
        start_script: StandbyStart,
        poll_s: float = POLL_S,
    ) -> None:
        self._provider = provider
        self._secrets = secrets
        self._place = place
        self._start_script = start_script
        self._poll_s = poll_s

    @activity.defn
    async def pick_zones(self, ask: PickZones) -> list[ZonePick]:
        """The zones worth trying for a standby, nearest first."""
        async with heartbeating():
            return self._place(ask, await self._provider.zones())

    @activity.defn
    async def ensure_vm(self, ask: EnsureVm) -> Instance:
        """Have the VM. Safe to repeat: the name is its key at Google.

        Raises:
            QuotaExceeded, AuthFailed, RequestRefused: Final for this zone.
            ProviderUnavailable, RateLimited: Again later; a stock-out is one of these.
        """
        keys = await self._secrets.ensure_machine_secrets(ask.spec.machine_id)
        order = VmOrder(
            name=ask.label,
            zone=ask.zone,
            machine_type=ask.machine_type,
            disk_gb=ask.disk_gb,
            spot=ask.spot,
            ssh_keys=(keys.access_key_public,),
            startup_script=self._start_script(keys, ask.spec.authorized_keys),
            labels={MACHINE_KEY: ask.spec.machine_id},
        )
        async with heartbeating():
            return await self._provider.insert(order)

    @activity.defn
    async def start_vm(self, ask: VmAt) -> None:
        """Start a stopped VM again; its disk is as it was. One that runs is left alone."""
        async with heartbeating():
            vm = await self._provider.get(zone=ask.zone, name=ask.label)
            if vm is not None and vm.state in (InstanceState.RUNNING, InstanceState.STARTING):
                return
            await self._provider.start(zone=ask.zone, name=ask.label)

    @activity.defn
    async def stop_vm(self, ask: VmAt) -> None:
        """Stop a VM, its disk is kept. One that is gone, stopped or stopping is left alone."""
        async with heartbeating():
            vm = await self._provider.get(zone=ask.zone, name=ask.label)
            if vm is None or vm.state is InstanceState.STOPPED:
                return
            with suppress(InstanceGone):
                await self._provider.stop(zone=ask.zone, name=ask.label)

    @activity.defn
    async def wait_until_vm_runs(self, ask: VmAt) -> Instance:
        """Wait until the VM runs and has an address.

        Raises:
            InstanceDead: It vanished or stopped, or time is up.
        """
        deadline = Deadline(ask.within_s)
        missing_since: datetime | None = None
        last = "nothing known"
        async with heartbeating():
            while not deadline.passed():
                try:
                    vm = await self._provider.get(zone=ask.zone, name=ask.label)
                except ProviderError as error:
                    if not error.retryable:
                        raise
                    await asyncio.sleep(error.retry_after or self._poll_s)
                    continue
                if vm is None:
                    missing_since = missing_since or datetime.now(UTC)
                    if datetime.now(UTC) - missing_since > MISSING_PATIENCE:
                        raise InstanceDead(f"VM {ask.label} vanished while starting")
                else:
                    missing_since, last = None, vm.detail
                    if vm.state in (InstanceState.STOPPED, InstanceState.FAILED):
                        raise InstanceDead(f"VM {ask.label} stopped while starting: {vm.detail}")
                    if vm.state is InstanceState.RUNNING and vm.ssh is not None:
                        return vm
                await asyncio.sleep(self._poll_s)
        raise InstanceDead(f"VM {ask.label} not running in time: {last}")


def disk_for(workspace_gb: float) -> int:
    """Size of a standby's disk for a machine's workspace, GB."""
    return max(LEAST_DISK_GB, round(workspace_gb) + SYSTEM_GB)
