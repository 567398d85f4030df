"""Who runs: the one place that decides which instance has a slot, and what happens to the others.

An on-demand holder first, then the highest bid that beats the market. Everything that can change
the answer (a price, a bid, a stop, a host that comes back) calls `settle`.
"""

from __future__ import annotations

import logging

from simcloud.vast.host import Host, Slot
from simcloud.vast.instance import Hold, Instance
from simcloud.vast.roster import Roster

log = logging.getLogger(__name__)


class Tenancy:
    """The contest for slots."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._market = roster.market
        self._market.on_change = self.settle
        self._market.has_tenant = self._has_tenant

    def settle(self, host: Host) -> None:
        """Decide again who runs on a host, end the losers and start the winners."""
        if not host.online:
            return
        for slot in host.slots:
            contenders = [
                each
                for each in self._roster.in_slot(host, slot)
                if each.wanted and each.hold not in ("credit", "expired")
            ]
            winner = self._winner(host, slot, contenders)
            for each in contenders:
                if each is not winner and each.cur_state == "running" and each.is_bid:
                    self._outbid(each)
            if winner is not None and winner.cur_state != "running":
                self._resume(winner, host, slot)

    def own_bid(self, host: Host, slot: Slot) -> float:
        """Return the highest bid of ours that runs in a slot, 0 when none does."""
        return max(
            (
                each.price
                for each in self._roster.in_slot(host, slot)
                if each.is_bid and each.cur_state == "running"
            ),
            default=0.0,
        )

    def free(self, host: Host, slot: Slot) -> bool:
        """Whether nobody holds a slot on demand."""
        return host.online and slot.rival_until is None and not slot.held

    def take(self, instance: Instance, host: Host, slot: Slot) -> None:
        """Let an instance have a slot."""
        if not instance.is_bid:
            slot.held = True
            self._market.save(host)

    def release(self, instance: Instance) -> None:
        """Let the slot of an instance go to others."""
        slot = self._roster.slot_of(instance)
        if not instance.is_bid and slot.held:
            slot.held = False
            self._market.renew_ask(self._roster.host_of(instance), slot)

    def mark_stopped(self, instance: Instance, *, hold: Hold | None) -> None:
        """Let the contract read stopped."""
        instance.cur_state = instance.next_state = instance.intended_status = "stopped"
        instance.hold = hold

    def halt(self, instance: Instance, *, hold: Hold, grace_s: float) -> None:
        """Stop an instance for a reason of its own, not for the market's."""
        self._roster.meter(instance)
        ran = instance.cur_state == "running"
        self.mark_stopped(instance, hold=hold)
        host = self._roster.host_of(instance)
        if ran:
            self.release(instance)
            if host.online:
                self._end_as(instance, "exited", grace_s=grace_s)
        self._roster.save(instance)
        self.settle(host)

    def outbid_now(self, instance: Instance) -> None:
        """Let another customer bid more than this instance does."""
        host, slot = self._roster.host_of(instance), self._roster.slot_of(instance)
        slot.rival_bid = round(max(instance.price * 1.3, slot.rival_bid), 4)
        self._market.save(host)
        self.settle(host)

    def win_back(self, instance: Instance) -> None:
        """Let the other bids fall until this instance wins again."""
        host, slot = self._roster.host_of(instance), self._roster.slot_of(instance)
        slot.rival_bid = round(instance.price * 0.8, 4)
        slot.floor = min(slot.floor, instance.price * 0.9 / self._market.price(host, slot))
        slot.rival_until = None
        self._market.save(host)
        self.settle(host)

    def _has_tenant(self, host: Host, slot: Slot) -> bool:
        return any(each.cur_state == "running" for each in self._roster.in_slot(host, slot))

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
        knobs = self._roster.knobs
        log.info("instance %s was outbid", instance.id)
        self._roster.meter(instance)
        instance.cur_state = instance.next_state = "stopped"
        if knobs.outbid_flips_intended:
            instance.intended_status = "stopped"
        instance.hold = "outbid"
        self._end_as(instance, knobs.outbid_actual_status, grace_s=knobs.outbid_grace_seconds)
        self._roster.notify("outbid", instance)

    def _resume(self, instance: Instance, host: Host, slot: Slot) -> None:
        self._roster.meter(instance)
        was_held = instance.hold
        instance.rebooted = False
        instance.cur_state = instance.next_state = instance.intended_status = "running"
        instance.hold = None
        self.take(instance, host, slot)
        self._roster.save(instance)
        boot = self._roster.containers.boot(instance, host)
        self._roster.transitions.begin(instance.id, boot)
        if was_held in ("outbid", "birth"):
            self._roster.notify("instance_resumed", instance)

    def _end_as(self, instance: Instance, status: str, *, grace_s: float) -> None:
        roster = self._roster

        async def ending() -> None:
            await roster.containers.end(instance, grace_s=grace_s)
            roster.meter(instance)
            instance.actual_status = status
            instance.status_msg = None
            instance.running_since = None
            roster.save(instance)

        if grace_s <= 0:
            # nothing is announced: it reads ended at once, whatever it was doing
            instance.actual_status = status
        roster.save(instance)
        roster.transitions.begin(instance.id, ending())
