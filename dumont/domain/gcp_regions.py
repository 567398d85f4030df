"""Google's regions on the map, and which zones are near a place.

Which zones exist and are up is asked of Google at the time; this table only says where their regions
are. A region that it does not know is still used, as the last choice and with an unknown distance.

Cities as Google names them in its list of locations (cloud.google.com/about/locations), coordinates of
their centres: about 30 km off at worst. As of 2026-11-26; regions checked against a dump of
`compute regions list` of 2026-08-20.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import NamedTuple

from dumont.domain.countries import COUNTRIES
from dumont.domain.instances import Model
from dumont.domain.locations import Place, distance_km

FIBRE_KM_PER_MS = 299_792.458 / 1000 * 2 / 3
"""Light in fibre: two thirds of its speed in vacuum."""

SHORT_RTT_MS = 5.0

OTHER_CONTINENT = 2.0
"""How many times nearer a region on another continent must be to be preferred: cables and data protection
follow continents. Greece belongs to Milan, not to Tel Aviv; Morocco to Madrid, not to Johannesburg."""


class GcpRegion(NamedTuple):
    """Where one region's data centres stand."""

    name: str
    city: str
    country: str
    """ISO 3166-1 alpha-2."""
    latitude: float
    longitude: float


REGIONS: dict[str, GcpRegion] = {
    region.name: region
    for region in (
        GcpRegion("africa-south1", "Johannesburg", "ZA", -26.20, 28.05),
        GcpRegion("asia-east1", "Changhua County", "TW", 24.05, 120.52),
        GcpRegion("asia-east2", "Hong Kong", "HK", 22.32, 114.17),
        GcpRegion("asia-northeast1", "Tokyo", "JP", 35.68, 139.69),
        GcpRegion("asia-northeast2", "Osaka", "JP", 34.69, 135.50),
        GcpRegion("asia-northeast3", "Seoul", "KR", 37.57, 126.98),
        GcpRegion("asia-south1", "Mumbai", "IN", 19.08, 72.88),
        GcpRegion("asia-south2", "Delhi", "IN", 28.61, 77.21),
        GcpRegion("asia-southeast1", "Jurong West", "SG", 1.35, 103.71),
        GcpRegion("asia-southeast2", "Jakarta", "ID", -6.21, 106.85),
        GcpRegion("asia-southeast3", "Bangkok", "TH", 13.76, 100.50),
        GcpRegion("australia-southeast1", "Sydney", "AU", -33.87, 151.21),
        GcpRegion("australia-southeast2", "Melbourne", "AU", -37.81, 144.96),
        GcpRegion("europe-central2", "Warsaw", "PL", 52.23, 21.01),
        GcpRegion("europe-north1", "Hamina", "FI", 60.57, 27.20),
        GcpRegion("europe-north2", "Stockholm", "SE", 59.33, 18.07),
        GcpRegion("europe-southwest1", "Madrid", "ES", 40.42, -3.70),
        GcpRegion("europe-west1", "St. Ghislain", "BE", 50.47, 3.82),
        GcpRegion("europe-west2", "London", "GB", 51.51, -0.13),
        GcpRegion("europe-west3", "Frankfurt", "DE", 50.11, 8.68),
        GcpRegion("europe-west4", "Eemshaven", "NL", 53.44, 6.83),
        GcpRegion("europe-west6", "Zurich", "CH", 47.37, 8.54),
        GcpRegion("europe-west8", "Milan", "IT", 45.46, 9.19),
        GcpRegion("europe-west9", "Paris", "FR", 48.86, 2.35),
        GcpRegion("europe-west10", "Berlin", "DE", 52.52, 13.40),
        GcpRegion("europe-west12", "Turin", "IT", 45.07, 7.69),
        GcpRegion("me-central1", "Doha", "QA", 25.29, 51.53),
        GcpRegion("me-central2", "Dammam", "SA", 26.42, 50.09),
        GcpRegion("me-west1", "Tel Aviv", "IL", 32.09, 34.78),
        GcpRegion("northamerica-northeast1", "Montréal", "CA", 45.50, -73.57),
        GcpRegion("northamerica-northeast2", "Toronto", "CA", 43.65, -79.38),
        GcpRegion("northamerica-south1", "Querétaro", "MX", 20.59, -100.39),
        GcpRegion("southamerica-east1", "Osasco", "BR", -23.53, -46.79),
        GcpRegion("southamerica-west1", "Santiago", "CL", -33.45, -70.67),
        GcpRegion("us-central1", "Council Bluffs", "US", 41.26, -95.86),
        GcpRegion("us-east1", "Moncks Corner", "US", 33.20, -80.01),
        GcpRegion("us-east4", "Ashburn", "US", 39.04, -77.49),
        GcpRegion("us-east5", "Columbus", "US", 39.96, -83.00),
        GcpRegion("us-south1", "Dallas", "US", 32.78, -96.80),
        GcpRegion("us-west1", "The Dalles", "US", 45.60, -121.18),
        GcpRegion("us-west2", "Los Angeles", "US", 34.05, -118.24),
        GcpRegion("us-west3", "Salt Lake City", "US", 40.76, -111.89),
        GcpRegion("us-west4", "Las Vegas", "US", 36.17, -115.14),
    )
}
"""Every region we can put on the map, by name."""


class ZoneChoice(Model):
    """A zone, and how far it is from the place that was asked about."""

    zone: str
    region: str
    km: float | None
    """Great circle to the region's city; None when either end is unknown."""
    least_rtt_ms: float | None
    """An estimate of the least possible round trip: light in straight fibre, there and back. Real routes
    take half as much again, and the last mile of a home adds 5 to 20 ms."""


def nearest_zones(
    place: Place | None,
    zones: Iterable[str],
    *,
    avoid: Collection[str] = (),
    spread: str = "",
) -> list[ZoneChoice]:
    """Sort zones that are up by their great-circle distance from a place, its own continent first.

    A region on another continent counts as `OTHER_CONTINENT` times as far as it is.

    Args:
        place: Where the primary stands; None when nobody knows. Then no distance is known either, and
            the order is that of names.
        zones: Live zone names, such as `us-west1-b`.
        avoid: Names of zones or of whole regions to leave out.
        spread: A stable key, such as a machine's id, that turns the order of each region's zones, so
            that standbys near one another do not all depend on one zone. Empty: no turn.

    Returns:
        Each zone once: nearest first, zones of one region next to one another in the order of their
        names, begun where `spread` says, zones of regions that are not on our map at the end.
    """
    turned = _turned(zones, spread)
    choices = [
        _choice(place, zone)
        for zone in turned
        if zone not in avoid and region_of(zone) not in avoid
    ]
    return sorted(choices, key=lambda choice: _order(place, choice))  # stable: keeps each turn


def region_of(zone: str) -> str:
    """`us-west1` of `us-west1-b`."""
    return zone.rpartition("-")[0]


def least_rtt_ms(km: float) -> float:
    """The round trip that physics allows over straight fibre: an estimate, and never reached."""
    return 2 * km / FIBRE_KM_PER_MS


def describe_distance(km: float | None, measured_rtt_ms: float | None) -> str:
    """How far a standby is, in words that claim no more than is known.

    A round trip is stated as such only when it was measured; `< 5 ms` above all.
    """
    far = "distance unknown" if km is None else f"about {_rounded(km)} km"
    if measured_rtt_ms is not None:
        short = measured_rtt_ms < SHORT_RTT_MS
        return f"{far}, {'< 5 ms' if short else f'{measured_rtt_ms:.0f} ms'} measured"
    if km is None:
        return f"{far}, round trip not measured"
    return f"{far}, at least {least_rtt_ms(km):.0f} ms by estimate, not measured"


def _turned(zones: Iterable[str], spread: str) -> list[str]:
    """Each zone once, by region and name, each region begun at the place that a key gives it.

    Zones to avoid still count here: leaving one out must not move a machine's other choices.
    """
    regions: dict[str, list[str]] = {}
    for zone in sorted(set(zones)):
        regions.setdefault(region_of(zone), []).append(zone)
    # Not hash(): that differs from one process to the next.
    key = int.from_bytes(hashlib.sha256(spread.encode()).digest()[:8], "big") if spread else 0
    return [
        zone for row in regions.values() for zone in row[key % len(row) :] + row[: key % len(row)]
    ]


def _choice(place: Place | None, zone: str) -> ZoneChoice:
    name = region_of(zone)
    region = REGIONS.get(name)
    if place is None or region is None:
        return ZoneChoice(zone=zone, region=name, km=None, least_rtt_ms=None)
    km = distance_km(place.latitude, place.longitude, region.latitude, region.longitude)
    return ZoneChoice(zone=zone, region=name, km=km, least_rtt_ms=least_rtt_ms(km))


def _order(place: Place | None, choice: ZoneChoice) -> tuple[bool, float, str]:
    # What is in no region stands alone, among the regions by its name.
    name = choice.region or choice.zone
    if place is None or choice.km is None:
        return True, 0.0, name
    same = _continent(place.country) == _continent(REGIONS[choice.region].country)
    return False, choice.km * (1 if same else OTHER_CONTINENT), name


def _continent(country: str) -> str | None:
    known = COUNTRIES.get(country)
    return known.continent if known else None


def _rounded(km: float) -> int:
    """To what the places are good for: tens of kilometres."""
    return round(km / 10) * 10 if km >= 100 else round(km)
