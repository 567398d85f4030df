"""What providers bill us for, held against what has an owner: pure decisions of the sweep.

Nothing is ended on one witness. An instance is an orphan only when the database *and* Temporal say
that nobody owns it, in two sweeps without a break. What carries no label of this deployment is not
even looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from dumont.domain import labels
from dumont.domain.instances import Instance, Message
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.protection import AgentRole


class OwnerStatus(StrEnum):
    """What Temporal says about a machine's workflow."""

    RUNNING = "running"
    CLOSED = "closed"
    """It ran and has ended; nothing it rented should be left."""
    ABSENT = "absent"
    """Temporal never heard of it, or its retention is over."""


class Owner(Message):
    """Both witnesses about the owner of a label."""

    workflow: OwnerStatus
    workflow_generation: int | None = None
    """The generation the running workflow is at; None when it did not say."""
    record: MachineState | None
    """The projection; None when the database never heard of the machine."""


class Suspicion(StrEnum):
    """Why a sweep thinks that something is not as it should be."""

    OWNER_ENDED = "owner ended"
    OLD_GENERATION = "older generation"
    DUPLICATE = "not the instance its machine lives on"
    OWNER_UNKNOWN = "owner unknown to database and Temporal"
    WORKFLOW_MISSING = "live record without a workflow"


class Orphan(Message):
    """An instance that nobody owns."""

    instance_id: str
    label: str
    why: Suspicion
    usd_per_hour: float | None


class Plan(Message):
    """What one sweep decided."""

    end: tuple[Orphan, ...] = ()
    revive: tuple[str, ...] = ()
    """Machine ids whose workflow has to be started again from the record."""
    drop: tuple[str, ...] = ()
    """Machine ids that were requested but never started; their record is closed."""
    watching: tuple[str, ...] = ()
    """Keys of suspicions that are not acted on yet."""
    blocked: str | None = None
    """Why nothing is ended although there is something to end."""
    seen: int = 0


class Limits(Message):
    """How careful a sweep is."""

    confirm_s: float = 30.0
    """A suspicion must have lasted this long."""
    unknown_owner_s: float = 900.0
    """The same for owners that neither the database nor Temporal ever heard of: another deployment
    may share this account and this environment name."""
    max_ended: int = Field(default=3, ge=1)
    max_ended_share: float = Field(default=0.1, ge=0, le=1)
    """More than the larger of both in one sweep stops it: then the sweep itself is the suspect."""


def key_of(instance: Instance) -> str:
    """The key under which an instance's suspicion is remembered."""
    return f"instance:{instance.instance_id}"


def suspect(
    instance: Instance, *, env: str, owner: Owner, body: AgentRole = AgentRole.PRIMARY
) -> Suspicion | None:
    """Why an instance should not be there, or None when it may be.

    Args:
        instance: With a label of this environment.
        env: This deployment.
        owner: What both witnesses say.
        body: Whether it was rented as a machine's GPU or as its standby.
    """
    label = labels.parse(instance.label, env=env)
    if label is None:
        return None
    if owner.workflow is OwnerStatus.ABSENT and owner.record is None:
        return Suspicion.OWNER_UNKNOWN
    if owner.workflow is not OwnerStatus.RUNNING:
        ended = owner.record is None or owner.record.phase.final
        return Suspicion.OWNER_ENDED if ended else None
    if body is AgentRole.STANDBY:
        return _suspect_standby(instance, label, owner)
    if owner.record is not None and instance.label in owner.record.retiring:
        return None
    current = owner.workflow_generation
    if current is None or owner.record is None:
        return None
    if label.generation < current:
        return Suspicion.OLD_GENERATION
    if label.generation > current or owner.record.generation != current:
        return None
    home = owner.record.instance if owner.record.phase is MachinePhase.RUNNING else None
    if home is not None and home.instance_id != instance.instance_id:
        return Suspicion.DUPLICATE
    return None


def _suspect_standby(instance: Instance, label: labels.Label, owner: Owner) -> Suspicion | None:
    """A standby is numbered by its own count, which only its record tells."""
    home = owner.record.standby if owner.record is not None else None
    kept = owner.record.kept_standby if owner.record is not None else None
    if home is None or label.generation > home.number or instance.label == kept:
        return None
    if label.generation < home.number:
        return Suspicion.OLD_GENERATION
    return Suspicion.DUPLICATE if home.instance_id != instance.instance_id else None


def plan(
    suspicions: Mapping[str, tuple[Instance, Suspicion]],
    missing_workflows: Mapping[str, MachineState],
    first_seen: Mapping[str, datetime],
    *,
    seen: int,
    now: datetime,
    limits: Limits,
) -> Plan:
    """Decide what to do about suspicions that have lasted.

    Args:
        suspicions: By `key_of`, what this sweep found.
        missing_workflows: Live records, by machine id, that Temporal has no workflow for.
        first_seen: Since when each key (`instance:...`, `machine:...`) was seen without a break.
        seen: Labelled instances in this sweep.
        now: Time of this sweep.
        limits: How careful to be.
    """
    orphans: list[Orphan] = []
    watching: list[str] = []
    for key, (instance, why) in sorted(suspicions.items()):
        patience = limits.unknown_owner_s if why is Suspicion.OWNER_UNKNOWN else limits.confirm_s
        if _lasted(first_seen, key, now) >= timedelta(seconds=patience):
            orphans.append(
                Orphan(
                    instance_id=instance.instance_id,
                    label=instance.label or "",
                    why=why,
                    usd_per_hour=instance.usd_per_hour,
                )
            )
        else:
            watching.append(key)
    revive: list[str] = []
    drop: list[str] = []
    for machine_id, state in sorted(missing_workflows.items()):
        key = machine_key(machine_id)
        if _lasted(first_seen, key, now) < timedelta(seconds=limits.confirm_s):
            watching.append(key)
        elif state.phase is MachinePhase.REQUESTED:
            drop.append(machine_id)
        else:
            revive.append(machine_id)
    allowed = max(limits.max_ended, int(seen * limits.max_ended_share))
    blocked = None
    if len(orphans) > allowed:
        blocked = (
            f"{len(orphans)} of {seen} instances look like orphans, more than the {allowed} one "
            "sweep may end; look at them, then run the sweep with approval"
        )
    return Plan(
        end=() if blocked else tuple(orphans),
        revive=tuple(revive),
        drop=tuple(drop),
        watching=tuple(watching) + (tuple(o.instance_id for o in orphans) if blocked else ()),
        blocked=blocked,
        seen=seen,
    )


def machine_key(machine_id: str) -> str:
    """The key under which a record without a workflow is remembered."""
    return f"machine:{machine_id}"


def machines_of(instances: Iterable[Instance], *, env: str) -> dict[str, list[Instance]]:
    """Instances with a label of this environment, by machine id."""
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        label = labels.parse(instance.label, env=env)
        if label is not None:
            found.setdefault(label.machine_id, []).append(instance)
    return found


def _lasted(first_seen: Mapping[str, datetime], key: str, now: datetime) -> timedelta:
    return now - first_seen.get(key, now)
