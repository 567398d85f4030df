"""The sweep over a cloud with orphans in it."""

from __future__ import annotations

from datetime import timedelta

from activities.sweep import Survey
from dumont.domain.instances import InstanceOrder, InstanceState
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.reconcile import Limits, OwnerStatus, Plan
from dumont.ports import MachineRecord
from dumont.temporal.queues import CONTROL
from tests.workflows.conftest import Stage, now, spec
from workflows.reconcile import Reconcile, ReconcileInput

EAGER = ReconcileInput(
    survey=Survey(env="test", limits=Limits(confirm_s=0, unknown_owner_s=3600)), confirm_s=1
)


async def sweep(stage: Stage, ask: ReconcileInput = EAGER) -> Plan:
    plan = await stage.env.client.execute_workflow(
        Reconcile.run, ask, id="reconcile", task_queue=CONTROL
    )
    await stage.env.sleep(timedelta(seconds=10))
    return plan


async def rent(stage: Stage, label: str) -> str:
    return await stage.cloud.create(
        InstanceOrder(offer_id="1001", label=label, image="i", disk_gb=1, onstart="true")
    )


def remember(stage: Stage, machine_id: str, phase: MachinePhase, generation: int = 1) -> None:
    stage.store.records[machine_id] = MachineRecord(
        spec=spec(machine_id), state=MachineState(phase=phase, generation=generation), at=now()
    )


async def test_what_a_destroyed_machine_left_is_ended_and_nothing_else(stage: Stage) -> None:
    orphan = "dmt-test-maaaaaaaaaaaa-g1-a1"
    await rent(stage, orphan)
    await rent(stage, "dmt-prod-maaaaaaaaaaaa-g1-a1")
    await rent(stage, "somebody's training run")
    await rent(stage, "dmt-test-mbbbbbbbbbbbb-g2-a1")
    remember(stage, "maaaaaaaaaaaa", MachinePhase.DESTROYED)
    remember(stage, "mbbbbbbbbbbbb", MachinePhase.PROVISIONING, generation=2)
    stage.owners = {
        "maaaaaaaaaaaa": (OwnerStatus.CLOSED, None),
        "mbbbbbbbbbbbb": (OwnerStatus.RUNNING, 2),
    }
    plan = await sweep(stage)
    assert [orphan.label for orphan in plan.end] == [orphan]
    assert sorted(stage.cloud.alive()) == [
        "dmt-prod-maaaaaaaaaaaa-g1-a1",
        "dmt-test-mbbbbbbbbbbbb-g2-a1",
        "somebody's training run",
    ]
    assert "reconcile.ended" in stage.store.kinds()


async def test_the_older_generation_goes_and_the_newer_stays(stage: Stage) -> None:
    for generation in (1, 2):
        await rent(stage, f"dmt-test-mbbbbbbbbbbbb-g{generation}-a1")
    remember(stage, "mbbbbbbbbbbbb", MachinePhase.PROVISIONING, generation=2)
    stage.owners = {"mbbbbbbbbbbbb": (OwnerStatus.RUNNING, 2)}
    await sweep(stage)
    assert stage.cloud.alive() == ["dmt-test-mbbbbbbbbbbbb-g2-a1"]


async def test_a_dry_run_ends_nothing(stage: Stage) -> None:
    await rent(stage, "dmt-test-maaaaaaaaaaaa-g1-a1")
    remember(stage, "maaaaaaaaaaaa", MachinePhase.DESTROYED)
    plan = await sweep(stage, EAGER.model_copy(update={"dry_run": True}))
    assert len(plan.end) == 1
    assert len(stage.cloud.alive()) == 1


async def test_a_live_machine_whose_workflow_vanished_is_brought_back(stage: Stage) -> None:
    await rent(stage, "dmt-test-mcccccccccccc-g1-a1")
    stage.cloud.set_state("1", InstanceState.RUNNING)
    remember(stage, "mcccccccccccc", MachinePhase.RUNNING)
    plan = await sweep(stage)
    assert plan.revive == ("mcccccccccccc",)
    assert stage.revived == ["mcccccccccccc"]
    assert len(stage.cloud.alive()) == 1


async def test_a_request_that_never_started_is_closed_without_renting(stage: Stage) -> None:
    remember(stage, "mdddddddddddd", MachinePhase.REQUESTED)
    await sweep(stage)
    assert stage.store.records["mdddddddddddd"].state.phase is MachinePhase.DESTROYED
    assert stage.cloud.orders == []


async def test_a_stranger_with_our_label_is_watched_first(stage: Stage) -> None:
    await rent(stage, "dmt-test-meeeeeeeeeeee-g1-a1")
    plan = await sweep(stage)
    assert plan.end == ()
    assert plan.watching == ("instance:1",)
    assert len(stage.cloud.alive()) == 1
