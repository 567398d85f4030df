"""Lists as Google answers them: filtered, ordered, in pages, per scope when aggregated.

An empty list has no `items`. Page tokens are opaque to clients; here they carry the position after
which to go on and a print of the query, so that a token cannot be used with another query.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simcloud.gcp import errors, filters, wire

_DEFAULT_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class ListQuery:
    """The parameters that every list method takes."""

    filter: str | None = None
    max_results: int = _DEFAULT_PAGE
    page_token: str | None = None
    newest_first: bool = False

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> ListQuery:
        """Read and check query parameters.

        Raises:
            errors.GoogleError: 400 `invalid` naming the parameter.
        """
        text = parameters.get("maxResults", "")
        limit = _DEFAULT_PAGE
        if text:
            if not text.isdecimal() or int(text) > _DEFAULT_PAGE:
                raise errors.invalid(
                    "maxResults", text, f"Must be an integer between 0 and {_DEFAULT_PAGE}."
                )
            # 0 asks for the default, as on Google
            limit = int(text) or _DEFAULT_PAGE
        order = parameters.get("orderBy", "")
        if order not in ("", "name", "creationTimestamp desc"):
            raise errors.invalid(
                "orderBy", order, "Only 'name' and 'creationTimestamp desc' are supported."
            )
        return cls(
            filter=parameters.get("filter") or None,
            max_results=limit,
            page_token=parameters.get("pageToken") or None,
            newest_first=order == "creationTimestamp desc",
        )

    def _print(self) -> str:
        return wire.fingerprint([self.filter, self.newest_first])


def _encode(query: ListQuery, position: int) -> str:
    payload = json.dumps([position, query._print()])
    return base64.urlsafe_b64encode(payload.encode()).decode()


def _decode(query: ListQuery) -> int:
    if query.page_token is None:
        return 0
    refused = errors.invalid("pageToken", query.page_token, "The page token is invalid.")
    try:
        position, fingerprint = json.loads(base64.urlsafe_b64decode(query.page_token))
    except (ValueError, TypeError, binascii.Error) as broken:
        raise refused from broken
    if not isinstance(position, int) or position < 0 or fingerprint != query._print():
        raise refused
    return position


def _select(rows: Iterable[dict[str, Any]], query: ListQuery) -> list[dict[str, Any]]:
    matches = filters.compile_filter(query.filter)
    chosen = [row for row in rows if matches(row)]
    if query.newest_first:
        chosen.sort(
            key=lambda row: row.get("creationTimestamp") or row.get("insertTime") or "",
            reverse=True,
        )
    return chosen


def page(
    rows: Iterable[dict[str, Any]], *, query: ListQuery, kind: str, path: str
) -> dict[str, Any]:
    """Return one page of `rows` as a list resource.

    Args:
        rows: Resources as sent on the wire, in their natural order.
        query: Filter, order, page.
        kind: Kind of the list, such as `compute#instanceList`.
        path: The list's path from `projects/` on.
    """
    chosen = _select(rows, query)
    start = _decode(query)
    end = start + query.max_results
    answer: dict[str, Any] = {"kind": kind, "id": path}
    if chosen[start:end]:
        answer["items"] = chosen[start:end]
    if end < len(chosen):
        answer["nextPageToken"] = _encode(query, end)
    answer["selfLink"] = wire.link(path)
    return answer


def aggregated_page(
    scopes: Mapping[str, Iterable[dict[str, Any]]],
    *,
    query: ListQuery,
    kind: str,
    path: str,
    member: str,
) -> dict[str, Any]:
    """Return one page over many scopes; a scope without a match carries a warning.

    Args:
        scopes: Resources by scope, such as `zones/us-central1-a`.
        query: Filter, order, page; the page size counts resources, not scopes.
        kind: Kind of the list, such as `compute#instanceAggregatedList`.
        path: The list's path from `projects/` on.
        member: Name under which a scope holds its resources, such as `instances`.
    """
    chosen = [(scope, row) for scope, rows in scopes.items() for row in _select(rows, query)]
    start = _decode(query)
    end = start + query.max_results
    items: dict[str, Any] = {}
    for scope, row in chosen[start:end]:
        items.setdefault(scope, {member: []})[member].append(row)
    for scope in scopes:
        if scope not in items:
            items[scope] = {
                "warning": {
                    "code": "NO_RESULTS_ON_PAGE",
                    "message": f"There are no results for scope '{scope}' on this page.",
                    "data": [{"key": "scope", "value": scope}],
                }
            }
    answer: dict[str, Any] = {
        "kind": kind,
        "id": path,
        "items": {scope: items[scope] for scope in scopes},
        "selfLink": wire.link(path),
    }
    if end < len(chosen):
        answer["nextPageToken"] = _encode(query, end)
    return answer
