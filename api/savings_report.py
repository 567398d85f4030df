"""A savings report of an owner, from the ledger, the event log and the receipts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from dumont.db.ledger import LinesWanted, PostgresLedger
from dumont.db.machine_spans import MachineSpans
from dumont.db.savings import SavingsRecords
from dumont.domain.machine import MachinePhase
from dumont.domain.savings import SavingsReport, savings_report
from dumont.domain.savings_lines import Assumptions, end_of
from dumont.domain.spans import PhaseSpan


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Where the report's facts are."""

    ledger: PostgresLedger
    spans: MachineSpans
    records: SavingsRecords

    async def report(
        self, owner_id: str, *, since: date, until: date, now: datetime, assumed: Assumptions
    ) -> SavingsReport:
        """Everything about an owner's days from `since` to `until`, both included.

        Raises:
            DependencyUnavailable: The database cannot serve it.
        """
        begin, end = datetime.combine(since, time(), tzinfo=UTC), min(now, end_of(until))
        spans, receipts, rented = await asyncio.gather(
            self.spans.of_owner(owner_id, since=begin, until=end),
            self.records.receipts(owner_id, since=begin, until=end),
            self.records.rented(owner_id),
        )
        wanted = LinesWanted(owner_id, since=_first_price(spans, since), until=until)
        return savings_report(
            [entry async for entry in self.ledger.every(wanted)],
            spans,
            receipts,
            since=since,
            until=until,
            now=now,
            recorded=rented,
            assumptions=assumed,
        )


def _first_price(spans: list[PhaseSpan], since: date) -> date:
    """The first day whose price may matter: that before the longest sleep into the period began."""
    begin = datetime.combine(since, time(), tzinfo=UTC)
    asleep = [
        span.start.astimezone(UTC).date() - timedelta(days=1)
        for span in spans
        if span.phase is MachinePhase.HIBERNATED and (span.end is None or span.end > begin)
    ]
    return min([since, *asleep])
