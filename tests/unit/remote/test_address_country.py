"""The offline second opinion on where an address is."""

from __future__ import annotations

import pytest

from dumont.domain.places.locate import CountryOfAddress, Location, LocationSource, locate
from dumont.remote.address_country import country_of_address


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("8.8.8.8", "US"),
        (" 8.8.8.8\n", "US"),
        ("193.0.6.139", "NL"),
        ("91.121.1.1", "FR"),
        ("133.11.0.1", "JP"),
        ("2001:4860:4860::8888", "US"),
        ("::ffff:193.0.6.139", "NL"),
    ],
)
def test_public_addresses_have_the_country_of_their_registration(
    address: str, country: str
) -> None:
    assert country_of_address(address) == country


@pytest.mark.parametrize(
    "address",
    ["127.31.0.14", "10.0.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "203.0.113.7",
     "0.0.0.0", "::1", "fe80::1", "", "example.com", "8.8.8", "8.8.8.8:22", "null"],
)  # fmt: skip
def test_what_is_no_public_address_is_nowhere(address: str) -> None:
    assert country_of_address(address) is None


def _second_opinion(text: str | None, address: str, lookup: CountryOfAddress) -> Location:
    return locate(text, address_country=lookup(address))


def test_it_is_the_second_opinion_that_the_domain_asks_for() -> None:
    silent = _second_opinion("null", "133.11.0.1", country_of_address)
    assert silent.place is not None
    assert (silent.place.country, silent.source) == ("JP", LocationSource.ADDRESS)
    agreed = _second_opinion("Tokyo, JP", "133.11.0.1", country_of_address)
    assert (agreed.source, agreed.fallback) == (LocationSource.PROVIDER, "")
