"""What the market rents, what a machine requires, and which offers to try in which order."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from pydantic import Field, field_validator

from dumont.domain.gpus import canonical_gpu
from dumont.domain.instances import Message, Rental


class GpuRequirement(Message):
    """What an owner asks of the GPU side of a machine."""

    gpu: str
    gpu_count: int = Field(default=1, ge=1, le=16)
    rental: Rental = Rental.SPOT
    max_usd_per_hour: float = Field(gt=0, le=1000)
    """Never pay more than this per hour for the instance, disk included."""
    disk_gb: float = Field(default=20, ge=1, le=16_000)
    min_reliability: float = Field(default=0.9, ge=0, le=1)
    min_download_mbps: float = Field(default=0, ge=0)
    regions: tuple[str, ...] = ()
    """Two-letter country codes; empty for anywhere."""
    image: str = "vastai/base-image:cuda-12.8.1-auto"

    @field_validator("gpu")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return canonical_gpu(value)

    @field_validator("regions")
    @classmethod
    def _upper(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(code.strip().upper() for code in value)


class Offer(Message):
    """One thing a market rents right now. Prices are $/h for the whole offer."""

    provider: str
    offer_id: str
    host_id: str | None
    """Physical machine; several offers can be slices of one."""
    gpu: str
    gpu_count: int
    gpu_memory_gb: float | None = None
    rental: Rental
    usd_per_hour: float
    """What it costs to hold: on demand the price, on the spot market the lowest bid that wins, both
    with the disk that was asked for."""
    gpu_usd_per_hour: float
    """The part of it without disk; a spot bid is placed in these dollars."""
    on_demand_usd_per_hour: float | None = None
    """The same offer on demand, for comparison; None when the provider did not say."""
    disk_usd_per_gb_month: float | None = None
    reliability: float | None = None
    """0..1 as the provider scores the host; None is unknown."""
    region: str | None = None
    country: str | None = None
    download_mbps: float | None = None
    upload_mbps: float | None = None
    download_usd_per_gb: float | None = None
    upload_usd_per_gb: float | None = None
    disk_gb: float | None = None
    cpu_cores: float | None = None
    memory_gb: float | None = None
    cuda: float | None = None
    datacenter: bool | None = None
    available_s: float | None = None
    """Seconds until the host's contract ends; None is unknown."""


class Choice(Message):
    """An offer picked for a try, and the bid to place on it."""

    offer: Offer
    bid_usd_per_hour: float | None
    """GPU dollars per hour, without disk; None rents on demand."""


BID_HEADROOM = 1.15
"""A first bid stands this much above the lowest one that wins, so that the next small move of the
market does not end it. Vast.ai charges the bid itself, hence no more."""

MIN_REMAINING_S = 24 * 3600.0
"""Hosts whose contract ends sooner are passed over: they would have to be replaced within a day."""


def rank_offers(
    offers: Iterable[Offer],
    requirement: GpuRequirement,
    *,
    avoid_hosts: Collection[str] = (),
    limit: int = 10,
) -> list[Choice]:
    """The offers worth trying, best first, one per physical host.

    An offer qualifies only on what it states: an unknown reliability does not meet a minimum.
    The order is by expected cost, which is the hourly price over the host's reliability: a host that
    fails one time in ten costs the time of one start in ten.

    Args:
        offers: What the market answered.
        requirement: What the owner asked for.
        avoid_hosts: Hosts that failed us lately.
        limit: At most so many.
    """
    fitting = (o for o in offers if _fits(o, requirement) and o.host_id not in avoid_hosts)
    choices: list[Choice] = []
    seen: set[str] = set()
    for offer in sorted(fitting, key=_expected_cost):
        host = offer.host_id or f"offer {offer.offer_id}"
        if host in seen:
            continue
        seen.add(host)
        choices.append(Choice(offer=offer, bid_usd_per_hour=_bid(offer, requirement)))
    return choices[:limit]


def _fits(offer: Offer, need: GpuRequirement) -> bool:
    return (
        offer.gpu == need.gpu
        and offer.gpu_count == need.gpu_count
        and offer.rental == need.rental
        and 0 < offer.usd_per_hour <= need.max_usd_per_hour
        and (offer.reliability or 0) >= need.min_reliability
        and (offer.download_mbps or 0) >= need.min_download_mbps
        and (offer.disk_gb is None or offer.disk_gb >= need.disk_gb)
        and (not need.regions or offer.country in need.regions)
        and (offer.available_s is None or offer.available_s >= MIN_REMAINING_S)
    )


def _expected_cost(offer: Offer) -> tuple[float, str]:
    return offer.usd_per_hour / max(offer.reliability or 0.5, 0.01), offer.offer_id


def _bid(offer: Offer, need: GpuRequirement) -> float | None:
    if offer.rental is Rental.ON_DEMAND:
        return None
    disk = offer.usd_per_hour - offer.gpu_usd_per_hour
    ceiling = need.max_usd_per_hour - disk
    bid = max(offer.gpu_usd_per_hour, min(offer.gpu_usd_per_hour * BID_HEADROOM, ceiling))
    return math.floor(bid * 10_000) / 10_000 if bid > offer.gpu_usd_per_hour else bid
