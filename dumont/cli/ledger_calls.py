"""The ledger as typed calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dumont.cli.calls import Calls
from dumont.domain.ledger_resources import LedgerAudit, LedgerLine, LedgerPage, LedgerSummary

PAGE: Final = 200
"""Lines asked for at once: the most the API gives."""

Query = dict[str, str | float | None]


class LedgerCalls(Calls):
    """What a server's ledger has. `query` is the API's: `machine`, `from`, `to`, `item`, `by`."""

    def lines(self, query: Query, *, limit: int | None = None) -> Iterator[LedgerLine]:
        """Lines, newest day first."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._read("/ledger", LedgerPage, **query, cursor=cursor, limit=size)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
            left = None if left is None else left - len(page.items)

    def summary(self, query: Query) -> LedgerSummary:
        """Sums."""
        return self._read("/ledger/summary", LedgerSummary, **query)

    def audit(self, query: Query) -> LedgerAudit:
        """Bills beside what was seen."""
        return self._read("/ledger/audit", LedgerAudit, **query)

    def table(self, path: str, query: Query) -> str:
        """Any of them as CSV."""
        return self._http.call("GET", path, params=query | {"format": "csv"}).text
