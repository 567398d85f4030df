"""Google's price list: read once in a while, taken for what it says, and done without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from dumont.domain.gcp_list_prices import AS_OF
from dumont.domain.standby_cost import StandbyPrices, dated_prices
from dumont.providers.gcp.price_list import KEEP_S, RETRY_S, PriceList, read_skus
from simcloud.gcp import prices
from simcloud.gcp.machine_types import find_machine_type
from simcloud.gcp.skus import all_skus

REGION = "europe-west1"


class Catalogue:
    """A price list on the wire that counts how often it is asked for."""

    def __init__(self, skus: list[Any], *, page: int = 5000) -> None:
        self.skus = skus
        self.page = page
        self.broken = False
        self.asked: list[httpx.Request] = []
        self.now = 0.0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.broken:
            return httpx.Response(503, text="<html>")
        start = int(request.url.params.get("pageToken", "0"))
        end = start + self.page
        token = str(end) if end < len(self.skus) else ""
        return httpx.Response(200, json={"skus": self.skus[start:end], "nextPageToken": token})

    def read(self, **options: Any) -> PriceList:
        return PriceList(
            url="http://prices.test",
            transport=httpx.MockTransport(self.answer),
            monotonic=lambda: self.now,
            **options,
        )


async def small(found: PriceList, **changed: Any) -> StandbyPrices:
    given = {"spot": True, "disk_gb": 20.0, "disk_type": "pd-balanced", "region": REGION}
    return await found.standby("e2-small", **(given | changed))


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("kind", ["e2-micro", "e2-small", "e2-medium", "e2-standard-4"])
async def test_it_prices_what_the_cloud_bills(kind: str, spot: bool):
    catalogue = Catalogue(all_skus(), page=100)
    found = await catalogue.read().standby(
        kind, spot=spot, disk_gb=30, disk_type="pd-balanced", region=REGION
    )
    machine = find_machine_type(kind)
    assert machine is not None
    unit = prices.compute_price(family="e2", region=REGION, spot=spot)
    assert found.vm == pytest.approx(unit.of(machine), rel=1e-4)
    disk = prices.disk_price(disk_type="pd-balanced", region=REGION) * 30
    assert found.disk == pytest.approx(disk, rel=1e-4)
    assert found.address == pytest.approx(prices.address_price(spot=spot), rel=1e-4)
    assert found.source == "Google's Cloud Billing Catalog, in force since 2026-11-01"
    assert len(catalogue.asked) > 1, "it has pages"


async def test_it_is_read_once_in_twelve_hours():
    catalogue = Catalogue(all_skus())
    found = catalogue.read()
    for _ in range(5):
        await small(found)
    assert len(catalogue.asked) == 1
    catalogue.now = KEEP_S
    await small(found)
    assert len(catalogue.asked) == 2


async def test_without_one_the_dated_list_stands_in_and_says_so():
    for found in (PriceList(url=None), Catalogue([]).read()):
        told = await small(found)
        assert told == dated_prices(
            "e2-small", spot=True, disk_gb=20, disk_type="pd-balanced", region=REGION
        )
        assert AS_OF.isoformat() in told.source


async def test_one_that_breaks_leaves_what_was_read_and_is_not_asked_at_every_turn():
    catalogue = Catalogue(all_skus())
    found = catalogue.read()
    before = await small(found)
    catalogue.broken, catalogue.now = True, KEEP_S
    assert await small(found) == before
    assert await small(found) == before
    assert len(catalogue.asked) == 2
    catalogue.now += RETRY_S
    await small(found)
    assert len(catalogue.asked) == 3


async def test_a_slow_one_is_not_waited_for():
    catalogue = Catalogue(all_skus(), page=100)

    async def drip(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.04)  # each page comes in time, and all of them do not
        return catalogue.answer(request)

    found = PriceList(
        url="http://prices.test",
        transport=httpx.MockTransport(drip),
        monotonic=lambda: catalogue.now,
        read_s=0.1,
    )
    async with asyncio.timeout(5):
        told = await small(found)
        assert AS_OF.isoformat() in told.source
        asked = len(catalogue.asked)
        assert 0 < asked < len(all_skus()) / 100
        await small(found)
    assert len(catalogue.asked) == asked, "it is asked again later"
    catalogue.now, catalogue.page = RETRY_S, 5000
    assert "Catalog" in (await small(found)).source


async def test_a_broken_one_at_the_beginning_is_no_price_of_zero():
    catalogue = Catalogue(all_skus())
    catalogue.broken = True
    told = await small(catalogue.read())
    assert told.vm is not None
    assert told.vm > 0
    assert AS_OF.isoformat() in told.source


async def test_the_key_is_sent_and_not_in_the_address():
    catalogue = Catalogue(all_skus())
    await small(catalogue.read(api_key="sesame"))
    [request] = catalogue.asked
    assert request.headers["x-goog-api-key"] == "sesame"
    assert "sesame" not in str(request.url)


async def test_what_is_not_known_is_none():
    found = Catalogue(all_skus()).read()
    assert (await small(found, disk_gb=None)).disk is None
    strange = await found.standby(
        "z9-huge", spot=True, disk_gb=10, disk_type="pd-balanced", region=REGION
    )
    assert strange.vm is None
    nowhere = await small(found, region="moon-east1")
    assert (nowhere.vm, nowhere.disk, nowhere.address) == (None, None, None)


def sku(description: str = "Spot Preemptible E2 Instance Core running in Belgium") -> Any:
    return {
        "description": description,
        "serviceRegions": [REGION],
        "pricingInfo": [
            {
                "effectiveTime": "2026-10-01T00:00:00Z",
                "pricingExpression": {
                    "usageUnit": "h",
                    "tieredRates": [
                        {"startUsageAmount": 0, "unitPrice": {"units": "0", "nanos": 0}},
                        {"startUsageAmount": 1, "unitPrice": {"units": "1", "nanos": 250_000_000}},
                    ],
                },
            }
        ],
    }


def _without(key: str) -> Callable[[Any], None]:
    return lambda s: s.pop(key)


@pytest.mark.parametrize(
    "spoil",
    [
        _without("description"),
        _without("pricingInfo"),
        _without("serviceRegions"),
        lambda s: s.update(pricingInfo=[]),
        lambda s: s["pricingInfo"][0]["pricingExpression"].update(tieredRates=[]),
        lambda s: s["pricingInfo"][0]["pricingExpression"].update(usageUnit="mo"),
        lambda s: s.update(description="E2 Custom Instance Core running in Belgium"),
        lambda s: s.update(description="Commitment v1: E2 Cpu in Belgium for 1 Year"),
    ],
)
def test_a_line_that_is_strange_is_left_alone_and_the_others_stand(spoil: Callable[[Any], None]):
    odd = sku()
    spoil(odd)
    good = sku("E2 Instance Core running in Belgium")
    found, _ = read_skus([odd, good, "nonsense", None])
    assert list(found.values()) == [1.25]


def test_the_newest_price_and_the_last_tier_count():
    line = sku()
    older = sku()["pricingInfo"][0] | {"effectiveTime": "2020-01-01T00:00:00Z"}
    older["pricingExpression"] = {"usageUnit": "h", "tieredRates": [{"unitPrice": {"units": "9"}}]}
    line["pricingInfo"].append(older)
    found, newest = read_skus([line])
    assert list(found.values()) == [1.25]
    assert newest.startswith("2026-10-01")
