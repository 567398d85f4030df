"""From settings to the activities that keep the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from activities.ledger import BillActivities, LedgerActivities, StoragePrice
from activities.listing import SharedListing
from activities.rentals import RentalActivities, RentalEventActivities, listed_prices
from dumont.config import Settings
from dumont.db.ledger import PostgresLedger
from dumont.db.rentals import PostgresRentals
from dumont.domain.instances import Instance, Rental
from dumont.domain.metering import Prices, RentalRecord, Role
from dumont.providers.gcp.price_list import GOOGLE, PriceList
from dumont.temporal.ids import LEDGER
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from dumont.temporal.schedules import ensure_schedule
from workflows.ledger import KeepLedgerInput

if TYPE_CHECKING:  # they import this module
    from dumont.providers.gcp.adapter import GcpProvider
    from dumont.providers.gcp.fleet import VmFleet
    from dumont.providers.vast.adapter import VastProvider
    from worker.compose import Parts

EVERY: Final = timedelta(seconds=60)
_STANDBY_DISK: Final = "pd-balanced"
"""What `VmOrder` orders when nothing else is said. A VM's own page does not name it."""


def ledger_activities(parts: Parts) -> list[Callable[..., Any]]:
    """What the `control` queue serves of it."""
    rentals = PostgresRentals(parts.database)
    price = parts.settings.storage_usd_per_gb_month
    source = "no price of the object store is configured"
    if price is not None:
        source = f"${price:g} per GB and month, as configured; what deleting frees is estimated"
    ledger = LedgerActivities(
        rentals=rentals,
        ledger=PostgresLedger(parts.database),
        storage=StoragePrice(price, source),
    )
    return [ledger.meter_lines, RentalEventActivities(store=rentals).follow_events]


def vast_ledger_activities(
    parts: Parts, provider: VastProvider, listing: SharedListing
) -> list[Callable[..., Any]]:
    """What the `provider-vast` queue serves of it."""
    rentals = PostgresRentals(parts.database)
    noting = RentalActivities(
        provider=provider, listing=listing, store=rentals, role=Role.GPU, price=listed_prices
    )
    bills = BillActivities(bills=provider, rentals=rentals, ledger=PostgresLedger(parts.database))
    return [noting.note_rentals, bills.import_bills]


def gcp_ledger_activities(
    parts: Parts, provider: GcpProvider, fleet: VmFleet, listing: SharedListing
) -> list[Callable[..., Any]]:
    """What the `provider-gcp` queue serves of it."""
    prices = price_list(parts.settings)

    async def price(vm: Instance) -> Prices:
        return await standby_prices(prices, vm)

    async def end(rental: RentalRecord) -> datetime | None:
        if rental.region is None:
            return None
        return await provider.deletions.ended_at(zone=rental.region, instance_id=rental.resource_id)

    noting = RentalActivities(
        provider=fleet,
        listing=listing,
        store=PostgresRentals(parts.database),
        role=Role.STANDBY,
        price=price,
        end=end,
    )
    return [noting.note_rentals]


def price_list(settings: Settings) -> PriceList:
    """Google's price list, as far as this deployment may read it."""
    key = settings.gcp_prices_key.get_secret_value() if settings.gcp_prices_key else None
    url = settings.gcp_prices_url or settings.gcp_url or (GOOGLE if key is not None else None)
    return PriceList(url=url, api_key=key)


async def standby_prices(prices: PriceList, vm: Instance) -> Prices:
    """What a VM costs now, by what it is and where."""
    found = await prices.standby(
        vm.machine_type or "",
        spot=vm.rental is Rental.SPOT,
        disk_gb=vm.disk_gb,
        disk_type=_STANDBY_DISK,
        region=(vm.region or "").rpartition("-")[0],
    )
    return Prices(found.vm, found.disk, found.address, found.source)


async def ensure_ledger(parts: Parts) -> None:
    """Have the ledger kept, whoever started first."""
    settings = parts.settings
    queues = (PROVIDER_VAST, PROVIDER_GCP) if settings.has_standbys else (PROVIDER_VAST,)
    await ensure_schedule(
        parts.client,
        schedule_id=LEDGER,
        workflow="KeepLedger",
        arg=KeepLedgerInput(env=settings.env, queues=queues, confirm_s=settings.gone_confirm_s),
        task_queue=CONTROL,
        every=EVERY,
    )
