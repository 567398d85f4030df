"""Record histories for the replay tests: `python -m tests.replay.record [SCENARIO ...]`.

Run it when a new path deserves to be kept. Never replace an old history to make a test pass: it
stands for machines that are alive out there; change the workflow behind `workflow.patched` instead.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from activities.sweep import Survey
from dumont.domain.errors import InstanceGone
from dumont.domain.instances import InstanceOrder, InstanceState
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.protection import Asleep
from dumont.domain.reconcile import Limits, OwnerStatus
from dumont.ports import MachineRecord
from dumont.temporal.queues import CONTROL
from tests.support.fakes import offer
from tests.workflows import test_failover as failovers
from tests.workflows.conftest import TIMING, Stage, now, on_stage, spec
from tests.workflows.test_news_and_idleness import report
from workflows.failover_messages import DrillRequest
from workflows.machine import Machine
from workflows.reconcile import Reconcile, ReconcileInput
from workflows.rest import HibernateRequest, WakeRequest
from workflows.snapshots import Snapshot, SnapshotInput

HISTORIES = Path(__file__).parent / "histories"
MACHINE = "machine/m0123456789ab"


async def save(stage: Stage, workflow_id: str, name: str) -> None:
    history = await stage.env.client.get_workflow_handle(workflow_id).fetch_history()
    (HISTORIES / f"{name}.json").write_text(history.to_json() + "\n")


async def plain_life(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-plain-life")
    await save(stage, f"{MACHINE}/provision/g1", "provision-first-offer")
    await save(stage, "end/m0123456789ab", "end-instances-whole-machine")


async def failover(stage: Stage) -> None:
    handle, state = await failovers.start(stage)
    assert state.instance is not None
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await failovers.cut(stage, handle, state)
    await failovers.when(
        stage, handle, lambda s: s.generation == 2 and s.mirrored and not s.retiring, "replaced"
    )
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-failover")
    await save(stage, f"{MACHINE}/failover/1", "failover-replaced")
    await save(stage, "standby/m0123456789ab", "standby-one-failover")
    await save(stage, "retire/dmt-test-m0123456789ab-g1-a1", "retire-nothing-to-rescue")


async def drill(stage: Stage) -> None:
    handle, _ = await failovers.start(stage)
    await handle.execute_update(Machine.drill, DrillRequest(redirect_only=True))
    await failovers.when(stage, handle, lambda s: s.epoch == 2 and s.mirrored, "returned")
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-drill")
    await save(stage, f"{MACHINE}/failover/1", "failover-drill-returned")


async def standby_lost(stage: Stage) -> None:
    handle, state = await failovers.start(stage)
    assert state.standby is not None
    await stage.vms.stop(zone=state.standby.zone, name=state.standby.label)
    standby = stage.env.client.get_workflow_handle("standby/m0123456789ab")
    await standby.signal(
        "instance_changed", failovers.report_of(stage.vms.vms[state.standby.label])
    )
    await failovers.when(
        stage, handle, lambda s: s.standby is not None and s.standby.number == 2 and s.mirrored, "2"
    )
    await stage.destroy(handle)
    await save(stage, "standby/m0123456789ab", "standby-lost-and-replaced")


async def second_offer(stage: Stage) -> None:
    stage.cloud.born = lambda order: (
        InstanceState.STOPPED if order.offer_id == "1001" else InstanceState.RUNNING
    )
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await stage.destroy(handle)
    await save(stage, f"{MACHINE}/provision/g1", "provision-second-offer")
    await save(stage, "end/dmt-test-m0123456789ab-g1-a1", "end-instances-failed-attempt")


async def lost_race(stage: Stage) -> None:
    stage.cloud.born = lambda order: (
        InstanceState.STARTING if order.offer_id == "1001" else InstanceState.RUNNING
    )
    timing = TIMING.model_copy(update={"race_width": 2, "race_stagger_s": 0.5})
    handle = await stage.start(timing=timing)
    await stage.until(handle, MachinePhase.RUNNING)
    await stage.destroy(handle)
    await save(stage, f"{MACHINE}/provision/g1", "provision-race")


async def stuck_then_outbid(stage: Stage) -> None:
    stage.cloud.offers = [offer(1, usd=0.9)]
    handle = await stage.start()
    await stage.until(handle, MachinePhase.STUCK)
    stage.cloud.offers = [offer(2, usd=0.2)]
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    for news in (InstanceState.STOPPED, InstanceState.RUNNING):
        stage.cloud.set_state(state.instance.instance_id, news)
        await handle.signal(
            Machine.instance_changed, report(stage.cloud, state.instance.instance_id)
        )
        await stage.until(
            handle,
            MachinePhase.STUCK if news is InstanceState.STOPPED else MachinePhase.RUNNING,
        )
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-stuck-outbid-and-back")
    await save(stage, f"{MACHINE}/provision/g1", "provision-no-capacity")


async def destroyed_while_starting(stage: Stage) -> None:
    stage.cloud.born = lambda order: InstanceState.STARTING
    handle = await stage.start()
    while not stage.cloud.alive():
        await stage.env.sleep(timedelta(seconds=1))
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-destroyed-while-starting")
    await save(stage, f"{MACHINE}/provision/g1", "provision-cancelled")


async def rest(stage: Stage) -> None:
    handle, _ = await failovers.start(stage)
    await handle.execute_update(Machine.hibernate, HibernateRequest())
    await stage.until(handle, MachinePhase.HIBERNATED)
    await handle.execute_update(Machine.wake, WakeRequest())
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    await failovers.mirrored(stage, handle)
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-hibernated-and-woken")
    await save(stage, f"{MACHINE}/restore/{state.instance.label}", "restore-onto-a-new-instance")


async def rest_on_standby(stage: Stage) -> None:
    handle, _ = await failovers.start(stage)
    await handle.execute_update(Machine.hibernate, HibernateRequest(standby=Asleep.KEEP))
    await stage.until(handle, MachinePhase.HIBERNATED)
    await handle.execute_update(Machine.wake, WakeRequest())
    await failovers.when(
        stage, handle, lambda s: s.generation == 2 and s.mirrored and not s.retiring, "awake"
    )
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-rested-on-its-standby")
    await save(stage, f"{MACHINE}/failover/1", "failover-that-waits")


async def woken_early(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await handle.execute_update(Machine.hibernate, HibernateRequest())
    await stage.until(handle, MachinePhase.HIBERNATED)
    await handle.execute_update(Machine.wake, WakeRequest())
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    await stage.destroy(handle)
    restore = f"{MACHINE}/restore/{state.instance.label}"
    await save(stage, MACHINE, "machine-with-a-shell-first")
    await save(stage, f"{restore}/small", "restore-of-small-files")
    await save(stage, restore, "restore-beside-people")
    await save(stage, f"{MACHINE}/provision/g2", "provision-within-budgets")


async def comeback(stage: Stage) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    await stage.env.client.execute_workflow(
        Snapshot.run,
        SnapshotInput(machine_id=spec().machine_id, flush=True, asked=True),
        id="snapshot",
        task_queue=CONTROL,
    )

    async def gone(instance_id: str) -> None:
        raise InstanceGone("no such instance", provider="vast")

    stage.cloud.start = gone  # type: ignore[method-assign]
    del stage.cloud.instances[state.instance.instance_id]
    await handle.signal(Machine.instance_changed, report(stage.cloud, state.instance.instance_id))
    await failovers.when(
        stage, handle, lambda s: s.phase is MachinePhase.RUNNING and s.generation == 2, "back"
    )
    await stage.destroy(handle)
    await save(stage, MACHINE, "machine-back-from-a-snapshot")
    await save(stage, "snapshot", "snapshot-from-the-gpu")


async def sweep(stage: Stage) -> None:
    await stage.cloud.create(
        InstanceOrder(
            offer_id="1001",
            label="dmt-test-maaaaaaaaaaaa-g1-a1",
            image="i",
            disk_gb=1,
            onstart="true",
        )
    )
    for machine_id, phase in (
        ("maaaaaaaaaaaa", MachinePhase.DESTROYED),
        ("mbbbbbbbbbbbb", MachinePhase.RUNNING),
        ("mcccccccccccc", MachinePhase.REQUESTED),
    ):
        stage.store.records[machine_id] = MachineRecord(
            spec=spec(machine_id), state=MachineState(phase=phase), at=now()
        )
    stage.owners = {"maaaaaaaaaaaa": (OwnerStatus.CLOSED, None)}
    survey = Survey(env="test", limits=Limits(confirm_s=0))
    await stage.env.client.execute_workflow(
        Reconcile.run,
        ReconcileInput(survey=survey, confirm_s=1),
        id="reconcile",
        task_queue=CONTROL,
    )
    await save(stage, "reconcile", "reconcile-end-revive-drop")


SCENARIOS = (
    plain_life, second_offer, lost_race, stuck_then_outbid, destroyed_while_starting, sweep,
    failover, drill, standby_lost, rest, comeback, rest_on_standby, woken_early,
)  # fmt: skip


async def main(names: list[str]) -> None:
    HISTORIES.mkdir(exist_ok=True)
    for scenario in SCENARIOS:
        if names and scenario.__name__ not in names:
            continue
        async with on_stage() as stage:
            await scenario(stage)
            sys.stderr.write(f"{scenario.__name__} recorded\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
