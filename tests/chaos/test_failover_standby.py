"""The standby is taken back, alone, while people work on it, or together with the GPU."""

from __future__ import annotations

import os

import pytest

from dumont.domain.machine import MachinePhase
from tests.chaos.failover_world import FailoverWorld, Protected


async def test_standby_preempted(failover_world: FailoverWorld) -> None:
    """Nobody on the GPU notices; another standby is mirrored to, and the old one is ended."""
    box = await failover_world.machine()
    gpu, old, failovers = box.gpu, box.vm, box.state.failovers
    await box.until_on("primary")
    box.save(work=os.urandom(50_000))
    preempt(failover_world, box)
    await box.until(
        "another standby", lambda: (box.state.standby or old).label != old.label, seconds=120
    )
    await box.until_protected()
    await box.until("the old one ended", lambda: len(box.vms()) == 1)
    assert [row["name"] for row in box.vms()] == [box.vm.label]
    assert box.gpu == gpu
    assert box.state.failovers == failovers
    box.assert_whole()
    # The new one is worth as much as the old one.
    box.flush()
    failover_world.cloud.control.vast(gpu.instance_id, "kill")
    await box.until_on("standby")
    box.assert_whole()
    await box.until_replaced(gpu)
    box.assert_whole()


async def test_standby_preempted_while_people_work_on_it(failover_world: FailoverWorld) -> None:
    """No GPU is to be had, and then the standby goes as well: the same one comes back, with its disk."""
    control = failover_world.cloud.control
    box = await failover_world.machine()
    former, old = box.gpu, box.vm
    await box.until_on("primary")
    box.save(work=os.urandom(50_000))
    box.flush()
    fault = control.add_fault("empty_offers")
    try:
        await work_without_a_gpu(failover_world, box)
    finally:
        control.delete(f"/faults/{fault}")
    assert [row["id"] for row in box.vms()] == [old.instance_id]
    await box.until_replaced(former)
    box.assert_whole()
    assert [row["id"] for row in box.vms()] == [old.instance_id]


async def work_without_a_gpu(world: FailoverWorld, box: Protected) -> None:
    old, failovers = box.vm, box.state.failovers
    world.cloud.control.vast(box.gpu.instance_id, "kill")
    await box.until_step("no_gpu", after=failovers)
    assert box.state.phase in (MachinePhase.ON_STANDBY, MachinePhase.REPLACING)
    box.save(work=b"on the standby", more=os.urandom(10_000))

    preempt(world, box)
    await box.until("the standby is gone", lambda: box.vms()[0]["status"] == "TERMINATED")
    await box.until("it runs again", lambda: box.vms()[0]["status"] == "RUNNING", seconds=90)
    await box.until(
        "its new address is known",
        lambda: box.vm.ssh.host == box.vms()[0]["address"],
        seconds=90,
    )
    assert box.vm.instance_id == old.instance_id
    await box.until_on("standby", seconds=60)
    box.assert_whole()
    box.save(again=b"on the standby that came back")


async def test_gpu_dies_before_the_next_standby_has_everything(
    failover_world: FailoverWorld,
) -> None:
    """The next one's disk is full: the lost standby's disk, kept until then, is what there is."""
    box = await failover_world.machine()
    former, old = box.gpu, box.vm
    await box.until_on("primary")
    box.save(data=os.urandom(40_000_000), notes=b"flushed before the preemption")
    box.flush()
    next_disk_is_small(failover_world, megabytes=32)
    preempt(failover_world, box)
    await box.until(
        "another standby, which cannot have everything",
        lambda: box.state.standby not in (old, None) and "space" in box.state.protection_reason,
        seconds=120,
    )
    assert not box.state.mirrored
    assert box.state.kept_standby == old.label
    await box.until("the lost one is stopped", lambda: status_of(box, old.label) == "TERMINATED")

    failover_world.cloud.control.vast(former.instance_id, "kill")
    await box.until(
        "on the lost standby's disk",
        lambda: box.state.phase in (MachinePhase.ON_STANDBY, MachinePhase.REPLACING),
        seconds=90,
    )
    assert box.vm.instance_id == old.instance_id
    await box.until_on("standby", seconds=60)
    box.assert_whole()
    box.save(notes=b"written on the lost standby's disk")
    await box.until_replaced(former)
    box.assert_whole()
    assert [row["id"] for row in box.vms()] == [old.instance_id]


async def test_both_bodies_lost_together(failover_world: FailoverWorld) -> None:
    """Whichever disk is left has everything and is started again: nothing is ended silently."""
    control = failover_world.cloud.control
    box = await failover_world.machine()
    gpu, vm = box.gpu, box.vm
    await box.until_on("primary")
    box.save(work=os.urandom(50_000), notes=b"both bodies have this")
    box.flush()
    control.post(f"/gcp/instances/{vm.zone}/{vm.label}/kill")
    control.vast(gpu.instance_id, "kill")
    await box.until(
        "it is noticed", lambda: box.state.phase is not MachinePhase.RUNNING, seconds=60
    )
    await box.until_protected(seconds=200)
    box.assert_whole()


def status_of(box: Protected, label: str) -> str:
    return next(str(row["status"]) for row in box.vms() if row["name"] == label)


def preempt(world: FailoverWorld, box: Protected) -> None:
    """Google wants its VM back."""
    world.cloud.control.post(f"/gcp/instances/{box.vm.zone}/{box.vm.label}/preempt")


def next_disk_is_small(world: FailoverWorld, *, megabytes: int) -> None:
    """The disk of the VM that Google boots next has no more room than this."""
    rule = {
        "effect": "small_disk",
        "provider": "gcp",
        "operation": "machine.boot",
        "times": 1,
        "parameters": {"mb": megabytes},
    }
    with world.cloud.vast() as http:
        answer = http.post(f"{world.cloud.control_url}/faults", json=rule)
    if answer.status_code == 501:
        pytest.skip(answer.json()["error"])
    answer.raise_for_status()
