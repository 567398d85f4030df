"""What happens to the control plane never ends a machine, and never loses a failover under way."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tests.chaos.extent import deaths
from tests.chaos.failover_world import FailoverWorld, Protected, until_dead
from tests.support.cloud import Control

BLIPS = (
    # Effect, provider, operation, times, parameters: 25 in all, as in 19 hours of a bad day. Whoever says
    # 429 without a Retry-After is left alone for longer each time: that is for the adapter's tests.
    ("server_error", "vast", "instances.list_v1", 6, {}),
    ("rate_limit", "vast", "instances.list_v1", 5, {"threshold": 1, "retry_after": 1}),
    ("hang", "vast", "instances.list_v1", 2, {"seconds": 3}),
    ("drop", "vast", "instances.list_v1", 2, {}),
    ("server_error", "gcp", "instances.*", 6, {}),
    ("google_error", "gcp", "instances.*", 2, {"code": 403, "reason": "rateLimitExceeded"}),
    ("hang", "gcp", "instances.*", 2, {"seconds": 3}),
)
DEATHS = deaths(
    *("after:fence", "after:hand_back"), long_run=("after:ensure_instance", "after:restore")
)
"""Done, and not reported: where the authority moves, and in the phases between."""


async def test_blips_kill_nobody(failover_world: FailoverWorld) -> None:
    """All is well, while the providers answer 500, 429, nothing, too late."""
    box = await failover_world.machine()
    control = failover_world.cloud.control
    await box.until_on("primary")
    await box.until("nothing of an earlier machine is left", lambda: rented(control) == 2)
    before, filed, spent = box.state, box.receipts(), money(control.totals())
    for effect, provider, operation, times, parameters in BLIPS:
        control.add_fault(
            effect, provider=provider, operation=operation, times=times, parameters=parameters
        )
    worked = 0
    while control.get("/faults")["faults"]:
        box.save(**{f"steps__{worked}": os.urandom(100)})
        worked += 1
        assert worked < 400, control.get("/faults")
        await asyncio.sleep(0.2)
    # A whole poll of each provider after the last blip: what it has made of them shows then.
    seen = len(control.requests("instances.list_v1"))
    await box.until("another poll", lambda: len(control.requests("instances.list_v1")) > seen + 1)

    await box.until_protected()
    after = box.state
    assert (after.instance, after.generation) == (before.instance, before.generation)
    assert after.standby == before.standby
    assert after.epoch == before.epoch
    assert box.receipts() == filed
    assert money(control.totals()) == spent
    box.assert_whole()


def rented(control: Control) -> int:
    """How much there is at both providers, of whichever machine."""
    return sum(len(control.get(f"/{cloud}/instances")["instances"]) for cloud in ("vast", "gcp"))


def money(totals: dict[str, Any]) -> dict[str, int]:
    """How often anything was rented or ended, by the providers' own count of requests."""
    wanted = ("asks.create", "instances.destroy", "instances.insert", "instances.delete")
    return {
        f"{provider}:{operation}": sum(statuses.values())
        for provider, operations in totals.items()
        for operation, statuses in operations.items()
        if operation in wanted
    }


@pytest.mark.parametrize("death", DEATHS)
async def test_worker_dies_in_a_failover(failover_world: FailoverWorld, death: str) -> None:
    """kill -9 in the middle; the next worker goes on, with exactly one GPU and all files."""
    box = await failover_world.machine()
    former = box.gpu
    await ready(box, death)
    doomed = failover_world.worker("tests.chaos.dying_worker", death)
    failover_world.cloud.control.vast(former.instance_id, "kill")
    box.save(during=death.encode())
    await asyncio.to_thread(until_dead, doomed, seconds=90)
    box.save(dead=death.encode())
    failover_world.start()
    await one_gpu_and_whole(box, former)


async def test_power_cut_in_a_failover(failover_world: FailoverWorld) -> None:
    """PostgreSQL and Temporal lose power while a GPU is being rented; the worker lives on."""
    box = await failover_world.machine()
    former, failovers = box.gpu, box.state.failovers
    await ready(box, "power")
    failover_world.cloud.control.vast(former.instance_id, "kill")
    await box.until_step("replacing", after=failovers)
    failover_world.power_cut()
    box.save(during=b"the power cut")
    await one_gpu_and_whole(box, former)


async def ready(box: Protected, what: str) -> None:
    await box.until_on("primary")
    box.save(**{f"before__{what.partition(':')[2] or what}": os.urandom(50_000)})
    box.flush()


async def one_gpu_and_whole(box: Protected, former: Any) -> None:
    filed = len(box.receipts())
    state = await box.until_replaced(former, seconds=150)
    assert state.instance is not None
    assert [row["label"] for row in box.gpus()] == [state.instance.label]
    assert len(box.vms()) == 1
    await box.until_on("primary")
    box.assert_whole()
    assert len(box.receipts()) == filed + 1
    assert box.receipts()[-1].adopted.label == state.instance.label
