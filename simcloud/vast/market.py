"""The market: a seeded walk of prices and of other customers who rent, return and bid.

It knows supply and the other customers' demand. Which of *our* instances run follows from it and
is decided in lifecycle.py, which is told after every change through `on_change`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from simcloud.clock import Clock
from simcloud.machines import AddressPool
from simcloud.store import Store
from simcloud.vast.catalog import GPUS
from simcloud.vast.host import DAY, Host, HostFactory, Slot
from simcloud.vast.knobs import KnobStore

# What a newcomer's tutorial asks for must always be there: (gpu, price cap, how many).
_STAPLE = ("RTX 4090", 0.60, 4)
_DEMAND_PULL = 0.02
_DEMAND_NOISE = 0.004
_BID_PULL = 0.01
_BID_NOISE = 0.004
_BID_JUMP_CHANCE = 1 / 3000
_RENT_CHANCE = 1 / 2700
_RENT_SECONDS = (600.0, 14_400.0)
_NEW_HOST_CHANCE = 1 / 240
_HISTORY_POINTS = 2016


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A slot as it could be rented at this moment."""

    host: Host
    slot: Slot
    ask_id: int
    price: float
    """On-demand $/h of the slot's GPUs."""
    min_bid: float
    """Lowest bid that wins, $/h for the slot."""
    rentable: bool
    """On demand and, above `min_bid`, by bid."""
    stale: bool = False
    """Another customer took it a moment ago; it is still found but cannot be rented."""


class Market:
    """All hosts and their prices."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        addresses: AddressPool,
        rng: random.Random,
        knobs: KnobStore,
    ) -> None:
        self._store = store
        self._clock = clock
        self._addresses = addresses
        self._rng = rng
        self._knobs = knobs
        self._factory = HostFactory(rng)
        self._documents = store.collection("vast.hosts")
        self._state = store.collection("vast.market")
        self.on_change: Callable[[Host], None] = lambda host: None
        """Called after anything changed that can decide who runs on a host."""
        self.has_tenant: Callable[[Host, Slot], bool] = lambda host, slot: False
        """Whether an instance of ours runs in a slot. Rivals keep away from those, so that only
        prices end an instance; an on-demand rival takes it on purpose alone (control API)."""
        self._stale: list[tuple[float, Offer]] = []
        self.hosts: dict[int, Host] = {}
        self._by_ask: dict[int, Host] = {}
        bids: dict[str, list[float]] = self._state.get("bids") or {}
        for _, document in self._documents.items():
            host = Host.model_validate(document)
            host.address = addresses.relocate(host.address)
            for slot, bid in zip(host.slots, bids.get(str(host.machine_id), []), strict=False):
                slot.rival_bid = bid
            self._take_in(host)
        self.demand: dict[str, float] = self._state.get("demand") or dict.fromkeys(GPUS, 0.0)
        self.history: list[dict[str, Any]] = self._state.get("history") or []
        if not self.hosts:
            with store.transaction():
                self._populate()
                self._invent_history()

    def price(self, host: Host, slot: Slot) -> float:
        """Return the present on-demand price of a slot's GPUs, $/h."""
        level = math.exp(self.demand.get(host.gpu, 0.0))
        return round(host.model.price * host.price_factor * level * slot.num_gpus, 4)

    def min_bid(self, host: Host, slot: Slot, *, own_bid: float = 0.0) -> float:
        """Return the lowest winning bid for a slot, $/h.

        Args:
            host: The slot's host.
            slot: The slot.
            own_bid: Highest bid of ours that would have to be beaten as well.
        """
        floor = slot.floor * self.price(host, slot)
        return round(max(floor, slot.rival_bid * 1.05, own_bid * 1.01 + 0.0001, 0.001), 4)

    def offer(self, host: Host, slot: Slot, *, own_bid: float = 0.0) -> Offer:
        """Return a slot as an offer."""
        return Offer(
            host=host,
            slot=slot,
            ask_id=slot.ask_id,
            price=self.price(host, slot),
            min_bid=self.min_bid(host, slot, own_bid=own_bid),
            rentable=host.online and host.listed and slot.rival_until is None and not slot.held,
        )

    def stale_offers(self) -> Iterator[Offer]:
        """Yield offers that died a moment ago and that a search may still find."""
        oldest = self._clock.now() - self._knobs.values.stale_offer_seconds
        self._stale = [(died, offer) for died, offer in self._stale if died >= oldest]
        for _, offer in self._stale:
            if self._rng.random() < self._knobs.values.stale_offer_probability:
                yield offer

    def find_ask(self, ask_id: int) -> tuple[Host, Slot] | None:
        """Return what is offered under an ask id now, or None."""
        host = self._by_ask.get(ask_id)
        slot = None if host is None else host.slot_of(ask_id)
        return None if host is None or slot is None else (host, slot)

    def renew_ask(self, host: Host, slot: Slot) -> None:
        """Retire a slot's ask id, because it changed hands, and give it a new one."""
        self._by_ask.pop(slot.ask_id, None)
        slot.ask_id = self._next_ask()
        self._by_ask[slot.ask_id] = host
        self.save(host)

    def save(self, host: Host) -> None:
        """Write a host down."""
        self._documents.put(str(host.machine_id), host.model_dump())

    def tick(self) -> None:
        """Let prices move and other customers act once."""
        self.prolong()
        if not self._knobs.values.rivals:
            return
        rng, now = self._rng, self._clock.now()
        changed: list[Host] = []
        with self._store.transaction():
            for gpu in self.demand:
                step = rng.gauss(0.0, _DEMAND_NOISE) - _DEMAND_PULL * self.demand[gpu]
                self.demand[gpu] = max(-0.3, min(0.25, self.demand[gpu] + step))
            for host in list(self.hosts.values()):
                for slot in host.slots:
                    self._move_bid(host, slot)
                    self._rent_or_return(host, slot, now)
                changed.append(host)
            if rng.random() < _NEW_HOST_CHANCE:
                changed.append(self._add_random_host())
            while self._staples() < _STAPLE[2]:
                changed.append(self.add_host(gpu=_STAPLE[0], sizes=[1], plain=True))
            self._state.put("demand", self.demand)
            # bids move on every tick, hosts do not: one small document instead of a hundred
            self._state.put(
                "bids",
                {key: [slot.rival_bid for slot in host.slots] for key, host in self.hosts.items()},
            )
        for host in changed:
            self.on_change(host)

    def prolong(self) -> None:
        """Let landlords whose listing ends within a day offer their hosts for longer."""
        now = self._clock.now()
        for host in self.hosts.values():
            if host.end_date < now + DAY:
                host.end_date = now + self._rng.uniform(20, 300) * DAY
                self.save(host)

    def take(self, host: Host, slot: Slot, *, seconds: float) -> None:
        """Let another customer rent a slot on demand."""
        self._stale.append((self._clock.now(), self.offer(host, slot)))
        slot.rival_until = self._clock.now() + seconds
        self.renew_ask(host, slot)
        self.on_change(host)

    def give_back(self, host: Host, slot: Slot) -> None:
        """Let that customer return it."""
        slot.rival_until = None
        self.renew_ask(host, slot)
        self.on_change(host)

    def add_host(self, *, gpu: str, sizes: list[int], plain: bool = False) -> Host:
        """Bring a new host to the market."""
        machine_id = self._store.next_id("vast.machine", start=self._rng.randint(20_000, 40_000))
        host = self._factory.make(
            gpu=gpu,
            sizes=sizes,
            machine_id=machine_id,
            ask_ids=[self._next_ask() for _ in sizes],
            address=self._addresses.claim(f"vast-host-{machine_id}"),
            now=self._clock.now(),
            plain=plain,
        )
        self._take_in(host)
        self.save(host)
        return host

    def record_history(self) -> None:
        """Write one point of the price history down."""
        self.history.append(self._point(self._clock.now()))
        del self.history[:-_HISTORY_POINTS]
        self._state.put("history", self.history)

    def summary(self, hosts: list[Host]) -> dict[str, Any]:
        """Return supply, demand and prices over some hosts of one GPU model, per GPU."""
        rented: list[float] = []
        available: list[float] = []
        counts = dict.fromkeys(
            (f"{kind}_{verified}" for kind in _KINDS for verified in ("verified", "unverified")), 0
        )
        for host in hosts:
            verified = "verified" if host.verification == "verified" else "unverified"
            for slot in host.slots:
                each = self.price(host, slot) / slot.num_gpus
                if not (host.online and host.listed):
                    kind = "unavail"
                elif slot.held or slot.rival_until is not None:
                    kind = "rented"
                    rented.append(each)
                else:
                    kind = "avail"
                    available.append(each)
                counts[f"{kind}_{verified}"] += slot.num_gpus
        return {
            **counts,
            "total": sum(counts.values()),
            **_percentiles("rented", rented),
            **_percentiles("avail", available),
        }

    def _point(self, now: float) -> dict[str, Any]:
        gpus = {
            gpu: self.summary([host for host in self.hosts.values() if host.gpu == gpu])
            for gpu in {host.gpu for host in self.hosts.values()}
        }
        return {"time": int(now), "gpus": gpus}

    def _invent_history(self) -> None:
        """Give the first day a past: the same walk, run before anybody looked."""
        rng, now = self._rng, self._clock.now()
        for age in range(288, 0, -1):
            for gpu in self.demand:
                step = rng.gauss(0.0, _DEMAND_NOISE * 3) - _DEMAND_PULL * self.demand[gpu]
                self.demand[gpu] = max(-0.3, min(0.25, self.demand[gpu] + step))
            self.history.append(self._point(now - age * 300))
        self._state.put("history", self.history)
        self._state.put("demand", self.demand)

    def _populate(self) -> None:
        for gpu, model in GPUS.items():
            for number in range(model.weight):
                sizes = self._rng.choice([[1], [1], [1, 1], [2], [1, 1, 2], [4], [8]])
                # the first hosts of each model are the plain kind that a first search should find
                plain = number == 0 or (gpu == _STAPLE[0] and number < 8)
                self.add_host(gpu=gpu, sizes=[1] if plain else sizes, plain=plain)

    def _add_random_host(self) -> Host:
        gpu = self._rng.choices(list(GPUS), [model.weight for model in GPUS.values()])[0]
        return self.add_host(gpu=gpu, sizes=self._rng.choice([[1], [2], [1, 1], [4]]))

    def _take_in(self, host: Host) -> None:
        self.hosts[host.machine_id] = host
        for slot in host.slots:
            self._by_ask[slot.ask_id] = host

    def _next_ask(self) -> int:
        # ids grow in uneven steps, as seen from one customer
        base = self._store.next_id("vast.ask", start=2_100_000)
        return base * 10 + self._rng.randint(0, 9)

    def _move_bid(self, host: Host, slot: Slot) -> None:
        """Let the highest rival bid drift around 45 % of the price, and jump now and then."""
        rng = self._rng
        price = self.price(host, slot)
        usual = math.log(0.45 * price)
        level = math.log(max(slot.rival_bid, 0.001))
        level += rng.gauss(0.0, _BID_NOISE) + _BID_PULL * (usual - level)
        if rng.random() < _BID_JUMP_CHANCE:
            level += rng.uniform(0.1, 0.6)
        slot.rival_bid = round(min(math.exp(level), 1.5 * price), 4)

    def _rent_or_return(self, host: Host, slot: Slot, now: float) -> None:
        if slot.rival_until is not None:
            if slot.rival_until <= now:
                self.give_back(host, slot)
            return
        if slot.held or not (host.online and host.listed) or self.has_tenant(host, slot):
            return
        if self._rng.random() < _RENT_CHANCE:
            self.take(host, slot, seconds=self._rng.uniform(*_RENT_SECONDS))

    def _staples(self) -> int:
        gpu, cap, _ = _STAPLE
        return sum(
            1
            for host in self.hosts.values()
            if host.gpu == gpu and host.verification == "verified"
            for slot in host.slots
            if slot.num_gpus == 1
            and self.offer(host, slot).rentable
            and not self.has_tenant(host, slot)
            and self.price(host, slot) < cap - 0.05
        )


_KINDS = ("rented", "avail", "unavail")


def _percentiles(prefix: str, values: list[float]) -> dict[str, float | None]:
    if not values:
        return {f"{prefix}_{name}": None for name in ("p10", "median", "p90")}
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)

    return {f"{prefix}_p10": at(0.1), f"{prefix}_median": at(0.5), f"{prefix}_p90": at(0.9)}
