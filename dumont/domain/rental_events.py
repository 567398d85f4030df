"""What the event log tells of rentals: a beginning that no listing showed, an end that was verified."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from dumont.domain import labels
from dumont.domain.events import EventKind
from dumont.domain.instances import Message
from dumont.domain.ladder import Rung
from dumont.domain.metering import RentalRecord, Role

STANDBY_INTENT: Final = "standby/"
"""What the intents of standbys begin with; a machine's GPU and its standby may share a label."""
_STANDBY_ENDED: Final = "end/standby/"


class RentalEvent(Message):
    """An event that says that something was rented, or is gone."""

    seq: int
    key: str
    kind: EventKind
    at: datetime
    machine_id: str
    owner_id: str
    env: str
    generation: int
    data: dict[str, Any]

    @property
    def resource_id(self) -> str | None:
        """The provider's id of what it is about; None when it is about no rental."""
        if self.kind is EventKind.INSTANCE_ENDED:
            return _text(self.data.get("instance_id"))
        if self.data.get("rung") == Rung.RENTED.value:
            return _text(self.data.get("detail"))
        return None

    @property
    def is_end(self) -> bool:
        """Whether it says that something is gone."""
        return self.kind is EventKind.INSTANCE_ENDED

    @property
    def role(self) -> Role:
        """What was rented."""
        return Role.STANDBY if self.key.startswith(_STANDBY_ENDED) else Role.GPU

    @property
    def intent(self) -> str | None:
        """The label of the intent behind it; None when the event does not say which."""
        if self.is_end:
            label = _text(self.data.get("label"))
            if labels.parse(label, env=self.env) is None:
                return None  # the end of everything that a machine had
            return f"{STANDBY_INTENT}{label}" if self.role is Role.STANDBY else label
        attempt = self.data.get("attempt")
        if not isinstance(attempt, int):
            return None
        return str(labels.Label(self.env, self.machine_id, self.generation, attempt))


def expected(
    event: RentalEvent, intents: Mapping[str, tuple[str, datetime]]
) -> RentalRecord | None:
    """The rental that an event tells of, as far as it does; None when we never intended it."""
    resource_id, intent = event.resource_id, event.intent
    if resource_id is None or intent is None or intent not in intents:
        return None
    provider, intended_at = intents[intent]
    return RentalRecord(
        provider=provider,
        resource_id=resource_id,
        machine_id=event.machine_id,
        owner_id=event.owner_id,
        label=intent.removeprefix(STANDBY_INTENT),
        role=event.role,
        created_at=intended_at if event.is_end else None,
        first_seen_at=min(event.at, intended_at) if event.is_end else event.at,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
