"""Offers seen a moment ago, so that a search is not repeated for every machine and every glance.

Vast.ai gives each account a number of searches a day. An offer that turned out to be taken is
forgotten at once, so that a retry does not choose it again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

MAX_AGE_S = 10.0
"""How old an answer may be. Offers change by the minute; renting tells the truth anyway."""

MAX_ENTRIES = 256


class OfferCache:
    """Rows by search, and the ids known to be gone.

    Args:
        fetch: Performs a search.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        fetch: Callable[[dict[str, Any]], Awaitable[list[Any]]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._entries: dict[str, tuple[float, list[Any]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._gone: dict[str, float] = {}

    async def search(self, query: dict[str, Any]) -> list[Any]:
        """Rows for a query, at most `MAX_AGE_S` old, without offers known to be gone."""
        key = json.dumps(query, sort_keys=True)
        async with self._locks.setdefault(key, asyncio.Lock()):
            entry = self._entries.get(key)
            if entry is None or self._clock() - entry[0] > MAX_AGE_S:
                began = self._clock()
                entry = began, await self._fetch(query)
                self._entries[key] = entry
                self._prune()
        return [row for row in entry[1] if not self._is_gone(row)]

    def forget(self, offer_id: str) -> None:
        """This offer was rented or refused."""
        self._gone[offer_id] = self._clock()

    def _is_gone(self, row: Any) -> bool:
        return isinstance(row, dict) and str(row.get("id")) in self._gone

    def _prune(self) -> None:
        oldest = self._clock() - MAX_AGE_S
        self._entries = {k: e for k, e in self._entries.items() if e[0] >= oldest}
        self._locks = {
            k: lock for k, lock in self._locks.items() if lock.locked() or k in self._entries
        }
        self._gone = {k: at for k, at in self._gone.items() if at >= oldest}
        while len(self._entries) > MAX_ENTRIES:
            self._entries.pop(next(iter(self._entries)))
