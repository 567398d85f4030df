"""Where a standby goes: the nearest zone that is up, with what it is likely to cost there."""

from __future__ import annotations

from collections.abc import Sequence

from activities.vms import PickZones, PlaceZones, ZonePick
from dumont.config import Settings
from dumont.domain.gcp_regions import nearest_zones
from dumont.domain.locations import parse_location
from dumont.domain.standby_cost import standby_cost
from dumont.remote.ip_country import country_of


def zone_picker(settings: Settings) -> PlaceZones:
    """Chooses by the primary's place; where that is unknown, the configured zone comes first."""

    def pick(ask: PickZones, zones: Sequence[str]) -> list[ZonePick]:
        place, where = parse_location(ask.region), ask.region
        if place is None and (country := country_of(ask.address or "")) is not None:
            # The second opinion fills in and never overrules: it knows whom an address was given to.
            place, where = parse_location(f", {country}"), f"{country}, by its address"
        if place is None:
            known = [zone for zone in zones if zone not in ask.avoid]
            return [
                _priced(ask, zone, None, f"the GPU's place is unknown ({ask.region or 'not told'})")
                for zone in sorted(known, key=lambda zone: (zone != settings.standby_zone, zone))
            ]
        choices = nearest_zones(place, zones, avoid=ask.avoid, spread=ask.machine_id)
        return [
            _priced(
                ask,
                choice.zone,
                choice.km,
                "" if choice.km is None else f"{choice.km:.0f} km from {where}",
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
