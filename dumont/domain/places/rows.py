"""The shapes of the gazetteer's rows."""

from __future__ import annotations

from typing import NamedTuple


class Area(NamedTuple):
    """A state, a province or the like."""

    code: str
    """Postal code where people write it (`TX`, `QC`, `NSW`), else empty."""
    names: str
    """Usual English name first, then what else it is called; `|` between them."""
    latitude: float
    longitude: float
    radius_km: int
    """Nine of ten inhabitants are within it."""


class Town(NamedTuple):
    """A large town."""

    area: str
    """First name of its area; empty where we keep none for the country."""
    name: str
    latitude: float
    longitude: float
