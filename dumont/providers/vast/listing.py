"""The complete list of an account's instances, or an error: never a part of it.

Vast.ai pages its list 25 rows at a time. An instance that is missing from a list is taken for gone
sooner or later, so pages that contradict each other are no list at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from dumont.domain.errors import ProviderUnavailable
from dumont.providers.vast.errors import PROVIDER
from dumont.providers.vast.rows import InstanceRow

MAX_PAGES = 4_000


class PageSource(Protocol):
    """Where pages come from."""

    async def list_page(self, *, after_token: str | None) -> dict[str, Any]:
        """One page of `GET /api/v1/instances/`, in the order of ids."""
        ...


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row without a usable id."""

    label: object
    problem: str


async def read_list(source: PageSource) -> list[InstanceRow | BadRow]:
    """Every row of the account.

    Raises:
        ProviderUnavailable: The pages contradict each other twice in a row.
    """
    try:
        return await _read_once(source)
    except _Inconsistent:
        # Instances that come or go between two pages make an honest list look wrong, once.
        try:
            return await _read_once(source)
        except _Inconsistent as error:
            raise ProviderUnavailable(
                f"Vast.ai's list of instances does not add up: {error}", provider=PROVIDER
            ) from None


async def _read_once(source: PageSource) -> list[InstanceRow | BadRow]:
    rows: dict[str, InstanceRow] = {}
    bad: list[BadRow] = []
    seen: set[str] = set()
    token: str | None = None
    for page_number in range(1, MAX_PAGES + 1):
        page = await source.list_page(after_token=token)
        raw = page.get("instances")
        if not isinstance(raw, list):
            raise _Inconsistent(f"page {page_number} has no list of instances in it")
        for item in raw:
            row = _parse(item)
            if isinstance(row, BadRow):
                bad.append(row)
            elif row.id in rows:
                raise _Inconsistent(f"instance {row.id} is listed twice")
            else:
                rows[row.id] = row
        following = page.get("next_token")
        if not following:
            _check_whole(page, in_all=len(rows) + len(bad))
            return [*rows.values(), *bad]
        token = str(following)
        if token in seen or not raw:
            raise _Inconsistent(f"page {page_number} leads nowhere")
        seen.add(token)
    raise _Inconsistent(f"more than {MAX_PAGES} pages")


class _Inconsistent(Exception):
    """Pages contradict each other."""


def _check_whole(page: dict[str, Any], *, in_all: int) -> None:
    total, found = _count(page, "total_instances"), _count(page, "instances_found")
    if total is not None and total > in_all:
        raise _Inconsistent(f"{total} instances announced, {in_all} listed")
    # The API reference does not say whether this counts the page or the whole: never more than that.
    if found is not None and found > in_all:
        raise _Inconsistent(f"{found} instances found, {in_all} listed")


def _parse(item: Any) -> InstanceRow | BadRow:
    if not isinstance(item, dict):
        return BadRow(label=None, problem="it is not an object")
    try:
        return InstanceRow.model_validate(item)
    except ValidationError as error:
        problem = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        return BadRow(label=item.get("label"), problem=problem)


def _count(page: dict[str, Any], key: str) -> int | None:
    value = page.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
