"""Lost answers, outbids, orphans and a provider that lies: nothing is bought twice, nothing leaks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from temporalio.client import WorkflowHandle

from dumont.domain.machine import MachinePhase, MachineState
from tests.chaos.conftest import ENV, World
from workflows.machine import Machine


async def gone(world: World, label: str, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if label not in world.billed():
            return True
        await asyncio.sleep(1)
    return False


async def first_instance(world: World, handle: WorkflowHandle[Machine, MachineState]) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = world.instances(handle)
        if found:
            return str(found[0]["id"])
        await asyncio.sleep(0.5)
    raise AssertionError("nothing was rented within 30 s")


async def used_up(world: World, fault: str, *, seconds: float) -> None:
    """Until a fault has hit as often as it may; readers that back off take their time."""
    deadline = time.monotonic() + seconds
    while fault in {rule["id"] for rule in world.cloud.control.get("/faults")["faults"]}:
        assert time.monotonic() < deadline, "the watch stopped asking"
        await asyncio.sleep(0.5)


def rent_behind_our_back(world: World, label: str) -> None:
    """What a zombie, or somebody else with the same account, would do."""
    with world.cloud.vast() as http:
        search = {"num_gpus": {"eq": 1}, "gpu_name": {"neq": "RTX 4090"}, "type": "on-demand"}
        offers = ask(http, "POST", "/api/v0/bundles/", search)["offers"]
        body = {"client_id": "me", "image": "x", "disk": 10, "label": label, "runtype": "ssh"}
        ask(http, "PUT", f"/api/v0/asks/{offers[0]['id']}/", body)


def ask(http: Any, method: str, path: str, body: dict[str, Any]) -> Any:
    for _ in range(40):
        answer = http.request(method, path, json=body)
        if answer.status_code != 429:
            assert answer.status_code == 200, answer.text
            return answer.json()
        time.sleep(0.5)
    raise AssertionError("429 for 20 s")


async def test_a_create_whose_answer_is_lost_is_not_repeated(world: World) -> None:
    world.cloud.control.add_fault("drop_after", operation="asks.create", times=1)
    world.worker()
    handle = await world.start()
    state = await world.until(handle, MachinePhase.RUNNING, seconds=90)
    assert state.instance is not None
    assert world.billed(handle) == [state.instance.label]
    await world.destroy(handle)
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)


async def test_outbid_while_starting_moves_on_to_the_next_offer(world: World) -> None:
    world.cloud.control.add_fault("never_leaves_loading", operation="instances.boot", times=1)
    world.worker()
    handle = await world.start()
    world.cloud.control.vast(await first_instance(world, handle), "outbid")
    state = await world.until(handle, MachinePhase.RUNNING, seconds=90)
    assert state.instance is not None
    assert state.instance.label.endswith("-a2")
    assert await gone(world, state.instance.label.replace("-a2", "-a1"), seconds=30)
    await world.destroy(handle)
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)


async def test_the_sweep_ends_our_orphans_and_touches_nothing_else(world: World) -> None:
    worker = world.worker()
    handle = await world.start()
    state = await world.until(handle, MachinePhase.RUNNING, seconds=60)
    assert state.instance is not None
    # A late create of an earlier attempt: ours by label, owned by nobody.
    late = state.instance.label.replace("-a1", "-a9")
    theirs = ["", "somebody's run", f"dmt-{ENV}x-m0123456789ab-g1-a1"]
    for label in [late, *theirs]:
        rent_behind_our_back(world, label)
    assert await gone(world, late, seconds=60), worker.log()
    await asyncio.sleep(5)
    assert sorted(world.billed()) == sorted([state.instance.label, *theirs])
    await world.destroy(handle)
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)
    assert sorted(world.billed()) == sorted(theirs)


async def test_a_blind_provider_kills_nobody(world: World) -> None:
    world.worker()
    handle = await world.start()
    state = await world.until(handle, MachinePhase.RUNNING, seconds=60)
    for effect in ("server_error", "html", "empty_list"):
        fault = world.cloud.control.add_fault(effect, operation="instances.list_v1", times=5)
        await used_up(world, fault, seconds=120)
    world.cloud.control.clear_faults()
    await asyncio.sleep(4)
    assert world.recorded(handle.id.removeprefix("machine/")) == state
    assert len(world.billed(handle)) == 1
    await world.destroy(handle)
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)


async def test_a_live_machine_outlives_its_workflows_loss(world: World) -> None:
    world.worker()
    handle = await world.start()
    state = await world.until(handle, MachinePhase.RUNNING, seconds=60)
    await handle.terminate("somebody pressed the wrong button")
    deadline = time.monotonic() + 60
    again = world.client.get_workflow_handle(handle.id)
    while (await again.describe()).status != 1 and time.monotonic() < deadline:
        await asyncio.sleep(1)
    assert state.instance is not None
    assert world.billed(handle) == [state.instance.label]
    await world.destroy(again)  # type: ignore[arg-type]
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)
    assert world.billed(handle) == []
