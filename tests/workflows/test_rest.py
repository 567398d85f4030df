"""Hibernating and waking: nothing is given back before everything is kept, and everything comes back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from temporalio.client import WorkflowUpdateFailedError

from dumont.domain.budgets import Budget, Scope
from dumont.domain.errors import DependencyUnavailable, NotReady, StorageError
from dumont.domain.events import EventKind
from dumont.domain.instances import InstanceState, SshAddress
from dumont.domain.machine import MachinePhase
from dumont.domain.snapshots import ChangeTotals, FileChange
from dumont.ports import EngineOrder
from dumont.temporal.queues import CONTROL
from tests.support.fakes import offer
from tests.workflows.conftest import TIMING, Stage, report, spec
from tests.workflows.test_failover import Handle, cut, mirrored, start, when
from workflows.machine import Machine, MachineInput
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


async def test_a_shell_comes_before_the_last_byte(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    stage.engine.takes_s = 1.0
    await wake(handle)
    early = await when(stage, handle, lambda s: s.early_home is not None, "usable")
    assert early.phase is MachinePhase.WAKING, "it is not protected, nor read for a snapshot, yet"
    assert len(told(stage, EventKind.USABLE)) == 1
    awake = await stage.until(handle, MachinePhase.RUNNING)
    assert awake.early_home is None
    first, second = (order.words for _, order in stage.engine.runs if order.words[0] == "restore")
    assert "--small-only" in first
    assert "--small-only" not in second
    assert "--keep-changed" in first
    assert "--keep-changed" in second, "what people change meanwhile is theirs"
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


async def test_a_mirror_that_cannot_promise_is_not_what_is_kept(stage: Stage) -> None:
    """A standby that silently fell behind looks the same twice; the GPU then ends with the rest."""
    handle, before = await start(stage)
    assert before.instance is not None

    def dead(address: SshAddress, words: Sequence[str]) -> None:
        if words[0] == "flush":
            raise NotReady("its agent does not answer")

    stage.agents.on_call = dead
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    assert set(stage.engine.of("snapshot")) == {before.instance.ssh.host}, "the GPU itself is read"
    await stage.destroy(handle)


async def test_a_file_that_never_stands_still_keeps_it_awake(stage: Stage) -> None:
    handle, _ = await start(stage)
    stage.agents.changing = ["checkpoint.tmp"]
    await hibernate(handle)
    state = await when(stage, handle, lambda s: "not hibernated" in s.reason, "told why")
    assert "somebody is writing: checkpoint.tmp" in state.reason
    assert len(stage.cloud.alive()) == 1
    await stage.destroy(handle)


async def test_what_is_not_back_is_not_let_go(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    asleep = await stage.until(handle, MachinePhase.HIBERNATED)
    stage.engine.problems = [{"path": "a", "why": "a pack is damaged"}]
    await wake(handle)
    await stage.until(handle, MachinePhase.RUNNING)
    await when(stage, handle, lambda _: bool(told(stage, EventKind.ALERT)), "told")
    assert "NOT back" in told(stage, EventKind.ALERT)[-1]
    assert _pinned(stage) == [asleep.restoring]
    await stage.destroy(handle)


@pytest.mark.parametrize("asleep", [False, True])
async def test_started_again_from_its_record_on_its_way_to_sleep(
    stage: Stage, *, asleep: bool
) -> None:
    """Its workflow was lost; the sweep starts one. Nothing may be destroyed for that."""
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    await handle.terminate("lost")
    lost = state.model_copy(
        update={"phase": MachinePhase.HIBERNATING, "restoring": "S" if asleep else None}
    )
    again = await stage.env.client.start_workflow(
        Machine.run, MachineInput(spec=spec(), state=lost, timing=TIMING),
        id=handle.id, task_queue=CONTROL,
    )  # fmt: skip
    if asleep:
        state = await stage.until(again, MachinePhase.HIBERNATED)
        assert (state.restoring, state.instance) == ("S", None)
        assert stage.cloud.alive() == []
    else:
        state = await stage.until(again, MachinePhase.RUNNING)
        assert "interrupted" in state.reason
        assert len(stage.cloud.alive()) == 1
    await stage.destroy(again)


async def test_outbid_while_its_files_come_back_it_gets_the_rest_of_them(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    away = [True]

    def stumble(host: str, order: EngineOrder) -> None:
        if order.words[0] == "restore" and away:
            raise DependencyUnavailable("the store is away", dependency="s3")

    stage.engine.on_run = stumble
    await wake(handle)
    stuck = await stage.until(handle, MachinePhase.STUCK)
    assert stuck.instance is not None
    for news in (InstanceState.STOPPED, InstanceState.RUNNING):
        stage.cloud.set_state(stuck.instance.instance_id, news)
        await handle.signal(
            Machine.instance_changed, report(stage.cloud, stuck.instance.instance_id)
        )
    await stage.env.sleep(1)
    state = await handle.query(Machine.status)
    assert state.restoring is not None
    assert state.phase is not MachinePhase.RUNNING, "half of its files are no machine"
    away.clear()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.restoring is None
    await stage.destroy(handle)


async def test_a_wake_that_no_budget_has_room_for_ends(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await hibernate(handle)
    await stage.until(handle, MachinePhase.HIBERNATED)
    stage.budgets.set(Budget(scope=Scope.MACHINE, scope_id=spec().machine_id, usd_per_hour=0.01))
    await wake(handle)
    state = await when(stage, handle, lambda s: "not woken" in s.reason, "told why")
    assert state.phase is MachinePhase.HIBERNATED
    assert state.next_try_at is None, "nobody rents at midnight for somebody who has gone"
    stage.budgets.budgets.clear()
    await wake(handle)
    await stage.until(handle, MachinePhase.RUNNING)
    await stage.destroy(handle)
