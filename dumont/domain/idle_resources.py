"""What the API takes and gives about idleness: `/machines/{machine}/idle` and what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, Field, model_validator

from dumont.domain.idle import (
    LONGEST_KEEP_ALIVE,
    IdlePolicy,
    Judgement,
    KeepAlive,
    Sample,
    Stretch,
    bare_replay,
    replay,
)
from dumont.domain.resources import Request, Resource

WEEK: Final = timedelta(days=7)
_SHOWN: Final = 50


class IdlePolicyOrder(Request):
    """PUT /machines/{machine}/idle-policy. What is not given stays as it is."""

    enabled: bool | None = Field(default=None, description="Whether it may hibernate by itself.")
    gpu_percent: float | None = Field(default=None, description="Under this the GPU is quiet.")
    idle_for_s: float | None = Field(default=None, description="So long nothing happens.")
    warn_s: float | None = Field(default=None, description="From the warning to the act.")
    grace_s: float | None = Field(default=None, description="After a start.")
    gpu_memory_busy_percent: float | None = None
    gpu_memory_mb: int | None = Field(default=None, description="MiB that a process holds.")
    memory_held_for_s: float | None = Field(
        default=None, description="Instead of `idle_for_s` while GPU memory is held."
    )
    cpu_cores: float | None = None
    cpu_percent: float | None = None
    disk_bps: float | None = Field(default=None, description="Bits per second.")
    net_bps: float | None = Field(default=None, description="Bits per second.")
    session_quiet_s: float | None = Field(
        default=None, description="Since the last key or output of a login."
    )
    kernel_quiet_s: float | None = Field(
        default=None, description="Since the last work of a notebook's kernel."
    )
    stale_s: float | None = Field(default=None, description="News older than this is none.")

    def said(self) -> dict[str, object]:
        """What was given."""
        return self.model_dump(exclude_none=True)


class KeepAliveOrder(Request):
    """POST /machines/{machine}/keep-alive: for so long, or until then; seven days at most."""

    seconds: float | None = Field(
        default=None, ge=60, le=LONGEST_KEEP_ALIVE.total_seconds(), examples=[7200]
    )
    until: AwareDatetime | None = None
    reason: str = Field(default="", max_length=200, description="For whoever else wonders.")

    @model_validator(mode="after")
    def _one(self) -> KeepAliveOrder:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("give either `seconds` or `until`")
        if not self.reason.isprintable():
            raise ValueError("the reason must be one line of printable text")
        return self


class IdleWarning(Resource):
    """A warning that stands."""

    warned_at: datetime
    act_at: datetime = Field(description="When it hibernates, if nothing happens before.")


class IdleRefusal(Resource):
    """The last order that came to nothing; the next one waits longer each time."""

    why: str
    at: datetime
    orders: int = Field(description="That came to nothing one after another.")


class Replayed(Resource):
    """What one rule would have done over the last week."""

    warnings: int
    acts: int = Field(description="Times it would have hibernated the machine.")
    saved_gpu_hours: float = Field(
        description="From each act to the end of its quiet stretch, in the minutes that were heard, "
        "times GPUs. An estimate: what was saved in truth is in the ledger."
    )
    stretches: list[Stretch] = Field(description=f"The newest {_SHOWN}, newest first.")


class LastWeek(Resource):
    """The last week, minute by minute, under the policy of now."""

    since: datetime
    until: datetime
    minutes_heard: int = Field(description="All others are unknown, and unknown is active.")
    rule: Replayed
    bare_rule: Replayed = Field(
        description="GPU under 5 % for 3 minutes and nothing else: for comparison."
    )


class IdleView(Resource):
    """GET /machines/{machine}/idle."""

    machine_id: str
    name: str
    at: datetime
    acts: bool = Field(description="Whether the rule may warn, and hibernate the machine, now.")
    why_not: str = Field(description="Why it may not; empty when it may.")
    judgement: Judgement | None = Field(description="Null: there is no GPU to judge.")
    policy: IdlePolicy
    keep_alive: KeepAlive | None
    warning: IdleWarning | None
    refusal: IdleRefusal | None
    last_week: LastWeek


def last_week(
    samples: Sequence[Sample], *, policy: IdlePolicy, now: datetime, gpus: int
) -> LastWeek:
    """What the rule, and the bare rule, would have done. Takes tenths of a second for a full week."""
    enabled = policy.model_copy(update={"enabled": True})
    return LastWeek(
        since=now - WEEK,
        until=now,
        minutes_heard=sum(1 for sample in samples if sample.heard),
        rule=_replayed(replay(samples, policy=enabled, gpus=gpus)),
        bare_rule=_replayed(bare_replay(samples, gpus=gpus)),
    )


def _replayed(stretches: Sequence[Stretch]) -> Replayed:
    return Replayed(
        warnings=len(stretches),
        acts=sum(1 for stretch in stretches if stretch.acted_at is not None),
        saved_gpu_hours=round(sum(stretch.saved_gpu_hours for stretch in stretches), 2),
        stretches=list(reversed(stretches))[:_SHOWN],
    )
