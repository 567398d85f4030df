"""Answers that may be a few seconds old: one question at a time, asked once for all who want it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Keeps answers for a while; errors are told to those who waited and then forgotten.

    Args:
        for_s: How long an answer is good, seconds.
        most: At most so many answers are kept.
    """

    def __init__(self, *, for_s: float, most: int = 100) -> None:
        self._for_s = for_s
        self._most = most
        self._kept: dict[K, tuple[float, asyncio.Task[V]]] = {}

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer to `key`, asked for when there is none that is young enough."""
        now = time.monotonic()
        kept = self._kept.get(key)
        if kept is None or kept[0] <= now:
            self._forget(now)
            task = asyncio.ensure_future(_asked(ask))
            kept = self._kept[key] = (now + self._for_s, task)
        try:
            return await asyncio.shield(kept[1])
        except Exception:
            if self._kept.get(key) is kept:
                del self._kept[key]
            raise

    def _forget(self, now: float) -> None:
        for key in [key for key, (until, _) in self._kept.items() if until <= now]:
            del self._kept[key]
        while len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]


async def _asked(ask: Callable[[], Awaitable[V]]) -> V:
    return await ask()
