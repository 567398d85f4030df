"""Google's own price list, the Cloud Billing Catalog: what a standby's parts cost now.

`GET /v1/services/6F81-5844-456A/skus`, paged, prices in units and nanos. Spot prices move up to once a
day and the list is refreshed within twelve hours, so it is read no more often than that. Where it
cannot be read, or does not name a price, the dated list of `dumont.domain.gcp_list_prices` stands in.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import httpx
import structlog

from dumont.domain.gcp_list_prices import E2_SHARES, HOURS_PER_MONTH
from dumont.domain.standby_cost import StandbyPrices, dated_prices

log = structlog.get_logger(__name__)

GOOGLE: Final = "https://cloudbilling.googleapis.com"
COMPUTE: Final = "6F81-5844-456A"
"""The service Compute Engine."""
KEEP_S: Final = 12 * 3600.0
RETRY_S: Final = 600.0
"""After a failure the list is asked for again so much later."""
READ_S: Final = 20.0
"""All pages have so long: whoever notes standbys waits for them, and the dated list will do."""

_MAX_PAGES: Final = 50
_CORE_RAM = re.compile(r"(Spot Preemptible )?E2 Instance (Core|Ram) running in .+")
_DISKS: Final = {
    "pd-standard": re.compile(r"Storage PD Capacity( in .+)?"),
    "pd-balanced": re.compile(r"Balanced PD Capacity( in .+)?"),
    "pd-ssd": re.compile(r"SSD backed PD Capacity( in .+)?"),
}
_ADDRESS = re.compile(r"External IP Charge on a (Spot Preemptible|Standard) VM( in .+)?")
_E2_MEDIUM_RAM_GB: Final = 4.0
"""An `e2-medium` bills one core and this much memory; the other types shares of it."""


class _Name(NamedTuple):
    what: str
    spot: bool
    region: str


class PriceList:
    """Prices of one process, read once in twelve hours.

    Args:
        url: Address of the catalogue, without path; None: the dated list alone.
        api_key: Google wants one; a catalogue elsewhere may not.
        transport: Replaces the network in tests.
        monotonic: A clock, seconds.
        read_s: How long reading the whole list may take, seconds.
    """

    def __init__(
        self,
        *,
        url: str | None,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        read_s: float = READ_S,
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._transport = transport
        self._monotonic = monotonic
        self._read_s = read_s
        self._lock = asyncio.Lock()
        self._prices: dict[_Name, float] = {}
        self._dated = ""
        self._read_again_at = float("-inf")

    async def standby(
        self, machine_type: str, *, spot: bool, disk_gb: float | None, disk_type: str, region: str
    ) -> StandbyPrices:
        """What a standby costs per hour now, part by part; None where neither list knows it."""
        await self._refresh()
        fallback = dated_prices(
            machine_type, spot=spot, disk_gb=disk_gb, disk_type=disk_type, region=region
        )
        vm = self._vm(machine_type, spot=spot, region=region)
        per_month = self._price(disk_type, spot=False, region=region)
        disk = None
        if per_month is not None and disk_gb is not None:
            disk = per_month * disk_gb / HOURS_PER_MONTH
        address = self._price("address", spot=spot, region=region)
        if vm is None:
            return fallback
        return StandbyPrices(
            vm=vm,
            disk=disk if disk is not None else fallback.disk,
            address=address if address is not None else fallback.address,
            source=f"Google's Cloud Billing Catalog{self._dated}",
        )

    def _vm(self, machine_type: str, *, spot: bool, region: str) -> float | None:
        share = E2_SHARES.get(machine_type)
        core = self._price("core", spot=spot, region=region)
        ram = self._price("ram", spot=spot, region=region)
        if share is None or core is None or ram is None:
            return None
        return share * (core + _E2_MEDIUM_RAM_GB * ram)

    def _price(self, what: str, *, spot: bool, region: str) -> float | None:
        for place in (region, "global"):
            price = self._prices.get(_Name(what, spot, place))
            if price is not None:
                return price
        return None

    async def _refresh(self) -> None:
        if self._url is None:
            return
        async with self._lock:
            if self._monotonic() < self._read_again_at:
                return
            try:
                async with asyncio.timeout(self._read_s):
                    skus = await self._read()
            except (
                httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, KeyError, TypeError,
            ) as error:  # fmt: skip
                # What was read before is nearer to the truth than the dated list.
                log.warning("gcp.price_list_unreadable", error=str(error) or type(error).__name__)
                self._read_again_at = self._monotonic() + RETRY_S
                return
            self._prices, dated = read_skus(skus)
            self._dated = f", in force since {dated[:10]}" if dated else ""
            self._read_again_at = self._monotonic() + KEEP_S

    async def _read(self) -> list[Any]:
        found: list[Any] = []
        query = {"pageSize": "5000", "currencyCode": "USD"}
        # In a header: addresses end up in logs.
        headers = {} if self._api_key is None else {"X-Goog-Api-Key": self._api_key}
        async with httpx.AsyncClient(
            transport=self._transport, timeout=30, headers=headers
        ) as http:
            for _ in range(_MAX_PAGES):
                answer = await http.get(f"{self._url}/v1/services/{COMPUTE}/skus", params=query)
                if not answer.is_success:
                    raise ValueError(f"the catalogue answers {answer.status_code}")
                page = answer.json()
                found += page["skus"]
                token = page.get("nextPageToken")
                if not token:
                    return found
                query["pageToken"] = token
        raise ValueError(f"more than {_MAX_PAGES} pages")


def read_skus(skus: list[Any]) -> tuple[dict[_Name, float], str]:
    """What of a catalogue concerns standbys, and since when the newest of it is in force.

    E2 cores and memory, disks, addresses in use; what is named otherwise is left alone.
    """
    prices: dict[_Name, float] = {}
    newest = ""
    for sku in skus:
        try:
            what = _what(str(sku["description"]))
            if what is None:
                continue
            latest = max(sku["pricingInfo"], key=lambda info: str(info.get("effectiveTime", "")))
            expression = latest["pricingExpression"]
            unit = expression["usageUnit"]
            # The last tier is what more of it costs; free ones before it are the account's, not ours.
            price = expression["tieredRates"][-1]["unitPrice"]
            usd = int(price.get("units") or 0) + int(price.get("nanos") or 0) / 1e9
            if price.get("currencyCode", "USD") != "USD" or unit not in _UNITS[what[0]]:
                continue
            regions = list(sku["serviceRegions"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue  # one line that cannot be read costs nobody the others
        newest = max(newest, str(latest.get("effectiveTime", "")))
        prices.update({_Name(what[0], what[1], str(region)): usd for region in regions})
    return prices, newest


_UNITS: Final = {
    "core": ("h",),
    "ram": ("GiBy.h",),
    "address": ("h",),
    **dict.fromkeys(_DISKS, ("GiBy.mo",)),
}


def _what(description: str) -> tuple[str, bool] | None:
    if match := _CORE_RAM.fullmatch(description):
        return match[2].lower(), match[1] is not None
    if match := _ADDRESS.fullmatch(description):
        return "address", match[1] != "Standard"
    for disk, pattern in _DISKS.items():
        if pattern.fullmatch(description):
            return disk, False
    return None
