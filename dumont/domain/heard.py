"""What stored heartbeats say about an instance, in the words of verdicts.

Ages are by one clock, the server's; a heartbeat's own times are only compared with each other, so that
a body whose clock is an hour off is not thought to have been silent for that hour.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from dumont.domain.protection import Heartbeat
from dumont.domain.verdict import Sign, Source, Witness

_SIGNS = {"up": Sign.ALIVE, "down": Sign.LOST}


class Stored(NamedTuple):
    """The newest heartbeat of a body, and how old it is."""

    heartbeat: Heartbeat
    age_s: float


def witnesses_of(*, primary: Stored | None, guard: Stored | None, now: datetime) -> list[Witness]:
    """The witnesses that heartbeats are: the primary's agent itself, and the guard's link to it.

    Args:
        primary: Of the instance in question, None when it was never heard.
        guard: Of its standby.
        now: The present.
    """
    found = [_agent(primary, now)]
    if guard is not None and guard.heartbeat.guard is not None:
        found.append(_link(guard, now))
    return found


def _agent(primary: Stored | None, now: datetime) -> Witness:
    if primary is None:
        return Witness(source=Source.HEARTBEAT, sign=Sign.SILENT, words="its agent was never heard")
    return Witness(
        source=Source.HEARTBEAT,
        sign=Sign.ALIVE,
        words=f"its agent was last heard {primary.age_s:.1f} s ago",
        news_at=now - timedelta(seconds=primary.age_s),
    )


def _link(guard: Stored, now: datetime) -> Witness:
    said = guard.heartbeat.guard
    assert said is not None
    heard_at = now - timedelta(seconds=guard.age_s)
    since = said.link_since
    lasted = guard.heartbeat.sent_at - since if since is not None else None
    return Witness(
        source=Source.LINK,
        sign=_SIGNS.get(said.link, Sign.SILENT),
        words=f"the standby said {guard.age_s:.1f} s ago that its link to it is {said.link}",
        news_at=heard_at,
        since=heard_at - max(lasted, timedelta(0)) if lasted is not None else None,
    )
