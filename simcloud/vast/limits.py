"""Rate limits as documented: a shortest interval for each endpoint and identity, and a daily quota.

Refusals alternate between Vast's two shapes (JSON detail, bare text), and every second one says
`Retry-After`, because servers of both kinds have been seen.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator
from typing import Any

from starlette.responses import Response

from simcloud.clock import Clock
from simcloud.store import Store
from simcloud.vast.errors import VastError
from simcloud.vast.host import DAY
from simcloud.vast.knobs import KnobStore

THRESHOLDS: dict[str, float] = {
    "asks.create": 4.5,
    "asks.bulk_create": 4.5,
    "asks.launch": 4.5,
    "instances.change_bid": 5.5,
    "instances.destroy": 3.0,
    "instances.bulk_destroy": 3.0,
    "instances.show": 2.0,
    "instances.update": 1.0,
    "instances.bulk_update": 1.0,
    "instances.list": 1.0,
    "instances.list_v1": 1.0,
    "instances.execute": 1.5,
    "instances.reboot": 1.0,
    "instances.recycle": 1.0,
    "instances.ssh_keys.attach": 1.0,
    "instances.ssh_keys.list": 1.0,
    "instances.ssh_keys.detach": 2.0,
    "ssh_keys.create": 1.0,
    "ssh_keys.list": 1.0,
    "ssh_keys.update": 1.0,
    "ssh_keys.delete": 1.0,
    "volumes.list": 5.5,
    "charges.list": 1.0,
    "invoices.list": 3.0,
    "metrics.gpu_current": 3.0,
    "metrics.gpu_history": 3.0,
    "metrics.gpu_locations": 3.0,
}
"""Shortest interval by operation, in the documentation's unit; others are unlimited."""


class RateLimits:
    """Intervals between accepted calls; a refused call does not push the next one back."""

    def __init__(self, knobs: KnobStore, *, strict: bool) -> None:
        self._knobs = knobs
        self.strict = strict
        self._accepted: dict[tuple[str, str], float] = {}
        self._shapes: dict[tuple[str, str], Iterator[int]] = {}

    def check(self, operation: str, identity: str) -> Response | None:
        """Return the refusal of a call that comes too early, or None and count it as accepted."""
        threshold = THRESHOLDS.get(operation)
        if threshold is None or not self.strict:
            return None
        key = (operation, identity)
        interval = threshold * self._knobs.values.threshold_unit_seconds
        now = time.monotonic()
        wait = self._accepted.get(key, -math.inf) + interval - now
        if wait <= 0:
            self._accepted[key] = now
            return None
        shape = next(self._shapes.setdefault(key, itertools.cycle(range(4))))
        return _refusal(threshold, wait, as_text=shape in (1, 2), say_when=shape in (0, 2))


def _refusal(threshold: float, wait: float, *, as_text: bool, say_when: bool) -> Response:
    headers = {"Retry-After": str(max(1, math.ceil(wait)))} if say_when else {}
    if as_text:
        response = Response("API requests too frequent", 429, headers)
        response.headers["Content-Type"] = "text/plain"
        return response
    detail = {"detail": f"API requests too frequent endpoint threshold={threshold}"}
    headers["Content-Type"] = "application/json"
    return Response(json.dumps(detail), 429, headers)


class SearchQuota:
    """Searches an account may make until UTC midnight (virtual time)."""

    def __init__(self, store: Store, clock: Clock, knobs: KnobStore) -> None:
        self._documents = store.collection("vast.search_quota")
        self._clock = clock
        self._knobs = knobs
        stored: dict[str, Any] = self._documents.get("used") or {"day": 0, "count": 0}
        self._day, self._count = int(stored["day"]), int(stored["count"])

    @property
    def left(self) -> int:
        """Searches left today."""
        self._turn_page()
        return max(0, self._knobs.values.search_quota - self._count)

    def spend(self) -> None:
        """Count one search.

        Raises:
            VastError: 429 `search_quota_exceeded` when none is left.
        """
        if self.left == 0:
            reset = str(int((self._day + 1) * DAY))
            raise VastError(
                429,
                "search_quota_exceeded",
                "Daily search quota exceeded. It resets at midnight UTC.",
                headers={"X-RateLimit-Reset": reset},
            )
        self._count += 1
        # a crash may forget a few searches, never a day of them
        if self._count % 20 == 0:
            self._save()

    def set_left(self, left: int) -> None:
        """Pretend that only `left` searches remain today."""
        self._turn_page()
        self._count = max(0, self._knobs.values.search_quota - left)
        self._save()

    def _turn_page(self) -> None:
        today = int(self._clock.now() // DAY)
        if today != self._day:
            self._day, self._count = today, 0

    def _save(self) -> None:
        self._documents.put("used", {"day": self._day, "count": self._count})
