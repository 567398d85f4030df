"""Vast's search language on the wire: filters per field, order, limit, type.

Values may arrive as strings ("0.9"), because the official client sends them so; both sides are
compared as what the field holds. An unknown field is ignored, an unknown operator is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from simcloud.vast.errors import VastError

Row = dict[str, Any]

_CONTROLS = frozenset(
    {"order", "type", "limit", "allocated_storage", "disable_bundling", "select_cols", "q"}
)
_ALIASES = {
    "cuda_vers": "cuda_max_good",
    "dph": "dph_total",
    "dlperf_usd": "dlperf_per_dphtotal",
    "dlperf_per_dphtotal": "dlperf_per_dphtotal",
    "flops_usd": "flops_per_dphtotal",
    "display_active": "gpu_display_active",
    "reliability": "reliability2",
    "driver_version": "driver_vers",
}
_DEFAULTS: dict[str, Any] = {
    "verified": {"eq": True},
    "rentable": {"eq": True},
    "rented": {"eq": False},
}
_TYPES = {
    "on-demand": "on-demand",
    "ondemand": "on-demand",
    "bid": "bid",
    "interruptible": "bid",
    "reserved": "reserved",
}


class Query(BaseModel):
    """A search, understood."""

    filters: dict[str, dict[str, Any]]
    order: list[tuple[str, bool]]
    """(field, descending), most important first."""
    kind: str
    limit: int | None
    allocated_storage: float

    def matches(self, row: Row) -> bool:
        """Whether an offer row passes every filter."""
        return all(
            _OPERATORS[op](_value_of(row, field), wanted)
            for field, ops in self.filters.items()
            for op, wanted in ops.items()
            if _known(row, field)
        )

    def sort(self, rows: list[Row]) -> list[Row]:
        """Return the rows in order; rows without the field go last."""
        for field, descending in reversed(self.order):
            present = [row for row in rows if _value_of(row, field) is not None]
            absent = [row for row in rows if _value_of(row, field) is None]
            present.sort(key=lambda row: _sort_key(_value_of(row, field)), reverse=descending)
            rows = present + absent
        return rows


def parse_query(body: Any) -> Query:
    """Understand the body of a search.

    Raises:
        VastError: 400 naming what is no search operator, type, order or limit.
    """
    if not isinstance(body, dict):
        raise VastError(400, "invalid_request", "the search must be a JSON object")
    filters: dict[str, dict[str, Any]] = {}
    for field, ops in {**_DEFAULTS, **body}.items():
        if field in _CONTROLS:
            continue
        if not isinstance(ops, dict):
            raise _bad_op(ops)
        for op in ops:
            if op not in _OPERATORS:
                raise _bad_op(op)
        filters[_ALIASES.get(field, field)] = {
            op: _wanted(field, op, value) for op, value in ops.items()
        }
    kind = _TYPES.get(str(body.get("type") or "on-demand"))
    if kind is None:
        raise VastError(400, "invalid_request", f"{body['type']} is not a valid search type")
    return Query(
        filters=filters,
        order=_order(body.get("order")),
        kind=kind,
        limit=_limit(body.get("limit")),
        allocated_storage=_storage(body.get("allocated_storage")),
    )


def _bad_op(op: Any) -> VastError:
    return VastError(400, "invalid_request", f"{op} is not a valid search op")


def _wanted(field: str, op: str, value: Any) -> Any:
    if op in ("in", "notin"):
        if isinstance(value, str):
            value = [part.strip() for part in value.strip("[]").split(",")]
        if not isinstance(value, list):
            raise VastError(400, "invalid_request", f"{field}: {op} needs a list")
        return [_driver_number(field, each) for each in value]
    return _driver_number(field, value)


def _driver_number(field: str, value: Any) -> Any:
    """`535.86.05` compares as 535086005, the way `driver_vers` is written."""
    if field != "driver_version" or not isinstance(value, str) or "." not in value:
        return value
    try:
        parts = [int(part) for part in value.split(".")] + [0, 0]
    except ValueError:
        return value
    return parts[0] * 1_000_000 + parts[1] * 1000 + parts[2]


def _order(order: Any) -> list[tuple[str, bool]]:
    if order is None:
        return [("score", True)]
    try:
        return [
            (_ALIASES.get(str(field), str(field)), str(direction).lower() == "desc")
            for field, direction in order
        ]
    except (TypeError, ValueError):
        raise VastError(
            400, "invalid_request", 'order must be a list such as [["dph_total","asc"]]'
        ) from None


def _limit(limit: Any) -> int | None:
    if limit is None:
        return None
    try:
        return max(0, int(limit))
    except (TypeError, ValueError):
        raise VastError(400, "invalid_request", "limit must be a whole number") from None


def _storage(value: Any) -> float:
    try:
        return max(0.0, float(5.0 if value is None else value))
    except (TypeError, ValueError):
        raise VastError(400, "invalid_request", "allocated_storage must be GB") from None


def _known(row: Row, field: str) -> bool:
    return field in ("verified", "datacenter", "geolocation") or field in row


def _value_of(row: Row, field: str) -> Any:
    if field == "verified":
        return row["verification"] == "verified"
    if field == "datacenter":
        return row["hosting_type"] == 1
    if field == "geolocation":
        return str(row["geolocation"]).rpartition(",")[2].strip()
    if field == "external":
        return bool(row.get("external"))
    return row.get(field)


def _sort_key(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _as(kind: Any, value: Any) -> Any:
    """Read `value` as what `kind`, the row's own value, is; None when it cannot be."""
    if isinstance(kind, bool):
        if isinstance(value, str):
            return value.strip().lower() in ("true", "1", "yes")
        return bool(value)
    if isinstance(kind, int | float):
        if isinstance(value, bool):
            return float(value)
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    return None if value is None else str(value)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(have: Any, want: Any) -> bool:
        if have is None:
            return False
        wanted = _as(have, want)
        return wanted is not None and test(have, wanted)

    return compared


def _equal(have: Any, want: Any) -> bool:
    if have is None:
        return want is None
    return bool(have == _as(have, want))


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "neq": lambda have, want: not _equal(have, want),
    "gt": _compare(lambda have, want: have > want),
    "lt": _compare(lambda have, want: have < want),
    "gte": _compare(lambda have, want: have >= want),
    "lte": _compare(lambda have, want: have <= want),
    "in": lambda have, want: any(_equal(have, each) for each in want),
    "notin": lambda have, want: not any(_equal(have, each) for each in want),
}
