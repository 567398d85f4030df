"""Where Google has data centres: the 42 regions, their zones and sites.

Sites and coordinates are city centres (about 30 km off at worst), for display and for distances.
Real Google adds regions over time; a client must take the list from the API.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Region:
    """One region."""

    name: str
    site: str
    latitude: float
    longitude: float
    zones: tuple[str, ...]
    """Full zone names, such as `us-central1-a`."""


_EXCEPTIONAL_ZONES = {"us-central1": "abcf", "us-east1": "bcd", "europe-west1": "bcd"}

_SITES: tuple[tuple[str, str, float, float], ...] = (
    ("africa-south1", "Johannesburg", -26.20, 28.05),
    ("asia-east1", "Changhua County", 24.05, 120.52),
    ("asia-east2", "Hong Kong", 22.32, 114.17),
    ("asia-northeast1", "Tokyo", 35.68, 139.69),
    ("asia-northeast2", "Osaka", 34.69, 135.50),
    ("asia-northeast3", "Seoul", 37.57, 126.98),
    ("asia-south1", "Mumbai", 19.08, 72.88),
    ("asia-south2", "Delhi", 28.61, 77.21),
    ("asia-southeast1", "Jurong West", 1.35, 103.71),
    ("asia-southeast2", "Jakarta", -6.21, 106.85),
    ("australia-southeast1", "Sydney", -33.87, 151.21),
    ("australia-southeast2", "Melbourne", -37.81, 144.96),
    ("europe-central2", "Warsaw", 52.23, 21.01),
    ("europe-north1", "Hamina", 60.57, 27.20),
    ("europe-north2", "Stockholm", 59.33, 18.07),
    ("europe-southwest1", "Madrid", 40.42, -3.70),
    ("europe-west1", "St. Ghislain", 50.47, 3.82),
    ("europe-west10", "Berlin", 52.52, 13.40),
    ("europe-west12", "Turin", 45.07, 7.69),
    ("europe-west2", "London", 51.51, -0.13),
    ("europe-west3", "Frankfurt", 50.11, 8.68),
    ("europe-west4", "Eemshaven", 53.44, 6.83),
    ("europe-west6", "Zurich", 47.37, 8.54),
    ("europe-west8", "Milan", 45.46, 9.19),
    ("europe-west9", "Paris", 48.86, 2.35),
    ("me-central1", "Doha", 25.29, 51.53),
    ("me-central2", "Dammam", 26.42, 50.09),
    ("me-west1", "Tel Aviv", 32.09, 34.78),
    ("northamerica-northeast1", "Montreal", 45.50, -73.57),
    ("northamerica-northeast2", "Toronto", 43.65, -79.38),
    ("northamerica-south1", "Queretaro", 20.59, -100.39),
    ("southamerica-east1", "Sao Paulo", -23.53, -46.79),
    ("southamerica-west1", "Santiago", -33.45, -70.67),
    ("us-central1", "Iowa", 41.26, -95.86),
    ("us-east1", "South Carolina", 33.20, -80.01),
    ("us-east4", "Northern Virginia", 39.04, -77.49),
    ("us-east5", "Columbus", 39.96, -83.00),
    ("us-south1", "Dallas", 32.78, -96.80),
    ("us-west1", "Oregon", 45.60, -121.18),
    ("us-west2", "Los Angeles", 34.05, -118.24),
    ("us-west3", "Salt Lake City", 40.76, -111.89),
    ("us-west4", "Las Vegas", 36.17, -115.14),
)

REGIONS: dict[str, Region] = {
    name: Region(
        name=name,
        site=site,
        latitude=latitude,
        longitude=longitude,
        zones=tuple(f"{name}-{letter}" for letter in _EXCEPTIONAL_ZONES.get(name, "abc")),
    )
    for name, site, latitude, longitude in _SITES
}
"""Every region by name, in the order in which Google lists them."""

ZONES: dict[str, Region] = {zone: region for region in REGIONS.values() for zone in region.zones}
"""Every zone with the region it belongs to."""
