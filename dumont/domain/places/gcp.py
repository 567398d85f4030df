"""Google Compute's regions and where they are.

Names, sites and countries: Google's page "Regions and zones", read on 2026-11-23; asia-southeast3
(Bangkok) from the price list of 2026-07-30. Coordinates are those of the site's town, right to about
30 km. Which zones there are is asked of the API, at run time; a region that is not here has no
coordinates, and is used last.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dumont.domain.places.countries import COUNTRIES

_ZONE = re.compile(r"(?P<region>[a-z]+(?:-[a-z]+)*[0-9]+)-[a-z]")


class GcpRegion(NamedTuple):
    """One region."""

    name: str
    site: str
    country: str
    """ISO code."""
    latitude: float
    longitude: float

    @property
    def continent(self) -> str:
        """AF, AS, EU, NA, OC or SA."""
        return COUNTRIES[self.country].continent


_ROWS = (
    GcpRegion("africa-south1", "Johannesburg", "ZA", -26.20, 28.05),
    GcpRegion("asia-east1", "Changhua County", "TW", 24.05, 120.52),
    GcpRegion("asia-east2", "Hong Kong", "HK", 22.32, 114.17),
    GcpRegion("asia-northeast1", "Tokyo", "JP", 35.68, 139.69),
    GcpRegion("asia-northeast2", "Osaka", "JP", 34.69, 135.50),
    GcpRegion("asia-northeast3", "Seoul", "KR", 37.57, 126.98),
    GcpRegion("asia-south1", "Mumbai", "IN", 19.08, 72.88),
    GcpRegion("asia-south2", "Delhi", "IN", 28.61, 77.21),
    GcpRegion("asia-southeast1", "Jurong West, Singapore", "SG", 1.35, 103.71),
    GcpRegion("asia-southeast2", "Jakarta", "ID", -6.21, 106.85),
    GcpRegion("asia-southeast3", "Bangkok", "TH", 13.75, 100.50),
    GcpRegion("australia-southeast1", "Sydney", "AU", -33.87, 151.21),
    GcpRegion("australia-southeast2", "Melbourne", "AU", -37.81, 144.96),
    GcpRegion("europe-central2", "Warsaw", "PL", 52.23, 21.01),
    GcpRegion("europe-north1", "Hamina, Finland", "FI", 60.57, 27.20),
    GcpRegion("europe-north2", "Stockholm", "SE", 59.33, 18.07),
    GcpRegion("europe-southwest1", "Madrid", "ES", 40.42, -3.70),
    GcpRegion("europe-west1", "St. Ghislain, Belgium", "BE", 50.47, 3.82),
    GcpRegion("europe-west10", "Berlin", "DE", 52.52, 13.40),
    GcpRegion("europe-west12", "Turin", "IT", 45.07, 7.69),
    GcpRegion("europe-west2", "London", "GB", 51.51, -0.13),
    GcpRegion("europe-west3", "Frankfurt", "DE", 50.11, 8.68),
    GcpRegion("europe-west4", "Eemshaven, Netherlands", "NL", 53.44, 6.83),
    GcpRegion("europe-west6", "Zurich", "CH", 47.37, 8.54),
    GcpRegion("europe-west8", "Milan", "IT", 45.46, 9.19),
    GcpRegion("europe-west9", "Paris", "FR", 48.86, 2.35),
    GcpRegion("me-central1", "Doha", "QA", 25.29, 51.53),
    GcpRegion("me-central2", "Dammam", "SA", 26.42, 50.09),
    GcpRegion("me-west1", "Tel Aviv", "IL", 32.09, 34.78),
    GcpRegion("northamerica-northeast1", "Montreal", "CA", 45.50, -73.57),
    GcpRegion("northamerica-northeast2", "Toronto", "CA", 43.65, -79.38),
    GcpRegion("northamerica-south1", "Queretaro", "MX", 20.59, -100.39),
    GcpRegion("southamerica-east1", "Osasco, Sao Paulo", "BR", -23.53, -46.79),
    GcpRegion("southamerica-west1", "Santiago", "CL", -33.45, -70.67),
    GcpRegion("us-central1", "Council Bluffs, Iowa", "US", 41.26, -95.86),
    GcpRegion("us-east1", "Moncks Corner, South Carolina", "US", 33.20, -80.01),
    GcpRegion("us-east4", "Ashburn, Virginia", "US", 39.04, -77.49),
    GcpRegion("us-east5", "Columbus, Ohio", "US", 39.96, -83.00),
    GcpRegion("us-south1", "Dallas, Texas", "US", 32.78, -96.80),
    GcpRegion("us-west1", "The Dalles, Oregon", "US", 45.60, -121.18),
    GcpRegion("us-west2", "Los Angeles, California", "US", 34.05, -118.24),
    GcpRegion("us-west3", "Salt Lake City, Utah", "US", 40.76, -111.89),
    GcpRegion("us-west4", "Las Vegas, Nevada", "US", 36.17, -115.14),
)

GCP_REGIONS: dict[str, GcpRegion] = {row.name: row for row in _ROWS}
"""By name."""


def region_of_zone(zone: str) -> str | None:
    """`us-central1-a` -> `us-central1`; None for what is no zone's name."""
    match = _ZONE.fullmatch(zone)
    return None if match is None else match["region"]
