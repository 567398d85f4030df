"""`observe` on a machine with a real sshd: whose logins and whose work it sees."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dumont.remote.agent_archive import agent_archive
from simcloud.machines import AddressPool, GpuSpec, Machines, MachineSpec
from simcloud.store import Store
from tests.support.ssh import KeyPair, make_key_pair

OBSERVE = "python3 ~/.dumont/agent.pyz observe"


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return make_key_pair(tmp_path, "owner")


@pytest.fixture
async def spec(tmp_path: Path, key: KeyPair) -> AsyncIterator[MachineSpec]:
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    pool = AddressPool(Store(":memory:"), seed=str(tmp_path))
    made = MachineSpec(
        name="one",
        hostname="one-host",
        address=pool.claim("one"),
        ssh_port=2222,
        authorized_keys=(key.public,),
        gpus=(GpuSpec(name="NVIDIA GeForce RTX 4090", memory_mb=24564),),
    )
    engine = Machines(tmp_path / "machines", isolation="namespaces")
    await engine.boot(made)
    folder = engine.directory("one").home / ".dumont"
    folder.mkdir()
    (folder / "agent.pyz").write_bytes(agent_archive().content)
    yield made
    await engine.close()


async def observe(key: KeyPair, spec: MachineSpec) -> dict[str, Any]:
    for _ in range(100):
        done = await asyncio.to_thread(key.ssh, spec.address, spec.ssh_port, OBSERVE)
        if done.returncode != 255:
            assert done.returncode == 0, done.stderr
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("no login")


async def test_a_machine_nobody_uses_shows_nobody_but_the_looker_is_nobody(
    spec: MachineSpec, key: KeyPair
) -> None:
    await observe(key, spec)
    found = await observe(key, spec)
    assert (found["ssh_sessions"], found["session_idle_s"]) == (0, None)
    assert (found["user_processes"], found["jupyter_kernels"]) == (0, 0)
    assert found["cpu_cores"] < 0.1
    assert found["gpu_percent"] is not None
    assert found["gpu_memory_busy_percent"] is not None

    login = await asyncio.create_subprocess_exec(
        *("ssh", "-tt", "-i", str(key.private), "-p", str(spec.ssh_port)),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *(f"root@{spec.address}", "cat"),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.sleep(1.0)
    found = await observe(key, spec)
    assert found["ssh_sessions"] == 1
    assert found["session_idle_s"] < 30
    login.kill()
    await login.wait()

    busy = "setsid python3 -c 'while True: pass' >/dev/null 2>&1 </dev/null & echo"
    await asyncio.to_thread(key.ssh, spec.address, spec.ssh_port, busy)
    await asyncio.sleep(1.0)
    found = await observe(key, spec)
    assert found["user_processes"] >= 1
    assert found["cpu_cores"] > 0.1
