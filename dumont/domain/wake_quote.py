"""What it would cost to wake a machine now, and how long it would take: said before it is done."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from dumont.domain.events import EventKind
from dumont.domain.instances import Message
from dumont.domain.offers import GpuRequirement, Offer, rank_offers


class Happening(Protocol):
    """An event, as far as this needs it."""

    @property
    def kind(self) -> EventKind:
        """What happened."""

    @property
    def at(self) -> datetime:
        """When."""


class WakeQuote(Message):
    """What the market and the machine's own past say about waking it."""

    usd_per_hour: float | None
    """What the offer that would be tried first costs, disk included; None: none fits now."""
    gpu: str
    gpu_count: int
    region: str | None = None
    reliability: float | None = None
    fitting: int
    """How many offers fit, of different hosts."""
    seen_at: datetime
    """When the market was asked."""
    seconds: float | None
    """Estimate until it is usable on a GPU; None: nothing like it was measured yet."""
    basis: str
    """What the estimate is made of, for people."""
    bytes: int | None = None
    """What has to come back; None: unknown."""


def quote_wake(
    offers: Iterable[Offer],
    need: GpuRequirement,
    events: Sequence[Happening],
    *,
    seen_at: datetime,
    size: int | None,
) -> WakeQuote:
    """Say what waking would cost and take.

    The offer is the one that a wake would try first. The time is the median of what this machine's own
    wakes took from the wish to the GPU; before the first one, of its starts, which had nothing to bring
    back. A wake that failed is no measure.

    Args:
        offers: What the market rents now.
        need: What the machine requires.
        events: Of the machine, in any order.
        seen_at: When the market was asked.
        size: Bytes of the workspace.
    """
    choices = rank_offers(offers, need, limit=1_000)
    best = choices[0].offer if choices else None
    price = None
    if best is not None:
        bid = choices[0].bid_usd_per_hour
        disk = best.usd_per_hour - best.gpu_usd_per_hour
        price = best.usd_per_hour if bid is None else bid + disk
    seconds, basis = _time(sorted(events, key=lambda event: event.at))
    return WakeQuote(
        usd_per_hour=price,
        gpu=need.gpu,
        gpu_count=need.gpu_count,
        region=best.region if best is not None else None,
        reliability=best.reliability if best is not None else None,
        fitting=len(choices),
        seen_at=seen_at,
        seconds=seconds,
        basis=basis,
        bytes=size,
    )


def _time(events: Sequence[Happening]) -> tuple[float | None, str]:
    woke = _spans(events, EventKind.WAKING)
    if woke:
        return statistics.median(woke), f"estimate: the median of its last {_times(woke, 'wake')}"
    started = _spans(events, EventKind.PROVISIONING)
    if started:
        words = (
            f"estimate: the median of its last {_times(started, 'start')}; its files come on top"
        )
        return statistics.median(started), words
    return None, "unknown: it has not been started yet"


def _spans(events: Sequence[Happening], begins: EventKind, *, last: int = 5) -> list[float]:
    """Seconds from each such beginning to the GPU, where nothing went wrong between."""
    spans: list[float] = []
    began: datetime | None = None
    for event in events:
        if event.kind is begins:
            began = event.at
        elif event.kind in (EventKind.READY, EventKind.FAILED_BACK) and began is not None:
            spans.append((event.at - began).total_seconds())
            began = None
        elif event.kind in (EventKind.STUCK, EventKind.HIBERNATED, EventKind.DESTROYING):
            began = None
    return spans[-last:]


def _times(spans: Sequence[float], what: str) -> str:
    return what if len(spans) == 1 else f"{len(spans)} {what}s"
