"""Turning instances on and off: the transitions between their states, as background work.

PROVISIONING -> STAGING -> RUNNING -> STOPPING -> TERMINATED, RUNNING -> SUSPENDING -> SUSPENDED.
For one instance only one transition runs at a time; later ones wait, except that a deletion or a
hard kill ends a boot in progress. Who asked and what is recorded about it is in `lifecycle.py`.
"""

from __future__ import annotations

import asyncio
import shutil

from simcloud.context import CloudContext
from simcloud.gcp import accounts, boot, errors, prices
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.ledger import Ledger
from simcloud.gcp.machine_types import find_machine_type
from simcloud.gcp.metadata_server import MetadataServers
from simcloud.gcp.records import Instance, InstanceStatus
from simcloud.gcp.scheduling import is_preemptible, termination_time
from simcloud.gcp.stockouts import Stockouts

_PROVISIONING_SHARE = 0.3
"""Share of the boot time that an instance is PROVISIONING; the rest is STAGING."""

BOOT_EFFECTS = frozenset(
    {"stockout", "operation_error", "stuck", "no_ssh", "wrong_key", "small_disk"}
)
"""Faults that this module plays, at the operation `machine.boot`."""


class Power:
    """Carries out state changes. Every method is to be awaited to its end by one task."""

    def __init__(
        self,
        context: CloudContext,
        *,
        project: str,
        inventory: Inventory,
        ledger: Ledger,
        metadata: MetadataServers,
        stockouts: Stockouts,
    ) -> None:
        self._context = context
        self._project = project
        self._inventory = inventory
        self._ledger = ledger
        self._metadata = metadata
        self._stockouts = stockouts
        self._locks: dict[str, asyncio.Lock] = {}
        self._booting: dict[str, asyncio.Task[None]] = {}

    def lock(self, instance: Instance) -> asyncio.Lock:
        """Return the lock that serialises the transitions of an instance."""
        return self._locks.setdefault(instance.id, asyncio.Lock())

    async def turn_on(self, instance: Instance) -> None:
        """Bring an instance that has no machine to RUNNING.

        Raises:
            errors.OperationError: If the zone is out of machines or a fault says so, or if
                `abandon_boot` was called; the instance then has no machine and is TERMINATED.
        """
        boot_task = asyncio.create_task(self._boot(instance))
        self._booting[instance.id] = boot_task
        try:
            await asyncio.wait([boot_task])
        except asyncio.CancelledError:
            # simcloud is ending: the next one takes the boot up again
            boot_task.cancel()
            raise
        finally:
            self._booting.pop(instance.id, None)
        if boot_task.cancelled():
            await self._power_off(instance, grace_s=0.0)
            raise errors.OperationError(
                code="OPERATION_CANCELED_BY_USER",
                message="The operation was canceled: the instance was deleted or its host failed.",
                http_status=409,
                http_message="CONFLICT",
            )
        failure = boot_task.exception()
        if failure is not None:
            await self._power_off(instance, grace_s=0.0)
            raise failure

    def abandon_boot(self, instance: Instance) -> None:
        """End a boot in progress, if there is one; whoever started it is told."""
        boot_task = self._booting.get(instance.id)
        if boot_task is not None:
            boot_task.cancel()

    async def turn_off(self, instance: Instance, *, grace_s: float) -> None:
        """Shut an instance down: the guest is asked first and killed after `grace_s` seconds."""
        if instance.status == "TERMINATED":
            return
        self._set_status(instance, "STOPPING")
        await self._power_off(instance, grace_s=grace_s)

    async def cut(self, instance: Instance) -> None:
        """Take the power away: no signal to the guest, TERMINATED at once."""
        await self._power_off(instance, grace_s=0.0)

    async def reset(self, instance: Instance) -> None:
        """Kill the machine and boot it again; status and addresses stay."""
        await self._context.machines.kill(instance.machine)
        await self._start_machine(instance, ssh=True, without_keys=False)

    async def suspend(self, instance: Instance) -> None:
        """Freeze the machine in memory."""
        self._set_status(instance, "SUSPENDING")
        await self._context.machines.freeze(instance.machine)
        instance.last_suspended = self._context.clock.now()
        self._close_meters(instance)
        self._set_status(instance, "SUSPENDED")

    async def resume(self, instance: Instance) -> None:
        """Let a suspended machine go on where it stood."""
        self._set_status(instance, "PROVISIONING")
        await self._context.machines.thaw(instance.machine)
        self._open_meters(instance)
        self._set_status(instance, "RUNNING")

    async def discard(self, instance: Instance) -> None:
        """Delete an instance that is off, with the disks that go with it."""
        self._locks.pop(instance.id, None)
        for address in (
            instance.address,
            instance.retired_address,
            instance.metadata_address,
        ):
            if address is not None:
                self._context.addresses.release(address)
        self._inventory.remove(instance)
        for attachment in instance.disks:
            disk = self._inventory.disk(zone=instance.zone, name=attachment.disk)
            if attachment.auto_delete:
                await self.discard_disk(disk.name, zone=disk.zone)
            else:
                disk.user, disk.detached = None, self._context.clock.now()
                self._inventory.save_disk(disk)

    async def discard_disk(self, name: str, *, zone: str) -> None:
        """Delete a disk with its content."""
        disk = self._inventory.disk(zone=zone, name=name)
        self._inventory.remove_disk(disk)
        self._ledger.close(resource_id=disk.id)
        await self._context.machines.wipe(disk.machine)

    def note_death(self, instance: Instance, *, at: float | None = None) -> None:
        """Record that the machine is gone already: it ended by itself, or with its host."""
        instance.last_stop = self._context.clock.now() if at is None else at
        instance.maintenance_event = "NONE"
        self._retire_address(instance)
        self._close_meters(instance, at=at)
        self._metadata.close(instance)
        self._set_status(instance, "TERMINATED")

    async def refresh_keys(self, instance: Instance) -> None:
        """Give a machine the SSH keys that its metadata now name; nothing to do if it is off."""
        machines = self._context.machines
        if not machines.alive(instance.machine):
            return
        logins = boot.ssh_accounts(instance, self._inventory.metadata)
        machines.set_authorized_keys(instance.machine, logins.get(instance.login_user, []))
        await accounts.ensure_accounts(
            machines, instance.machine, logins, primary=instance.login_user
        )

    async def _boot(self, instance: Instance) -> None:
        delay = self._context.boot_delay()
        instance.preempted = False
        instance.maintenance_event = "NONE"
        instance.status_message = None
        self._set_status(instance, "PROVISIONING")
        await asyncio.sleep(delay * _PROVISIONING_SHARE)
        if self._stockouts.strikes(instance.zone):
            raise errors.zone_exhausted(project=self._project, zone=instance.zone)
        fault = self._context.faults.fire(
            provider="gcp",
            operation="machine.boot",
            effects=BOOT_EFFECTS,
            instance=instance.name,
            label=instance.name,
            zone=instance.zone,
        )
        effect = None if fault is None else fault.effect
        if effect == "stockout":
            raise errors.zone_exhausted(project=self._project, zone=instance.zone)
        if fault is not None and effect == "operation_error":
            raise errors.OperationError(
                code=fault.text("code", "INTERNAL_ERROR"),
                message=fault.text("message", "Internal error. Please try again."),
                http_status=int(fault.number("status", 500)),
                http_message=fault.text("http_message", "INTERNAL SERVER ERROR"),
            )
        self._set_status(instance, "STAGING")
        self._renew_address(instance)
        await asyncio.sleep(delay * (1 - _PROVISIONING_SHARE))
        if effect == "stuck":
            await asyncio.Event().wait()
        await self._start_machine(
            instance,
            ssh=effect != "no_ssh",
            without_keys=effect == "wrong_key",
            disk_mb=int(fault.number("mb", 64)) if fault and effect == "small_disk" else None,
        )
        now = self._context.clock.now()
        instance.last_start = now
        instance.termination_time = termination_time(instance.scheduling, started=now)
        self._open_meters(instance)
        self._set_status(instance, "RUNNING")

    async def _start_machine(
        self, instance: Instance, *, ssh: bool, without_keys: bool, disk_mb: int | None = None
    ) -> None:
        boot_disk = next(a for a in instance.disks if a.boot)
        assert instance.address is not None
        instance.ssh_port = boot.ssh_port(instance.address)
        instance.guest_attributes["simcloud/ssh-port"] = str(instance.ssh_port)
        if instance.metadata_address is None:
            instance.metadata_address = self._context.addresses.claim(f"gcp/{instance.id}/metadata")
        url = await self._metadata.open(instance)
        spec = boot.machine_spec(
            instance,
            project_metadata=self._inventory.metadata,
            metadata_url=url,
            disk_gb=self._inventory.disk(zone=instance.zone, name=boot_disk.disk).size_gb,
            ssh=ssh,
            without_keys=without_keys,
            disk_mb=disk_mb,
        )
        instance.login_user = spec.user
        starting = asyncio.create_task(self._context.machines.boot(spec))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # a process that is being created must be known to the engine before it can be killed
            await asyncio.wait([starting])
            raise
        if ssh and not without_keys:
            await self._furnish(instance)

    async def _furnish(self, instance: Instance) -> None:
        """Do what Google's guest agent does at boot, where there is something to do.

        Accounts that the engine does not make, and host keys for who asked for guest attributes.
        """
        logins = boot.ssh_accounts(instance, self._inventory.metadata)
        more_logins = bool(set(logins) - {instance.login_user}) or shutil.which("sudo") is not None
        assert instance.address is not None
        assert instance.ssh_port is not None
        if not more_logins and not instance.guest_attributes_enabled:
            return
        if not await accounts.until_reachable(instance.address, instance.ssh_port):
            return
        if more_logins:
            await accounts.ensure_accounts(
                self._context.machines, instance.machine, logins, primary=instance.login_user
            )
        if instance.guest_attributes_enabled:
            keys = await accounts.host_keys(instance.address, instance.ssh_port)
            for kind, key in keys.items():
                instance.guest_attributes[f"hostkeys/{kind}"] = key

    async def _power_off(self, instance: Instance, *, grace_s: float) -> None:
        if grace_s > 0:
            await self._context.machines.shut_down(instance.machine, grace_s)
        else:
            await self._context.machines.kill(instance.machine)
        self.note_death(instance)

    def _renew_address(self, instance: Instance) -> None:
        """Give an address that differs from the previous one, as ephemeral addresses do."""
        instance.address = self._context.addresses.claim(f"gcp/{instance.id}")
        if instance.retired_address is not None:
            self._context.addresses.release(instance.retired_address)
            instance.retired_address = None

    def _retire_address(self, instance: Instance) -> None:
        if instance.address is not None:
            instance.retired_address, instance.address = instance.address, None
        instance.ssh_port = None

    def _set_status(self, instance: Instance, status: InstanceStatus) -> None:
        instance.status = status
        self._inventory.save(instance)

    def _open_meters(self, instance: Instance) -> None:
        machine_type = find_machine_type(instance.machine_type)
        assert machine_type is not None
        spot = is_preemptible(instance.scheduling)
        price = prices.compute_price(family=machine_type.family, region=instance.region, spot=spot)
        lines = [
            ("core", machine_type.billed_cores, price.core),
            ("ram", machine_type.memory_mb / 1024, price.ram_gb),
        ]
        if instance.access_config is not None:
            lines.append(("address", 1.0, prices.address_price(spot=spot)))
        for sku, quantity, unit_price in lines:
            self._ledger.open(
                resource=f"instances/{instance.key}",
                resource_id=instance.id,
                region=instance.region,
                sku=sku,
                model="SPOT" if spot else "STANDARD",
                quantity=quantity,
                unit_price=unit_price,
            )

    def _close_meters(self, instance: Instance, *, at: float | None = None) -> None:
        self._ledger.close(resource_id=instance.id, at=at)
