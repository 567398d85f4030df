"""Two opinions on where a machine is: what its provider writes, and what its address says.

The provider's string is the first opinion: it knows states, and it is about the machine. An offline
database of addresses is the second: it knows to whom a registry gave a block, which is not always
where the block is used (one address in twenty differs). So:

- the string names a country: that country stands. If the address says another, the contradiction is
  written down, and across continents the place counts as a fall-back: it is used, because it is the
  better of two opinions, and not trusted until a round trip is measured;
- the string says nothing that we understand: the address's country, as a fall-back;
- neither says anything: unknown. The default zone of the configuration is used, as a fall-back.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from dumont.domain.instances import Message
from dumont.domain.places.model import Place
from dumont.domain.places.parse import country_place, parse_location


class CountryOfAddress(Protocol):
    """An offline database of addresses."""

    def __call__(self, address: str) -> str | None:
        """ISO code of the country of an IP address; None when unknown, or no public address."""
        ...


class LocationSource(StrEnum):
    """Whose word a location is."""

    PROVIDER = "provider"
    ADDRESS = "address"
    NONE = "none"


class Location(Message):
    """Where a machine is, and how we came to think so."""

    place: Place | None
    """None: unknown."""
    source: LocationSource
    contradiction: str = ""
    """What the other opinion says instead; empty when there is none, or it agrees."""
    fallback: str = ""
    """Why the place is not to be relied on; empty when it is."""


def locate(text: str | None, *, address_country: str | None = None) -> Location:
    """Weigh a provider's location string against the country of the machine's address.

    Args:
        text: The provider's string, verbatim.
        address_country: What `CountryOfAddress` says of the machine's public address.
    """
    told = parse_location(text)
    seen = None if address_country is None else country_place(address_country)
    if told is None:
        if seen is None:
            return Location(
                place=None,
                source=LocationSource.NONE,
                fallback=f"no country in the provider's location {text!r} nor for its address",
            )
        return Location(
            place=seen,
            source=LocationSource.ADDRESS,
            fallback=f"no country in the provider's location {text!r}: that of its address instead",
        )
    if seen is None or seen.country == told.country:
        return Location(place=told, source=LocationSource.PROVIDER)
    contradiction = f"the provider says {told.country}, the address is registered in {seen.country}"
    far = told.continent != seen.continent
    return Location(
        place=told,
        source=LocationSource.PROVIDER,
        contradiction=contradiction,
        fallback=f"{contradiction}: measure before relying on it" if far else "",
    )
