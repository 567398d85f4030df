"""The one door to a provider account: spaces calls, orders them by urgency, learns from refusals.

Providers count calls per account, so every call of a process to one account must pass the same
`Gateway`. It does not know what a call does; it may try a refused one again, because a provider
that answers "too many requests" has not acted on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from datetime import time as day_time
from typing import TypeVar

from dumont.domain.errors import DumontError, RateLimited
from dumont.providers import metrics
from dumont.providers.lane import Lane, Limit, Ticket, Urgency

__all__ = ["Gateway", "Limit", "Throttled", "Urgency", "urgency"]

T = TypeVar("T")

_urgency: ContextVar[Urgency | None] = ContextVar("provider_urgency", default=None)


@contextmanager
def urgency(level: Urgency) -> Iterator[None]:
    """Give every provider call made inside the block this urgency instead of its default.

    ::

        with urgency(Urgency.FAILOVER):
            await provider.create(order)
    """
    token = _urgency.set(level)
    try:
        yield
    finally:
        _urgency.reset(token)


class Throttled(RateLimited):
    """A provider's refusal, with what it says about the limit.

    Args:
        threshold_s: Seconds between calls that the provider says it enforces.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        retry_after: float | None = None,
        threshold_s: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider, retry_after=retry_after)
        self.threshold_s = threshold_s


class Gateway:
    """The shared queue in front of one provider account. Use it from one event loop.

    Args:
        provider: Short name, for messages and metrics.
        account: Non-secret id of the account, for metrics.
        limits: Limits by operation; an operation not named here is only counted.
        today: Current UTC date and time, for daily budgets.
    """

    def __init__(
        self,
        *,
        provider: str,
        account: str,
        limits: Mapping[str, Limit],
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.provider = provider
        self.account = account
        self._lanes = {operation: Lane(limit) for operation, limit in limits.items()}
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._today = today
        self._day: date | None = None
        self._calls_today: dict[str, int] = {}
        for operation in limits:
            self._show(operation)

    async def call(
        self,
        operation: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        max_wait_s: float | None = None,
    ) -> T:
        """Wait for the turn, then run `attempt`; a refused attempt goes back into the queue.

        Args:
            operation: Which limit applies.
            attempt: Makes one call. It raises `Throttled` (or `RateLimited`) when refused.
            max_wait_s: Longest time in the queue; the operation's own limit when unset.

        Raises:
            RateLimited: The turn would not come, or did not come, within the bounded wait;
                `retry_after` estimates when to come back.
        """
        lane = self._lane(operation)
        level = _urgency.get()
        level = lane.limit.urgency if level is None else level
        bound = lane.limit.max_wait_s if max_wait_s is None else max_wait_s
        deadline = _now() + bound
        while True:
            self._check_budget(operation, lane, level)
            await self._turn(operation, lane, level, deadline=deadline)
            self._spend(operation, lane)
            try:
                result = await self._measured(operation, attempt)
            except RateLimited as error:
                lane.refused(
                    now=_now(),
                    retry_after=error.retry_after,
                    threshold_s=getattr(error, "threshold_s", None),
                )
                metrics.THROTTLED.labels(self.provider, self.account, operation).inc()
                self._pump(operation)
                wait_s = lane.wait_s(urgency=level, now=_now())
                if wait_s > deadline - _now():
                    error.retry_after = error.retry_after or wait_s
                    raise
                continue
            lane.succeeded()
            self._show(operation)
            return result

    def _lane(self, operation: str) -> Lane:
        return self._lanes.setdefault(operation, Lane(Limit()))

    async def _turn(self, operation: str, lane: Lane, level: Urgency, *, deadline: float) -> None:
        began = _now()
        expected = lane.wait_s(urgency=level, now=began)
        if began + expected > deadline:
            raise self._too_busy(operation, lane, retry_after=expected)
        ticket = lane.join(urgency=level)
        granted = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = granted
        self._pump(operation)
        try:
            async with asyncio.timeout_at(deadline):
                await granted
        except TimeoutError:
            raise self._too_busy(
                operation, lane, retry_after=lane.wait_s(urgency=level, now=_now())
            ) from None
        finally:
            lane.withdraw(ticket)
            self._waiting.pop(ticket, None)
            self._pump(operation)
            metrics.QUEUE_SECONDS.labels(
                self.provider, self.account, operation, level.name.lower()
            ).observe(_now() - began)

    def _pump(self, operation: str) -> None:
        """Let everybody go whose time has come, and come back when the next one's has."""
        lane = self._lane(operation)
        while (ticket := lane.take(now=_now())) is not None:
            granted = self._waiting.pop(ticket)
            if not granted.done():
                granted.set_result(None)
        timer = self._timers.pop(operation, None)
        if timer is not None:
            timer.cancel()
        if lane.depth:
            self._timers[operation] = asyncio.get_running_loop().call_at(
                lane.ready_at, self._pump, operation
            )
        self._show(operation)

    async def _measured(self, operation: str, attempt: Callable[[], Awaitable[T]]) -> T:
        outcome = "error"
        began = time.perf_counter()
        try:
            result = await attempt()
            outcome = "ok"
        except DumontError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            metrics.CALLS.labels(self.provider, self.account, operation, outcome).inc()
            metrics.CALL_SECONDS.labels(self.provider, self.account, operation).observe(
                time.perf_counter() - began
            )
        return result

    def _check_budget(self, operation: str, lane: Lane, level: Urgency) -> None:
        budget = lane.limit.background_per_day
        if budget is None or level is not Urgency.BACKGROUND:
            return
        if self._used(operation) < budget:
            return
        now = self._today()
        midnight = datetime.combine(now.date() + timedelta(days=1), day_time.min, now.tzinfo)
        raise RateLimited(
            f"{self.provider}: today's {budget} calls of {operation!r} are used up; the rest is "
            "kept for machines that wait",
            provider=self.provider,
            retry_after=(midnight - now).total_seconds(),
        )

    def _used(self, operation: str) -> int:
        day = self._today().date()
        if day != self._day:
            self._day = day
            self._calls_today.clear()
        return self._calls_today.get(operation, 0)

    def _spend(self, operation: str, lane: Lane) -> None:
        if lane.limit.background_per_day is None:
            return
        self._calls_today[operation] = used = self._used(operation) + 1
        metrics.CALLS_TODAY.labels(self.provider, self.account, operation).set(used)

    def _too_busy(self, operation: str, lane: Lane, *, retry_after: float) -> RateLimited:
        return RateLimited(
            f"{self.provider}: {lane.depth} calls of {operation!r} wait already, one every "
            f"{lane.interval_s:.3g} s; this one would not have its turn in time",
            provider=self.provider,
            retry_after=max(retry_after, 0.1),
        )

    def _show(self, operation: str) -> None:
        lane = self._lane(operation)
        labels = (self.provider, self.account, operation)
        metrics.QUEUE_DEPTH.labels(*labels).set(lane.depth)
        metrics.INTERVAL_SECONDS.labels(*labels).set(lane.interval_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
