"""From rows and domain models to the resources that clients see."""

from __future__ import annotations

from dumont.config import Settings
from dumont.db.machines import MachineRow
from dumont.domain import labels
from dumont.domain.ladder import Rung
from dumont.domain.machine import MachinePhase
from dumont.domain.offers import Offer
from dumont.domain.resources import InstanceView, MachineView, OfferView, RungView
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.links import workflow_url


def machine_view(row: MachineRow, *, settings: Settings) -> MachineView:
    """A machine as its owner sees it."""
    spec, state = row.spec, row.state
    home = state.instance
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
        ssh=home.ssh if home is not None and state.phase is MachinePhase.RUNNING else None,
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


def offer_view(offer: Offer) -> OfferView:
    """An offer as a person who looks around sees it."""
    return OfferView.model_validate(offer.model_dump(include=set(OfferView.model_fields)))
