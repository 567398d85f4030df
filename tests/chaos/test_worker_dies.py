"""kill -9 of the worker at every activity boundary of a machine's birth and end.

A real worker process kills itself; the next one has only what Temporal, PostgreSQL and the provider
remember. Afterwards exactly one instance exists, and after the destroy none.
"""

from __future__ import annotations

import asyncio

import pytest

from benchmarks._servers import Process, wait_until
from dumont.domain.machine import MachinePhase
from tests.chaos.conftest import World
from tests.chaos.extent import deaths

BIRTH = (
    "record_machine",
    "rank_offers",
    "record_intent",
    "record_events",
    "ensure_instance",
    "wait_until_running",
    "wait_until_usable",
    "close_intent",
)
END = ("destroy_instances", "look_for_instances", "record_events", "record_machine")


def around(activities: tuple[str, ...], *, costly: str) -> tuple[str, ...]:
    """After each: done, and not reported. Before each in the long run, always before what costs money."""
    return deaths(
        *(f"after:{each}" for each in activities),
        f"before:{costly}",
        long_run=tuple(f"before:{each}" for each in activities if each != costly),
    )


@pytest.mark.parametrize("death", around(BIRTH, costly="ensure_instance"))
async def test_born_once(world: World, death: str) -> None:
    doomed = world.worker("tests.chaos.dying_worker", death)
    handle = await world.start()
    await dead(doomed)

    world.worker()
    state = await world.until(handle, MachinePhase.RUNNING, seconds=120)
    assert state.instance is not None
    assert world.billed(handle) == [state.instance.label]
    login = world.key.ssh(state.instance.ssh.host, state.instance.ssh.port, "echo $((6*7))")
    assert login.stdout.strip() == "42"

    await world.destroy(handle)
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)
    assert world.billed(handle) == []


@pytest.mark.parametrize("death", around(END, costly="destroy_instances"))
async def test_ended_for_good(world: World, death: str) -> None:
    first = world.worker()
    handle = await world.start()
    await world.until(handle, MachinePhase.RUNNING, seconds=60)
    first.stop()

    doomed = world.worker("tests.chaos.dying_worker", death)
    await world.destroy(handle)
    await dead(doomed)

    world.worker()
    await world.until(handle, MachinePhase.DESTROYED, seconds=90)
    assert world.billed(handle) == []


async def dead(worker: Process) -> None:
    """Wait until the doomed worker has killed itself; a worker that survives fails the test."""
    await asyncio.to_thread(wait_until, lambda: worker.ended, what="the worker's death", seconds=60)
