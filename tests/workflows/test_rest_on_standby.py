"""A machine that hibernates on its standby: no GPU is paid for, and people can still work."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from dumont.domain.budgets import Budget, Scope
from dumont.domain.events import EventKind
from dumont.domain.fleet import InstanceReport, Presence
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.protection import AgentNews, AgentRole, Asleep, Failback, GuardReport
from dumont.domain.snapshots import SnapshotRecord
from tests.workflows.conftest import Stage
from tests.workflows.test_failover import Handle, mirrored, start, when
from tests.workflows.test_rest import told
from workflows.machine import Machine
from workflows.rest import HibernateRequest, WakeRequest
from workflows.standby import Standby


async def rest(stage: Stage, handle: Handle, *, standby: Asleep | None = None) -> MachineState:
    await handle.execute_update(Machine.hibernate, HibernateRequest(actor="ana", standby=standby))
    return await stage.until(handle, MachinePhase.HIBERNATED)


async def test_the_gpu_ends_and_the_address_leads_to_the_standby(stage: Stage) -> None:
    handle, before = await start(stage)
    assert before.standby is not None
    asleep = await rest(stage, handle, standby=Asleep.KEEP)
    assert stage.cloud.alive() == [], "no GPU is paid for, verified"
    assert asleep.gpu is None
    assert asleep.lives_on_standby
    assert asleep.standby == before.standby
    assert asleep.epoch == before.epoch + 1, "the former GPU could write nothing any more"
    guard = stage.agents.guards[before.standby.ssh.host]
    assert guard["authority"] == "standby"
    assert guard["cause"] == "the machine hibernates: ana asked for it"
    said = [words[0] for _, words in stage.agents.said]
    assert said.index("flush") < said.index("redirect") < said.index("fence")
    newest = await stage.snapshots.newest(handle.id.removeprefix("machine/"))
    assert newest is not None
    assert newest.pinned, "the store has everything too"
    assert len(stage.cloud.orders) == 1, "no GPU is rented before somebody asks"
    assert len(told(stage, EventKind.HIBERNATED)) == 1
    await stage.destroy(handle)
    assert stage.vms.vms == {}


async def test_it_wakes_with_what_was_done_on_the_standby(stage: Stage) -> None:
    handle, before = await start(stage)
    await rest(stage, handle, standby=Asleep.KEEP)
    await handle.execute_update(Machine.wake, WakeRequest(actor="ana"))
    await handle.execute_update(Machine.wake, WakeRequest(actor="ana"))
    awake = await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "awake")
    assert awake.generation == before.generation + 1
    assert awake.restoring is None
    assert len(stage.cloud.orders) == 2
    assert stage.engine.of("restore") == [], "the standby is newer than any snapshot"
    assert stage.receipts.filed[0].files_restored == 3
    assert told(stage, EventKind.WAKING) == ["ana woke it"]
    again = await mirrored(stage, handle)
    assert again.standby is not None
    assert before.standby is not None
    assert again.standby.instance_id == before.standby.instance_id
    newest = await stage.snapshots.newest(handle.id.removeprefix("machine/"))
    assert newest is not None
    assert not newest.pinned
    asleep = await rest(stage, handle, standby=Asleep.KEEP)
    assert asleep.epoch > awake.epoch
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_somebody_on_the_standby_wakes_it(stage: Stage) -> None:
    handle, _ = await start(stage, asleep=Asleep.KEEP)
    asleep = await rest(stage, handle)
    assert asleep.standby is not None
    guard = stage.agents.guards[asleep.standby.ssh.host]
    for epoch in (asleep.epoch - 1, asleep.epoch):  # an old wish is no wish
        news = AgentNews(
            role=AgentRole.STANDBY,
            instance_id=asleep.standby.instance_id,
            epoch=epoch,
            at=datetime.now(UTC),
            guard=GuardReport.model_validate({**guard, "wake": True}),
        )
        await handle.signal(Machine.agent_news, news)
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "awake")
    assert told(stage, EventKind.WAKING) == ["somebody on its standby woke it"]
    assert len(stage.cloud.orders) == 2
    await stage.destroy(handle)


async def test_nobody_is_cut_off_by_a_wake(stage: Stage) -> None:
    handle, _ = await start(stage, failback=Failback.ON_COMMAND)
    await rest(stage, handle, standby=Asleep.KEEP)
    await handle.execute_update(Machine.wake, WakeRequest(actor="ana"))
    state = await when(stage, handle, lambda s: "dumont failback" in s.reason, "ready to move")
    assert state.phase is MachinePhase.REPLACING
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_standby_that_has_not_everything_cannot_stay(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    kept = await rest(stage, handle, standby=Asleep.KEEP)
    assert kept.standby is None, "a machine without protection rests without a standby"
    await stage.destroy(handle)


async def test_a_barrier_that_cannot_be_had_leaves_it_up(stage: Stage) -> None:
    handle, before = await start(stage)
    assert before.instance is not None
    await handle.execute_update(
        Machine.hibernate, HibernateRequest(actor="ana", standby=Asleep.KEEP)
    )
    stage.agents.unreachable.add(before.instance.ssh.host)
    state = await when(stage, handle, lambda s: "not hibernated" in s.reason, "told why")
    assert state.phase is MachinePhase.RUNNING
    assert state.restoring is None
    assert len(stage.cloud.alive()) == 1
    await stage.destroy(handle)


async def test_a_standby_lost_in_the_sleep_costs_only_what_was_done_on_it(stage: Stage) -> None:
    handle, _ = await start(stage)
    asleep = await rest(stage, handle, standby=Asleep.KEEP)
    assert asleep.standby is not None
    kept = asleep.restoring
    await lose_standby(stage, handle, asleep)
    state = await when(stage, handle, lambda s: "standby is gone" in s.reason, "without it")
    assert state.standby is None
    assert state.phase is MachinePhase.HIBERNATED
    assert state.restoring is not None
    assert kept is not None
    found = {each.snapshot_id: each for each in stage.snapshots.records.values()}
    assert found[state.restoring].taken_at >= found[kept].taken_at
    assert [each.snapshot_id for each in found.values() if each.pinned] == [state.restoring]
    assert stage.vms.vms == {}, "no standby is rented for a machine that sleeps"
    stage.vms.up = ["us-central1-a"]
    await handle.execute_update(Machine.wake, WakeRequest(actor="ana"))
    awake = await stage.until(handle, MachinePhase.RUNNING)
    assert awake.instance is not None
    assert set(stage.engine.of("restore")) == {awake.instance.ssh.host}
    await mirrored(stage, handle)
    await stage.destroy(handle)
    assert stage.vms.vms == {}


async def test_destroyed_on_its_standby(stage: Stage) -> None:
    handle, _ = await start(stage)
    await rest(stage, handle, standby=Asleep.KEEP)
    assert (await stage.destroy(handle)).phase is MachinePhase.DESTROYED
    assert stage.vms.vms == {}


async def lose_standby(stage: Stage, handle: Handle, state: MachineState) -> None:
    """The VM is gone with its disk, and no other can be had.

    The machine is slow to find its newest snapshot: its standby's workflow waits by then. The
    time-skipping server cannot cancel an activity in the very moment in which it was scheduled.
    """
    assert state.standby is not None
    vm = stage.vms.vms.pop(state.standby.label)
    stage.vms.up = []
    newest = stage.snapshots.newest

    async def slowly(machine_id: str) -> SnapshotRecord | None:
        await asyncio.sleep(0.5)
        return await newest(machine_id)

    stage.snapshots.newest = slowly  # type: ignore[method-assign]
    keeper = stage.env.client.get_workflow_handle_for(
        Standby.run, f"standby/{handle.id.removeprefix('machine/')}"
    )
    gone = InstanceReport(
        label=vm.label or "",
        instance_id=vm.instance_id,
        presence=Presence.GONE,
        instance=None,
        at=datetime.now(UTC),
    )
    await keeper.signal("instance_changed", gone)


async def test_a_standby_lost_on_the_way_keeps_it_up(stage: Stage) -> None:
    handle, before = await start(stage)
    stage.engine.takes_s = 0.5
    await handle.execute_update(
        Machine.hibernate, HibernateRequest(actor="ana", standby=Asleep.KEEP)
    )
    await when(stage, handle, lambda s: s.phase is MachinePhase.HIBERNATING, "on its way")
    await lose_standby(stage, handle, before)
    state = await when(stage, handle, lambda s: "not hibernated" in s.reason, "told why")
    assert state.phase is MachinePhase.RUNNING
    assert len(stage.cloud.alive()) == 1
    await stage.destroy(handle)


async def test_a_wake_that_no_budget_has_room_for_leaves_it_on_its_standby(stage: Stage) -> None:
    handle, _ = await start(stage)
    await rest(stage, handle, standby=Asleep.KEEP)
    stage.budgets.set(
        Budget(scope=Scope.MACHINE, scope_id=handle.id.removeprefix("machine/"), usd_per_hour=0.01)
    )
    await handle.execute_update(Machine.wake, WakeRequest(actor="ana"))
    state = await when(stage, handle, lambda s: "not woken" in s.reason, "told why")
    assert state.phase is MachinePhase.HIBERNATED
    assert state.lives_on_standby
    stage.budgets.budgets.clear()
    await handle.execute_update(Machine.wake, WakeRequest(actor="ana"))
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "awake")
    await stage.destroy(handle)
