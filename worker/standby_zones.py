"""Where a standby goes: the nearest zone that is up, with what it is likely to cost there."""

from __future__ import annotations

from collections.abc import Sequence

from activities.vms import PickZones, PlaceZones, ZonePick
from dumont.config import Settings
from dumont.domain.gcp_regions import nearest_zones
from dumont.domain.locations import parse_location
from dumont.domain.standby_cost import standby_cost


def zone_picker(settings: Settings) -> PlaceZones:
    """Chooses by the primary's place; where that is unknown, the configured zone comes first."""

    def pick(ask: PickZones, zones: Sequence[str]) -> list[ZonePick]:
        place = parse_location(ask.region)
        if place is None:
            where = ask.region or "not told"
            return [
                _priced(ask, zone, None, f"the GPU's place is unknown ({where})")
                for zone in sorted(zones, key=lambda zone: (zone != settings.standby_zone, zone))
            ]
        choices = nearest_zones(place, zones, avoid=ask.avoid)
        return [
            _priced(
                ask,
                choice.zone,
                choice.km,
                "" if choice.km is None else f"{choice.km:.0f} km from {ask.region}",
            )
            for choice in choices
        ]

    return pick


def _priced(ask: PickZones, zone: str, km: float | None, why: str) -> ZonePick:
    cost = standby_cost(
        ask.machine_type,
        spot=ask.spot,
        disk_gb=ask.disk_gb,
        region=zone.rpartition("-")[0],
    )
    return ZonePick(zone=zone, km=km, usd_per_hour=cost.total, why=why)
