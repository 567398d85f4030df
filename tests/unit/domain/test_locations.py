"""Locations in a market's words: what they name, and that nothing is guessed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.countries import COUNTRIES
from dumont.domain.gcp_regions import REGIONS, nearest_zones
from dumont.domain.locations import EARTH_RADIUS_KM, Place, distance_km, parse_location
from dumont.domain.subdivisions import SUBDIVISIONS

with (Path(__file__).parent / "locations.csv").open(encoding="utf-8", newline="") as file:
    GOLDEN = list(csv.DictReader(file, delimiter=";"))
"""Locations as markets write them; each row was read over by a person."""

ZONES = [f"{region}-b" for region in REGIONS]

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


def test_the_golden_set_is_worth_its_name() -> None:
    assert len({row["location"] for row in GOLDEN}) >= 150


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["location"])
def test_a_location_names_its_country_and_the_region_beside_it(row: dict[str, str]) -> None:
    place = parse_location(row["location"])
    assert place is not None
    assert place.country == row["country"]
    assert (place.subdivision or "") == row["subdivision"]
    assert place.precision == ("subdivision" if row["subdivision"] else "country")
    assert nearest_zones(place, ZONES)[0].region == row["nearest_region"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (", IE", "us-west2"), (", IS", "us-west2"), (", CH", "us-west2"), (", TH", "us-west2"),
        (", NZ", "us-west2"), (", MY", "us-west2"), ("Maryland, US", "us-west2"),
        ("Alabama, US", "us-west2"), ("Delaware, US", "us-west2"), ("Georgia, US", "us-west2"),
        ("Pennsylvania, US", "us-west2"), ("China, CN", "europe-west6"),
        ("Ukraine, UA", "europe-west2"), ("Nebraska, US", "southamerica-east1"),
        ("South Africa, ZA", "northamerica-northeast1"), ("Sweden, SE", "europe-west3"),
        ("Portugal, PT", "us-central1"), ("Romania, RO", "us-central1"),
        ("Bulgaria, BG", "us-central1"), ("Turkey, TR", "us-central1"),
        ("Estonia, EE", "us-central1"), ("United Arab Emirates, AE", "us-central1"),
    ],
)  # fmt: skip
def test_letters_inside_a_word_are_no_code(text: str, wrong: str) -> None:
    """Each of these lands on `wrong` when parts of words are compared."""
    place = parse_location(text)
    assert place is not None
    assert nearest_zones(place, ZONES)[0].region != wrong


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", ",", ", ,", "null", "None", "unknown", "N/A", "?", "-", "XX", ", ZZ", "EU",
        "Europe", "Atlantis", "Oregonia, USB", "Georgia", "Atlanta, Georgia", "Oregon", "Montana",
        "Congo", "US, GA", "France, DE", "Virginia Beach", "Dallas", "127.0.0.1", "DE US",
        "x" * 10_000, "a, " * 5_000,
    ],
)  # fmt: skip
def test_what_is_not_certain_is_no_place(text: str | None) -> None:
    assert parse_location(text) is None


@pytest.mark.parametrize(
    "text", ["NA", "na", " N/A ", "N.A.", "N/A, N/A", "NA, NA", "N/A, NA", ", N/A"]
)
def test_not_available_is_not_namibia(text: str) -> None:
    assert parse_location(text) is None


@pytest.mark.parametrize(
    ("text", "country"),
    [(", NA", "NA"), ("Khomas, NA", "NA"), ("Namibia", "NA"), ("N/A, DE", "DE"), ("NA, US", "US")],
)
def test_what_is_not_available_leaves_what_is(text: str, country: str) -> None:
    place = parse_location(text)
    assert place is not None
    assert (place.country, place.precision) == (country, "country")


def test_a_region_may_be_spelled_like_three_letters_of_another_country() -> None:
    known = {row.alpha3 for row in COUNTRIES.values()} - {
        name.upper() for row in COUNTRIES.values() for name in row.names
    }
    for letters in known - {code.partition("-")[2] for code in SUBDIVISIONS}:
        place = parse_location(f"{letters.title()}, TR")  # the table has no regions of Turkey
        assert place is not None, letters
        assert (place.country, place.precision) == ("TR", "country")


@pytest.mark.parametrize(
    "text",
    [
        "Kansas City, US",
        "Iowa City, US",
        "Washington County, US",
        "Delaware District, US",
        "Kyoto City, JP",
    ],
)
def test_a_smaller_place_is_not_the_state_of_that_name(text: str) -> None:
    place = parse_location(text)
    assert place is not None
    assert (place.country, place.precision) == (text[-2:], "country")


def test_a_subdivision_beside_its_own_code_is_itself() -> None:
    """`Indiana, IN` is not in India, whatever else its code stands for."""
    for code, row in SUBDIVISIONS.items():
        short = code.partition("-")[2]
        if not short.isalpha() or len(short) == 1:
            continue
        place = parse_location(f"{row.names[0]}, {short}")
        if row.names[0] == "México":
            assert place is not None
            assert place.subdivision is None  # MEX is the whole country too
        else:
            assert place is not None, code
            assert place.subdivision == code


def test_a_state_beside_a_code_of_another_state_is_no_country() -> None:
    states = {code[3:]: row for code, row in SUBDIVISIONS.items() if row.country == "US"}
    for code in states.keys() & COUNTRIES.keys():
        for other, row in states.items():
            place = parse_location(f"{row.names[0]}, {code}")
            if other == code:
                assert place is not None
                assert place.subdivision == f"US-{code}"
            else:
                assert place is None, (row.names[0], code)


@pytest.mark.parametrize(
    ("text", "country"),
    [("Punjab, PK", "PK"), ("Limburg, BE", "BE"), ("Amazonas, CO", "CO"), ("Montana, BG", "BG")],
)
def test_a_name_that_two_countries_use_stays_with_the_code_beside_it(
    text: str, country: str
) -> None:
    place = parse_location(text)
    assert place is not None
    assert (place.country, place.precision) == (country, "country")


@given(st.text(max_size=250))
def test_any_text_is_a_known_place_or_none(text: str) -> None:
    place = parse_location(text)
    assert place is None or (
        place.country in COUNTRIES
        and (place.subdivision is None or place.subdivision in SUBDIVISIONS)
    )


@given(
    st.sampled_from(sorted(COUNTRIES)),
    st.booleans(),
    st.sampled_from(["{}", ", {}", " {} ", ",{},"]),
)
def test_every_country_is_known_by_its_code(code: str, lower: bool, form: str) -> None:
    place = parse_location(form.format(code.lower() if lower else code))
    if code == "NA" and "," not in form:
        assert place is None  # "not available"
    else:
        assert place is not None
        assert (place.country, place.subdivision) == (code, None)


@pytest.mark.parametrize("form", ["{name}, {code}", ", {name}", "{name}, {alpha3}"])
def test_every_country_is_known_by_its_names(form: str) -> None:
    for code, country in COUNTRIES.items():
        for name in country.names:
            place = parse_location(form.format(name=name, code=code, alpha3=country.alpha3))
            if (name, form) == ("Georgia", ", {name}"):
                assert place is None  # it may be the state
            else:
                assert place is not None, name
                assert (place.country, place.precision) == (code, "country")


@pytest.mark.parametrize("form", ["{name}, {country}", "{upper} ,{country}", "{country}, {name}"])
def test_every_subdivision_is_known_by_its_names(form: str) -> None:
    for code, subdivision in SUBDIVISIONS.items():
        for name in subdivision.names:
            text = form.format(name=name, upper=name.upper(), country=subdivision.country)
            place = parse_location(text)
            if name == "México":
                assert place is not None
                assert place.subdivision is None  # the country again
            else:
                assert place is not None, text
                assert place.subdivision == code, text


def test_names_within_a_country_are_unique() -> None:
    names = [(row.country, name) for row in SUBDIVISIONS.values() for name in row.names]
    assert len(names) == len(set(names))
    spelled = [name for row in COUNTRIES.values() for name in row.names]
    assert len(spelled) == len(set(spelled))


@pytest.mark.parametrize(
    ("code", "box"),
    [
        ("US-OR", (42, 46.3, -124.6, -116.4)), ("CA-QC", (45, 62.6, -79.8, -57)),
        ("US-GA", (30.3, 35, -85.7, -80.8)), ("AU-WA", (-35.2, -13.6, 112.9, 129)),
        ("DE-BY", (47.2, 50.6, 8.9, 13.9)), ("JP-13", (35, 36, 138.9, 140)),
        ("RU-NVS", (53, 57.3, 75, 85.2)), ("IN-KA", (11.5, 18.5, 74, 78.6)),
    ],
)  # fmt: skip
def test_the_middle_of_a_subdivision_lies_inside_it(
    code: str, box: tuple[float, float, float, float]
) -> None:
    place = SUBDIVISIONS[code]
    south, north, west, east = box
    assert south < place.latitude < north
    assert west < place.longitude < east


@given(latitudes, longitudes, latitudes, longitudes)
def test_distance_is_the_same_both_ways_and_at_most_half_the_globe(
    a: float, b: float, c: float, d: float
) -> None:
    there = distance_km(a, b, c, d)
    assert there == pytest.approx(distance_km(c, d, a, b), abs=1e-6)
    assert 0 <= there <= EARTH_RADIUS_KM * 3.14159266


@given(latitudes, longitudes)
def test_a_point_is_no_distance_from_itself_and_half_the_globe_from_its_antipode(
    latitude: float, longitude: float
) -> None:
    assert distance_km(latitude, longitude, latitude, longitude) == 0
    across = distance_km(latitude, longitude, -latitude, longitude + 180)
    assert across == pytest.approx(EARTH_RADIUS_KM * 3.14159265, rel=1e-6)


def test_a_known_distance() -> None:
    # London to New York, 5,570 km by any table.
    assert distance_km(51.51, -0.13, 40.71, -74.01) == pytest.approx(5570, abs=10)


def test_a_place_is_compared_by_value() -> None:
    assert parse_location("Oregon, US") == parse_location("us, oregon")
    assert isinstance(parse_location("Oregon, US"), Place)
