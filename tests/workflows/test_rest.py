"""Hibernating and waking: nothing is given back before everything is kept, and everything comes back."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowUpdateFailedError

from dumont.domain.errors import DependencyUnavailable, NotReady, StorageError
from dumont.domain.events import EventKind
from dumont.domain.instances import InstanceState
from dumont.domain.machine import MachinePhase
from dumont.domain.snapshots import ChangeTotals, FileChange
from dumont.ports import EngineOrder
from tests.support.fakes import offer
from tests.workflows.conftest import Stage
from tests.workflows.test_failover import Handle, cut, mirrored, start, when
from workflows.machine import Machine
from workflows.rest import HibernateRequest, WakeRequest


async def hibernate(handle: Handle) -> None:
    await handle.execute_update(Machine.hibernate, HibernateRequest(actor="me"))


async def wake(handle: Handle) -> None:
    await handle.execute_update(Machine.wake, WakeRequest(actor="me"))


def told(stage: Stage, kind: EventKind) -> list[str]:
    return [event.summary for event in stage.store.events.values() if event.kind is kind]


async def test_a_machine_hibernates_for_nothing_and_wakes_with_everything(stage: Stage) -> None:
    handle = await stage.start()
    before = await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    asleep = await stage.until(handle, MachinePhase.HIBERNATED)
    assert stage.cloud.alive() == []
    assert asleep.instance is None
    kept = await stage.snapshots.newest(handle.id.removeprefix("machine/"))
    assert kept is not None
    assert asleep.restoring == kept.snapshot_id
    assert kept.pinned, "no rule may delete what it needs"
    assert len(stage.engine.of("snapshot")) == 2, "the second one proves that nobody writes"

    await wake(handle)
    awake = await stage.until(handle, MachinePhase.RUNNING)
    assert awake.instance is not None
    assert awake.generation == before.generation + 1
    assert awake.restoring is None
    assert set(stage.engine.of("restore")) == {awake.instance.ssh.host}
    await when(stage, handle, lambda _: not _pinned(stage), "left to the rules again")
    await stage.destroy(handle)
    assert stage.cloud.alive() == []


async def test_a_protected_machine_gives_both_bodies_back_and_gets_both_again(
    stage: Stage,
) -> None:
    handle, before = await start(stage)
    assert before.standby is not None
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    assert stage.cloud.alive() == []
    assert stage.vms.vms == {}
    assert set(stage.engine.of("snapshot")) == {before.standby.ssh.host}
    await wake(handle)
    await stage.until(handle, MachinePhase.RUNNING)
    again = await mirrored(stage, handle)
    assert again.standby is not None
    assert again.standby.number == before.standby.number + 1
    assert again.epoch > before.epoch
    await stage.destroy(handle)
    assert stage.vms.vms == {}


async def test_with_the_store_away_it_stays_up_and_says_so(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)

    def away(word: str, owner_id: str) -> None:
        if word == "verify":
            raise StorageError("a pack is missing")

    stage.repositories.on_call = away
    await hibernate(handle)
    state = await when(stage, handle, lambda s: "not hibernated" in s.reason, "told why")
    assert state.phase is MachinePhase.RUNNING
    assert "a pack is missing" in state.reason
    assert len(stage.cloud.alive()) == 1
    assert any("not hibernated" in words for words in told(stage, EventKind.ALERT))
    await stage.destroy(handle)


async def test_a_writer_who_does_not_stop_keeps_it_awake(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)

    async def busy(
        owner_id: str, old: str, new: str, *, limit: int
    ) -> tuple[ChangeTotals, list[FileChange]]:
        return ChangeTotals(changed=1, bytes=10), []

    stage.repositories.changes = busy  # type: ignore[method-assign]
    await hibernate(handle)
    state = await when(stage, handle, lambda s: "not hibernated" in s.reason, "told why")
    assert "somebody is writing" in state.reason
    assert len(stage.cloud.alive()) == 1
    await stage.destroy(handle)


async def test_woken_on_its_way_to_sleep_it_stays_awake(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    stage.engine.takes_s = 0.5
    await hibernate(handle)
    await when(stage, handle, lambda s: s.phase is MachinePhase.HIBERNATING, "on its way")
    await wake(handle)
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert "somebody wants to use it" in state.reason
    assert state.generation == 1
    assert len(stage.cloud.alive()) == 1
    await stage.destroy(handle)


async def test_destroyed_in_its_sleep(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    assert (await stage.destroy(handle)).phase is MachinePhase.DESTROYED


async def test_asked_twice_and_at_the_wrong_time(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    with pytest.raises(WorkflowUpdateFailedError):
        await wake(handle)
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    with pytest.raises(WorkflowUpdateFailedError):
        await hibernate(handle)
    await wake(handle)
    await wake(handle)
    await stage.until(handle, MachinePhase.RUNNING)
    assert len(stage.cloud.orders) == 2
    await stage.destroy(handle)


async def test_a_wake_whose_restore_fails_tries_again_on_the_same_instance(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    failures = [True] * 3

    def stumble(host: str, order: EngineOrder) -> None:
        if order.words[0] == "restore" and failures:
            failures.pop()
            raise DependencyUnavailable("the store is away", dependency="s3")

    stage.engine.on_run = stumble
    await wake(handle)
    stuck = await stage.until(handle, MachinePhase.STUCK)
    assert "the store is away" in stuck.reason
    assert stuck.next_try_at is not None
    await stage.until(handle, MachinePhase.RUNNING)
    assert len(stage.cloud.orders) == 2, "the GPU that was rented is not given up for it"
    await stage.destroy(handle)


async def test_a_gpu_that_is_lost_on_the_way_to_sleep_is_replaced(stage: Stage) -> None:
    """People may be on the standby by then, and write what no snapshot has."""
    handle, before = await start(stage)
    stage.engine.takes_s = 0.5
    await hibernate(handle)
    state = await when(stage, handle, lambda s: s.phase is MachinePhase.HIBERNATING, "on its way")
    await cut(stage, handle, before)
    assert before.instance is not None
    stage.cloud.set_state(before.instance.instance_id, InstanceState.STOPPED)
    state = await when(stage, handle, lambda s: s.generation == 2, "on another GPU")
    assert any("the GPU was lost meanwhile" in words for words in told(stage, EventKind.ALERT))
    assert told(stage, EventKind.HIBERNATED) == []
    assert state.standby == before.standby
    await stage.destroy(handle)


async def test_a_gpu_that_is_gone_cannot_be_kept(stage: Stage) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None

    def gone(host: str, order: EngineOrder) -> None:
        raise NotReady("no route to host")

    stage.engine.on_run = gone
    await hibernate(handle)
    state = await when(stage, handle, lambda s: "not hibernated" in s.reason, "told why")
    assert "no route to host" in state.reason
    assert len(stage.cloud.alive()) == 1, "whatever is left of it is not given up"
    await stage.destroy(handle)


async def test_a_wake_without_an_offer_waits_for_one(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    asleep = await stage.until(handle, MachinePhase.HIBERNATED)
    stage.cloud.offers = [offer(1, usd=0.9)]
    await wake(handle)
    stuck = await stage.until(handle, MachinePhase.STUCK)
    assert stuck.next_try_at is not None
    assert stuck.restoring == asleep.restoring, "its files are not forgotten meanwhile"
    stage.cloud.offers = [offer(2, usd=0.2)]
    await stage.until(handle, MachinePhase.RUNNING)
    assert stage.engine.of("restore")
    await stage.destroy(handle)


def _pinned(stage: Stage) -> list[str]:
    return [each.snapshot_id for each in stage.snapshots.records.values() if each.pinned]
