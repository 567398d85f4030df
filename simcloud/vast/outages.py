"""What the world does to instances: hosts that vanish and return, containers that die."""

from __future__ import annotations

import asyncio

from simcloud.machines import LinkFault
from simcloud.vast.host import Host
from simcloud.vast.instance import Instance
from simcloud.vast.roster import Roster
from simcloud.vast.tenancy import Tenancy


class Outages:
    """Accidents, and the ends of them."""

    def __init__(self, roster: Roster, tenancy: Tenancy) -> None:
        self._roster = roster
        self._tenancy = tenancy
        self._machines = roster.context.machines
        self._machines.on_exit(self._container_ended)

    async def go_offline(self, host: Host, *, network_only: bool) -> None:
        """Take a host away from the world.

        Args:
            host: Which.
            network_only: Its machines go on living, cut off (frozen where links cannot be cut);
                otherwise the power is gone.
        """
        if not host.online:
            return
        affected = self._roster.on_host(host)
        for instance in affected:
            self._roster.meter(instance)
        host.online = False
        self._roster.market.save(host)
        for instance in affected:
            if instance.cur_state != "running":
                continue
            await self._roster.transitions.still(instance.id)
            fall = self._lose_sight(instance, network_only)
            self._roster.transitions.begin(instance.id, fall)
            self._roster.notify("instance_offline", instance)

    async def come_back(self, host: Host, *, new_address: bool | None = None) -> None:
        """Bring a host back.

        Args:
            host: Which.
            new_address: Whether it has another address now; None leaves that to the host: one
                without a static address has.
        """
        if host.online:
            return
        moved = not host.static_ip if new_address is None else new_address
        affected = self._roster.on_host(host)
        for instance in affected:
            self._roster.meter(instance)
        host.online = True
        if moved:
            self._move(host, affected)
        self._roster.market.save(host)
        for instance in affected:
            self._roster.save(instance)
            if instance.cur_state == "running":
                await self._roster.transitions.still(instance.id)
                rise = self._regain(instance, host, moved=moved)
                self._roster.transitions.begin(instance.id, rise)
                self._roster.notify("instance_online", instance)
        self._tenancy.settle(host)

    def _move(self, host: Host, instances: list[Instance]) -> None:
        """Give a host and its instances other addresses."""
        addresses = self._roster.context.addresses
        old, host.address = host.address, addresses.claim(f"vast-host-{host.machine_id}")
        addresses.release(old)
        for instance in instances:
            if instance.address == old:
                instance.address = host.address
            else:
                addresses.release(instance.address)
                instance.address = addresses.claim(instance.name)

    async def _lose_sight(self, instance: Instance, network_only: bool) -> None:
        if network_only and self._machines.alive(instance.name):
            if self._machines.links:
                await self._machines.set_link(instance.name, LinkFault(cut="both"))
            else:
                await self._machines.freeze(instance.name)
        else:
            await self._roster.containers.end(instance)
        instance.actual_status = "unknown"
        self._roster.save(instance)
        await asyncio.sleep(self._roster.knobs.offline_after_seconds)
        instance.actual_status = "offline"
        self._roster.save(instance)

    async def _regain(self, instance: Instance, host: Host, *, moved: bool) -> None:
        frozen = self._machines.frozen(instance.name)
        cut = not self._machines.link(instance.name).sound
        if (frozen or cut) and not moved:
            if frozen:
                await self._machines.thaw(instance.name)
            if cut:
                await self._machines.set_link(instance.name, LinkFault())
            instance.actual_status = "running"
            self._roster.save(instance)
            return
        await self._roster.containers.boot(instance, host)

    def _container_ended(self, name: str) -> None:
        instance = next((each for each in self._roster.existing() if each.name == name), None)
        if instance is None or instance.cur_state != "running":
            return

        async def report() -> None:
            await self._roster.containers.end(instance)
            # the host's daemon needs a moment to notice
            await asyncio.sleep(self._roster.knobs.exit_report_seconds)
            self._roster.meter(instance)
            instance.actual_status = "exited"
            instance.status_msg = "container exited"
            instance.running_since = None
            instance.rebooted = True
            self._roster.save(instance)

        if self._roster.host_of(instance).online:
            self._roster.transitions.begin(instance.id, report())
