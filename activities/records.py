"""Writing down what happened. Every write is an upsert by its own key: repeating changes nothing."""

from __future__ import annotations

from temporalio import activity

from dumont.domain.events import MachineEvent
from dumont.domain.instances import Message
from dumont.ports import Intent, MachineRecord, MachineStore


class CloseIntent(Message):
    """Input of `close_intent`."""

    label: str
    outcome: str


class BadHost(Message):
    """Input of `record_bad_host`."""

    provider: str
    host_id: str
    reason: str


class RecordActivities:
    """The projection, the event log, intents and the memory of bad hosts."""

    def __init__(self, *, store: MachineStore) -> None:
        self._store = store

    @activity.defn
    async def record_machine(self, record: MachineRecord) -> None:
        """Project a machine's state and append its events."""
        await self._store.record(record)

    @activity.defn
    async def record_events(self, events: list[MachineEvent]) -> None:
        """Append events; the same key is stored once."""
        await self._store.record_events(events)

    @activity.defn
    async def record_intent(self, intent: Intent) -> None:
        """Write down what is about to be rented. No rental happens before this succeeded."""
        await self._store.record_intent(intent)

    @activity.defn
    async def close_intent(self, close: CloseIntent) -> None:
        """Write down how an intent ended."""
        await self._store.close_intent(close.label, outcome=close.outcome)

    @activity.defn
    async def record_bad_host(self, bad: BadHost) -> None:
        """Remember that a host failed us."""
        await self._store.record_bad_host(
            provider=bad.provider, host_id=bad.host_id, reason=bad.reason
        )
