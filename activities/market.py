"""Looking at the market."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.heartbeat import heartbeating
from dumont.domain.errors import DumontError, NoCapacity
from dumont.domain.instances import Message, Rental
from dumont.domain.offers import Choice, GpuRequirement, Offer, rank_offers
from dumont.ports import GpuProvider, MachineStore

BAD_HOST_MEMORY = timedelta(hours=6)
"""How long a host that failed us is passed over."""


class RankOffers(Message):
    """Input of `rank_offers`."""

    requirement: GpuRequirement
    avoid_hosts: tuple[str, ...] = ()
    limit: int = 10


class Browse(Message):
    """Input of `browse_offers`."""

    gpu: str | None = None
    gpu_count: int | None = None
    rental: Rental = Rental.SPOT
    max_usd_per_hour: float | None = None
    disk_gb: float = 20
    limit: int = 50


class Browsed(Message):
    """What the market answered, and when it was asked."""

    offers: tuple[Offer, ...]
    seen_at: datetime


class MarketActivities:
    """Reads of the market. All are safe to repeat: they change nothing."""

    def __init__(self, *, provider: GpuProvider, store: MachineStore) -> None:
        self._provider = provider
        self._store = store

    @activity.defn
    async def rank_offers(self, ask: RankOffers) -> list[Choice]:
        """The offers worth trying for a machine, best first.

        Raises:
            NoCapacity: Nothing fits; says what comes closest.
        """
        need = ask.requirement
        async with heartbeating():
            offers = await self._provider.search_offers(need)
            avoid = {*ask.avoid_hosts, *await self._bad_hosts()}
            choices = rank_offers(offers, need, avoid_hosts=avoid, limit=ask.limit)
            if not choices:
                raise NoCapacity(await self._why_none(need, offers), hint=_HINT)
        return choices

    @activity.defn
    async def browse_offers(self, ask: Browse) -> Browsed:
        """What the market rents now, for a person."""
        seen_at = datetime.now(UTC)
        offers = await self._provider.browse_offers(
            gpu=ask.gpu,
            gpu_count=ask.gpu_count,
            rental=ask.rental,
            disk_gb=ask.disk_gb,
            limit=ask.limit,
        )
        ceiling = ask.max_usd_per_hour
        kept = [o for o in offers if ceiling is None or o.usd_per_hour <= ceiling]
        return Browsed(offers=tuple(kept[: ask.limit]), seen_at=seen_at)

    async def _bad_hosts(self) -> list[str]:
        try:
            return await self._store.bad_hosts(
                provider=self._provider.name, since=datetime.now(UTC) - BAD_HOST_MEMORY
            )
        except DumontError:
            # Without this memory we may try a bad host again; with no database we rent nothing
            # anyway, because the intent comes first.
            activity.logger.warning("the memory of bad hosts does not answer")
            return []

    async def _why_none(self, need: GpuRequirement, offers: list[Offer]) -> str:
        what = f"{need.gpu_count}x {need.gpu}" if need.gpu_count > 1 else need.gpu
        wanted = f"no {need.rental.value.replace('_', '-')} offer of {what}"
        if offers:
            return (
                f"{wanted} meets every requirement ({len(offers)} within "
                f"${need.max_usd_per_hour:g}/h fail on reliability >= {need.min_reliability:g}, "
                "region, network, remaining time or failed us lately)"
            )
        dearer = await self._provider.browse_offers(
            gpu=need.gpu,
            gpu_count=need.gpu_count,
            rental=need.rental,
            disk_gb=need.disk_gb,
            limit=1,
        )
        if dearer:
            return (
                f"{wanted} costs at most ${need.max_usd_per_hour:g}/h; "
                f"the cheapest is ${dearer[0].usd_per_hour:.3f}/h now"
            )
        return f"{wanted} is on the market now, at any price"


_HINT = "raise the price, ask for another GPU, or wait: it is tried again by itself"
