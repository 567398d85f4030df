"""Looking around on the market."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from activities.market import Browse
from api.auth import NEEDS_LOGIN, OffersReader, Parts
from api.errors import documented
from api.views import offer_view
from dumont.domain.gpus import canonical_gpu
from dumont.domain.instances import Rental
from dumont.domain.resources import OfferList

router = APIRouter(tags=["offers"])


@router.get(
    "/offers",
    responses=documented(*NEEDS_LOGIN, "invalid_input", "provider_unavailable")
    | documented("dependency_unavailable", "provider_rate_limited"),
)
async def list_offers(
    principal: OffersReader,
    services: Parts,
    gpu: Annotated[
        str | None,
        Query(max_length=60, description="Model, as people write it.", examples=["4090"]),
    ] = None,
    gpu_count: Annotated[int | None, Query(ge=1, le=16)] = None,
    rental: Rental = Rental.SPOT,
    max_usd_per_hour: Annotated[
        float | None, Query(gt=0, le=1000, allow_inf_nan=False, description="Disk included.")
    ] = None,
    disk_gb: Annotated[float, Query(ge=1, le=16_000, allow_inf_nan=False)] = 20,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> OfferList:
    """What the market rents now, cheapest first. May be some seconds old: see `seen_at`."""
    ask = Browse(
        gpu=canonical_gpu(gpu) if gpu else None,
        gpu_count=gpu_count,
        rental=rental,
        max_usd_per_hour=max_usd_per_hour,
        disk_gb=disk_gb,
        limit=limit,
    )
    found = await services.offers.get(ask, lambda: services.commands.browse_offers(ask))
    return OfferList(items=[offer_view(offer) for offer in found.offers], seen_at=found.seen_at)
