"""Where a rented host stands, read from the words of a market.

Vast.ai describes a host's place as `Oregon, US`, `Czechia, CZ` or `, DE`: a region that may be missing,
then a country. Words are compared whole, after case and accents are taken off: a code inside a
longer word means nothing (`la` in `Iceland` is not Los Angeles). What cannot be read for certain is
None, never a guess: a standby on the wrong continent costs more than one in the default zone.

Such words come from databases of addresses and are often wrong by a few hundred kilometres; a
distance computed from them is an estimate. Only a measured round trip is a fact.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Literal

from pydantic import Field

from dumont.domain.countries import COUNTRIES
from dumont.domain.instances import Model
from dumont.domain.subdivisions import SUBDIVISIONS, Subdivision

EARTH_RADIUS_KM = 6371.0088
"""Mean radius; the sphere is off by 0.5 % at most, far less than the places are."""

_LONGEST_LOCATION = 200


class Place(Model):
    """A place on earth, as exactly as the words told."""

    country: str = Field(pattern=r"^[A-Z]{2}$")
    """ISO 3166-1 alpha-2."""
    subdivision: str | None = None
    """ISO 3166-2, such as `US-OR`; None where the words named none that we know."""
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    precision: Literal["subdivision", "country"]
    """What the coordinate is the middle of."""


def parse_location(text: str | None) -> Place | None:
    """Read a location such as `Oregon, US`; None where it does not name a place for certain.

    The last part is the country, as a code or spelled out; the part before it may name a subdivision.
    A subdivision that we do not know leaves the country; one that contradicts it leaves nothing.
    `US, Oregon` is read too. A name that is a country and a state (`Georgia`) needs a code beside it,
    and a subdivision without any country is not enough: Montana is in Bulgaria as well.
    """
    if text is None or len(text) > _LONGEST_LOCATION:
        return None
    parts = [_key(part) for part in unicodedata.normalize("NFKC", text).split(",")]
    parts = [part for part in parts if part]
    if not parts:
        return None
    country = _country(parts[-1])
    if country is not None:
        return _place(country, parts[-2] if len(parts) > 1 else None)
    return _reversed(parts)


def distance_km(
    latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float
) -> float:
    """Great-circle distance between two points, in kilometres."""
    a, b = math.radians(latitude_a), math.radians(latitude_b)
    half_turn = math.radians(longitude_b - longitude_a) / 2
    chord = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(half_turn) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


_LETTERS = str.maketrans(
    {"ł": "l", "đ": "d", "ð": "d", "ø": "o", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i"}
)  # letters that Unicode does not take apart into a base and an accent


def _key(words: str) -> str:
    """What two spellings of one name have in common."""
    plain = unicodedata.normalize("NFKD", words.casefold().translate(_LETTERS))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"['’`ʼ.]", "", plain.translate(_LETTERS))
    plain = re.sub(r"[\s\-–_]+", " ", plain.replace("&", " and ")).strip()
    return plain.removeprefix("the ")


_COUNTRIES: dict[str, str] = {code.lower(): code for code in COUNTRIES}
_COUNTRIES |= {country.alpha3.lower(): code for code, country in COUNTRIES.items()}
_COUNTRIES |= {_key(name): code for code, country in COUNTRIES.items() for name in country.names}

# Spelled out and alone, these may be the state as well as the country.
_NEED_A_CODE = frozenset({"georgia"})

# "Puerto Rico, US" names a place that has a country code of its own.
_TERRITORIES: dict[str, frozenset[str]] = {
    "US": frozenset({"PR", "GU", "VI", "AS", "MP", "UM"}),
    "CN": frozenset({"HK", "MO", "TW"}),
    "FR": frozenset({"GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "NC", "PF", "WF"}),
    "NL": frozenset({"AW", "CW", "SX", "BQ"}),
    "GB": frozenset({"GG", "JE", "IM", "GI", "BM", "KY", "VG", "TC", "FK", "AI", "MS", "SH"}),
    "DK": frozenset({"GL", "FO"}),
    "FI": frozenset({"AX"}),
    "NO": frozenset({"SJ"}),
    "AU": frozenset({"CX", "CC", "NF"}),
    "NZ": frozenset({"CK", "NU", "TK"}),
}

_KINDS = (
    "province", "state", "prefecture", "county", "region", "oblast", "krai", "kray", "republic",
    "voivodeship", "autonomous region", "lan", "fylke", "territory", "district", "municipality",
    "city", "sheng", "shi", "ken", "fu", "do", "to",
)  # fmt: skip
_KIND_AFTER = re.compile(rf"^(?P<name>.+) (?:{'|'.join(_KINDS)})$")
_KIND_BEFORE = re.compile(
    r"^(?:state|province|republic|region|estado) (?:of|de|do|da) (?P<name>.+)$"
)


def _by_name() -> dict[tuple[str, str], Subdivision]:
    named: dict[tuple[str, str], Subdivision] = {}
    for code, subdivision in SUBDIVISIONS.items():
        short = code.partition("-")[2]
        # Codes of one letter or of digits are for registers; nobody writes a place so.
        if short.isalpha() and len(short) > 1:
            named[subdivision.country, short.lower()] = subdivision
    for subdivision in SUBDIVISIONS.values():
        for name in map(_key, subdivision.names):
            if match := _KIND_AFTER.match(name):
                named.setdefault((subdivision.country, match["name"]), subdivision)
    for subdivision in SUBDIVISIONS.values():
        named |= {(subdivision.country, _key(name)): subdivision for name in subdivision.names}
    return named


_SUBDIVISIONS = _by_name()


def _country(key: str) -> str | None:
    return None if key in _NEED_A_CODE else _COUNTRIES.get(key)


def _subdivision(country: str, key: str) -> Subdivision | None:
    found = _SUBDIVISIONS.get((country, key))
    if found is None and (match := _KIND_BEFORE.match(key) or _KIND_AFTER.match(key)):
        found = _SUBDIVISIONS.get((country, match["name"]))
    return found


def _place(country: str, region: str | None) -> Place | None:
    """The place of a known country and what stood before it."""
    # "Mexico, MX" repeats the country; it is not the state of that name.
    if region is not None and _COUNTRIES.get(region) != country:
        subdivision = _subdivision(country, region)
        if subdivision is not None:
            return Place(
                country=country,
                subdivision=subdivision.code,
                latitude=subdivision.latitude,
                longitude=subdivision.longitude,
                precision="subdivision",
            )
        named = _COUNTRIES.get(region)
        if named is not None and named not in _TERRITORIES.get(country, ()):
            return None
        country = named or country
    row = COUNTRIES[country]
    return Place(
        country=country, latitude=row.latitude, longitude=row.longitude, precision="country"
    )


def _reversed(parts: list[str]) -> Place | None:
    """The place of `US, Oregon`: the country first."""
    if len(parts) != 2:
        return None
    country = _country(parts[0])
    if country is None or _subdivision(country, parts[1]) is None:
        return None  # a word that is no country ended it, and is no part of the first one either
    return _place(country, parts[1])
