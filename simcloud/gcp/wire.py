"""How Compute Engine writes things: links, timestamps, numeric ids, fingerprints.

Links always name www.googleapis.com, wherever this server listens: clients take them for names,
and some understand nothing else. No request is ever sent there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

BASE = "https://www.googleapis.com/compute/v1"
"""Prefix of every link."""

# Google stamps in Pacific time with its offset; a client that assumes Z shall find out here
_PACIFIC = timezone(timedelta(hours=-8))


def link(*parts: str) -> str:
    """Return the full link of a resource: `link("projects", p, "zones", z)`."""
    return "/".join((BASE, *parts))


def project_link(project: str, *parts: str) -> str:
    """Return the link of a resource inside `project`."""
    return link("projects", project, *parts)


def tail(reference: str) -> str:
    """Return the last segment of a link or partial link."""
    return reference.rstrip("/").rpartition("/")[2]


def segment_after(reference: str, collection: str) -> str | None:
    """Return the segment that follows `collection` in a link, e.g. the zone after `zones`.

    Works on full links (any host, so that a client pointed at this server may build links from its
    address), partial ones, and those that leave out the project.
    """
    segments = reference.split("/")
    for position, segment in enumerate(segments[:-1]):
        if segment == collection:
            return segments[position + 1]
    return None


def timestamp(seconds: float) -> str:
    """Return RFC 3339 text in milliseconds, as Google writes it."""
    return datetime.fromtimestamp(seconds, _PACIFIC).isoformat(timespec="milliseconds")


def parse_timestamp(text: str) -> float:
    """Return seconds since the epoch.

    Raises:
        ValueError: If `text` is not RFC 3339.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def numeric_id() -> str:
    """Return a new resource id: a decimal uint64 as text, as Google gives them."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def stable_id(*parts: str) -> str:
    """Return the id that the built-in resource `parts` has in every run."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return str(10**18 + int.from_bytes(digest[:8]) % (8 * 10**18))


def fingerprint(value: Any) -> str:
    """Return the optimistic lock of `value`: equal values, equal prints."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(hashlib.sha256(canonical.encode()).digest()[:8]).decode()
