"""The price list as the Cloud Billing Catalog API serves it (`services.skus.list`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simcloud.gcp import prices, wire
from simcloud.gcp.regions import REGIONS, Region

COMPUTE_ENGINE = "6F81-5844-456A"
"""Id of the service Compute Engine."""

_EFFECTIVE = "2026-11-01T00:00:00Z"


def _sku(
    *,
    description: str,
    group: str,
    usage: str,
    family: str,
    region: Region,
    unit: str,
    unit_description: str,
    price: float,
) -> dict[str, Any]:
    digits = wire.stable_id("sku", description, region.name)
    sku_id = f"{digits[0:4]}-{digits[4:8]}-{digits[8:12]}"
    units = int(price)
    month = unit.endswith(".mo")
    return {
        "name": f"services/{COMPUTE_ENGINE}/skus/{sku_id}",
        "skuId": sku_id,
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": [region.name],
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": unit,
                    "displayQuantity": 1,
                    "tieredRates": [
                        {
                            "startUsageAmount": 0,
                            "unitPrice": {
                                "currencyCode": "USD",
                                "units": str(units),
                                "nanos": round((price - units) * 1e9),
                            },
                        }
                    ],
                    "usageUnitDescription": unit_description,
                    "baseUnit": "By.s" if unit.startswith("GiBy") else "s",
                    "baseUnitDescription": ("byte second" if unit.startswith("GiBy") else "second"),
                    "baseUnitConversionFactor": (
                        (2**30 if unit.startswith("GiBy") else 1) * (2592000 if month else 3600)
                    ),
                },
                "currencyConversionRate": 1,
                "effectiveTime": _EFFECTIVE,
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "REGIONAL", "regions": [region.name]},
    }


def _compute(series: str, region: Region, *, spot: bool) -> Iterator[dict[str, Any]]:
    price = prices.compute_price(family=series, region=region.name, spot=spot)
    name = series.upper() + (" Predefined" if series == "n1" else "")
    prefix = "Spot Preemptible " if spot else ""
    usage = "Preemptible" if spot else "OnDemand"
    yield _sku(
        description=f"{prefix}{name} Instance Core running in {region.site}",
        group="CPU",
        usage=usage,
        family="Compute",
        region=region,
        unit="h",
        unit_description="hour",
        price=price.core,
    )
    yield _sku(
        description=f"{prefix}{name} Instance Ram running in {region.site}",
        group="RAM",
        usage=usage,
        family="Compute",
        region=region,
        unit="GiBy.h",
        unit_description="gibibyte hour",
        price=price.ram_gb,
    )


_DISKS = {
    "pd-standard": ("Storage PD Capacity", "PDStandard"),
    "pd-balanced": ("Balanced PD Capacity", "SSD"),
    "pd-ssd": ("SSD backed PD Capacity", "SSD"),
}


def _region_skus(region: Region) -> Iterator[dict[str, Any]]:
    for series in ("e2", "n1", "n2"):
        for spot in (False, True):
            yield from _compute(series, region, spot=spot)
    for disk_type, (label, group) in _DISKS.items():
        yield _sku(
            description=f"{label} in {region.site}",
            group=group,
            usage="OnDemand",
            family="Storage",
            region=region,
            unit="GiBy.mo",
            unit_description="gibibyte month",
            price=prices.DISK_GB_MONTH[disk_type] * prices.regional_factor(region.name),
        )
    for spot in (False, True):
        yield _sku(
            description=(
                f"External IP Charge on a {'Spot Preemptible' if spot else 'Standard'} VM"
                f" in {region.site}"
            ),
            group="ExternalIp",
            usage="Preemptible" if spot else "OnDemand",
            family="Network",
            region=region,
            unit="h",
            unit_description="hour",
            price=prices.address_price(spot=spot),
        )


def all_skus() -> list[dict[str, Any]]:
    """Return every SKU of Compute Engine that simcloud bills by."""
    return [sku for region in REGIONS.values() for sku in _region_skus(region)]
