"""Properties of the scheduler, for any order of arrivals, refusals and departures."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dumont.providers.lane import MAX_HOLD_S, MAX_STRETCH, Lane, Limit, Ticket, Urgency

INTERVAL_S = 2.0


class LaneMachine(RuleBasedStateMachine):
    """Callers come, go and are served while a clock advances by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane(Limit(interval_s=INTERVAL_S))
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.served_at: list[float] = []
        self.not_before = float("-inf")

    @rule(level=st.sampled_from(Urgency))
    def join(self, level: Urgency) -> None:
        self.waiting.append(self.lane.join(urgency=level))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(ticket)
        self.lane.withdraw(ticket)

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def serve(self) -> None:
        due = self.now >= self.lane.ready_at
        ticket = self.lane.take(now=self.now)
        if not self.waiting or not due:
            assert ticket is None
            return
        assert ticket is not None, "somebody waits, the interval has passed, nobody was let go"
        assert ticket in self.waiting, "who left must not be served"
        best = min(t.urgency for t in self.waiting)
        assert ticket is next(t for t in self.waiting if t.urgency is best), (
            "the most urgent goes first, and of equals who came first"
        )
        if self.served_at:
            assert self.now - self.served_at[-1] >= INTERVAL_S
        assert self.now >= self.not_before, "the provider asked us to wait"
        self.served_at.append(self.now)
        self.waiting.remove(ticket)

    @rule(wait=st.floats(0, 100))
    def refuse_for(self, wait: float) -> None:
        self.lane.refused(now=self.now, retry_after=wait)
        self.not_before = max(self.not_before, self.now + wait)

    @rule()
    def refuse(self) -> None:
        self.lane.refused(now=self.now)
        self.not_before = max(self.not_before, self.now + INTERVAL_S)

    @rule()
    def succeed(self) -> None:
        self.lane.succeeded()

    @invariant()
    def counts_who_waits(self) -> None:
        assert self.lane.depth == len(self.waiting)

    @invariant()
    def never_too_eager_nor_stuck(self) -> None:
        assert INTERVAL_S <= self.lane.interval_s <= INTERVAL_S * MAX_STRETCH
        assert self.lane.ready_at <= max(self.now, self.not_before) + max(
            MAX_HOLD_S, self.lane.interval_s * MAX_STRETCH
        )


TestLane = LaneMachine.TestCase


def test_the_wait_that_is_promised_is_the_wait_that_comes() -> None:
    lane = Lane(Limit(interval_s=INTERVAL_S))
    for _ in range(5):
        lane.join(urgency=Urgency.NORMAL)
    promised = lane.wait_s(urgency=Urgency.NORMAL, now=0.0)
    mine = lane.join(urgency=Urgency.NORMAL)
    now = 0.0
    while lane.take(now=now) is not mine:
        now = lane.ready_at
    assert now == promised == 5 * INTERVAL_S


def test_urgent_callers_do_not_count_the_patient_ones() -> None:
    lane = Lane(Limit(interval_s=INTERVAL_S))
    for _ in range(5):
        lane.join(urgency=Urgency.BACKGROUND)
    assert lane.wait_s(urgency=Urgency.FAILOVER, now=0.0) == 0


def test_a_stated_threshold_is_kept_for_good() -> None:
    lane = Lane(Limit(interval_s=INTERVAL_S))
    lane.refused(now=0.0, threshold_s=4.5)
    for _ in range(100):
        lane.succeeded()
    assert lane.interval_s == 4.5


def test_an_unexplained_refusal_is_forgotten_slowly() -> None:
    lane = Lane(Limit(interval_s=INTERVAL_S))
    lane.refused(now=0.0)
    assert lane.interval_s > INTERVAL_S
    lane.succeeded()
    assert lane.interval_s > INTERVAL_S
    for _ in range(50):
        lane.succeeded()
    assert lane.interval_s == INTERVAL_S


def test_refusals_in_a_row_back_off_exponentially() -> None:
    lane = Lane(Limit(interval_s=1.0))
    holds: list[float] = []
    for _ in range(10):
        now = lane.ready_at if holds else 0.0
        lane.refused(now=now)
        holds.append(lane.ready_at - now)
    assert holds[:5] == [1, 2, 4, 8, 16]
    assert max(holds) == MAX_HOLD_S
