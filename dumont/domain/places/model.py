"""A place, how well it is known, and how far two places are apart."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import Field

from dumont.domain.instances import Message

EARTH_RADIUS_KM = 6371.0


class Precision(StrEnum):
    """What a place's coordinates stand for."""

    COUNTRY = "country"
    """Where the people of the country are."""
    SUBDIVISION = "subdivision"
    """Where the people of the state or province are."""
    TOWN = "town"


class Place(Message):
    """Where something is, as far as it is known."""

    country: str = Field(pattern=r"^[A-Z]{2}$")
    """ISO 3166-1 code."""
    country_name: str
    continent: str
    """AF, AS, EU, NA, OC or SA."""
    subdivision: str | None = None
    """Usual English name; None when unknown, or where we keep none for the country."""
    town: str | None = None
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    radius_km: float = Field(ge=0)
    """How far from the coordinates it may well be: nine of ten inhabitants are within."""
    precision: Precision


def great_circle_km(
    *, latitude: float, longitude: float, to_latitude: float, to_longitude: float
) -> float:
    """Distance over the ground between two points, on a sphere: right to about 0.5 %."""
    one, other = math.radians(latitude), math.radians(to_latitude)
    half_north = math.sin((other - one) / 2)
    half_east = math.sin(math.radians(to_longitude - longitude) / 2)
    chord = half_north**2 + math.cos(one) * math.cos(other) * half_east**2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
