"""Location strings of providers: `Oregon, US`, `Czechia, CZ`, `, DE`, `Quebec, CA`.

Vast.ai writes an area or a country, a comma and an ISO country code; either half may be missing, in
any case, in any spelling. Two letters at the end are therefore a country first (`CA` is Canada) and a
state only where what stands before says so (`San Diego, CA`). A name that two places share, and a
string that names two countries, are unknown: no standby is better placed by a guess. A name that we
do not know in a country that we do know is that country, no more.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dumont.domain.places import gazetteer
from dumont.domain.places.countries import COUNTRIES, Country
from dumont.domain.places.gazetteer import AREA_CODES_OF, first_name, fold
from dumont.domain.places.model import Place, Precision
from dumont.domain.places.rows import Area, Town

_TOWN_RADIUS_KM = 20
_LONGEST = 200
_NOTHING = frozenset({"", "null", "none", "nil", "nan", "unknown", "undefined", "n a", "?", "-"})
_CODED = re.compile(r"([A-Za-z]{2})-([A-Za-z]{2,3})")
"""ISO 3166-2, as in `US-TX`."""

_TERRITORIES = {
    "PR": "US", "GU": "US", "VI": "US", "AS": "US", "MP": "US", "HK": "CN", "MO": "CN", "TW": "CN",
    "GP": "FR", "MQ": "FR", "RE": "FR", "GF": "FR", "YT": "FR", "NC": "FR", "PF": "FR", "GL": "DK",
    "FO": "DK", "AW": "NL", "CW": "NL", "SX": "NL", "JE": "GB", "GG": "GB", "IM": "GB", "GI": "GB",
    "BM": "GB", "KY": "GB", "SJ": "NO", "AX": "FI",
}  # fmt: skip
"""Places with a code of their own that strings also give as parts of another country."""


class _Found(NamedTuple):
    country: Country
    area: Area | None = None
    town: Town | None = None


def parse_location(text: str | None) -> Place | None:
    """Read a provider's location string; None when it does not say which country.

    Args:
        text: As it came: `Texas, US`, `, DE`, `Hafnarfjarðarkaupstaður, IS`, None.
    """
    if text is None or len(text) > _LONGEST:
        return None
    coded = _CODED.fullmatch(text.strip())
    if coded is not None:
        return _place(_of_code(fold(coded[1]), fold(coded[2])))
    pieces = [piece for piece in map(fold, text.split(",")) if piece not in _NOTHING]
    if not pieces:
        return None
    if len(pieces) > 1:
        named = gazetteer.country_of_name(" ".join(pieces))
        return _place(_Found(named) if named is not None else _of_pieces(pieces[:-1], pieces[-1]))
    if pieces[0] == "na" and "," not in text:
        return None  # more often "not available" than Namibia, which Vast.ai writes `, NA`
    return _place(_alone(pieces[0]))


def country_place(code: str) -> Place | None:
    """The place that a country's code alone stands for; None for an unknown code."""
    country = COUNTRIES.get(code.upper())
    return None if country is None else _place(_Found(country))


def _of_code(country_code: str, area_code: str) -> _Found | None:
    country = gazetteer.country_of_code(country_code)
    if country is None:
        return None
    area = gazetteer.area_of(country.code, area_code)
    # where we know all the codes, one that we do not know is a mistake
    return None if area is None and country.code in AREA_CODES_OF else _Found(country, area)


def _alone(name: str) -> _Found | None:
    """A single word: a country, or a North American state that nothing else is called after."""
    country = gazetteer.country_of_code(name)
    if country is not None:
        return _Found(country)
    found = [_Found(country)] if (country := gazetteer.country_of_name(name)) is not None else []
    for code in ("US", "CA"):
        area = gazetteer.area_of(code, name)
        if area is not None and len(name) > 2:
            found.append(_Found(COUNTRIES[code], area))
        found += [
            _Found(COUNTRIES[code], town=town)
            for town in gazetteer.towns_of(code, name)
            if area is None or town.area != first_name(area.names)
        ]
    if len(found) != 1 or found[0].town is not None:
        return None
    return found[0]


def _of_pieces(heads: list[str], tail: str) -> _Found | None:
    coded = gazetteer.country_of_code(tail)
    country = coded if coded is not None else gazetteer.country_of_name(tail)
    within = None if country is None else _in_country(country, heads)
    if within is not None:
        return within
    areas = [
        _Found(COUNTRIES[code], area)
        for code in AREA_CODES_OF
        if (area := gazetteer.area_of(code, tail)) is not None
    ]
    told = [found for area in areas if (found := _in_area(area, heads)) is not None]
    if told:
        return told[0] if len(told) == 1 else None
    if country is None:
        return areas[0] if len(areas) == 1 else None
    if coded is None and areas:
        return None  # `Rome, Georgia`
    if any(gazetteer.country_of_name(head) is not None for head in heads):
        return None  # `Germany, FR`
    return _Found(country)


def _in_country(country: Country, heads: list[str]) -> _Found | None:
    """What the pieces before the country name in it; None when we know nothing by these names."""
    for at in reversed(range(len(heads))):
        area = gazetteer.area_of(country.code, heads[at])
        if area is not None:
            found = _Found(country, area)
            return _in_area(found, heads[:at]) or found
    for head in reversed(heads):
        town = _only(gazetteer.towns_of(country.code, head))
        if town is not None:
            return _Found(country, _area_of_town(country, town), town)
    for head in reversed(heads):
        bare = gazetteer.without_kind(head)
        area = None if bare is None else gazetteer.area_of(country.code, bare)
        if area is not None:
            return _Found(country, area)
    for head in reversed(heads):
        other = gazetteer.country_of_code(head) or gazetteer.country_of_name(head)
        if other is not None and other.code == country.code:
            return _Found(country)
        if other is not None and _TERRITORIES.get(other.code) == country.code:
            return _Found(other)
    return None


def _in_area(found: _Found, heads: list[str]) -> _Found | None:
    assert found.area is not None
    name = first_name(found.area.names)
    for head in heads:
        for town in gazetteer.towns_of(found.country.code, head):
            if town.area == name:
                return _Found(found.country, found.area, town)
    if any(gazetteer.area_of(found.country.code, head) == found.area for head in heads):
        return found
    return None


def _area_of_town(country: Country, town: Town) -> Area | None:
    return gazetteer.area_of(country.code, fold(town.area)) if town.area else None


def _only(towns: list[Town]) -> Town | None:
    return towns[0] if len(towns) == 1 else None


def _place(found: _Found | None) -> Place | None:
    if found is None:
        return None
    country, area, town = found
    at = town or area or country
    radius = _TOWN_RADIUS_KM if town is not None else (area or country).radius_km
    precision = Precision.TOWN if town else Precision.SUBDIVISION if area else Precision.COUNTRY
    return Place(
        country=country.code,
        country_name=first_name(country.names),
        continent=country.continent,
        subdivision=first_name(area.names) if area is not None else None,
        town=town.name if town is not None else None,
        latitude=at.latitude,
        longitude=at.longitude,
        radius_km=radius,
        precision=precision,
    )
