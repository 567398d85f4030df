"""What the owner asks for: rent, start, stop, bid, restart, destroy; and what money forbids."""

from __future__ import annotations

import secrets
import time
from typing import Literal

from simcloud.vast.container import choose_ports
from simcloud.vast.errors import VastError, unavailable
from simcloud.vast.host import DAY, Host, Slot
from simcloud.vast.instance import AttachedKey, Instance, serves_ssh
from simcloud.vast.ordering import Order
from simcloud.vast.roster import Roster
from simcloud.vast.tenancy import Tenancy

_DELETED_AFTER_END = 2 * DAY


class Fleet:
    """The owner's hand on the instances."""

    def __init__(self, roster: Roster, tenancy: Tenancy) -> None:
        self._roster = roster
        self._tenancy = tenancy
        self._context = roster.context
        self._market = roster.market
        self._billing = roster.billing

    async def create(
        self,
        order: Order,
        *,
        host: Host,
        slot: Slot,
        keys: list[AttachedKey],
        born_stopped: bool = False,
    ) -> Instance:
        """Rent a slot.

        Args:
            order: What is wanted.
            host: Where.
            slot: Which GPUs.
            keys: Public keys that may log in.
            born_stopped: Create it, but let it not start (a fault).

        Raises:
            VastError: 410 when it cannot start now and the order says to cancel then.
        """
        low_bid = order.price is not None and order.price < self._market.min_bid(
            host, slot, own_bid=self._tenancy.own_bid(host, slot)
        )
        startable = self._tenancy.free(host, slot) and not low_bid
        if order.cancel_unavail and not startable:
            raise unavailable(slot.ask_id)
        instance = self._draw_up(order, host, slot, keys)
        if order.target_stopped or born_stopped:
            instance.wanted = False
            self._tenancy.mark_stopped(instance, hold="target")
        elif not startable:
            self._tenancy.mark_stopped(instance, hold="birth")
        self._roster.add(instance)
        if instance.cur_state == "running":
            self._tenancy.take(instance, host, slot)
            self._boot(instance)
        self._market.renew_ask(host, slot)
        self._tenancy.settle(host)
        return instance

    def start(self, instance: Instance) -> None:
        """Let a stopped instance run as soon as its slot is free.

        Raises:
            VastError: 400 when its contract has ended or no credit is left.
        """
        if instance.hold == "expired":
            raise VastError(400, "invalid_args", "the contract has ended; it cannot be restarted")
        if self._billing.credit <= 0:
            raise self.no_credit()
        self._roster.meter(instance)
        instance.wanted = True
        instance.hold = None if instance.hold in ("owner", "credit", "target") else instance.hold
        instance.intended_status = instance.next_state = "running"
        self._roster.save(instance)
        if instance.rebooted and instance.cur_state == "running":
            instance.rebooted = False
            self._boot(instance)
            return
        self._tenancy.settle(self._roster.host_of(instance))

    def stop(self, instance: Instance) -> None:
        """Stop an instance for its owner; the disk stays and goes on billing."""
        instance.wanted = False
        grace = self._roster.knobs.stop_grace_seconds
        self._tenancy.halt(instance, hold="owner", grace_s=grace)

    def change_bid(self, instance: Instance, price: float | None) -> None:
        """Place a new bid; None bids what wins now.

        Raises:
            VastError: 400 when the instance is on demand.
        """
        if not instance.is_bid:
            raise VastError(400, "invalid_args", "the instance is on demand; it has no bid")
        self._roster.meter(instance)
        host = self._roster.host_of(instance)
        if price is None:
            price = self._market.min_bid(host, self._roster.slot_of(instance))
        instance.price = price
        self._roster.save(instance)
        self._tenancy.settle(host)

    async def destroy(self, instance: Instance, *, listed_s: float = 0.0) -> None:
        """End an instance, its disk and its bill; returns when its processes are gone.

        Args:
            instance: Which.
            listed_s: Real seconds for which listings still show it.
        """
        roster, tenancy = self._roster, self._tenancy
        roster.meter(instance)
        await roster.transitions.still(instance.id)
        if not instance.exists():
            return
        host = roster.host_of(instance)
        instance.wanted = False
        instance.gone_at = time.time()
        roster.save(instance)
        await roster.containers.wipe(instance)
        tenancy.release(instance)
        if instance.address != host.address:
            self._context.addresses.release(instance.address)
        self._billing.forget(instance.id)
        linger = max(listed_s, roster.knobs.destroyed_listed_seconds)
        if linger > 0:
            tenancy.mark_stopped(instance, hold=instance.hold)
            instance.actual_status = "exited"
            roster.save(instance)
            roster.transitions.later(linger, lambda: roster.forget(instance))
        else:
            roster.forget(instance)
        tenancy.settle(host)

    def reboot(self, instance: Instance, *, recycle: bool = False) -> None:
        """Restart the container on its GPU; `recycle` makes a new one with an empty disk.

        Raises:
            VastError: 400 when it holds no GPU.
        """
        if instance.cur_state != "running":
            raise VastError(400, "invalid_args", f"instance {instance.id} is not running")
        roster = self._roster
        host = roster.host_of(instance)
        grace = roster.knobs.stop_grace_seconds

        async def again() -> None:
            instance.actual_status = "recycling" if recycle else "rebooting"
            roster.save(instance)
            await roster.containers.end(instance, grace_s=grace)
            if recycle:
                await roster.containers.wipe(instance)
            await roster.containers.boot(instance, host)

        roster.meter(instance)
        instance.rebooted = False
        roster.transitions.begin(instance.id, again())

    def bill_all(self) -> None:
        """Meter everything, stop what cannot be paid, end what has expired."""
        with self._context.store.transaction():
            self._bill_all()

    def _bill_all(self) -> None:
        now = self._context.clock.now()
        for instance in self._roster.existing():
            self._roster.meter(instance)
            if now >= instance.end_date + _DELETED_AFTER_END:
                self._roster.transitions.begin(instance.id, self.destroy(instance))
            elif now >= instance.end_date and instance.hold != "expired":
                self._force_stop(instance, hold="expired")
        if self._billing.credit <= 0:
            for instance in self._roster.existing():
                if instance.wanted:
                    self._force_stop(instance, hold="credit")

    def no_credit(self) -> VastError:
        """Return the refusal of an account without money."""
        knobs = self._roster.knobs
        return VastError(
            knobs.credit_status,
            knobs.credit_slug,
            f"error {knobs.credit_status}/3744: {knobs.credit_slug} Insufficient credits. "
            f"Your balance is ${self._billing.credit:.2f}; please add credit.",
        )

    def _force_stop(self, instance: Instance, *, hold: Literal["expired", "credit"]) -> None:
        instance.wanted = False
        self._tenancy.halt(instance, hold=hold, grace_s=0.0)
        self._roster.notify("instance_stopped", instance)

    def _boot(self, instance: Instance) -> None:
        work = self._roster.containers.boot(instance, self._roster.host_of(instance))
        self._roster.transitions.begin(instance.id, work)

    def _draw_up(self, order: Order, host: Host, slot: Slot, keys: list[AttachedKey]) -> Instance:
        """Write the contract."""
        rng, now = self._context.rng, self._context.clock.now()
        number = self._context.store.next_id("vast.instance", start=24_000_001)
        used: set[int] = set()

        def pick() -> int:
            while (port := rng.randint(40_000, 60_000)) in used:
                continue
            used.add(port)
            return port

        return Instance(
            id=number,
            machine_id=host.machine_id,
            slot=slot.index,
            ask_id=slot.ask_id,
            label=order.label,
            image=order.image,
            image_args=order.image_args,
            env=order.env,
            onstart=order.onstart,
            runtype=order.runtype,
            disk_gb=order.disk_gb,
            is_bid=order.price is not None,
            price=self._market.price(host, slot) if order.price is None else order.price,
            storage_cost=host.storage_cost,
            inet_up_cost=host.inet_up_cost,
            inet_down_cost=host.inet_down_cost,
            created_at=now,
            end_date=host.end_date,
            address=self._address_for(host, number),
            host_ports=choose_ports(
                order.env,
                pick=pick,
                ssh=serves_ssh(order.runtype),
                jupyter="jupyter" in order.runtype,
            ),
            ssh_port=10_000 + 2 * (number % 25_000),
            api_key=secrets.token_hex(32),
            jupyter_token=secrets.token_hex(32),
            keys=keys,
            template_hash_id=order.template_hash_id,
            template_id=order.template_id,
            billed_until=now,
        )

    def _address_for(self, host: Host, number: int) -> str:
        """The first instance on a host has the host's own address, others one of their own."""
        if all(each.address != host.address for each in self._roster.on_host(host)):
            return host.address
        return self._context.addresses.claim(f"vast-{number}")
