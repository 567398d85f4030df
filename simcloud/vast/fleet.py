"""All instances of the account: who gets a slot, who loses it, and what the four status axes say.

`settle` is the one place that decides who runs: an on-demand holder first, then the highest bid
that beats the market. Everything that can change the answer (a price, a bid, a stop, a host that
comes back) calls it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from simcloud.context import CloudContext
from simcloud.vast.billing import Billing
from simcloud.vast.container import Containers, choose_ports
from simcloud.vast.errors import VastError, no_such_instance, unavailable
from simcloud.vast.host import DAY, Host, Slot
from simcloud.vast.instance import AttachedKey, Hold, Instance, serves_ssh
from simcloud.vast.knobs import KnobStore
from simcloud.vast.market import Market
from simcloud.vast.ordering import Order

log = logging.getLogger(__name__)

Notify = Callable[[str, Instance], None]

_DELETED_AFTER_END = 2 * DAY


class Fleet:
    """The account's instances and every transition of theirs."""

    def __init__(
        self,
        context: CloudContext,
        *,
        market: Market,
        billing: Billing,
        knobs: KnobStore,
        notify: Notify,
    ) -> None:
        self._context = context
        self._clock = context.clock
        self._market = market
        self._billing = billing
        self._knobs = knobs
        self._notify = notify
        self._documents = context.store.collection("vast.instances")
        self.containers = Containers(context, save=self.save)
        self.instances: dict[int, Instance] = {}
        self._transitions: dict[int, asyncio.Task[None]] = {}
        self._timers: set[asyncio.Task[None]] = set()
        market.on_change = self.settle
        market.has_tenant = self._has_tenant
        context.machines.on_exit(self._container_ended)
        for _, document in self._documents.items():
            self._wake(Instance.model_validate(document))

    # -- looking ---------------------------------------------------------------------------

    def get(self, instance_id: int) -> Instance:
        """Return an existing instance.

        Raises:
            VastError: 404 when there is none.
        """
        instance = self.instances.get(instance_id)
        if instance is None or not instance.exists():
            raise no_such_instance(instance_id, self._knobs.values.missing_instance_slug)
        return instance

    def listed(self) -> list[Instance]:
        """Return what a listing shows, oldest first: also what was destroyed a moment ago."""
        return [*self.instances.values()]

    def host_of(self, instance: Instance) -> Host:
        """Return the host an instance is on."""
        return self._market.hosts[instance.machine_id]

    def own_bid(self, host: Host, slot: Slot) -> float:
        """Return the highest bid of ours that runs in a slot, 0 when none does."""
        return max(
            (
                each.price
                for each in self._in_slot(host, slot)
                if each.is_bid and each.cur_state == "running"
            ),
            default=0.0,
        )

    def save(self, instance: Instance) -> None:
        """Write an instance down."""
        if instance.id in self.instances:
            self._documents.put(str(instance.id), instance.model_dump())

    # -- what the owner asks for -----------------------------------------------------------

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
            host, slot, own_bid=self.own_bid(host, slot)
        )
        if order.cancel_unavail and (low_bid or not self._free(host, slot)):
            raise unavailable(slot.ask_id)
        instance = self._draw_up(order, host, slot, keys)
        self.instances[instance.id] = instance
        if order.target_stopped or born_stopped:
            instance.wanted = False
            self._mark_stopped(instance, hold="target")
        elif low_bid or not self._free(host, slot):
            self._mark_stopped(instance, hold="birth")
        self.save(instance)
        if instance.cur_state == "running":
            self._take(instance, host, slot)
            self._transit(instance, self.containers.boot(instance, host))
        self._market.renew_ask(host, slot)
        self.settle(host)
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
        self.meter(instance)
        instance.wanted = True
        instance.hold = None if instance.hold in ("owner", "credit", "target") else instance.hold
        instance.intended_status = instance.next_state = "running"
        self.save(instance)
        host = self.host_of(instance)
        if instance.rebooted and instance.cur_state == "running":
            instance.rebooted = False
            self._transit(instance, self.containers.boot(instance, host))
            return
        self.settle(host)

    def stop(self, instance: Instance) -> None:
        """Stop an instance for its owner; the disk stays and goes on billing."""
        instance.wanted = False
        self._halt(instance, hold="owner", grace_s=self._knobs.values.stop_grace_seconds)

    def change_bid(self, instance: Instance, price: float | None) -> None:
        """Place a new bid; None bids what wins now.

        Raises:
            VastError: 400 when the instance is on demand.
        """
        if not instance.is_bid:
            raise VastError(400, "invalid_args", "the instance is on demand; it has no bid")
        self.meter(instance)
        host = self.host_of(instance)
        if price is None:
            price = self._market.min_bid(host, host.slots[instance.slot])
        instance.price = price
        self.save(instance)
        self.settle(host)

    async def destroy(self, instance: Instance, *, listed_s: float = 0.0) -> None:
        """End an instance, its disk and its bill; returns when its processes are gone.

        Args:
            instance: Which.
            listed_s: Real seconds for which listings still show it.
        """
        self.meter(instance)
        await self._still(instance)
        host = self.host_of(instance)
        instance.wanted = False
        instance.gone_at = time.time()
        await self.containers.wipe(instance)
        self._release(instance, host)
        if instance.address != host.address:
            self._context.addresses.release(instance.address)
        self._billing.forget(instance.id)
        linger = max(listed_s, self._knobs.values.destroyed_listed_seconds)
        if linger > 0:
            self._mark_stopped(instance, hold=instance.hold)
            instance.actual_status = "exited"
            self.save(instance)
            self._later(linger, lambda: self._forget(instance))
        else:
            self._forget(instance)
        self.settle(host)

    def reboot(self, instance: Instance, *, recycle: bool = False) -> None:
        """Restart the container on its GPU; `recycle` makes a new one with an empty disk.

        Raises:
            VastError: 400 when it holds no GPU.
        """
        if instance.cur_state != "running":
            raise VastError(400, "invalid_args", f"instance {instance.id} is not running")
        host = self.host_of(instance)

        async def again() -> None:
            instance.actual_status = "recycling" if recycle else "rebooting"
            self.save(instance)
            await self.containers.end(instance, grace_s=self._knobs.values.stop_grace_seconds)
            if recycle:
                await self.containers.wipe(instance)
            await self.containers.boot(instance, host)

        self.meter(instance)
        instance.rebooted = False
        self._transit(instance, again())

    def no_credit(self) -> VastError:
        """Return the refusal of an account without money."""
        knobs = self._knobs.values
        return VastError(
            knobs.credit_status,
            knobs.credit_slug,
            f"error {knobs.credit_status}/3744: {knobs.credit_slug} Insufficient credits. "
            f"Your balance is ${self._billing.credit:.2f}; please add credit.",
        )

    # -- what the world does ---------------------------------------------------------------

    def settle(self, host: Host) -> None:
        """Decide again who runs on a host, end the losers and start the winners."""
        if not host.online:
            return
        for slot in host.slots:
            contenders = [
                each
                for each in self._in_slot(host, slot)
                if each.wanted and each.hold not in ("credit", "expired")
            ]
            winner = self._winner(host, slot, contenders)
            for each in contenders:
                if each is not winner and each.cur_state == "running" and each.is_bid:
                    self._outbid(each)
            if winner is not None and winner.cur_state != "running":
                self._resume(winner, host, slot)

    async def go_offline(self, host: Host, *, network_only: bool) -> None:
        """Take a host away from the world.

        Args:
            host: Which.
            network_only: Its machines go on living, cut off (they are frozen); otherwise the
                power is gone.
        """
        if not host.online:
            return
        affected = self._on_host(host)
        for instance in affected:
            self.meter(instance)
        host.online = False
        self._market.save(host)
        for instance in affected:
            if instance.cur_state != "running":
                continue
            await self._still(instance)
            self._transit(instance, self._lose_sight(instance, network_only))
            self._notify("instance_offline", instance)

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
        affected = self._on_host(host)
        for instance in affected:
            self.meter(instance)
        host.online = True
        old = host.address
        if moved:
            host.address = self._context.addresses.claim(f"vast-host-{host.machine_id}")
            self._context.addresses.release(old)
        self._market.save(host)
        for instance in affected:
            if moved and instance.address == old:
                instance.address = host.address
            elif moved:
                self._context.addresses.release(instance.address)
                instance.address = self._context.addresses.claim(instance.name)
            self.save(instance)
            if instance.cur_state == "running":
                await self._still(instance)
                self._transit(instance, self._regain(instance, host, moved=moved))
                self._notify("instance_online", instance)
        self.settle(host)

    def bill_all(self) -> None:
        """Meter everything, stop what cannot be paid, end what has expired."""
        for instance in list(self.instances.values()):
            if not instance.exists():
                continue
            self.meter(instance)
            now = self._clock.now()
            if now >= instance.end_date + _DELETED_AFTER_END:
                self._transit(instance, self.destroy(instance))
            elif now >= instance.end_date and instance.hold != "expired":
                instance.wanted = False
                self._halt(instance, hold="expired", grace_s=0.0)
                self._notify("instance_stopped", instance)
        if self._billing.credit <= 0:
            for instance in list(self.instances.values()):
                if instance.exists() and instance.wanted:
                    instance.wanted = False
                    self._halt(instance, hold="credit", grace_s=0.0)
                    self._notify("instance_stopped", instance)

    def meter(self, instance: Instance) -> None:
        """Bill an instance up to now, at its present state."""
        host = self.host_of(instance)
        self._billing.meter(
            instance,
            now=self._clock.now(),
            online=host.online,
            gpu_name=host.gpu,
            num_gpus=host.slots[instance.slot].num_gpus,
            save=self.save,
        )

    def outbid_now(self, instance: Instance) -> None:
        """Let another customer bid more than this instance does (a fault)."""
        host = self.host_of(instance)
        slot = host.slots[instance.slot]
        slot.rival_bid = round(max(instance.price * 1.3, slot.rival_bid), 4)
        self._market.save(host)
        self.settle(host)

    def win_back(self, instance: Instance) -> None:
        """Let the other bids fall until this instance wins again (the fault's end)."""
        host = self.host_of(instance)
        slot = host.slots[instance.slot]
        slot.rival_bid = round(instance.price * 0.8, 4)
        slot.floor = min(slot.floor, instance.price * 0.9 / self._market.price(host, slot))
        if slot.rival_until is not None:
            slot.rival_until = None
        self._market.save(host)
        self.settle(host)

    def later(self, seconds: float, action: Callable[[], Any]) -> None:
        """Do something to an instance after real seconds (for faults)."""
        self._later(seconds, action)

    async def close(self) -> None:
        """Bill up to now and stop all transitions; the machines are the engine's to end."""
        for instance in self.instances.values():
            if instance.exists():
                self.meter(instance)
        pending = [*self._transitions.values(), *self._timers]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self.containers.close()

    # -- deciding --------------------------------------------------------------------------

    def _winner(self, host: Host, slot: Slot, contenders: list[Instance]) -> Instance | None:
        on_demand = [each for each in contenders if not each.is_bid]
        for each in on_demand:
            if each.cur_state == "running":
                return each
        if slot.rival_until is not None:
            return None
        if on_demand:
            return min(on_demand, key=lambda each: each.id)
        least = self._market.min_bid(host, slot)
        winning = [
            each
            for each in contenders
            # who runs is only displaced by a bid that is really higher
            if each.price >= (slot.rival_bid if each.cur_state == "running" else least)
        ]
        return max(winning, key=lambda each: (each.price, -each.id), default=None)

    def _outbid(self, instance: Instance) -> None:
        knobs = self._knobs.values
        log.info("instance %s was outbid", instance.id)
        self.meter(instance)
        instance.cur_state = instance.next_state = "stopped"
        if knobs.outbid_flips_intended:
            instance.intended_status = "stopped"
        instance.hold = "outbid"
        self._end_as(instance, knobs.outbid_actual_status, grace_s=knobs.outbid_grace_seconds)
        self._notify("outbid", instance)

    def _resume(self, instance: Instance, host: Host, slot: Slot) -> None:
        self.meter(instance)
        was_held = instance.hold
        instance.rebooted = False
        instance.cur_state = instance.next_state = instance.intended_status = "running"
        instance.hold = None
        self._take(instance, host, slot)
        self.save(instance)
        self._transit(instance, self.containers.boot(instance, host))
        if was_held in ("outbid", "birth"):
            self._notify("instance_resumed", instance)

    def _halt(self, instance: Instance, *, hold: Hold, grace_s: float) -> None:
        """Stop an instance for a reason of its own, not for the market's."""
        self.meter(instance)
        ran = instance.cur_state == "running"
        self._mark_stopped(instance, hold=hold)
        host = self.host_of(instance)
        if ran:
            self._release(instance, host)
            if host.online:
                self._end_as(instance, "exited", grace_s=grace_s)
        self.save(instance)
        self.settle(host)

    def _end_as(self, instance: Instance, status: str, *, grace_s: float) -> None:
        async def ending() -> None:
            await self.containers.end(instance, grace_s=grace_s)
            self.meter(instance)
            instance.actual_status = status
            instance.status_msg = None
            instance.running_since = None
            self.save(instance)

        if grace_s <= 0:
            # nothing is announced: it reads ended at once, whatever it was doing
            instance.actual_status = status
        self.save(instance)
        self._transit(instance, ending())

    async def _lose_sight(self, instance: Instance, network_only: bool) -> None:
        if network_only and self._context.machines.alive(instance.name):
            await self._context.machines.freeze(instance.name)
        else:
            await self.containers.end(instance)
        instance.actual_status = "unknown"
        self.save(instance)
        await asyncio.sleep(self._knobs.values.offline_after_seconds)
        instance.actual_status = "offline"
        self.save(instance)

    async def _regain(self, instance: Instance, host: Host, *, moved: bool) -> None:
        if self._context.machines.frozen(instance.name) and not moved:
            await self._context.machines.thaw(instance.name)
            instance.actual_status = "running"
            self.save(instance)
            return
        await self.containers.boot(instance, host)

    def _container_ended(self, name: str) -> None:
        instance = next((each for each in self.instances.values() if each.name == name), None)
        if instance is None or not instance.exists() or instance.cur_state != "running":
            return

        async def report() -> None:
            await self.containers.end(instance)
            # the host's daemon needs a moment to notice
            await asyncio.sleep(self._knobs.values.exit_report_seconds)
            self.meter(instance)
            instance.actual_status = "exited"
            instance.status_msg = "container exited"
            instance.running_since = None
            instance.rebooted = True
            self.save(instance)

        if self.host_of(instance).online:
            self._transit(instance, report())

    # -- bookkeeping -----------------------------------------------------------------------

    def _draw_up(self, order: Order, host: Host, slot: Slot, keys: list[AttachedKey]) -> Instance:
        store, rng, now = self._context.store, self._context.rng, self._clock.now()
        number = store.next_id("vast.instance", start=24_000_001)
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
        if all(each.address != host.address for each in self._on_host(host)):
            return host.address
        return self._context.addresses.claim(f"vast-{number}")

    def _wake(self, instance: Instance) -> None:
        """Take an instance over from an earlier run; its machine died with that run."""
        if not instance.exists():
            self._documents.delete(str(instance.id))
            return
        self.instances[instance.id] = instance
        instance.address = self._context.addresses.relocate(instance.address)
        if instance.cur_state == "running":
            instance.actual_status = "exited"
            instance.status_msg = "host rebooted; container exited"
            instance.running_since = None
            instance.rebooted = True
        self.save(instance)

    def _forget(self, instance: Instance) -> None:
        self.instances.pop(instance.id, None)
        self._documents.delete(str(instance.id))

    def _in_slot(self, host: Host, slot: Slot) -> list[Instance]:
        return [each for each in self._on_host(host) if each.slot == slot.index]

    def _on_host(self, host: Host) -> list[Instance]:
        return [
            each
            for each in self.instances.values()
            if each.machine_id == host.machine_id and each.exists()
        ]

    def _has_tenant(self, host: Host, slot: Slot) -> bool:
        return any(each.cur_state == "running" for each in self._in_slot(host, slot))

    def _free(self, host: Host, slot: Slot) -> bool:
        return host.online and slot.rival_until is None and not slot.held

    def _take(self, instance: Instance, host: Host, slot: Slot) -> None:
        if not instance.is_bid:
            slot.held = True
            self._market.save(host)

    def _release(self, instance: Instance, host: Host) -> None:
        slot = host.slots[instance.slot]
        if not instance.is_bid and slot.held:
            slot.held = False
            self._market.renew_ask(host, slot)

    @staticmethod
    def _mark_stopped(instance: Instance, *, hold: Hold | None) -> None:
        instance.cur_state = instance.next_state = instance.intended_status = "stopped"
        instance.hold = hold

    def _transit(self, instance: Instance, work: Coroutine[Any, Any, None]) -> None:
        """Let an instance do this instead of what it is doing."""
        previous = self._transitions.get(instance.id)

        async def after_previous() -> None:
            try:
                if previous is not None and not previous.done():
                    previous.cancel()
                    await asyncio.wait([previous])
                await work
            except asyncio.CancelledError:
                work.close()
                raise
            except Exception:
                log.exception("instance %s: transition failed", instance.id)

        self._transitions[instance.id] = asyncio.create_task(after_previous())

    async def _still(self, instance: Instance) -> None:
        """End what an instance is doing."""
        task = self._transitions.pop(instance.id, None)
        if task is not None and task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait([task])

    def _later(self, seconds: float, action: Callable[[], Any]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            result = action()
            if asyncio.iscoroutine(result):
                await result

        task = asyncio.create_task(wait())
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)
