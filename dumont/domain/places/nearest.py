"""Which zones are near a place, and what may be said about the delay to them.

Distance is arithmetic; delay is not. Light in fibre gives a bound from below, which real paths exceed
by a third to a factor of two and more, and the last mile of a rented host adds milliseconds. So a
figure from coordinates is called an estimate and a bound, and "< 5 ms" is said of measurements only.

Between continents the ground distance flatters: cables go round. A region of another continent comes
first only if it is nearer by a quarter at least (Madrid for Morocco, but Milan for Greece).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self

from dumont.domain.instances import Message
from dumont.domain.places.gcp import GCP_REGIONS, GcpRegion, region_of_zone
from dumont.domain.places.model import Place, great_circle_km

FIBRE_RTT_MS_PER_KM = 0.01
"""Light needs 5 us for a km of glass, and comes back."""

NEAR_MS = 5.0
"""What we call near, when measured."""

OTHER_CONTINENT_FACTOR = 1.25
"""How much farther a region of another continent counts."""


class ZoneChoice(Message):
    """One zone where a standby may be put."""

    zone: str
    region: str
    site: str | None = None
    """The region's town; None for a region that we have no coordinates of."""
    distance_km: float | None = None
    """From the place's coordinates; None when the place or the region has none."""
    rtt_floor_ms: float | None = None
    """Estimated lower bound of the round trip, from light in fibre, with the place's uncertainty taken
    off. No measurement."""
    fallback: str = ""
    """Why the zone was chosen though we do not know that it is near; empty when it is."""


def nearest_zones(
    place: Place | None,
    zones: Sequence[str],
    *,
    avoid: Collection[str] = (),
    spread: str = "",
    default_zone: str | None = None,
    fallback: str = "",
) -> list[ZoneChoice]:
    """Rank zones by great circle from a place; the first is the best.

    The same arguments always give the same order. Zones of one region are equally near, and take
    turns by `spread`, so that not every standby of a region lands in its zone `a`.

    Args:
        place: Where the primary is. None, unknown, falls back to the default zone and the others by
            their distance from it; every choice then says so.
        zones: The zones that may be used, as the provider lists them. What is no zone's name is
            left out.
        avoid: Zones, or whole regions, that are not to be used.
        spread: Whose turn it is: a machine's id, for example.
        default_zone: The zone for unknown places. It need not be among `zones`: its region says where
            to begin. Without it an unknown place has no choices.
        fallback: Why `place` is none but a stand-in, written into every choice.
    """
    usable = _usable(zones, avoid)
    if place is not None:
        ranked = sorted(usable, key=lambda item: _order(item, _Origin.of(place), spread))
        return [_choice(item, place, fallback) for item in ranked]
    if default_zone is None:
        return []
    home = GCP_REGIONS.get(region_of_zone(default_zone) or "")
    origin = None if home is None else _Origin.of(home)
    ranked = sorted(
        usable, key=lambda item: (item[0] != default_zone, *_order(item, origin, spread))
    )
    why = fallback or f"location unknown: default zone {default_zone} and what is near it"
    return [_choice(item, None, why) for item in ranked]


def describe_distance(km: float | None, measured_rtt_ms: float | None = None) -> str:
    """Say how far a standby is in words that hold: "< 5 ms" is for measurements only.

    Args:
        km: Great-circle distance; None when unknown.
        measured_rtt_ms: Round trip that was measured; None when it was not.
    """
    known = km is not None and math.isfinite(km) and km >= 0
    about = f", about {_round(km)} km" if known and km is not None else ""
    if measured_rtt_ms is not None and math.isfinite(measured_rtt_ms) and measured_rtt_ms > 0:
        near = f"< {NEAR_MS:g} ms: " if measured_rtt_ms < NEAR_MS else ""
        return f"{near}{_decimals(measured_rtt_ms)} ms round trip, measured{about}"
    if not known or km is None:
        return "distance unknown, round trip not measured"
    floor = _decimals(km * FIBRE_RTT_MS_PER_KM)
    return (
        f"about {_round(km)} km; round trip not measured (estimate: at least {floor} ms, "
        "the bound of light in fibre)"
    )


class _Origin(NamedTuple):
    latitude: float
    longitude: float
    continent: str

    @classmethod
    def of(cls, somewhere: Place | GcpRegion) -> Self:
        return cls(somewhere.latitude, somewhere.longitude, somewhere.continent)


_Zone = tuple[str, str, GcpRegion | None]


def _usable(zones: Iterable[str], avoid: Collection[str]) -> list[_Zone]:
    unwanted = set(avoid)
    found: list[_Zone] = []
    for zone in dict.fromkeys(zones):
        region = region_of_zone(zone)
        if region is not None and not unwanted & {zone, region}:
            found.append((zone, region, GCP_REGIONS.get(region)))
    return found


def _order(item: _Zone, origin: _Origin | None, spread: str) -> tuple[bool, float, str, bytes, str]:
    zone, name, region = item
    distance = math.inf
    if region is not None and origin is not None:
        same = region.continent == origin.continent
        distance = _distance(origin, region) * (1.0 if same else OTHER_CONTINENT_FACTOR)
    turn = hashlib.sha256(f"{spread}\n{zone}".encode()).digest() if spread else b""
    return math.isinf(distance), distance, name, turn, zone


def _distance(origin: _Origin, region: GcpRegion) -> float:
    return great_circle_km(
        latitude=origin.latitude,
        longitude=origin.longitude,
        to_latitude=region.latitude,
        to_longitude=region.longitude,
    )


def _choice(item: _Zone, place: Place | None, fallback: str) -> ZoneChoice:
    zone, name, region = item
    if region is None:
        return ZoneChoice(
            zone=zone, region=name, fallback=fallback or f"no coordinates of region {name}"
        )
    if place is None:
        return ZoneChoice(zone=zone, region=name, site=region.site, fallback=fallback)
    km = _distance(_Origin.of(place), region)
    return ZoneChoice(
        zone=zone,
        region=name,
        site=region.site,
        distance_km=round(km, 1),
        rtt_floor_ms=round(max(0.0, km - place.radius_km) * FIBRE_RTT_MS_PER_KM, 2),
        fallback=fallback,
    )


def _round(km: float) -> int:
    return int(round(km, -1 if km >= 100 else 0))


def _decimals(ms: float) -> str:
    return f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"
