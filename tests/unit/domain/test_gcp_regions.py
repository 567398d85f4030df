"""Zones near a place: the order, and what is said of a distance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.countries import COUNTRIES
from dumont.domain.gcp_regions import (
    FIBRE_KM_PER_MS,
    REGIONS,
    describe_distance,
    nearest_zones,
    region_of,
)
from dumont.domain.locations import Place, distance_km, parse_location
from dumont.domain.subdivisions import SUBDIVISIONS

ZONES = [f"{region}-{letter}" for region in REGIONS for letter in "abc"]
CONTINENTS = {COUNTRIES[region.country].continent for region in REGIONS.values()}

# These have a continent's region less than half as far away as any of their own: north and east Africa,
# islands of the Pacific, Cyprus, the Russian Far East.
FAR_FROM_THEIR_OWN = frozenset(
    [
        "CV",
        "CX",
        "CY",
        "DJ",
        "DZ",
        "EG",
        "EH",
        "ER",
        "GM",
        "GU",
        "LY",
        "MA",
        "MP",
        "MR",
        "PW",
        "SD",
        "SN",
        "TN",
        "RU-AMU",
        "RU-BU",
        "RU-KAM",
        "RU-KHA",
        "RU-MAG",
        "RU-PRI",
        "RU-SAK",
        "RU-YEV",
        "RU-ZAB",
    ]
)

place_names = st.sampled_from(sorted({*COUNTRIES, *SUBDIVISIONS}))


def place_of(code: str) -> Place:
    country, _, rest = code.partition("-")
    place = parse_location(f"{SUBDIVISIONS[code].names[-1]}, {country}" if rest else f", {country}")
    assert place is not None
    return place


def continent_of(region: str) -> str:
    return COUNTRIES[REGIONS[region].country].continent


def test_a_standby_stays_on_its_continent_where_that_has_a_region() -> None:
    elsewhere = set()
    for code in {*COUNTRIES, *SUBDIVISIONS}:
        place = place_of(code)
        own = COUNTRIES[place.country].continent
        best = nearest_zones(place, ZONES)[0].region
        if own in CONTINENTS and continent_of(best) != own:
            elsewhere.add(code)
    assert elsewhere == FAR_FROM_THEIR_OWN


@pytest.mark.parametrize("code", sorted(FAR_FROM_THEIR_OWN))
def test_another_continent_is_chosen_only_when_it_is_less_than_half_as_far(code: str) -> None:
    place = place_of(code)
    best = nearest_zones(place, ZONES)[0]
    own = COUNTRIES[place.country].continent
    assert continent_of(best.region) != own
    assert best.km is not None
    nearest_own = min(
        distance_km(place.latitude, place.longitude, region.latitude, region.longitude)
        for region in REGIONS.values()
        if continent_of(region.name) == own
    )
    assert best.km < nearest_own / 2


@given(place_names, st.lists(st.sampled_from(ZONES), max_size=40), st.randoms())
def test_the_order_depends_on_the_zones_alone(code: str, zones: list[str], random: object) -> None:
    place = place_of(code)
    shuffled = list(zones)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    chosen = nearest_zones(place, zones)
    assert chosen == nearest_zones(place, shuffled)
    assert sorted(choice.zone for choice in chosen) == sorted(set(zones))
    own = COUNTRIES[place.country].continent
    same = [choice.km or 0 for choice in chosen if continent_of(choice.region) == own]
    assert same == sorted(same)


@given(place_names | st.none(), st.text(max_size=20))
def test_spread_turns_each_region_and_moves_none(code: str | None, key: str) -> None:
    place = None if code is None else place_of(code)
    plain, turned = nearest_zones(place, ZONES), nearest_zones(place, ZONES, spread=key)
    assert [choice.region for choice in turned] == [choice.region for choice in plain]
    for start in range(0, len(turned), 3):
        order = "".join(choice.zone[-1] for choice in turned[start : start + 3])
        assert order in {"abc", "bca", "cab"}


def test_standbys_of_one_region_spread_over_its_zones() -> None:
    place = parse_location("Oregon, US")
    first = [nearest_zones(place, ZONES, spread=f"machine-{n}")[0].zone for n in range(300)]
    assert {first.count(f"us-west1-{letter}") > 70 for letter in "abc"} == {True}


def test_a_machine_keeps_its_turn_over_restarts_and_over_zones_that_failed() -> None:
    place = parse_location("Oregon, US")
    order = [choice.zone for choice in nearest_zones(place, ZONES, spread="mch_7f3a")]
    # Written down from another process: a turn that changed would move standbys that are asked again.
    assert order[:3] == ["us-west1-b", "us-west1-c", "us-west1-a"]
    left = nearest_zones(place, ZONES, avoid=order[:1], spread="mch_7f3a")
    assert [choice.zone for choice in left] == order[1:]


def test_zones_of_a_region_follow_each_other_in_the_order_of_their_names() -> None:
    chosen = nearest_zones(parse_location("Oregon, US"), ["us-west1-c", "us-west2-a", "us-west1-a"])
    assert [choice.zone for choice in chosen] == ["us-west1-a", "us-west1-c", "us-west2-a"]


def test_a_region_that_is_not_on_the_map_comes_last_with_an_unknown_distance() -> None:
    zones = ["antarctica-south1-a", "asia-east1-a", "nonsense", "us-west1-a"]
    chosen = nearest_zones(parse_location("Oregon, US"), zones)
    assert [choice.zone for choice in chosen] == [
        "us-west1-a", "asia-east1-a", "antarctica-south1-a", "nonsense",
    ]  # fmt: skip
    assert [choice.km is None for choice in chosen] == [False, False, True, True]
    assert chosen[2].least_rtt_ms is None


def test_zones_and_regions_that_were_tried_are_left_out() -> None:
    place = parse_location("Oregon, US")
    assert nearest_zones(place, ZONES, avoid=["us-west1-a"])[0].zone == "us-west1-b"
    assert nearest_zones(place, ZONES, avoid={"us-west1"})[0].region != "us-west1"
    assert nearest_zones(place, ["us-west1-a"], avoid=["us-west1-a"]) == []


def test_an_unknown_place_leaves_the_order_of_names_and_claims_no_distance() -> None:
    chosen = nearest_zones(None, ["us-west1-a", "asia-east1-a"])
    assert [(choice.zone, choice.km) for choice in chosen] == [
        ("asia-east1-a", None),
        ("us-west1-a", None),
    ]


def test_the_least_round_trip_is_light_in_fibre_there_and_back() -> None:
    choice = nearest_zones(parse_location("Oregon, US"), ["us-west1-a"])[0]
    assert choice.km is not None
    assert choice.least_rtt_ms == pytest.approx(2 * choice.km / FIBRE_KM_PER_MS)
    assert pytest.approx(199.86, abs=0.01) == FIBRE_KM_PER_MS


@given(st.none() | st.floats(0, 20_100))
def test_less_than_five_milliseconds_is_never_claimed_unmeasured(km: float | None) -> None:
    said = describe_distance(km, None)
    assert "<" not in said
    assert "not measured" in said


@pytest.mark.parametrize(
    ("km", "measured", "said"),
    [
        (120, 3.2, "about 120 km, < 5 ms measured"),
        (120, 5.0, "about 120 km, 5 ms measured"),
        (1234, 31.4, "about 1230 km, 31 ms measured"),
        (None, 17.2, "distance unknown, 17 ms measured"),
        (1999, None, "about 2000 km, at least 20 ms by estimate, not measured"),
        (None, None, "distance unknown, round trip not measured"),
    ],
)
def test_a_distance_in_words(km: float | None, measured: float | None, said: str) -> None:
    assert describe_distance(km, measured) == said


def test_regions_are_spelled_as_google_does_and_lie_in_known_countries() -> None:
    assert len(REGIONS) == 43
    for region in REGIONS.values():
        assert region_of(f"{region.name}-a") == region.name
        country = COUNTRIES[region.country]
        away = distance_km(region.latitude, region.longitude, country.latitude, country.longitude)
        assert away < 3000, region  # a wrong sign or a swapped pair is farther off
