"""What one GPU costs on demand: dated figures to hold spot prices against, each with its source.

All are dollars per hour of ONE GPU, without disk and traffic. A price that is sold by the node of
eight is written down as such and divided here, never shown against one GPU. A model that the list
does not have, or whose memory decides and is not known, has no reference price: unknown, never zero,
and never another model's.

What is compared with first is better than this list: the on-demand price that the market itself asked
for the same offer at the moment when it was rented (`asked_at_rental`), where that was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import Field

from dumont.domain.instances import Model
from dumont.domain.offers import Offer


class ReferenceKind(StrEnum):
    """How near a reference price is to what one would have paid instead. Names are public."""

    AT_RENTAL = "at_rental"
    """The same offer on demand, as the market asked for it when it was rented."""
    SAME_MARKET = "same_market"
    """What the same model cost on demand in the same market, in a dated series."""
    ELSEWHERE = "elsewhere"
    """Another provider's dated list price. Shown beside, never used for a figure by itself."""


class ReferencePrice(Model):
    """An on-demand price, for one GPU."""

    gpu: str
    """As `dumont.domain.gpus` spells it."""
    memory_gb: int | None = None
    """The price is of the model with so much memory; None where the model has one size."""
    kind: ReferenceKind
    provider: str
    usd_per_hour: float = Field(gt=0)
    """As sold: for `gpus` GPUs."""
    gpus: int = Field(default=1, ge=1)
    """How many GPUs that price is for."""
    as_of: date
    """The day it was seen; of a series, its last."""
    source: str
    """Where the figure comes from, for people."""
    note: str = ""

    @property
    def usd_per_gpu_hour(self) -> float:
        """For one GPU."""
        return self.usd_per_hour / self.gpus

    @property
    def label(self) -> str:
        """The source with its date, and the division where there was one."""
        divided = f", ${self.usd_per_hour:g}/h for {self.gpus} GPUs" if self.gpus > 1 else ""
        return f"{self.source}, {self.as_of.isoformat()}{divided}"


class Rented(NamedTuple):
    """What was rented, as the market showed it."""

    offer: Offer
    at: datetime


def asked_at_rental(rented: Rented) -> ReferencePrice | None:
    """What the market asked on demand for the very offer that was rented; None when it did not say.

    Offers are priced with their disk, which costs the same either way: it is taken out.
    """
    offer, at = rented
    if offer.on_demand_usd_per_hour is None:
        return None
    disk = offer.usd_per_hour - offer.gpu_usd_per_hour
    gpus_alone = offer.on_demand_usd_per_hour - disk
    if gpus_alone <= 0 or offer.gpu_count < 1:
        return None
    return ReferencePrice(
        gpu=offer.gpu,
        kind=ReferenceKind.AT_RENTAL,
        provider=offer.provider,
        usd_per_hour=gpus_alone,
        gpus=offer.gpu_count,
        as_of=at.date(),
        source=f"{offer.provider}'s on-demand price of offer {offer.offer_id} when it was rented",
    )


def default_reference(
    gpu: str, *, provider: str, memory_gb: float | None = None
) -> ReferencePrice | None:
    """The dated price that a rental is held against when none was recorded; None is unknown.

    Only the same market's own price: whoever rents an RTX 4090 there would have rented the same on
    demand next door, not from a hyperscaler at five times the price.

    Args:
        gpu: As `dumont.domain.gpus` spells it.
        provider: Where it was rented.
        memory_gb: Of one GPU; decides where a model is sold in several sizes.
    """
    for price in of_gpu(gpu):
        if price.kind is not ReferenceKind.SAME_MARKET or price.provider != provider:
            continue
        if price.memory_gb is None or _is_size(memory_gb, price.memory_gb):
            return price
    return None


def of_gpu(gpu: str, prices: Iterable[ReferencePrice] | None = None) -> list[ReferencePrice]:
    """All dated prices of a model."""
    return [price for price in (DATED if prices is None else prices) if price.gpu == gpu]


def _is_size(seen: float | None, sold: int) -> bool:
    """Providers count memory in MiB and GB, and leave out what is reserved."""
    return seen is not None and abs(seen - sold) <= 0.05 * sold


VAST_SERIES: Final = (
    "median of on-demand offers on Vast.ai, 2026-05-08 to 2026-06-14"
    " (public series cherielilili/gpu-pricing-tracker)"
)
"""Weighted by offers. A median of what was on offer, not of what was rented."""
_VAST_AS_OF: Final = date(2026, 6, 14)

GOOGLE_LIST: Final = (
    "Google Cloud list price, us-central1 (public price dump Cyclenerd pricing.yml)"
)
_GOOGLE_AS_OF: Final = date(2026, 7, 30)
_WITH_CPU: Final = "sold as a whole VM with its cores and memory"


def _vast(gpu: str, usd: float, *, memory_gb: int | None = None) -> ReferencePrice:
    return ReferencePrice(
        gpu=gpu,
        memory_gb=memory_gb,
        kind=ReferenceKind.SAME_MARKET,
        provider="vast",
        usd_per_hour=usd,
        as_of=_VAST_AS_OF,
        source=VAST_SERIES,
        note=f"of the {memory_gb} GB model" if memory_gb else "",
    )


def _google(
    gpu: str, machine_type: str, usd: float, *, memory_gb: int | None = None
) -> ReferencePrice:
    return ReferencePrice(
        gpu=gpu,
        memory_gb=memory_gb,
        kind=ReferenceKind.ELSEWHERE,
        provider="gcp",
        usd_per_hour=usd,
        as_of=_GOOGLE_AS_OF,
        source=GOOGLE_LIST,
        note=f"{machine_type}: {_WITH_CPU}",
    )


DATED: Final[tuple[ReferencePrice, ...]] = (
    _vast("RTX 4090", 0.607),
    _vast("RTX 5090", 0.866),
    _vast("A100 SXM4", 1.134, memory_gb=80),
    _vast("A100 PCIE", 0.868, memory_gb=80),
    _vast("H100 SXM", 3.109),
    _vast("H100 NVL", 2.642),
    _vast("H200", 3.958),
    _vast("B200", 6.239),
    _vast("L40S", 0.802),
    _google("A100 SXM4", "a2-ultragpu-1g", 5.069, memory_gb=80),
    _google("H100 SXM", "a3-highgpu-1g", 11.061),
)
"""Every price that a dated, named source gives for one GPU. Figures of AWS, RunPod and Lambda are left
out: those at hand have no day, or no price that two sources agree on. No hyperscaler sells an RTX 4090,
so none is here."""
