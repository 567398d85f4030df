"""From rows and domain models to the resources that clients see."""

from __future__ import annotations

from typing import Final

from dumont.config import Settings
from dumont.db.machines import MachineRow
from dumont.domain import labels
from dumont.domain.instances import SshAddress
from dumont.domain.ladder import Rung
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import Offer
from dumont.domain.protection import ActiveStandby
from dumont.domain.resources import (
    InstanceView,
    MachineView,
    OfferView,
    ProtectionView,
    RungView,
    StandbyView,
)
from dumont.domain.verdict import Thresholds
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.links import workflow_url

_ENDING: Final = (MachinePhase.DESTROYING, MachinePhase.DESTROYED)
_FRESH_S: Final = Thresholds().heartbeat_lease_s
"""A lag that was measured longer ago says nothing about now."""


def machine_view(row: MachineRow, *, settings: Settings) -> MachineView:
    """A machine as its owner sees it."""
    spec, state = row.spec, row.state
    home = state.gpu
    label = labels.parse(home.label, env=spec.env) if home is not None else None
    reached = row.ladder.shown(
        generation=state.generation, attempt=label.attempt if label is not None else None
    )
    return MachineView(
        machine_id=spec.machine_id,
        name=row.name,
        owner_id=spec.owner_id,
        phase=state.phase,
        reason=state.reason,
        generation=state.generation,
        requirement=spec.requirement,
        instance=InstanceView(
            provider=home.provider,
            instance_id=home.instance_id,
            label=home.label,
            gpu=home.gpu,
            gpu_count=home.gpu_count,
            host_id=home.host_id,
            region=home.region,
            usd_per_hour=home.usd_per_hour,
            ready_at=home.ready_at,
        )
        if home is not None
        else None,
        ladder=[
            RungView(rung=rung, sentence=rung.sentence, reached_at=reached.get(rung))
            for rung in Rung
        ]
        if state.generation
        else [],
        ssh=_address(state),
        direct=_direct(state),
        protection=_protection(row, settings=settings),
        standby=_standby(state.standby) if state.standby is not None else None,
        failovers=state.failovers,
        host_key=row.host_key,
        next_try_at=state.next_try_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        workflow_url=workflow_url(
            settings.temporal_ui_url,
            namespace=settings.temporal_namespace,
            workflow_id=machine_workflow_id(spec.machine_id),
        ),
    )


def _direct(state: MachineState) -> SshAddress | None:
    home = state.instance if state.phase is MachinePhase.RUNNING else state.early_home
    return home.ssh if home is not None else None


def _address(state: MachineState) -> SshAddress | None:
    """The stable address wherever it leads to the files; until then the instance's own."""
    standby, home = state.standby, state.instance
    if state.phase in _ENDING:
        return None
    if standby is not None and (state.mirrored or state.lives_on_standby):
        return standby.endpoint
    if home is not None and state.phase is MachinePhase.RUNNING:
        return home.ssh
    return state.early_home.ssh if state.early_home is not None else None


def _protection(row: MachineRow, *, settings: Settings) -> ProtectionView:
    state, seen = row.state, row.mirror
    home = state.instance
    current = (
        seen is not None
        and home is not None
        and (seen.instance_id, seen.epoch) == (home.instance_id, state.epoch)
    )
    heard = seen if current else None
    fresh = (
        heard is not None
        and heard.age_s <= _FRESH_S
        and state.phase is MachinePhase.RUNNING
        and state.standby is not None
    )
    return ProtectionView(
        status=state.protection,
        reason=state.protection_reason or _why_unprotected(row.spec, state, settings=settings),
        lag_s=heard.lag_s if heard is not None and fresh else None,
        replicated_at=heard.replicated_at if heard is not None else None,
        policy=row.spec.protection,
    )


def _why_unprotected(spec: MachineSpec, state: MachineState, *, settings: Settings) -> str:
    if state.standby is not None or state.phase in _ENDING:
        return ""
    if spec.protection is not None:
        return "its standby is rented once it runs"
    if settings.has_standbys:
        return "protection was not wanted when it was created"
    return "this deployment rents no standbys"


def _standby(standby: ActiveStandby) -> StandbyView:
    return StandbyView.model_validate(standby.model_dump(include=set(StandbyView.model_fields)))


def offer_view(offer: Offer) -> OfferView:
    """An offer as a person who looks around sees it."""
    return OfferView.model_validate(offer.model_dump(include=set(OfferView.model_fields)))
