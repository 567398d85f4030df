"""The v1 list: filters over stored columns, order, keyset pages.

A page token holds the sort values of the last row, so pages stay right while instances come and
go between them.
"""

from __future__ import annotations

import base64
import functools
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from simcloud.vast.errors import VastError

Row = dict[str, Any]

MAX_LIMIT = 25

_STORED = frozenset(
    {
        "id",
        "label",
        "actual_status",
        "intended_status",
        "cur_state",
        "next_state",
        "gpu_name",
        "num_gpus",
        "verification",
        "machine_id",
        "host_id",
        "image_uuid",
        "image_runtype",
        "is_bid",
        "start_date",
        "end_date",
        "template_id",
        "template_hash_id",
        "geolocation",
        "disk_space",
    }
)
_OPERATORS = frozenset({"eq", "neq", "in", "notin", "gt", "gte", "lt", "lte"})


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list request, understood."""

    filters: dict[str, dict[str, Any]]
    order: list[tuple[str, bool]]
    """(column, descending); ends with `id`, so that it is total."""
    columns: list[str] | None
    limit: int
    after: list[Any] | None


def parse_listing(
    *, filters: Any, order: Any, columns: Any, limit: int, after: str | None
) -> Listing:
    """Understand the query parameters of a list.

    Raises:
        VastError: 400 `invalid_request` naming the column, operator or token that is wrong.
    """
    return Listing(
        filters=_filters(filters),
        order=_order(order),
        columns=_columns(columns),
        limit=max(1, min(limit, MAX_LIMIT)),
        after=None if not after else _decode(after),
    )


def page_of(rows: list[Row], listing: Listing) -> dict[str, Any]:
    """Return one page of rows as the API words it."""
    matching = [row for row in rows if _passes(row, listing.filters)]
    compare = functools.partial(_compare, listing.order)
    matching.sort(key=functools.cmp_to_key(compare))
    rest = matching
    if listing.after is not None:
        columns = (column for column, _ in listing.order)
        last = dict(zip(columns, listing.after, strict=False))
        rest = [row for row in matching if compare(row, last) > 0]
    page = rest[: listing.limit]
    more = len(rest) > len(page)
    labels = Counter(row["label"] or "" for row in matching)
    return {
        "success": True,
        "instances_found": len(page),
        "total_instances": len(matching),
        "label_counts": dict(labels),
        "next_token": _encode(page[-1], listing.order) if more else None,
        "instances": [_cut(row, listing.columns) for row in page],
    }


def _filters(filters: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(filters, dict):
        raise _bad("select_filters: must be a JSON object")
    for column, ops in filters.items():
        if column not in _STORED:
            raise _bad(f"select_filters: {column} cannot be filtered by")
        if not isinstance(ops, dict):
            raise _bad(f"select_filters: {ops} is not a valid search op")
        for op, value in ops.items():
            if op not in _OPERATORS:
                raise _bad(f"select_filters: {op} is not a valid search op")
            if op in ("in", "notin") and not isinstance(value, list):
                raise _bad(f"select_filters: {column}: {op} needs a list")
    return filters


def _order(order: Any) -> list[tuple[str, bool]]:
    parsed: list[tuple[str, bool]] = []
    for entry in order if isinstance(order, list) else []:
        if not isinstance(entry, dict) or entry.get("col") not in _STORED:
            raise _bad(f"order_by: {entry} names no column that can be ordered by")
        parsed.append((str(entry["col"]), str(entry.get("dir", "asc")).lower() == "desc"))
    if order is not None and not isinstance(order, list):
        raise _bad('order_by: must be a list such as [{"col":"id","dir":"asc"}]')
    return parsed if any(column == "id" for column, _ in parsed) else [*parsed, ("id", False)]


def _columns(columns: Any) -> list[str] | None:
    if columns is None or columns == [] or columns == ["*"]:
        return None
    if not isinstance(columns, list) or not all(isinstance(each, str) for each in columns):
        raise _bad("select_cols: must be a list of column names")
    return columns


def _cut(row: Row, columns: list[str] | None) -> Row:
    return row if columns is None else {column: row.get(column) for column in columns}


def _passes(row: Row, filters: dict[str, dict[str, Any]]) -> bool:
    return all(
        _test(op, row[column], value)
        for column, ops in filters.items()
        for op, value in ops.items()
    )


def _test(op: str, have: Any, want: Any) -> bool:
    match op:
        case "eq":
            return _same(have, want)
        case "neq":
            return not _same(have, want)
        case "in":
            return any(_same(have, each) for each in want)
        case "notin":
            return not any(_same(have, each) for each in want)
    if have is None:
        return False
    try:
        order = _rank(have, type(have)(want))
    except (TypeError, ValueError):
        return False
    return {"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[op]


def _same(have: Any, want: Any) -> bool:
    if have is None or want is None:
        return have is want
    if isinstance(have, bool):
        return have == (str(want).lower() in ("true", "1"))
    return bool(have == want) or str(have) == str(want)


def _rank(first: Any, second: Any) -> int:
    if first is None or second is None:
        # nulls last
        return (first is None) - (second is None)
    return int(first > second) - int(first < second)


def _compare(order: list[tuple[str, bool]], first: Row, second: Row) -> int:
    for column, descending in order:
        rank = _rank(first.get(column), second.get(column))
        if rank:
            return -rank if descending else rank
    return 0


def _encode(row: Row, order: list[tuple[str, bool]]) -> str:
    values = json.dumps([row.get(column) for column, _ in order])
    return base64.urlsafe_b64encode(values.encode()).decode()


def _decode(token: str) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(token.encode()))
    except ValueError:
        values = None
    if not isinstance(values, list):
        raise _bad("after_token: is no token of this API")
    return values


def _bad(message: str) -> VastError:
    return VastError(400, "invalid_request", message)
