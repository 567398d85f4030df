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
    and a subdivision alone is not enough: Montana is in Bulgaria as well. Beside its own code it is:
    `Indiana, IN` is the state and not India, and `Illinois, IN` is neither.
    """
    if text is None or len(text) > _LONGEST_LOCATION:
        return None
    parts = [_key(part) for part in unicodedata.normalize("NFKC", text).split(",")]
    words = [part for part in parts if part]
    if not words or (parts[0] in _NOT_AVAILABLE and words[-1] in _NOT_AVAILABLE):
        return None
    last = words.pop()
    words = [word for word in words if word not in _NOT_AVAILABLE]
    region = words[-1] if words else None
    country = _country(last)
    if country is not None and (region is None or _COUNTRIES.get(region) == country):
        return _middle(
            country
        )  # "Mexico, MX" repeats the country; it is not the state of that name
    if region is None:
        return None
    if country is not None and (subdivision := _subdivision(country, region)) is not None:
        return _inside(subdivision)
    if readings := _beside_code(region, last):
        own = [named for named, coded in readings if named == coded]
        return _inside(own[0]) if len(own) == 1 else None
    if country is not None:
        return _around(country, region)
    return _reversed([*words, last])


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


# Namibia is `, NA`; nobody who knows no more of a host than that writes `NA`.
_NOT_AVAILABLE = frozenset({"na", "n/a"})

# What names another country in a region's place. Codes of three letters do not: Muş is in Turkey and
# Usa in Japan, while MUS and USA are elsewhere.
_OTHER_COUNTRIES: dict[str, str] = {code.lower(): code for code in COUNTRIES}
_OTHER_COUNTRIES |= {
    _key(name): code for code, country in COUNTRIES.items() for name in country.names
}
_COUNTRIES = {country.alpha3.lower(): code for code, country in COUNTRIES.items()}
_COUNTRIES |= _OTHER_COUNTRIES

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

# What the rows of each country are called. Only these are taken off a name: `Kansas City` and
# `Washington County` are smaller places, in other states as well.
_KINDS: dict[str, str] = {
    "US": "state", "CA": "province|territory", "MX": "state", "BR": "state", "AU": "state|territory",
    "DE": "state", "FR": "region", "ES": "autonomous community|community|region", "IT": "region",
    "NL": "province", "PL": "voivodeship|province", "SE": "county|lan", "NO": "county|fylke",
    "FI": "region", "RU": "oblast|krai|kray|republic|region", "IN": "state|union territory|territory",
    "CN": "province|sheng|municipality|shi|autonomous region", "JP": "prefecture|ken|fu|do|to",
}  # fmt: skip
_KIND_AFTER = {
    country: re.compile(rf"^(?P<name>.+?) (?:{kinds})$") for country, kinds in _KINDS.items()
}
_KIND_BEFORE = re.compile(
    r"^(?:state|province|republic|region|estado) (?:of|de|do|da) (?P<name>.+)$"
)


def _without_kind(country: str, key: str) -> str | None:
    """`norrbotten` of Sweden's `norrbotten county`; None where no kind of that country ends it."""
    kinds = _KIND_AFTER.get(country)
    match = kinds.match(key) if kinds else None
    return match["name"] if match else None


def _by_name() -> dict[tuple[str, str], Subdivision]:
    named: dict[tuple[str, str], Subdivision] = {}
    for code, subdivision in SUBDIVISIONS.items():
        short = code.partition("-")[2]
        # Codes of one letter or of digits are for registers; nobody writes a place so.
        if short.isalpha() and len(short) > 1:
            named[subdivision.country, short.lower()] = subdivision
    for subdivision in SUBDIVISIONS.values():
        for name in map(_key, subdivision.names):
            if (bare := _without_kind(subdivision.country, name)) is not None:
                named.setdefault((subdivision.country, bare), subdivision)
    for subdivision in SUBDIVISIONS.values():
        named |= {(subdivision.country, _key(name)): subdivision for name in subdivision.names}
    return named


_SUBDIVISIONS = _by_name()

_BY_CODE: dict[str, list[Subdivision]] = {}
for _code, _row in SUBDIVISIONS.items():
    _BY_CODE.setdefault(_code.partition("-")[2].lower(), []).append(_row)


def _country(key: str) -> str | None:
    return None if key in _NEED_A_CODE else _COUNTRIES.get(key)


def _subdivision(country: str, key: str) -> Subdivision | None:
    found = _SUBDIVISIONS.get((country, key))
    if found is None:
        match = _KIND_BEFORE.match(key)
        bare = match["name"] if match else _without_kind(country, key)
        found = _SUBDIVISIONS.get((country, bare)) if bare else None
    return found


def _beside_code(region: str, code: str) -> list[tuple[Subdivision, Subdivision]]:
    """What a region names in each country that has such a code, with the subdivision of that code."""
    found = ((_subdivision(row.country, region), row) for row in _BY_CODE.get(code, ()))
    return [(named, coded) for named, coded in found if named is not None]


def _around(country: str, region: str) -> Place | None:
    """The country of a region that we do not know; None where it is another country's name."""
    other = _OTHER_COUNTRIES.get(region)
    if other is not None and other not in _TERRITORIES.get(country, ()):
        return None
    return _middle(other or country)


def _middle(country: str) -> Place:
    row = COUNTRIES[country]
    return Place(
        country=country, latitude=row.latitude, longitude=row.longitude, precision="country"
    )


def _inside(subdivision: Subdivision) -> Place:
    return Place(
        country=subdivision.country,
        subdivision=subdivision.code,
        latitude=subdivision.latitude,
        longitude=subdivision.longitude,
        precision="subdivision",
    )


def _reversed(parts: list[str]) -> Place | None:
    """The place of `US, Oregon`: the country first."""
    if len(parts) != 2:
        return None
    country = _country(parts[0])
    subdivision = None if country is None else _subdivision(country, parts[1])
    return None if subdivision is None else _inside(subdivision)
