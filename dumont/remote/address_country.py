"""The country of a public IP address, from a database that ships inside a wheel: no network, no key.

The data of `iptocc` are the delegations of the five Internet registries: to whom a block was given,
which agrees with commercial databases for about 95 % of addresses. That is a second opinion, not a
measurement: `dumont.domain.places.locate` says what it is good for.
"""

from __future__ import annotations

import ipaddress

import iptocc

from dumont.domain.places.countries import COUNTRIES


def country_of_address(address: str) -> str | None:
    """ISO code of the country of a public IPv4 or IPv6 address.

    None for private and reserved addresses, for names (nothing is resolved), for blocks that no
    country is recorded for (registries write `EU`, `AP` or `ZZ`), and for what is no address.
    """
    try:
        parsed = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if not parsed.is_global:
        return None
    code = iptocc.country_code(str(parsed))
    return code if code in COUNTRIES else None
