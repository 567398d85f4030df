"""Names of places to rows of the tables, by whole names only.

A name matches when all of it matches, after case, accents and punctuation are put aside. Nothing is
ever looked for *within* a name: `la` is in Switzerland and in Thailand, too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from dumont.domain.places.areas_americas import AMERICAS
from dumont.domain.places.areas_asia import ASIA
from dumont.domain.places.areas_europe import EUROPE
from dumont.domain.places.countries import COUNTRIES, Country
from dumont.domain.places.rows import Area, Town
from dumont.domain.places.towns_america import TOWNS_US_CA
from dumont.domain.places.towns_world import TOWNS_ELSEWHERE

AREAS: dict[str, tuple[Area, ...]] = {**AMERICAS, **EUROPE, **ASIA}
TOWNS: dict[str, tuple[Town, ...]] = {**TOWNS_US_CA, **TOWNS_ELSEWHERE}

AREA_CODES_OF = ("US", "CA", "AU")
"""Countries whose people write `Houston, TX`: area before country, or in its place."""

# Letters that Unicode does not decompose.
_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l", "đ": "d", "Đ": "d", "ð": "d", "Ð": "d",
     "þ": "th", "Þ": "th", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ı": "i", "İ": "i",
     ".": "", "'": "", "’": "", "`": "", "ʻ": "", "-": " ", "–": " ", "_": " ", "/": " ", "&": " ",
     "(": " ", ")": " ", ",": " "}
)  # fmt: skip
_KINDS = frozenset(
    {"county", "province", "region", "oblast", "prefecture", "state", "municipality", "district",
     "governorate", "voivodeship", "krai", "kray", "republic", "canton", "department", "territory",
     "lan", "fylke", "kommune", "do", "ken", "fu", "to", "sheng", "shi"}
)  # fmt: skip


def fold(name: str) -> str:
    """The form in which names are compared: no case, accents, dots or doubled spaces."""
    decomposed = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(letters.casefold().split())


def spellings(names: str) -> list[str]:
    """Every spelling of a row, folded."""
    return [fold(name) for name in names.split("|")]


def first_name(names: str) -> str:
    """What we call it."""
    return names.partition("|")[0]


def _countries_by_name() -> dict[str, Country]:
    found: dict[str, Country] = {}
    for country in COUNTRIES.values():
        for name in spellings(country.names):
            found.setdefault(name, country)
    return found


def _areas_by_name(areas: Iterable[Area]) -> dict[str, Area]:
    found: dict[str, Area] = {}
    rows = list(areas)
    # what a place is called by itself goes before what another is called, too
    for area in rows:
        found.setdefault(fold(first_name(area.names)), area)
    for area in rows:
        for name in spellings(area.names):
            found.setdefault(name, area)
    return found


def _towns_by_name() -> dict[tuple[str, str], list[Town]]:
    found: dict[tuple[str, str], list[Town]] = {}
    for country, towns in TOWNS.items():
        for town in towns:
            found.setdefault((country, fold(town.name)), []).append(town)
    return found


_COUNTRY_NAMES = _countries_by_name()
_TOWN_NAMES = _towns_by_name()
_AREA_NAMES = {code: _areas_by_name(areas) for code, areas in AREAS.items()}
_AREA_CODES = {
    code: {fold(area.code): area for area in AREAS[code] if area.code} for code in AREA_CODES_OF
}


def country_of_code(folded: str) -> Country | None:
    """The country of a two-letter code; `uk` is what people write for `gb`."""
    return COUNTRIES.get("GB" if folded == "uk" else folded.upper()) if len(folded) == 2 else None


def country_of_name(folded: str) -> Country | None:
    """The country of that name."""
    return _COUNTRY_NAMES.get(folded)


def area_of(country: str, folded: str) -> Area | None:
    """The state or province of that name or code in a country."""
    named = _AREA_NAMES.get(country, {}).get(folded)
    return named if named is not None else _AREA_CODES.get(country, {}).get(folded)


def towns_of(country: str, folded: str) -> list[Town]:
    """The towns of that name in a country."""
    return _TOWN_NAMES.get((country, folded), [])


def without_kind(folded: str) -> str | None:
    """`stockholm county` -> `stockholm`; None where there is no such word to leave out."""
    name, _, kind = folded.rpartition(" ")
    return name if name and kind in _KINDS else None
