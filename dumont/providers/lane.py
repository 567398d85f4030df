"""When the next call of one kind may go out, and whose it is.

A lane keeps one endpoint's minimum interval, its queue by urgency and what refusals taught us. It is
pure: the time comes in as an argument and nothing here waits (`gateway.py` does).
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from enum import IntEnum

MAX_STRETCH = 4.0
"""Refusals without a stated interval lengthen ours up to this many times."""

MAX_HOLD_S = 60.0
"""Longest pause after a refusal that did not say for how long."""


class Urgency(IntEnum):
    """Who goes first when calls of one kind queue; smaller goes first."""

    DESTROY = 0
    """Ends billing, or proves that it ended."""
    FAILOVER = 1
    """Somebody's machine just lost its GPU."""
    NORMAL = 2
    """A machine waits for it."""
    BACKGROUND = 3
    """Nobody is harmed by waiting: browsing, bookkeeping."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What we hold ourselves to at one endpoint of a provider."""

    interval_s: float = 0.0
    """Least time between the starts of two calls."""
    urgency: Urgency = Urgency.NORMAL
    """Used when the caller says nothing."""
    max_wait_s: float = 60.0
    """Longest time in the queue before the caller is told `RateLimited`."""
    background_per_day: int | None = None
    """Background calls stop once this many calls of any urgency went out in a UTC day; more urgent
    ones go on until the provider itself refuses."""


@dataclass(eq=False)
class Ticket:
    """One caller's place in the queue."""

    urgency: Urgency
    withdrawn: bool = False


class Lane:
    """The queue and clock of one endpoint.

    Times are seconds on any clock that does not go backwards.
    """

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._interval_s = limit.interval_s
        self._stretch = 1.0
        self._strikes = 0
        self._ready_at = float("-inf")
        self._queue: list[tuple[Urgency, int, Ticket]] = []
        self._numbers = itertools.count()

    @property
    def interval_s(self) -> float:
        """Time between two calls as we know it now: configured, or longer if refusals taught so."""
        return self._interval_s * self._stretch

    @property
    def depth(self) -> int:
        """Callers in the queue."""
        return sum(not ticket.withdrawn for _, _, ticket in self._queue)

    @property
    def ready_at(self) -> float:
        """Earliest time of the next call."""
        return self._ready_at

    def wait_s(self, *, urgency: Urgency, now: float) -> float:
        """Time until a caller who joins now would start, if nobody more urgent came after."""
        ahead = sum(level <= urgency for level, _, ticket in self._queue if not ticket.withdrawn)
        return max(0.0, self._ready_at - now) + ahead * self.interval_s

    def join(self, *, urgency: Urgency) -> Ticket:
        """Take a place in the queue."""
        ticket = Ticket(urgency)
        heapq.heappush(self._queue, (urgency, next(self._numbers), ticket))
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Give a place up; it costs the others no time."""
        ticket.withdrawn = True

    def take(self, *, now: float) -> Ticket | None:
        """The most urgent caller, if one waits and the interval has passed. It must start now."""
        self._drop_withdrawn()
        if not self._queue or now < self._ready_at:
            return None
        self._ready_at = now + self.interval_s
        return heapq.heappop(self._queue)[2]

    def succeeded(self) -> None:
        """The provider accepted a call: forget old refusals slowly."""
        self._strikes = 0
        self._stretch = max(1.0, self._stretch * 0.97)

    def refused(
        self, *, now: float, retry_after: float | None = None, threshold_s: float | None = None
    ) -> None:
        """The provider said that we are too fast.

        Args:
            now: Current time.
            retry_after: Seconds it asked us to wait; unset backs off exponentially.
            threshold_s: The interval it says it enforces, kept from now on.
        """
        self._strikes += 1
        if threshold_s is not None and threshold_s > self._interval_s:
            self._interval_s = threshold_s
        elif retry_after is None:
            self._stretch = min(MAX_STRETCH, self._stretch * 1.5)
        if retry_after is None:
            base = max(self._interval_s, 0.5)
            retry_after = max(base, min(MAX_HOLD_S, base * 2 ** (self._strikes - 1)))
        self._ready_at = max(self._ready_at, now + retry_after)

    def _drop_withdrawn(self) -> None:
        while self._queue and self._queue[0][2].withdrawn:
            heapq.heappop(self._queue)
