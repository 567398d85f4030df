"""The gateway in virtual time: who starts when, what refusals do, what callers are told."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from dumont.domain.errors import ProviderUnavailable, RateLimited
from dumont.providers.gateway import Gateway, Limit, Throttled, Urgency, urgency
from tests.support.virtual_time import run_virtual


def gateway(**limits: Limit) -> Gateway:
    return Gateway(provider="test", account="a", limits=limits)


def now() -> float:
    return asyncio.get_running_loop().time()


class Strict:
    """A provider that refuses calls closer together than its threshold."""

    def __init__(self, threshold_s: float, *, says: bool = False) -> None:
        self.threshold_s = threshold_s
        self.says = says
        self.last = float("-inf")
        self.accepted: list[float] = []
        self.refused = 0

    async def call(self) -> float:
        if now() - self.last < self.threshold_s:
            self.refused += 1
            raise Throttled("slow down", threshold_s=self.threshold_s if self.says else None)
        self.last = now()
        self.accepted.append(self.last)
        return self.last


def test_calls_keep_their_distance() -> None:
    async def main() -> None:
        gate, provider = gateway(create=Limit(interval_s=4.5)), Strict(4.5)
        await asyncio.gather(*(gate.call("create", provider.call) for _ in range(10)))
        assert provider.refused == 0
        assert provider.accepted == pytest.approx([4.5 * n for n in range(10)], abs=0.001)

    run_virtual(main())


def test_operations_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        gate = gateway(create=Limit(interval_s=100), destroy=Limit(interval_s=3))
        await gate.call("create", _nothing)
        await gate.call("destroy", _nothing)
        assert now() < 1

    run_virtual(main())


def test_destroy_and_failover_overtake() -> None:
    async def main() -> None:
        gate = gateway(update=Limit(interval_s=1))
        order: list[str] = []

        async def act(name: str, level: Urgency | None) -> None:
            async def attempt() -> None:
                order.append(name)

            if level is None:
                await gate.call("update", attempt)
            else:
                with urgency(level):
                    await gate.call("update", attempt)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(act("first", Urgency.BACKGROUND))
            tasks.create_task(act("browse", Urgency.BACKGROUND))
            tasks.create_task(act("ordinary", None))
            tasks.create_task(act("failover", Urgency.FAILOVER))
            tasks.create_task(act("destroy", Urgency.DESTROY))
        assert order == ["first", "destroy", "failover", "ordinary", "browse"]

    run_virtual(main())


def test_urgency_ends_with_its_block() -> None:
    async def main() -> None:
        gate = gateway(get=Limit(interval_s=1))
        with urgency(Urgency.DESTROY):
            pass
        order: list[str] = []

        async def act(name: str) -> None:
            async def attempt() -> None:
                order.append(name)

            await gate.call("get", attempt)

        async with asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(act(name))
        assert order == ["a", "b", "c"]

    run_virtual(main())


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 30), st.sampled_from(Urgency)), max_size=30),
    threshold_s=st.floats(0.1, 6),
    # An interval below the clock's resolution lets two go at the same instant.
    believed_s=st.just(0.0) | st.floats(0.001, 6),
    says=st.booleans(),
)
def test_every_call_comes_through_a_strict_provider(
    arrivals: list[tuple[float, Urgency]], threshold_s: float, believed_s: float, says: bool
) -> None:
    """Even when we believe a wrong interval, nobody is lost and the provider is heeded."""

    async def main() -> None:
        provider = Strict(threshold_s, says=says)
        gate = gateway(x=Limit(interval_s=believed_s, max_wait_s=1e6))

        async def act(at: float, level: Urgency) -> None:
            await asyncio.sleep(at)
            with urgency(level):
                await gate.call("x", provider.call)

        await asyncio.gather(*(act(at, level) for at, level in arrivals))
        assert len(provider.accepted) == len(arrivals)
        if believed_s >= threshold_s:
            assert provider.refused == 0
        if says:
            # Refused calls that were already under way when the first refusal came do not exist:
            # a refusal holds the lane at once.
            assert provider.refused <= 1

    run_virtual(main())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def main() -> None:
        gate = gateway(create=Limit(interval_s=10, max_wait_s=25))
        tasks = [asyncio.create_task(gate.call("create", _nothing)) for _ in range(3)]
        await asyncio.sleep(0.01)
        began = now()
        with pytest.raises(RateLimited, match="would not have its turn") as refusal:
            await gate.call("create", _nothing)
        assert now() == began
        assert refusal.value.retry_after == pytest.approx(30, abs=0.1)
        assert refusal.value.retryable
        await asyncio.gather(*tasks)

    run_virtual(main())


def test_a_caller_overtaken_for_too_long_is_told_in_time() -> None:
    async def main() -> None:
        gate = gateway(x=Limit(interval_s=10, max_wait_s=15))
        await gate.call("x", _nothing)
        patient = asyncio.create_task(gate.call("x", _nothing))
        await asyncio.sleep(1)
        with urgency(Urgency.DESTROY):
            await gate.call("x", _nothing)
        with pytest.raises(RateLimited):
            await patient
        assert now() == pytest.approx(15, abs=0.1)

    run_virtual(main())


def test_retry_after_beyond_the_bound_is_handed_on() -> None:
    async def main() -> None:
        gate = gateway(search=Limit(max_wait_s=30))

        async def refuse() -> None:
            raise Throttled("daily quota", retry_after=7200)

        with pytest.raises(RateLimited, match="daily quota") as refusal:
            await gate.call("search", refuse)
        assert refusal.value.retry_after == 7200
        assert now() < 1
        with pytest.raises(RateLimited):
            await gate.call("search", _nothing)
        await asyncio.sleep(7200)
        await gate.call("search", _nothing)

    run_virtual(main())


def test_a_short_retry_after_is_waited_for() -> None:
    async def main() -> None:
        gate = gateway(get=Limit())
        answers = deque([Throttled("wait", retry_after=7.0), None])

        async def attempt() -> float:
            answer = answers.popleft()
            if answer is not None:
                raise answer
            return now()

        assert await gate.call("get", attempt) == pytest.approx(7, abs=0.01)

    run_virtual(main())


def test_a_cancelled_caller_costs_the_others_nothing() -> None:
    async def main() -> None:
        gate = gateway(x=Limit(interval_s=10))
        await gate.call("x", _nothing)
        leaver = asyncio.create_task(gate.call("x", _nothing))
        stayer = asyncio.create_task(gate.call("x", _nothing))
        await asyncio.sleep(1)
        leaver.cancel()
        await stayer
        assert now() == pytest.approx(10, abs=0.01)

    run_virtual(main())


def test_other_failures_are_not_repeated() -> None:
    async def main() -> None:
        gate, calls = gateway(x=Limit()), 0

        async def attempt() -> None:
            nonlocal calls
            calls += 1
            raise ProviderUnavailable("down")

        with pytest.raises(ProviderUnavailable):
            await gate.call("x", attempt)
        assert calls == 1

    run_virtual(main())


def test_browsing_leaves_the_days_searches_to_machines() -> None:
    clock = [datetime(2026, 11, 23, 22, 0, tzinfo=UTC)]

    async def main() -> None:
        gate = Gateway(
            provider="test",
            account="a",
            limits={"search": Limit(background_per_day=2)},
            today=lambda: clock[0],
        )
        await gate.call("search", _nothing)
        await gate.call("search", _nothing)
        with urgency(Urgency.BACKGROUND), pytest.raises(RateLimited) as refusal:
            await gate.call("search", _nothing)
        assert refusal.value.retry_after == 2 * 3600
        await gate.call("search", _nothing)
        clock[0] = datetime(2026, 11, 24, 0, 0, 1, tzinfo=UTC)
        with urgency(Urgency.BACKGROUND):
            await gate.call("search", _nothing)

    run_virtual(main())


def test_what_it_does_can_be_observed() -> None:
    async def main() -> None:
        gate = Gateway(provider="seen", account="a", limits={"x": Limit(interval_s=5)})
        provider = Strict(8)
        tasks = [asyncio.create_task(gate.call("x", provider.call)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert _sample("dumont_provider_queue_depth") == 2
        await asyncio.gather(*tasks)
        assert _sample("dumont_provider_queue_depth") == 0
        assert _sample("dumont_provider_calls_total", outcome="ok") == 3
        assert _sample("dumont_provider_throttled_total") == provider.refused > 0
        assert _sample("dumont_provider_queue_seconds_sum", urgency="normal") > 10

    run_virtual(main())


async def _nothing() -> None:
    return None


def _sample(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(
        name, {"provider": "seen", "account": "a", "operation": "x", **labels}
    )
    assert found is not None, name
    return found
