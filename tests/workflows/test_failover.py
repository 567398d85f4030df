"""A protected machine: its standby, and what happens when either body is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError

from dumont.domain.errors import NotReady
from dumont.domain.instances import InstanceState, SshAddress
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState, Timing
from dumont.domain.protection import (
    AgentNews,
    AgentRole,
    Failback,
    GuardReport,
    ProtectionPolicy,
    ProtectionStatus,
)
from tests.support.fakes import offer
from tests.workflows.conftest import Stage, report, spec
from workflows.failover_messages import DrillRequest, FailBackRequest
from workflows.machine import Machine

Handle = WorkflowHandle[Machine, MachineState]
TIMING = Timing(attempt_s=120, race_stagger_s=30, race_width=1, rescue_s=0, gone_confirm_s=1)


def protected(**policy: object) -> MachineSpec:
    return spec().model_copy(update={"protection": ProtectionPolicy.model_validate(policy)})


async def when(
    stage: Stage, handle: Handle, true: Callable[[MachineState], bool], what: str
) -> MachineState:
    state = await handle.query(Machine.status)
    give_up = asyncio.get_running_loop().time() + 30
    while asyncio.get_running_loop().time() < give_up:
        if true(state):
            return state
        await stage.env.sleep(timedelta(seconds=1))
        state = await handle.query(Machine.status)
    raise AssertionError(f"never {what}: {state}")


async def mirrored(stage: Stage, handle: Handle) -> MachineState:
    return await when(
        stage,
        handle,
        lambda s: s.mirrored and s.protection is ProtectionStatus.PROTECTED,
        "protected",
    )


async def start(stage: Stage, **policy: object) -> tuple[Handle, MachineState]:
    handle = await stage.start(machine=protected(**policy), timing=TIMING)
    return handle, await mirrored(stage, handle)


async def cut(stage: Stage, handle: Handle, state: MachineState) -> None:
    """The link is lost: the guard redirects by itself, and its heartbeat says so."""
    assert state.standby is not None
    assert state.instance is not None
    lost = state.instance.ssh.host

    def refuse(address: SshAddress) -> None:
        if address.host == lost:
            raise NotReady("no route to host")

    stage.shell.on_ssh = refuse
    stage.agents.unreachable.add(lost)
    stage.agents.cut(state.standby.ssh.host)
    await tell_guard(stage, handle, state)


async def tell_guard(stage: Stage, handle: Handle, state: MachineState) -> None:
    assert state.standby is not None
    guard = GuardReport.model_validate(stage.agents.guards[state.standby.ssh.host])
    news = AgentNews(
        role=AgentRole.STANDBY,
        instance_id=state.standby.instance_id,
        epoch=state.epoch,
        at=datetime.now(UTC),
        guard=guard,
    )
    await handle.signal(Machine.agent_news, news)


async def test_a_protected_machine_gets_a_standby_and_gives_it_back(stage: Stage) -> None:
    handle, state = await start(stage)
    assert state.epoch == 1
    assert [vm.label for vm in stage.vms.vms.values()] == [state.standby and state.standby.label]
    mirror = next(iter(stage.agents.mirrors.values()))
    assert mirror["mirror"]["paused"] is False
    assert mirror["epoch"] == 1
    await stage.destroy(handle)
    assert stage.vms.vms == {}
    assert stage.cloud.alive() == []


async def test_a_lost_gpu_is_replaced_on_another_host_and_the_files_come_back(
    stage: Stage,
) -> None:
    handle, state = await start(stage)
    assert state.instance is not None
    former = state.instance
    stage.cloud.set_state(former.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    state = await when(
        stage,
        handle,
        lambda s: s.phase is MachinePhase.RUNNING and s.generation == 2,
        "on another GPU",
    )
    assert state.instance is not None
    assert state.instance.host_id != former.host_id
    assert state.epoch == 2
    said = [words[0] for _, words in stage.agents.said]
    order = [w for w in said if w in ("fence", "restore", "quiesce", "hand-back")]
    assert order == ["fence", "restore", "quiesce", "restore", "hand-back"]
    await mirrored(stage, handle)
    receipt = stage.receipts.filed[0]
    assert receipt.outcome == "replaced"
    assert [m.phase for m in receipt.timeline][:2] == ["detected", "redirected"] or receipt.timeline
    assert {w.witness for w in receipt.witnesses} >= {"link", "provider"}
    assert receipt.files_restored == 3
    await when(stage, handle, lambda s: not s.retiring, "rid of the former instance")
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_blip_that_the_guard_heals_changes_nothing(stage: Stage) -> None:
    handle, state = await start(stage)
    assert state.standby is not None
    stage.agents.cut(state.standby.ssh.host)
    await tell_guard(stage, handle, state)
    await when(stage, handle, lambda s: s.phase is MachinePhase.ON_STANDBY, "on its standby")
    stage.agents.heal(state.standby.ssh.host)
    after = await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "running again")
    assert (after.generation, after.epoch, after.instance) == (1, 1, state.instance)
    assert after.mirrored
    assert len(stage.cloud.orders) == 1
    assert stage.receipts.filed[0].outcome == "healed"
    assert "failover.false_alarm" in stage.store.kinds()
    await stage.destroy(handle)


async def test_one_witness_alone_replaces_nothing(stage: Stage) -> None:
    """The link is down, the provider says running, and our own login gets through: wait."""
    handle, state = await start(stage)
    assert state.standby is not None
    stage.agents.cut(state.standby.ssh.host)
    await tell_guard(stage, handle, state)
    await when(stage, handle, lambda s: s.phase is MachinePhase.ON_STANDBY, "on its standby")
    await stage.env.sleep(timedelta(minutes=2))
    state = await handle.query(Machine.status)
    assert state.phase is MachinePhase.ON_STANDBY
    assert len(stage.cloud.orders) == 1
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_gpu_that_comes_back_after_the_standby_was_used_gets_its_files_first(
    stage: Stage,
) -> None:
    handle, state = await start(stage)
    assert state.standby is not None
    host = state.standby.ssh.host
    stage.agents.cut(host)
    await tell_guard(stage, handle, state)
    await when(stage, handle, lambda s: s.phase is MachinePhase.ON_STANDBY, "on its standby")
    long_ago = datetime.now(UTC) - timedelta(days=1)
    stage.agents.guards[host] |= {
        "link": "up", "written": True,
        "link_since": long_ago.isoformat(), "since": long_ago.isoformat(),
    }  # fmt: skip
    after = await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "running again")
    assert after.epoch == 2
    assert after.instance is not None
    assert state.instance is not None
    assert after.instance.instance_id == state.instance.instance_id
    assert len(stage.cloud.orders) == 1
    assert stage.receipts.filed[0].outcome == "returned"
    await stage.destroy(handle)


async def test_without_a_gpu_to_rent_work_goes_on_on_the_standby(stage: Stage) -> None:
    handle, state = await start(stage)
    assert state.instance is not None
    offers, stage.cloud.offers = stage.cloud.offers, []
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    state = await when(stage, handle, lambda s: "next try" in s.reason, "waiting for the market")
    assert state.phase is MachinePhase.REPLACING
    assert state.standby is not None
    stage.cloud.offers = [*offers, offer(7)]
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "on a GPU again")
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_failback_on_command_waits_for_the_command(stage: Stage) -> None:
    handle, state = await start(stage, failback=Failback.ON_COMMAND)
    assert state.instance is not None
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    await when(stage, handle, lambda s: "dumont failback" in s.reason, "ready to fail back")
    await stage.env.sleep(timedelta(hours=5))
    assert (await handle.query(Machine.status)).phase is MachinePhase.REPLACING
    await handle.execute_update(Machine.fail_back, FailBackRequest())
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "back on a GPU")
    await stage.destroy(handle)


async def test_a_replacement_that_dies_while_it_is_restored_is_replaced(stage: Stage) -> None:
    handle, state = await start(stage)
    assert state.instance is not None
    died: list[str] = []

    def on_call(address: SshAddress, words: list[str]) -> None:
        if words[0] == "restore" and not died:
            died.append(address.host)
            raise NotReady("the connection broke")

    stage.agents.on_call = on_call  # type: ignore[assignment]
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "back on a GPU")
    assert died
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_an_address_that_has_moved_is_not_moved_again(stage: Stage) -> None:
    """The worker died after the move: whoever works on the new GPU is not thrown out."""
    handle, state = await start(stage)
    assert state.instance is not None
    assert state.standby is not None
    vm = state.standby.ssh.host
    lost: list[str] = []

    def on_call(address: SshAddress, words: list[str]) -> None:
        if words[0] == "hand-back" and not lost:
            lost.append(words[words.index("--host") + 1])
            stage.agents._guard(vm, list(words))
            raise NotReady("the answer was lost")

    stage.agents.on_call = on_call  # type: ignore[assignment]
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    now = await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "back on a GPU")
    assert now.instance is not None
    assert now.instance.ssh.host == lost[0]
    assert len([words for _, words in stage.agents.said if words[0] == "quiesce"]) == 1
    assert stage.receipts.filed[-1].adopted.instance_id == now.instance.instance_id
    await stage.destroy(handle)


async def test_a_replacement_that_dies_as_it_takes_over_is_replaced(stage: Stage) -> None:
    """It had the authority for a moment: the standby takes it back under yet another epoch."""
    handle, state = await start(stage)
    assert state.instance is not None
    assert state.standby is not None
    vm = state.standby.ssh.host
    died: list[str] = []
    told: list[asyncio.Future[None]] = []

    def on_call(address: SshAddress, words: list[str]) -> None:
        if words[0] == "hand-back" and not died:
            died.append(words[words.index("--host") + 1])
            stage.agents._guard(vm, list(words))
            stage.agents.cut(vm)
            stage.agents.unreachable.add(died[0])
            found = next(
                i for i in stage.cloud.instances.values() if i.ssh and i.ssh.host == died[0]
            )
            stage.cloud.set_state(found.instance_id, InstanceState.STOPPED)
            taken_over = state.model_copy(update={"epoch": state.epoch + 1})
            told.append(asyncio.ensure_future(tell_guard(stage, handle, taken_over)))
            raise NotReady("the answer was lost")

    stage.agents.on_call = on_call  # type: ignore[assignment]
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    now = await when(
        stage,
        handle,
        lambda s: (
            s.phase is MachinePhase.RUNNING
            and s.instance is not None
            and bool(died)
            and s.instance.ssh.host not in died
            and s.epoch > state.epoch + 1
        ),
        "back on a third GPU",
    )
    assert stage.agents.guards[vm]["authority"] == "primary"
    assert stage.agents.guards[vm]["epoch"] == now.epoch
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_standby_that_is_taken_back_is_replaced_and_work_goes_on(stage: Stage) -> None:
    handle, state = await start(stage)
    first = state.standby
    assert first is not None
    await stage.vms.stop(zone=first.zone, name=first.label)
    vm = stage.vms.vms[first.label]
    standby = stage.env.client.get_workflow_handle(f"standby/{protected().machine_id}")
    await standby.signal("instance_changed", report_of(vm))
    state = await when(
        stage,
        handle,
        lambda s: s.standby is not None and s.standby.label != first.label and s.mirrored,
        "protected by another standby",
    )
    assert state.phase is MachinePhase.RUNNING
    await when(stage, handle, lambda _: first.label not in stage.vms.vms, "rid of the first")
    await stage.destroy(handle)
    assert stage.vms.vms == {}


async def test_a_preemption_that_is_told_twice_costs_one_standby(stage: Stage) -> None:
    handle, state = await start(stage)
    first = state.standby
    assert first is not None
    keeper = stage.env.client.get_workflow_handle(f"standby/{protected().machine_id}")
    await keeper.signal("preempting", first.instance_id)
    second = (
        await when(
            stage,
            handle,
            lambda s: s.standby is not None and s.standby.label != first.label,
            "given another standby",
        )
    ).standby
    assert second is not None
    await keeper.signal("preempting", first.instance_id)
    after = await mirrored(stage, handle)
    assert after.standby is not None
    assert after.standby.label == second.label
    await stage.destroy(handle)
    assert {order.name for order in stage.vms.orders} == {first.label, second.label}


async def test_a_standby_that_people_work_on_is_started_again_with_its_disk(
    stage: Stage,
) -> None:
    handle, state = await start(stage)
    assert state.standby is not None
    assert state.instance is not None
    stage.cloud.offers = []
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    await when(stage, handle, lambda s: s.phase is MachinePhase.REPLACING, "replacing")
    label = state.standby.label
    guard = stage.agents.guards.pop(state.standby.ssh.host)
    await stage.vms.stop(zone=state.standby.zone, name=label)

    # The same disk, and so the same guard, at another address.
    stage.agents.guards |= {f"127.2.0.{n}": dict(guard) for n in range(2, 9)}
    standby = stage.env.client.get_workflow_handle(f"standby/{protected().machine_id}")
    await standby.signal("instance_changed", report_of(stage.vms.vms[label]))
    moved = await when(
        stage,
        handle,
        lambda s: s.standby is not None and s.standby.ssh != state.standby.ssh,  # type: ignore[union-attr]
        "at another address",
    )
    assert moved.standby is not None
    assert moved.standby.label == label
    assert len(stage.vms.orders) == 1
    stage.cloud.offers = [offer(9)]
    await when(stage, handle, lambda s: s.phase is MachinePhase.RUNNING, "on a GPU again")
    await stage.destroy(handle)


async def test_a_drill_loses_nothing_and_leaves_a_receipt(stage: Stage) -> None:
    handle, state = await start(stage)
    await handle.execute_update(Machine.drill, DrillRequest())
    after = await when(
        stage, handle, lambda s: s.phase is MachinePhase.RUNNING and s.generation == 2, "drilled"
    )
    assert after.instance != state.instance
    receipt = stage.receipts.filed[0]
    assert receipt.drill
    assert receipt.unreplicated.last_point_at is not None
    assert any(words[0] == "flush" for _, words in stage.agents.said)
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_an_unprotected_machine_refuses_a_drill(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(Machine.drill, DrillRequest())
    await stage.destroy(handle)


async def test_destroying_in_the_middle_of_a_failover_ends_everything(stage: Stage) -> None:
    handle, state = await start(stage, failback=Failback.ON_COMMAND)
    assert state.instance is not None
    stage.cloud.set_state(state.instance.instance_id, InstanceState.STOPPED)
    await cut(stage, handle, state)
    await when(stage, handle, lambda s: "dumont failback" in s.reason, "ready to fail back")
    await asyncio.wait_for(stage.destroy(handle), 60)
    assert stage.cloud.alive() == []
    assert stage.vms.vms == {}


def report_of(vm: object) -> object:
    from dumont.domain.fleet import InstanceReport, Presence
    from dumont.domain.instances import Instance

    assert isinstance(vm, Instance)
    return InstanceReport(
        label=vm.label or "",
        instance_id=vm.instance_id,
        presence=Presence.LISTED,
        instance=vm,
        at=datetime.now(UTC),
    )


__all__ = ["report"]
