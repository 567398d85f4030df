"""A machine from request to destroyed, as its owner lives it."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

from dumont.domain.errors import DependencyUnavailable, InsufficientCredit, OfferGone
from dumont.domain.instances import InstanceOrder, InstanceState, SshAddress
from dumont.domain.machine import MachinePhase
from tests.support.fakes import lose_answer, offer, refuse_ssh
from tests.workflows.conftest import TIMING, Stage, report
from workflows.machine import DestroyRequest, Machine


async def test_it_is_rented_used_and_given_back(stage: Stage) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    assert state.instance.label == "dmt-test-m0123456789ab-g1-a1"
    assert state.instance.usd_per_hour == 0.30
    assert stage.cloud.alive() == [state.instance.label]
    assert [r.rung.value for r in stage.store.rungs] == [
        "rented", "running", "port_mapped", "tcp", "ssh", "agent",
    ]  # fmt: skip

    last = await stage.destroy(handle)
    assert last.phase is MachinePhase.DESTROYED
    assert stage.cloud.alive() == []
    record = stage.store.records["m0123456789ab"]
    assert record.state.phase is MachinePhase.DESTROYED
    assert stage.store.kinds()[0] == "machine.requested"
    assert stage.store.kinds()[-1] == "machine.destroyed"
    assert "instance.ended" in stage.store.kinds()


async def test_the_intent_is_written_before_the_first_dollar(stage: Stage) -> None:
    seen: list[bool] = []
    stage.cloud.on_create = lambda order: seen.append(order.label in stage.store.intents)
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    assert seen == [True]
    await stage.destroy(handle)


async def test_a_lost_answer_is_looked_up_not_bought_twice(stage: Stage) -> None:
    stage.cloud.after_create = lose_answer
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    assert len(stage.cloud.orders) == 1
    assert len(stage.cloud.alive()) == 1
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_the_next_offer_is_tried_when_one_is_outbid_at_birth(stage: Stage) -> None:
    def first_is_outbid(order: InstanceOrder) -> InstanceState:
        return InstanceState.STOPPED if order.offer_id == "1001" else InstanceState.RUNNING

    stage.cloud.born = first_is_outbid
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    assert state.instance.label.endswith("-a2")
    assert ("vast", "host1") in stage.store.bad
    assert "provision.attempt_failed" in stage.store.kinds()
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_an_instance_lost_before_it_was_usable_is_not_waited_for(stage: Stage) -> None:
    def first_is_deaf(address: SshAddress) -> None:
        if len(stage.cloud.orders) == 1:
            refuse_ssh(address)

    stage.shell.on_ssh = first_is_deaf
    handle = await stage.start(timing=TIMING.model_copy(update={"attempt_s": 1e6}))
    while "tcp" not in [rung.rung.value for rung in stage.store.rungs]:
        await asyncio.sleep(0.05)
    (first,) = stage.cloud.instances
    stage.cloud.set_state(first, InstanceState.STOPPED)
    await handle.signal(Machine.instance_changed, report(stage.cloud, first))
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    assert state.instance.label.endswith("-a2")
    assert ("vast", "host1") in stage.store.bad
    assert stage.cloud.alive() == [state.instance.label]
    await stage.destroy(handle)


async def test_the_loser_of_a_race_is_ended(stage: Stage) -> None:
    def first_hangs(order: InstanceOrder) -> InstanceState:
        return InstanceState.STARTING if order.offer_id == "1001" else InstanceState.RUNNING

    stage.cloud.born = first_hangs
    timing = TIMING.model_copy(update={"race_width": 2, "race_stagger_s": 0.5, "attempt_s": 60})
    handle = await stage.start(timing=timing)
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    assert state.instance.label.endswith("-a2")
    for _ in range(100):
        if stage.cloud.alive() == [state.instance.label]:
            break
        await stage.env.sleep(1)
    assert stage.cloud.alive() == [state.instance.label]
    await stage.destroy(handle)


async def test_no_offer_is_a_visible_state_with_a_next_try(stage: Stage) -> None:
    stage.cloud.offers = [offer(1, usd=0.9)]
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.STUCK)
    assert "cheapest is $0.900/h" in state.reason
    assert state.next_try_at is not None
    assert stage.cloud.orders == []

    stage.cloud.offers = [offer(2, usd=0.2)]
    await stage.until(handle, MachinePhase.RUNNING)
    await stage.destroy(handle)


async def test_without_credit_one_offer_is_tried_and_nothing_is_left(stage: Stage) -> None:
    def broke(order: InstanceOrder) -> None:
        raise InsufficientCredit("your balance is $0.00", provider="vast")

    stage.cloud.on_create = broke
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.STUCK)
    assert state.reason == "your balance is $0.00"
    assert len(stage.cloud.orders) == 1
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_destroy_while_provisioning_leaves_nothing(stage: Stage) -> None:
    stage.cloud.born = lambda order: InstanceState.STARTING
    handle = await stage.start()
    for _ in range(100):
        if stage.cloud.alive():
            break
        await stage.env.sleep(1)
    last = await stage.destroy(handle)
    assert last.phase is MachinePhase.DESTROYED
    assert stage.cloud.alive() == []


async def test_what_never_lets_us_in_is_ended_and_named(stage: Stage) -> None:
    stage.shell.on_ssh = refuse_ssh
    stage.cloud.offers = [offer(1)]
    handle = await stage.start(timing=TIMING.model_copy(update={"attempt_s": 1}))
    state = await stage.until(handle, MachinePhase.STUCK)
    assert "connection refused" in state.reason
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_refusal_that_rented_all_the_same_is_ended(stage: Stage) -> None:
    def refuse(order: InstanceOrder, instance_id: str) -> None:
        if order.offer_id == "1001":
            raise OfferGone("cannot start", provider="vast", instance_id=instance_id)

    stage.cloud.after_create = refuse
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    assert stage.cloud.alive() == [state.instance.label]
    await stage.destroy(handle)


async def test_destroy_is_accepted_twice_and_done_once(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await handle.execute_update(Machine.destroy, DestroyRequest())
    await handle.execute_update(Machine.destroy, DestroyRequest())
    await handle.result()
    assert len(stage.cloud.destroyed) == 1
    with pytest.raises((WorkflowUpdateFailedError, Exception)):
        await handle.execute_update(Machine.destroy, DestroyRequest())


async def test_a_database_that_is_down_delays_no_destroy(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)

    def down() -> None:
        raise DependencyUnavailable("PostgreSQL is away", dependency="postgres")

    stage.store.on_write = down
    await handle.execute_update(Machine.destroy, DestroyRequest())
    for _ in range(100):
        if not stage.cloud.alive():
            break
        await stage.env.sleep(1)
    assert stage.cloud.alive() == []
    stage.store.on_write = lambda: None
    await handle.result()
    assert stage.store.records["m0123456789ab"].state.phase is MachinePhase.DESTROYED
