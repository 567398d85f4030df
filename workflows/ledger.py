"""Keeping the ledger: what is rented, what bills say of it, and the lines that follow."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.ledger import BillActivities, ImportBills, LedgerActivities, Metered
    from activities.rentals import (
        Noted,
        NoteRentals,
        RentalActivities,
        RentalEventActivities,
    )
    from dumont.domain.instances import Message
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.options import BILL, READ


class KeepLedgerInput(Message):
    """Input of `KeepLedger`; it travels in the schedule."""

    env: str
    queues: tuple[str, ...] = (PROVIDER_VAST,)
    """Whose listings are looked at."""
    confirm_s: float = 30.0
    bills_every_s: float = 600.0
    unserved_s: float = 30.0
    """A provider whose worker is away this long is asked again by the next run."""


@workflow.defn
class KeepLedger:
    """Note what is rented and what has ended; read the bills; write the lines.

    A provider that does not answer keeps nothing else from being written: its lines stay as they are
    until it does, and then have the time between.
    """

    @workflow.run
    async def run(self, input: KeepLedgerInput) -> Metered:
        """One round. Returns what was written."""
        events = await workflow.execute_activity_method(RentalEventActivities.follow_events, **READ)
        noted = await asyncio.gather(*(self._note(queue, input) for queue in input.queues))
        found = dict(zip(input.queues, noted, strict=True))
        if found.get(PROVIDER_VAST) is not None:
            ended = events.ended + sum(each.ended for each in noted if each is not None)
            await self._read_bills(input, at_once=ended > 0)
        return await workflow.execute_activity_method(LedgerActivities.meter_lines, **READ)

    async def _note(self, queue: str, input: KeepLedgerInput) -> Noted | None:
        try:
            return await workflow.execute_activity_method(
                RentalActivities.note_rentals,
                NoteRentals(env=input.env, confirm_s=input.confirm_s),
                task_queue=queue,
                schedule_to_start_timeout=timedelta(seconds=input.unserved_s),
                **READ,
            )
        except ActivityError as failure:
            workflow.logger.warning("%s: not noted: %s", queue, failure.cause or failure)
            return None

    async def _read_bills(self, input: KeepLedgerInput, *, at_once: bool) -> None:
        try:
            await workflow.execute_activity_method(
                BillActivities.import_bills,
                ImportBills(env=input.env, every_s=input.bills_every_s, at_once=at_once),
                task_queue=PROVIDER_VAST,
                schedule_to_start_timeout=timedelta(seconds=input.unserved_s),
                **BILL,
            )
        except ActivityError as failure:
            workflow.logger.warning("bills not read: %s", failure.cause or failure)
