"""Where a standby goes: the configured zone first, then whatever is up."""

from __future__ import annotations

from collections.abc import Sequence

from activities.vms import PickZones, PlaceZones, ZonePick
from dumont.config import Settings


def zone_picker(settings: Settings) -> PlaceZones:
    """Chooses among the zones that are up."""

    def pick(ask: PickZones, zones: Sequence[str]) -> list[ZonePick]:
        return [
            ZonePick(zone=zone, why="the configured zone first")
            for zone in sorted(zones, key=lambda zone: (zone != settings.standby_zone, zone))
        ]

    return pick
