"""kill -9 of the worker while a machine goes to sleep and while it wakes: every file is there, once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks._servers import Process, wait_until
from dumont.domain.machine import ActiveInstance, MachinePhase
from tests.chaos.conftest import World
from tests.chaos.extent import deaths
from tests.support.seaweed import KEY, seaweed
from workflows.machine import Machine
from workflows.rest import HibernateRequest, WakeRequest

FALLING_ASLEEP = deaths(
    "after:destroy_instances",
    long_run=(
        "after:take_snapshot",
        "before:verify_snapshot",
        "after:list_changes",
        "after:pin_snapshot",
    ),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder: Path = tmp_path_factory.mktemp("store")
    with seaweed(folder, signing_key=secrets.token_bytes(32)) as endpoint:
        yield {
            "S3_ENDPOINT_URL": endpoint,
            "S3_BUCKET": "snapshots",
            "AWS_ACCESS_KEY_ID": KEY.access_key_id,
            "AWS_SECRET_ACCESS_KEY": KEY.secret_access_key,
        }


@pytest.mark.parametrize("death", FALLING_ASLEEP)
async def test_asleep_and_awake_again_with_everything(
    world: World, store: dict[str, str], death: str
) -> None:
    if world.cloud.summary["isolation"] != "namespaces":
        pytest.skip("bodies with a /workspace of their own need root and mount namespaces")
    world.store = store
    first = world.worker()
    handle = await world.start()
    state = await world.until(handle, MachinePhase.RUNNING, seconds=60)
    told = run(
        world,
        state.instance,
        "cd /workspace && head -c 3000000 /dev/urandom >weights && mkdir -p a/b && echo x >a/b/c && "
        "sha256sum weights a/b/c",
    )
    first.stop()

    doomed = world.worker("tests.chaos.dying_worker", death)
    await handle.execute_update(Machine.hibernate, HibernateRequest())
    await dead(doomed)
    second = world.worker()
    asleep = await world.until(handle, MachinePhase.HIBERNATED, seconds=120)
    assert asleep.restoring is not None
    assert world.billed(handle) == []
    second.stop()

    doomed = world.worker("tests.chaos.dying_worker", "after:restore_snapshot")
    await handle.execute_update(Machine.wake, WakeRequest())
    await dead(doomed)
    world.worker()
    awake = await world.until(handle, MachinePhase.RUNNING, seconds=120)
    assert awake.instance is not None
    assert world.billed(handle) == [awake.instance.label]
    assert run(world, awake.instance, "cd /workspace && sha256sum weights a/b/c") == told
    await world.destroy(handle)
    await world.until(handle, MachinePhase.DESTROYED, seconds=60)
    assert world.billed(handle) == []


def run(world: World, home: ActiveInstance | None, script: str) -> str:
    assert home is not None
    done = world.key.ssh(home.ssh.host, home.ssh.port, script)
    assert done.returncode == 0, done
    return str(done.stdout)


async def dead(worker: Process) -> None:
    """Wait until the doomed worker has killed itself; a worker that survives fails the test."""
    await asyncio.to_thread(wait_until, lambda: worker.ended, what="the worker's death", seconds=90)
