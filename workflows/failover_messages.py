"""What is said to a failover, and what it says: the messages of `workflows.failover`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from dumont.domain.instances import Message
    from dumont.domain.machine import ActiveInstance, MachineSpec, Timing
    from dumont.domain.protection import ActiveStandby


RESTS = "the machine hibernates"
"""How the cause begins by which a guard knows that no failover is under way (`docs/protection.md`)."""

RESTING = "resting"
"""The step of a machine that hibernates on its standby."""


class DrillRequest(Message):
    """Argument of the update `drill` of a machine: a failover on purpose."""

    flush: bool = True
    """Wait for the barrier first: nothing at all is lost."""
    redirect_only: bool = False
    """Keep the instance: only the address moves, and moves back."""
    actor: str = "the owner"
    rest: bool = False
    """The machine hibernates: no GPU is rented before somebody wakes it."""

    @property
    def cause(self) -> str:
        """Why, for the people on the machine and for the receipt."""
        if self.rest:
            return f"{RESTS}: {self.actor} asked for it"
        return f"a drill of {self.actor}"


class FailBackRequest(Message):
    """Argument of the update `fail_back` of a machine: do not wait for the moment."""

    actor: str = "the owner"


class FailoverInput(Message):
    """Input of `Failover`."""

    spec: MachineSpec
    timing: Timing
    number: int
    cause: str
    detected_at: datetime
    home: ActiveInstance
    standby: ActiveStandby
    generation: int
    """The highest one used so far."""
    epoch: int
    avoid_hosts: tuple[str, ...] = ()
    drill: DrillRequest | None = None


class Outcome(StrEnum):
    """How a failover ended."""

    HEALED = "healed"
    """A false alarm: the guard gave the authority back, nothing had been written."""
    RETURNED = "returned"
    """The same instance came back and has everything again."""
    REPLACED = "replaced"


class Former(Message):
    """An instance that another has taken the place of."""

    instance: ActiveInstance
    epoch: int
    """The last epoch under which it was allowed to write."""


class FailoverResult(Message):
    """What the machine adopts."""

    outcome: Outcome
    home: ActiveInstance
    generation: int
    epoch: int
    former: ActiveInstance | None = None
    """The instance that another has taken the place of."""
    former_epoch: int = 0
    """The last epoch under which it was allowed to write."""
    short_lived: tuple[Former, ...] = ()
    """Instances that may have had the authority for a moment before they were lost as well."""

    def all_formers(self) -> list[Former]:
        """Whatever must be looked through for what only it has, before it is ended."""
        first = self.former
        return [
            *([Former(instance=first, epoch=self.former_epoch)] if first is not None else []),
            *self.short_lived,
        ]


class FailoverProgress(Message):
    """Signal `failover_progress` of a machine."""

    number: int
    step: str
    summary: str
    epoch: int
    generation: int
    replacing: bool = False
