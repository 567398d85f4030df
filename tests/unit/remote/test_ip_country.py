"""Countries of addresses, without a network."""

from __future__ import annotations

import socket

import pytest

from dumont.domain.countries import COUNTRIES
from dumont.remote.ip_country import country_of


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the look-up must not touch the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("8.8.8.8", "US"),  # Google's resolver
        ("2001:4860:4860::8888", "US"),
        ("::ffff:8.8.8.8", "US"),
        (" 8.8.8.8 ", "US"),
        ("193.99.144.80", "DE"),  # heise.de
        ("130.89.148.77", "NL"),  # the University of Twente
        ("195.113.144.230", "CZ"),  # CESNET
        ("133.11.0.1", "JP"),  # the University of Tokyo
        ("168.95.1.1", "TW"),  # HiNet's resolver
        ("200.160.0.8", "BR"),  # registro.br
        ("77.88.8.8", "RU"),  # Yandex's resolver
        ("81.2.69.142", "GB"),
    ],
)
def test_famous_addresses(address: str, country: str) -> None:
    assert country_of(address) == country
    assert country in COUNTRIES


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "255.255.255.255", "192.0.2.7", "198.51.100.4", "203.0.113.9", "::1", "::", "fe80::1",
        "fd00::1", "2001:db8::1", "::ffff:10.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_belong_to_no_country(address: str) -> None:
    assert country_of(address) is None


@pytest.mark.parametrize(
    "text", ["", "example.com", "8.8.8", "8.8.8.8:22", "US", "8.8.8.8/32", "1"]
)
def test_what_is_no_address_has_no_country(text: str) -> None:
    assert country_of(text) is None
