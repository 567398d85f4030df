"""The event log: one line for each thing that happened to a machine, in order, for ever."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from dumont.domain.instances import Message


class EventKind(StrEnum):
    """What happened. Names are public and stable."""

    REQUESTED = "machine.requested"
    PROVISIONING = "machine.provisioning"
    OFFER_CHOSEN = "provision.offer_chosen"
    RENTED = "provision.rented"
    RUNG = "provision.rung"
    ATTEMPT_FAILED = "provision.attempt_failed"
    READY = "machine.ready"
    STUCK = "machine.stuck"
    INSTANCE_CHANGED = "instance.changed"
    INSTANCE_LOST = "instance.lost"
    STANDBY_CHOSEN = "standby.chosen"
    STANDBY_READY = "standby.ready"
    STANDBY_FAILED = "standby.failed"
    STANDBY_LOST = "standby.lost"
    PROTECTION_CHANGED = "protection.changed"
    ON_STANDBY = "machine.on_standby"
    REPLACING = "machine.replacing"
    FAILOVER_STEP = "failover.step"
    FAILED_BACK = "machine.failed_back"
    FALSE_ALARM = "failover.false_alarm"
    RESCUED = "failover.rescued"
    DRILL = "machine.drill"
    HIBERNATING = "machine.hibernating"
    HIBERNATED = "machine.hibernated"
    WAKING = "machine.waking"
    USABLE = "machine.usable"
    HOURS = "machine.working_hours"
    IDLE_WARNING = "idle.warning"
    IDLE_WITHDRAWN = "idle.withdrawn"
    SNAPSHOT_TAKEN = "snapshot.taken"
    SNAPSHOT_FAILED = "snapshot.failed"
    RESTORED = "workspace.restored"
    DESTROYING = "machine.destroying"
    INSTANCE_ENDED = "instance.ended"
    DESTROYED = "machine.destroyed"
    RECONCILE_ADOPTED = "reconcile.adopted"
    RECONCILE_ENDED = "reconcile.ended"
    LEFTOVER_FOUND = "leftover.found"
    LEFTOVER_ENDED = "leftover.ended"
    BUDGET = "budget.act"
    ALERT = "alert"


class MachineEvent(Message):
    """One event. `key` makes recording idempotent: the same key is stored once."""

    key: str
    machine_id: str
    kind: EventKind
    at: datetime
    generation: int = 0
    summary: str
    """One sentence for a person."""
    data: dict[str, Any] = Field(default_factory=dict)
