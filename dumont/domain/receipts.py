"""The receipt of one failover: what happened, when, who said so, what was kept and what was not."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Literal

from pydantic import Field

from dumont.domain.instances import Message

SCHEMA = 1
MAX_NAMES = 200
"""File names that a receipt carries; the rest is counted."""

Phase = Literal[
    "detected",
    "redirected",
    "reported",
    "fenced",
    "provisioned",
    "restored",
    "verified",
    "failed_back",
]
"""In the order of a failover; `detected` is zero."""


class Moment(Message):
    """When a phase was reached."""

    phase: Phase
    at: datetime
    ms: float
    """Since detection."""


class Testimony(Message):
    """What one witness said, and how fresh that was."""

    witness: Literal["link", "heartbeat", "provider", "ssh"]
    said: str
    at: datetime | None = None
    """None: it said nothing."""


class Body(Message):
    """One instance, as far as a receipt needs it."""

    provider: str
    instance_id: str
    label: str
    generation: int | None = None
    """None for a standby."""
    host_id: str | None = None
    gpu: str | None = None
    region: str | None = None
    usd_per_hour: float | None = None


class Unreplicated(Message):
    """What had not reached the standby when the link was lost."""

    last_point_at: datetime | None = None
    """Everything written before was on the standby, by the primary's clock; None: unknown."""
    sequence: int | None = None
    """The mark that the standby had last."""
    files: int | None = None
    bytes: int | None = None
    names: tuple[str, ...] = Field(default=(), max_length=MAX_NAMES)
    """The first of them; `files` counts all."""
    why_unknown: str = ""


class Cost(Message):
    """What the failover cost, US dollars; parts that are not known are None."""

    replacement_usd: float | None = None
    """The new instance until the address led to it, at its price."""
    standby_usd: float | None = None
    """The standby for the same time, an estimate from list prices."""


class Receipt(Message):
    """One immutable record. `digest` changes when anything in it does."""

    format: int = SCHEMA
    machine_id: str
    machine_name: str
    number: int = Field(ge=1)
    cause: str
    drill: bool
    outcome: Literal["healed", "returned", "replaced"]
    detected_at: datetime
    closed_at: datetime
    timeline: tuple[Moment, ...]
    witnesses: tuple[Testimony, ...] = ()
    former: Body
    adopted: Body
    standby: Body
    epoch_before: int
    epoch_after: int
    unreplicated: Unreplicated
    conflicts: tuple[str, ...] = Field(default=(), max_length=MAX_NAMES)
    """Divergent files kept beside the workspace."""
    files_restored: int | None = None
    bytes_restored: int | None = None
    entries_verified: int | None = None
    """Compared by hash on both sides."""
    quiesced_s: float | None = None
    """How long no new session could begin at failback."""
    cost: Cost = Cost()

    @property
    def receipt_id(self) -> str:
        """Its name in the whole deployment."""
        return f"{self.machine_id}-f{self.number}"

    @property
    def false_alarm(self) -> bool:
        """The link came back before anything was written: nothing had to be done."""
        return self.outcome == "healed"

    def ms(self, phase: Phase) -> float | None:
        """Milliseconds from detection to a phase; None when it was not reached."""
        return next((moment.ms for moment in self.timeline if moment.phase == phase), None)

    def canonical(self) -> bytes:
        """The receipt as it is exported: JSON with sorted keys."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")
        ).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical()`, hex."""
        return hashlib.sha256(self.canonical()).hexdigest()
