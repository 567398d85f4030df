"""The country that an address belongs to: a second opinion on where a rented host stands.

Looked up offline in the allocation data of the five regional registries, which ships inside the `iptocc`
package. It tells to whose country a block was *assigned*, which for some 95 % of addresses is
where it is used; networks of worldwide companies and leased blocks are the rest. So it can confirm a
market's words and fill in for missing ones. It never overrules them, and it says nothing finer than a
country.
"""

from __future__ import annotations

import ipaddress

import iptocc


def country_of(address: str) -> str | None:
    """ISO 3166-1 alpha-2 code of the country an address is assigned to.

    None for what is no address on the public internet (names, private, loopback, reserved and
    documentation ranges) and for what no registry has assigned.
    """
    try:
        parsed = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    public = mapped or parsed
    return iptocc.country_code(str(public)) if public.is_global else None
