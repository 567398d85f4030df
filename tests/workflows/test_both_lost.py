"""Losing a second body while the first is not back yet: whatever disk is left is not given up."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

from dumont.domain.errors import InstanceGone, NotReady, QuotaExceeded
from dumont.domain.fleet import InstanceReport
from dumont.domain.instances import InstanceState, SshAddress
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.protection import ActiveStandby, Failback, ProtectionStatus, StandbyNews
from dumont.temporal.queues import CONTROL
from tests.support.fakes import offer
from tests.workflows.conftest import Stage, report
from tests.workflows.test_failover import (
    Handle,
    cut,
    mirrored,
    protected,
    report_of,
    start,
    tell_guard,
    when,
)
from workflows.failover_messages import DrillRequest
from workflows.machine import Machine
from workflows.snapshots import Snapshot, SnapshotInput


async def take_standby_back(stage: Stage, standby: ActiveStandby) -> None:
    """Its provider stops it; the watch tells."""
    await stage.vms.stop(zone=standby.zone, name=standby.label)
    keeper = stage.env.client.get_workflow_handle(f"standby/{protected().machine_id}")
    await keeper.signal("instance_changed", report_of(stage.vms.vms[standby.label]))


def block_first_copy(stage: Stage, home: SshAddress) -> None:
    """The next standby never gets everything."""

    def on_call(address: SshAddress, words: list[str]) -> None:
        if address.host == home.host and words[0] == "status":
            raise NotReady("still copying")

    stage.agents.on_call = on_call  # type: ignore[assignment]


async def tell_instance(stage: Stage, handle: Handle, news: InstanceReport) -> None:
    await handle.signal(Machine.instance_changed, news)


async def test_a_lost_standby_keeps_its_disk_until_another_has_everything(stage: Stage) -> None:
    handle, state = await start(stage)
    first, home = state.standby, state.instance
    assert first is not None
    assert home is not None
    block_first_copy(stage, home.ssh)
    await take_standby_back(stage, first)
    meanwhile = await when(
        stage,
        handle,
        lambda s: s.standby is not None and s.standby.label != first.label,
        "given another standby",
    )
    assert meanwhile.kept_standby == first.label
    assert stage.vms.vms[first.label].state is InstanceState.STOPPED
    stage.agents.on_call = lambda address, words: None
    after = await when(stage, handle, lambda s: s.mirrored, "mirrored again")
    await when(stage, handle, lambda _: first.label not in stage.vms.vms, "rid of the first")
    after = await when(stage, handle, lambda s: s.kept_standby is None, "rid of its record")
    assert after.phase is MachinePhase.RUNNING
    await stage.destroy(handle)
    assert stage.vms.vms == {}


async def test_a_gpu_that_dies_before_the_new_standby_has_everything_costs_no_files(
    stage: Stage,
) -> None:
    handle, state = await start(stage)
    first, home = state.standby, state.instance
    assert first is not None
    assert home is not None
    block_first_copy(stage, home.ssh)
    guard = dict(stage.agents.guards[first.ssh.host])
    await take_standby_back(stage, first)
    second = (
        await when(
            stage,
            handle,
            lambda s: s.standby is not None and s.standby.label != first.label,
            "given another standby",
        )
    ).standby
    assert second is not None

    # The same disk, and so the same guard, at whatever address it gets.
    stage.agents.guards |= {f"127.2.0.{n}": dict(guard) for n in range(3, 9)}
    for n in range(3, 9):
        stage.agents.cut(f"127.2.0.{n}")
    stage.cloud.set_state(home.instance_id, InstanceState.STOPPED)
    stage.agents.unreachable.add(home.ssh.host)
    await tell_instance(stage, handle, report(stage.cloud, home.instance_id))
    back = await when(
        stage,
        handle,
        lambda s: s.phase is MachinePhase.RUNNING and s.generation == 2,
        "on another GPU",
    )
    assert back.standby is not None
    assert back.standby.label == first.label
    assert back.standby.number == first.number
    restored_from = {host for host, words in stage.agents.said if words[0] == "hand-back"}
    assert restored_from == {back.standby.ssh.host}
    await when(stage, handle, lambda _: second.label not in stage.vms.vms, "rid of the second")
    assert first.label in stage.vms.vms
    await mirrored(stage, handle)
    await stage.destroy(handle)
    assert stage.vms.vms == {}
    assert stage.cloud.alive() == []


async def test_a_gpu_that_comes_back_makes_the_kept_disk_wait_again(stage: Stage) -> None:
    handle, state = await start(stage)
    first, home = state.standby, state.instance
    assert first is not None
    assert home is not None
    block_first_copy(stage, home.ssh)

    async def no_start(*, zone: str, name: str) -> None:
        raise QuotaExceeded("no more CPUs in this region", provider="gcp")

    stage.vms.start = no_start  # type: ignore[method-assign]
    await take_standby_back(stage, first)
    await when(
        stage,
        handle,
        lambda s: s.standby is not None and s.standby.label != first.label,
        "given another standby",
    )
    stage.cloud.set_state(home.instance_id, InstanceState.OFFLINE)
    await tell_instance(stage, handle, report(stage.cloud, home.instance_id))
    await when(stage, handle, lambda s: s.phase is MachinePhase.STUCK, "stuck")
    stage.cloud.set_state(home.instance_id, InstanceState.RUNNING)
    await tell_instance(stage, handle, report(stage.cloud, home.instance_id))
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "running again")
    assert first.label in stage.vms.vms
    stage.agents.on_call = lambda address, words: None
    await mirrored(stage, handle)
    await when(stage, handle, lambda _: first.label not in stage.vms.vms, "rid of the first")
    assert len(stage.vms.vms) == 1
    await stage.destroy(handle)


async def test_a_machine_without_a_standby_has_its_stopped_instance_started_again(
    stage: Stage,
) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    home = state.instance
    assert home is not None
    started: list[str] = []

    async def start_it(instance_id: str) -> None:
        started.append(instance_id)
        if len(started) == 2:
            stage.cloud.set_state(instance_id, InstanceState.RUNNING)
            await tell_instance(stage, handle, report(stage.cloud, instance_id))

    stage.cloud.start = start_it  # type: ignore[method-assign]
    stage.cloud.set_state(home.instance_id, InstanceState.STOPPED)
    await tell_instance(stage, handle, report(stage.cloud, home.instance_id))
    stuck = await stage.until(handle, MachinePhase.STUCK)
    assert stuck.next_try_at is not None
    back = await stage.until(handle, MachinePhase.RUNNING)
    assert started == [home.instance_id, home.instance_id]
    assert back.instance == home
    assert back.next_try_at is None
    assert len(stage.cloud.orders) == 1
    await stage.destroy(handle)


async def test_an_instance_that_is_gone_is_not_asked_for_again(stage: Stage) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None

    async def gone(instance_id: str) -> None:
        raise InstanceGone("no such instance", provider="vast")

    stage.cloud.start = gone  # type: ignore[method-assign]
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await tell_instance(stage, handle, report(stage.cloud, state.instance.instance_id))
    stuck = await when(
        stage, handle, lambda s: "does not start" in s.reason, "told that it does not start"
    )
    assert stuck.phase is MachinePhase.STUCK
    assert stuck.next_try_at is None
    assert len(stage.cloud.orders) == 1, "there is no snapshot either: nothing to come back from"
    await stage.destroy(handle)


async def test_a_machine_whose_instance_is_gone_comes_back_from_its_newest_snapshot(
    stage: Stage,
) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    # Waiting for a result skips time, to the machine's own time-out if nothing else is due.
    with stage.env.auto_time_skipping_disabled():
        kept = await stage.env.client.execute_workflow(
            Snapshot.run,
            SnapshotInput(machine_id=protected().machine_id, asked=True),
            id="keep",
            task_queue=CONTROL,
        )
    assert kept is not None

    async def gone(instance_id: str) -> None:
        raise InstanceGone("no such instance", provider="vast")

    stage.cloud.start = gone  # type: ignore[method-assign]
    del stage.cloud.instances[state.instance.instance_id]
    await tell_instance(stage, handle, report(stage.cloud, state.instance.instance_id))
    back = await when(
        stage,
        handle,
        lambda s: s.phase is MachinePhase.RUNNING and s.generation == 2,
        "on another instance",
    )
    assert back.instance is not None
    assert set(stage.engine.of("restore")) == {back.instance.ssh.host}
    assert back.restoring is None
    assert kept.snapshot_id in back.reason
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_what_only_a_short_lived_replacement_had_is_rescued(stage: Stage) -> None:
    """It had the authority for a moment: somebody may have written there."""
    handle, state = await start(stage)
    assert state.instance is not None
    assert state.standby is not None
    vm = state.standby.ssh.host
    short_lived: list[str] = []
    told: list[asyncio.Future[None]] = []

    def on_call(address: SshAddress, words: list[str]) -> None:
        if words[0] == "hand-back" and not short_lived:
            host = words[words.index("--host") + 1]
            found = next(i for i in stage.cloud.instances.values() if i.ssh and i.ssh.host == host)
            short_lived.append(found.label or "")
            stage.agents._guard(vm, list(words))
            stage.agents.cut(vm)
            stage.cloud.set_state(found.instance_id, InstanceState.STOPPED)
            taken_over = state.model_copy(update={"epoch": state.epoch + 1})
            told.append(asyncio.ensure_future(tell_guard(stage, handle, taken_over)))
            told.append(
                asyncio.ensure_future(
                    tell_instance(stage, handle, report(stage.cloud, found.instance_id))
                )
            )
            raise NotReady("the answer was lost")

    stage.agents.on_call = on_call  # type: ignore[assignment]
    stage.cloud.offers = [offer(1), offer(2, usd=0.32), offer(3, usd=0.33)]
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    now = await when(
        stage,
        handle,
        lambda s: s.phase is MachinePhase.RUNNING and s.generation >= 3,
        "back on a third GPU",
    )
    assert now.instance is not None
    assert now.instance.label not in short_lived
    retire = stage.env.client.get_workflow_handle(f"retire/{short_lived[0]}")
    await retire.result()
    await when(stage, handle, lambda s: not s.retiring, "rid of the former instances")
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_standby_that_is_gone_leaves_the_gpu_that_had_the_files_back(stage: Stage) -> None:
    handle, state = await start(stage, failback=Failback.ON_COMMAND)
    assert state.instance is not None
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    await when(stage, handle, lambda s: "dumont failback" in s.reason, "ready to fail back")
    await handle.signal(
        Machine.standby_changed,
        StandbyNews(standby=None, status=ProtectionStatus.DEGRADED, reason="its disk is gone"),
    )
    after = await when(
        stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "on the GPU with the files"
    )
    assert after.generation == 2
    assert after.instance is not None
    assert after.instance.label in stage.cloud.alive()
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_nobody_drills_before_the_mirror_is_whole_again(stage: Stage) -> None:
    handle, state = await start(stage)
    assert state.instance is not None
    former, copied = state.instance, list[str]()

    def on_call(address: SshAddress, words: list[str]) -> None:
        is_new_gpu = address.host not in (former.ssh.host, *stage.agents.guards)
        if words[0] == "status" and is_new_gpu and not copied:
            raise NotReady("still copying")

    stage.agents.on_call = on_call  # type: ignore[assignment]
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    back = await when(stage, handle, _is_back, "back on a GPU")
    assert back.protection is ProtectionStatus.MIRRORING
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(Machine.drill, DrillRequest(flush=False))
    copied.append("everything")
    await mirrored(stage, handle)
    await handle.execute_update(Machine.drill, DrillRequest(flush=False))
    await when(stage, handle, lambda s: s.generation == 3, "drilled")
    await stage.destroy(handle)


def _is_back(state: MachineState) -> bool:
    return state.phase is MachinePhase.RUNNING and state.generation == 2
