"""Hosts and their slots: the market's supply side as durable values.

A host is one computer of one landlord. Its GPUs are divided into slots, each rented as a whole
under an ask id that dies with every rental. Prices and tenants change in market.py.
"""

from __future__ import annotations

import random

from pydantic import BaseModel

from simcloud.vast.catalog import CPUS, DISKS, DRIVERS, GPUS, PLACES, GpuModel, Place

MONTH_HOURS = 24 * 30
DAY = 86400.0


class Slot(BaseModel):
    """GPUs of a host that are rented together."""

    index: int
    num_gpus: int
    ask_id: int
    """Changes whenever the slot changes hands."""
    floor: float
    """Share of the on-demand price below which the landlord takes no bid."""
    rival_bid: float = 0.0
    """Highest bid of other customers, $/h for the whole slot."""
    rival_until: float | None = None
    """Until when another customer rents it on demand (virtual time)."""
    held: bool = False
    """An on-demand instance of ours holds it."""


class Host(BaseModel):
    """One rented-out computer."""

    machine_id: int
    host_id: int
    gpu: str
    num_gpus: int
    slots: list[Slot]
    place: int
    datacenter: bool
    verification: str
    reliability: float
    address: str
    static_ip: bool
    cpu: int
    cpu_ram_mb: int
    cores_null: bool = False
    driver: int
    disk: int
    disk_space: float
    inet_up: float
    inet_down: float
    inet_up_cost: float
    inet_down_cost: float
    storage_cost: float
    """$ per GB and month."""
    price_factor: float
    """This landlord's price relative to the model's typical one."""
    pcie_bw: float
    direct_ports: int
    start_date: float
    end_date: float
    online: bool = True
    listed: bool = True
    """Whether it takes new customers."""

    @property
    def model(self) -> GpuModel:
        """Its GPU model."""
        return GPUS[self.gpu]

    @property
    def where(self) -> Place:
        """Where it stands."""
        return PLACES[self.place]

    def slot_of(self, ask_id: int) -> Slot | None:
        """Return the slot offered under `ask_id`, if it is one of this host's."""
        return next((slot for slot in self.slots if slot.ask_id == ask_id), None)


class HostFactory:
    """Makes believable hosts, the same ones for the same seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def make(
        self,
        *,
        gpu: str,
        sizes: list[int],
        machine_id: int,
        ask_ids: list[int],
        address: str,
        now: float,
        plain: bool = False,
    ) -> Host:
        """Return a new host.

        Args:
            gpu: Vast name of its GPU model.
            sizes: GPUs of each slot.
            machine_id: Its identity.
            ask_ids: First ask id of each slot.
            address: Its public address.
            now: Virtual time.
            plain: Verified, reliable, reasonably priced: what a first search should find.
        """
        rng, model = self._rng, GPUS[gpu]
        total = sum(sizes)
        datacenter = rng.random() < model.datacenter
        reliability = rng.choice([0.9991, 0.998, 0.9962, 0.993, 0.985, 0.96, 0.91, 0.6])
        verification = rng.choices(["verified", "unverified", "deverified"], [0.8, 0.17, 0.03])[0]
        factor = rng.lognormvariate(0.0, 0.16)
        if plain:
            reliability = rng.choice([0.9991, 0.998, 0.9962, 0.9941])
            verification = "verified"
            factor = rng.uniform(0.82, 1.15)
        server = datacenter or total >= 4
        cpu = rng.choice([0, 1, 2, 5, 6]) if server else rng.randrange(len(CPUS))
        speed = rng.uniform(900, 8000) if datacenter else rng.uniform(120, 1800)
        host = Host(
            machine_id=machine_id,
            host_id=rng.randint(50_000, 299_999),
            gpu=gpu,
            num_gpus=total,
            slots=[
                Slot(index=i, num_gpus=size, ask_id=ask, floor=round(rng.uniform(0.38, 0.6), 3))
                for i, (size, ask) in enumerate(zip(sizes, ask_ids, strict=True))
            ],
            place=rng.randrange(len(PLACES)),
            datacenter=datacenter,
            verification=verification,
            reliability=reliability,
            address=address,
            static_ip=datacenter or rng.random() < 0.5,
            cpu=cpu,
            cpu_ram_mb=rng.choice([64, 128, 256, 512]) * 1000 * (2 if server else 1) + 700,
            cores_null=not plain and rng.random() < 0.02,
            driver=rng.randrange(len(DRIVERS)),
            disk=rng.randrange(len(DISKS)),
            disk_space=round(rng.uniform(250, 900) * max(1, total), 1),
            inet_up=round(speed * rng.uniform(0.4, 1.0), 1),
            inet_down=round(speed, 1),
            inet_up_cost=rng.choice([0.0, 0.002, 0.003, 0.005, 0.01, 0.02]),
            inet_down_cost=rng.choice([0.0, 0.001, 0.002, 0.004, 0.01]),
            storage_cost=rng.choice([0.1, 0.12, 0.15, 0.16, 0.2, 0.25]),
            price_factor=round(factor, 4),
            pcie_bw=round(rng.uniform(11.5, 26.5), 1),
            direct_ports=rng.choice([64, 100, 250, 500, 999]),
            start_date=now - rng.uniform(20, 400) * DAY,
            end_date=now + rng.uniform(20, 300) * DAY,
        )
        for slot in host.slots:
            slot.rival_bid = round(
                model.price * host.price_factor * slot.num_gpus * rng.uniform(0.25, 0.55), 4
            )
        return host
