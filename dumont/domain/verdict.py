"""From what the witnesses say to what an instance is: pure, and careful with silence.

No news is *unknown*. A provider that answers 5xx, 429 or nothing is no evidence at all. Redirecting
needs no verdict: it destroys nothing and happens on the standby. Replacing needs two witnesses of
loss, or one and an expired lease. Ending a running instance needs the provider's proof or the
owner's word.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from dumont.domain.instances import Message


class Source(StrEnum):
    """Who can know something about an instance."""

    LINK = "link"
    """The guard's check of the primary, every 50-100 ms: TCP and SSH banner."""
    HEARTBEAT = "heartbeat"
    """The agent on the instance, through the API."""
    PROVIDER = "provider"
    """The state that the provider's list shows."""
    SSH = "ssh"
    """A whole login from the control plane."""


class Sign(StrEnum):
    """What one witness says."""

    ALIVE = "alive"
    LOST = "lost"
    """Not there for it: no answer on the link, no login."""
    ENDED = "ended"
    """The provider itself says that it does not run or does not exist: proof."""
    SILENT = "silent"
    """Nothing, or nothing that counts as evidence."""


class Thresholds(Message):
    """All the patience there is, seconds, in one place."""

    heartbeat_lease_s: float = 15.0
    """An agent that was heard before and is not for this long has let its lease expire."""
    link_lost_s: float = 10.0
    """A link must have been down for this long before it says that an instance is lost. (The redirect
    does not wait for it.)"""
    fresh_s: float = 60.0
    """What a witness said longer ago is no news any more: it says nothing about now."""
    contradicted_s: float = 120.0
    """Two witnesses against a provider that says "running" must have agreed for this long; a third
    makes waiting needless. A provider's state lags by minutes."""


class Witness(Message):
    """One source and what it last said."""

    source: Source
    sign: Sign
    words: str = ""
    news_at: datetime | None = None
    """When it last said anything; None: never, and then whatever else is in here does not count."""
    since: datetime | None = None
    """Since when it has said the same."""


class VerdictKind(StrEnum):
    """What the witnesses together mean."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """One witness of loss, or witnesses that contradict each other."""
    UNREACHABLE = "unreachable"
    """Nobody gets through, and the provider does not say that it ended."""
    LOST = "lost"
    """It may be replaced."""
    UNKNOWN = "unknown"


class Verdict(Message):
    """The meaning, and why."""

    kind: VerdictKind
    reason: str = ""


def judge(
    witnesses: Iterable[Witness], *, now: datetime, thresholds: Thresholds | None = None
) -> Verdict:
    """What the witnesses mean together.

    Args:
        witnesses: Whoever can say something; a missing one is silent. Of one source that speaks
            twice, the latest word counts.
        now: The present, by the clock that stamped the witnesses.
        thresholds: How patient to be.
    """
    limits = thresholds or Thresholds()
    heard = _one_each(witnesses)
    expired = [w for w in heard if _is_expired(w, now, limits)]
    fresh = [w for w in heard if _is_fresh(w, now, limits)]
    alive = [w for w in fresh if w.sign is Sign.ALIVE]
    against = [w for w in fresh if _is_proof(w) or _says_lost(w, now, limits)]
    reason = "; ".join(_words(w) for w in [*against, *expired])
    seen = next((w for w in alive if w.source is not Source.PROVIDER), None)
    if against and seen is not None:
        return Verdict(kind=VerdictKind.SUSPECT, reason=f"{reason}; yet {_words(seen)}")
    if len(against) >= 2 or (against and expired):
        running = next((w for w in alive if w.source is Source.PROVIDER), None)
        if running is not None and not _outweigh([*against, *expired], now, limits):
            return Verdict(kind=VerdictKind.UNREACHABLE, reason=f"{reason}; yet {_words(running)}")
        return Verdict(kind=VerdictKind.LOST, reason=reason)
    if against or expired:
        return Verdict(kind=VerdictKind.SUSPECT, reason=reason)
    if alive:
        return Verdict(kind=VerdictKind.HEALTHY)
    return Verdict(kind=VerdictKind.UNKNOWN, reason="no witness has said anything lately")


def may_replace(
    witnesses: Iterable[Witness], *, now: datetime, thresholds: Thresholds | None = None
) -> bool:
    """Whether another instance may be rented in its place: two witnesses, or one and a lease."""
    return judge(witnesses, now=now, thresholds=thresholds).kind is VerdictKind.LOST


def may_destroy(
    witnesses: Iterable[Witness],
    *,
    owner_said_so: bool,
    now: datetime,
    thresholds: Thresholds | None = None,
) -> bool:
    """Whether an instance may be ended: by the provider's proof or the owner's word, nothing else.

    Old proof is none: an instance that was outbid resumes by itself when its bid wins again.
    """
    limits = thresholds or Thresholds()
    return owner_said_so or any(
        _is_proof(w) and _is_fresh(w, now, limits) for w in _one_each(witnesses)
    )


def _one_each(witnesses: Iterable[Witness]) -> list[Witness]:
    """One witness a source, so that nobody counts twice: whoever has the latest news.

    Of two that spoke at the same moment, the one that says less against the instance.
    """
    latest: dict[Source, Witness] = {}
    for witness in witnesses:
        silent = witness.sign is Sign.SILENT and witness.source is not Source.HEARTBEAT
        if witness.news_at is None or silent:
            continue
        known = latest.get(witness.source)
        if known is None or _rank(witness) > _rank(known):
            latest[witness.source] = witness
    return list(latest.values())


def _rank(witness: Witness) -> tuple[datetime | None, int, bool, datetime | None]:
    order = (Sign.ENDED, Sign.LOST, Sign.SILENT, Sign.ALIVE)
    # What has lasted for less long, or for nobody knows how long, says less.
    since = witness.since or witness.news_at
    return witness.news_at, order.index(witness.sign), witness.since is None, since


def _is_fresh(witness: Witness, now: datetime, limits: Thresholds) -> bool:
    """Whether what it said is about now. An agent's word lasts as long as its lease."""
    if witness.news_at is None or witness.sign is Sign.SILENT:
        return False
    heartbeat = witness.source is Source.HEARTBEAT
    lasts = limits.heartbeat_lease_s if heartbeat else limits.fresh_s
    return now - witness.news_at <= timedelta(seconds=lasts)


def _is_proof(witness: Witness) -> bool:
    """Only the provider can know that an instance has ended."""
    return witness.source is Source.PROVIDER and witness.sign is Sign.ENDED


def _says_lost(witness: Witness, now: datetime, limits: Thresholds) -> bool:
    """Whether it misses the instance. An agent cannot: it is heard, or its lease expires."""
    if witness.sign is not Sign.LOST or witness.source is Source.HEARTBEAT:
        return False
    return witness.source is not Source.LINK or _lasts(witness, now, limits.link_lost_s)


def _is_expired(witness: Witness, now: datetime, limits: Thresholds) -> bool:
    """A lease expires only where one was granted: an agent that was never heard has none."""
    return (
        witness.source is Source.HEARTBEAT
        and witness.news_at is not None
        and now - witness.news_at > timedelta(seconds=limits.heartbeat_lease_s)
    )


def _outweigh(against: list[Witness], now: datetime, limits: Thresholds) -> bool:
    """Whether so many, or for so long, are right although the provider says that it runs."""
    return len(against) >= 3 or any(
        w.source is Source.LINK and _lasts(w, now, limits.contradicted_s) for w in against
    )


def _lasts(witness: Witness, now: datetime, seconds: float) -> bool:
    return witness.since is not None and now - witness.since >= timedelta(seconds=seconds)


def _words(witness: Witness) -> str:
    return witness.words or f"{witness.source.value}: {witness.sign.value}"
