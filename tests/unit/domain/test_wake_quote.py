"""What waking a machine would cost and take: said before it is done, and never made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from dumont.domain.events import EventKind
from dumont.domain.offers import GpuRequirement
from dumont.domain.wake_quote import WakeQuote, quote_wake
from tests.support.fakes import offer

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NEED = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.5)


class Line(NamedTuple):
    kind: EventKind
    at: datetime


def life(*steps: tuple[EventKind, float]) -> list[Line]:
    return [Line(kind, NOW + timedelta(seconds=at)) for kind, at in steps]


def quote(*steps: tuple[EventKind, float], prices: tuple[float, ...] = (0.3, 0.2)) -> WakeQuote:
    offers = [offer(number, usd=usd) for number, usd in enumerate(prices, start=1)]
    return quote_wake(offers, NEED, life(*steps), seen_at=NOW, size=7)


def test_it_is_the_offer_that_would_be_tried_first_at_the_bid_that_would_be_placed() -> None:
    said = quote()
    assert said.usd_per_hour == pytest.approx(0.2 * 1.15, rel=0.01)
    assert (said.fitting, said.bytes, said.seen_at) == (2, 7, NOW)


def test_without_an_offer_the_price_is_unknown() -> None:
    said = quote(prices=(0.9,))
    assert said.usd_per_hour is None
    assert said.fitting == 0


def test_the_time_is_what_its_own_wakes_took() -> None:
    said = quote(
        (EventKind.PROVISIONING, 0), (EventKind.READY, 100),
        (EventKind.WAKING, 1000), (EventKind.READY, 1010),
        (EventKind.WAKING, 2000), (EventKind.FAILED_BACK, 2030),
        (EventKind.WAKING, 3000), (EventKind.READY, 3020),
    )  # fmt: skip
    assert said.seconds == 20
    assert said.basis == "estimate: the median of its last 3 wakes"


def test_a_wake_that_failed_is_no_measure() -> None:
    said = quote(
        (EventKind.PROVISIONING, 0), (EventKind.READY, 100),
        (EventKind.WAKING, 1000), (EventKind.STUCK, 1005), (EventKind.READY, 9000),
    )  # fmt: skip
    assert said.seconds == 100
    assert said.basis == "estimate: the median of its last start; its files come on top"


def test_a_machine_without_a_past_has_no_estimate() -> None:
    assert quote().seconds is None
    assert "unknown" in quote().basis
