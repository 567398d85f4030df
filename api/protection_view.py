"""From a machine's row and the heartbeats of its bodies to the whole truth about its protection."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from activities.vms import disk_for
from api.views import machine_view
from dumont.config import Settings
from dumont.db.heartbeats import Heard
from dumont.db.machines import MachineRow
from dumont.domain.heard import Stored, witnesses_of
from dumont.domain.machine import MachineState
from dumont.domain.protection import AgentRole, ProtectionReport
from dumont.domain.protection_resources import (
    AgentView,
    MirrorView,
    NotMirrored,
    ProtectionDetail,
    StandbyCostView,
    VerdictView,
    WitnessView,
)
from dumont.domain.standby_cost import standby_cost
from dumont.domain.verdict import Thresholds, Witness, judge

_FRESH_S: Final = Thresholds().heartbeat_lease_s


def protection_detail(
    row: MachineRow, heard: Mapping[AgentRole, Heard], *, settings: Settings
) -> ProtectionDetail:
    """Everything that is known about how safe a machine's work is."""
    view = machine_view(row, settings=settings)
    state, now = row.state, datetime.now(UTC)
    primary = _of(heard.get(AgentRole.PRIMARY), _home_id(state))
    guard = _of(heard.get(AgentRole.STANDBY), _standby_id(state))
    said = guard.heartbeat.guard if guard is not None else None
    mirror = primary.heartbeat.protection if primary is not None else None
    fresh = guard is not None and guard.age_s <= _FRESH_S
    return ProtectionDetail(
        machine_id=view.machine_id,
        name=view.name,
        protection=view.protection,
        epoch=state.epoch,
        authority=said.authority if said is not None and fresh else None,
        endpoint=state.standby.endpoint if state.standby is not None else None,
        direct=view.direct,
        standby=view.standby,
        standby_cost=_cost(row),
        guard=said,
        mirror=_mirror(mirror) if mirror is not None else None,
        agents=[_agent(one, state) for _, one in sorted(heard.items())],
        verdict=_verdict(witnesses_of(primary=primary, guard=guard, now=now), now),
    )


def _of(heard: Heard | None, instance_id: str | None) -> Stored | None:
    """A heartbeat, if it comes from the body that the machine has now."""
    if heard is None or heard.heartbeat.instance_id != instance_id:
        return None
    return Stored(heard.heartbeat, heard.age_s)


def _home_id(state: MachineState) -> str | None:
    return state.instance.instance_id if state.instance is not None else None


def _standby_id(state: MachineState) -> str | None:
    return state.standby.instance_id if state.standby is not None else None


def _agent(heard: Heard, state: MachineState) -> AgentView:
    said = heard.heartbeat
    primary = said.role is AgentRole.PRIMARY
    return AgentView(
        role=said.role,
        instance_id=said.instance_id,
        epoch=said.epoch,
        age_s=round(heard.age_s, 3),
        current=said.instance_id == (_home_id(state) if primary else _standby_id(state)),
        host=said.host,
    )


def _mirror(report: ProtectionReport) -> MirrorView:
    rows = []
    for row in report.not_mirrored:
        try:
            rows.append(NotMirrored.model_validate(row))
        except ValidationError:
            continue  # an agent of another version; what it means is unknown
    return MirrorView(
        pending_files=report.pending_files,
        pending_bytes=report.pending_bytes,
        not_mirrored=rows,
    )


def _verdict(witnesses: list[Witness], now: datetime) -> VerdictView:
    verdict = judge(witnesses, now=now)
    return VerdictView(
        kind=verdict.kind,
        reason=verdict.reason,
        witnesses=[
            WitnessView(source=w.source, sign=w.sign, words=w.words, news_at=w.news_at)
            for w in witnesses
        ],
    )


def _cost(row: MachineRow) -> StandbyCostView | None:
    policy, standby = row.spec.protection, row.state.standby
    if policy is None or standby is None:
        return None
    cost = standby_cost(
        policy.standby_type,
        spot=policy.standby_spot,
        disk_gb=disk_for(row.spec.requirement.disk_gb),
        region=standby.zone.rpartition("-")[0],
    )
    return StandbyCostView(
        vm=cost.vm,
        disk=cost.disk,
        address=cost.address,
        total=cost.total,
        as_of=cost.as_of,
        source=cost.source,
    )
