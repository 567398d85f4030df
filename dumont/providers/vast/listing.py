"""The complete list of an account's instances, shared by everybody who asks at the same time.

Vast.ai pages its list 25 rows at a time and once a second, so callers who ask while a reading is
still queued get that reading; one that has begun is never joined, because it may be older than the
question. A list that does not add up is no list: it raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from dumont.domain.errors import ProviderUnavailable
from dumont.providers.vast.errors import PROVIDER
from dumont.providers.vast.rows import InstanceRow

MAX_PAGES = 4_000


class PageSource(Protocol):
    """Where pages come from; `begun` is called when the request leaves the queue."""

    async def list_page(
        self, *, after_token: str | None, begun: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """One page of `GET /api/v1/instances/`."""
        ...


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row without a usable id."""

    label: object
    problem: str


class Listing:
    """Reads the list and checks that it is whole."""

    def __init__(self, source: PageSource) -> None:
        self._source = source
        self._queued: asyncio.Task[list[InstanceRow | BadRow]] | None = None
        self.pages = 1
        """Pages of the last complete reading: what the next one will cost."""

    async def read(self) -> list[InstanceRow | BadRow]:
        """All rows, from a reading that begins after this call.

        Raises:
            ProviderUnavailable: The pages contradict each other twice in a row.
        """
        if self._queued is None:
            self._queued = asyncio.create_task(self._twice(), name="vast-list")
            self._queued.add_done_callback(_retrieve)
        return await asyncio.shield(self._queued)

    async def _twice(self) -> list[InstanceRow | BadRow]:
        try:
            # Instances that come or go between two pages make an honest list look short: once.
            try:
                return await self._once()
            except _Inconsistent:
                return await self._once()
        except _Inconsistent as error:
            raise ProviderUnavailable(
                f"Vast.ai's list of instances does not add up: {error}", provider=PROVIDER
            ) from None
        finally:
            if self._queued is asyncio.current_task():
                self._queued = None

    async def _once(self) -> list[InstanceRow | BadRow]:
        rows: dict[str, InstanceRow] = {}
        bad: list[BadRow] = []
        seen: set[str] = set()
        token: str | None = None
        for page_number in range(1, MAX_PAGES + 1):
            page = await self._source.list_page(after_token=token, begun=self._begun)
            raw = page.get("instances")
            if not isinstance(raw, list):
                raise _Inconsistent(f"page {page_number} has no list of instances in it")
            for item in raw:
                row = _parse(item)
                if isinstance(row, BadRow):
                    bad.append(row)
                elif row.id in rows:
                    raise _Inconsistent(f"instance {row.id} is on two pages")
                else:
                    rows[row.id] = row
            following = page.get("next_token")
            if not following:
                self._check_whole(page, on_page=len(raw), in_all=len(rows) + len(bad))
                self.pages = page_number
                return [*rows.values(), *bad]
            token = str(following)
            if token in seen or not raw:
                raise _Inconsistent(f"page {page_number} leads nowhere")
            seen.add(token)
        raise _Inconsistent(f"more than {MAX_PAGES} pages")

    def _check_whole(self, page: dict[str, Any], *, on_page: int, in_all: int) -> None:
        total, found = _count(page, "total_instances"), _count(page, "instances_found")
        if total is not None and total > in_all:
            raise _Inconsistent(f"{total} instances announced, {in_all} listed")
        # The API reference does not say whether this counts the page or the whole.
        if found is not None and found > in_all and found > on_page:
            raise _Inconsistent(f"{found} instances found, {in_all} listed")

    def _begun(self) -> None:
        if self._queued is asyncio.current_task():
            self._queued = None


class _Inconsistent(Exception):
    """Pages contradict each other."""


def _parse(item: Any) -> InstanceRow | BadRow:
    if not isinstance(item, dict):
        return BadRow(label=None, problem="is not an object")
    try:
        return InstanceRow.model_validate(item)
    except ValidationError as error:
        problem = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        return BadRow(label=item.get("label"), problem=problem)


def _count(page: dict[str, Any], key: str) -> int | None:
    value = page.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _retrieve(task: asyncio.Task[Any]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()
