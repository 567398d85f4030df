"""The product's real processes over a cloud in a box, and a person who wants a machine."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from temporalio.client import Client, WorkflowHandle

from benchmarks._servers import Process, Stack, stack
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState, Timing
from dumont.domain.offers import GpuRequirement
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.queues import CONTROL
from tests.chaos.failover_world import FailoverWorld
from tests.support.cloud import SimCloud
from tests.support.ssh import KeyPair, make_key_pair
from workflows.machine import DestroyRequest, Machine, MachineInput

ENV = "chaos"
PATIENT = Timing(gone_confirm_s=1, attempt_s=120, race_width=1)


@dataclass
class World:
    """PostgreSQL, Temporal, simcloud, and workers that come and go."""

    stack: Stack
    cloud: SimCloud
    key: KeyPair
    client: Client
    workers: list[Process] = field(default_factory=list)
    store: dict[str, str] = field(default_factory=dict)
    """Variables that name an object store; none: the deployment has none."""

    @property
    def env(self) -> dict[str, str]:
        return {
            "DUMONT_ENV": ENV,
            "VAST_URL": self.cloud.vast_url,
            "VAST_API_KEY": self.cloud.vast_key,
            "DUMONT_GONE_CONFIRM_S": "1",
            "DUMONT_RECONCILE_EVERY_S": "2",
            "DUMONT_FLEET_POLL_S": "2",
            **self.store,
        }

    def worker(self, *command: str) -> Process:
        """Start a worker; the product's own unless another module is named."""
        process = self.stack.python(
            f"worker{len(self.workers)}", *(command or ("worker",)), env=self.env
        )
        self.workers.append(process)
        process.start()
        return process

    def stop_workers(self) -> None:
        for worker in self.workers:
            worker.kill()

    async def start(
        self, *, timing: Timing = PATIENT, **need: Any
    ) -> WorkflowHandle[Machine, MachineState]:
        machine_id = f"m{uuid.uuid4().hex[:12]}"
        requirement = {"gpu": "RTX 4090", "max_usd_per_hour": 0.9, **need}
        spec = MachineSpec(
            machine_id=machine_id,
            owner_id="owner",
            name=f"box-{machine_id}",
            env=ENV,
            requirement=GpuRequirement(**requirement),
            authorized_keys=(self.key.public,),
        )
        return await self.client.start_workflow(
            Machine.run,
            MachineInput(spec=spec, timing=timing),
            id=machine_workflow_id(machine_id),
            task_queue=CONTROL,
        )

    async def until(
        self, handle: WorkflowHandle[Machine, MachineState], phase: MachinePhase, *, seconds: float
    ) -> MachineState:
        """The state once the record says that the phase is reached."""
        deadline = time.monotonic() + seconds
        state = None
        while time.monotonic() < deadline:
            state = self.recorded(handle.id.removeprefix("machine/"))
            if state is not None and state.phase is phase:
                return state
            await asyncio.sleep(0.2)
        last = self.workers[-1].log()
        raise AssertionError(f"not {phase} within {seconds} s: {state}\n{last}")

    def recorded(self, machine_id: str) -> MachineState | None:
        with psycopg.connect(self.stack.postgres.url) as connection:
            row = connection.execute(
                "SELECT state FROM machines WHERE machine_id = %s", (machine_id,)
            ).fetchone()
        return MachineState.model_validate(row[0]) if row else None

    async def destroy(self, handle: WorkflowHandle[Machine, MachineState]) -> None:
        await handle.execute_update(Machine.destroy, DestroyRequest())

    def billed(self, handle: WorkflowHandle[Machine, MachineState] | None = None) -> list[str]:
        """Labels of all instances that exist at the provider, or of one machine's."""
        return [row["label"] or "" for row in self.instances(handle)]

    def instances(
        self, handle: WorkflowHandle[Machine, MachineState] | None = None
    ) -> list[dict[str, Any]]:
        """The provider's rows of all instances, or of one machine's."""
        machine_id = handle.id.removeprefix("machine/") if handle else ""
        # By the control API: asking Vast.ai's would use up the worker's own rate limit.
        rows = self.cloud.control.get("/vast/instances")["instances"]
        return [row for row in rows if machine_id in (row["label"] or "")]


@pytest.fixture(scope="module")
def _servers() -> Iterator[Stack]:
    with stack() as running:
        yield running


@pytest.fixture(scope="module")
def _cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    with _quick_cloud(tmp_path_factory) as cloud:
        yield cloud


@contextmanager
def _quick_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state: Path = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--seed", "7", "--boot-seconds", "0.5,1") as cloud:
        yield cloud


@pytest.fixture
async def world(_servers: Stack, _cloud: SimCloud, tmp_path: Path) -> AsyncIterator[World]:
    keys = load_or_create_keys(_servers.folder / "state" / "keys.json")
    client = await connect(
        address=_servers.temporal.address,
        namespace="default",
        codec_keys=[CodecKey(key_id=k.key_id, key=k.key) for k in keys.codec],
    )
    made = World(_servers, _cloud, make_key_pair(tmp_path, "owner"), client)
    try:
        yield made
    finally:
        made.stop_workers()
        _cloud.control.clear_faults()


@pytest.fixture(scope="session")
def failover_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailoverWorld]:
    """A control plane for protected machines, shared by all tests that leave it as they found it."""
    with _quick_cloud(tmp_path_factory) as cloud, stack() as servers:
        if cloud.summary["isolation"] != "namespaces":
            pytest.skip("bodies with a /workspace of their own need root and mount namespaces")
        made = FailoverWorld(servers, cloud, tmp_path_factory.mktemp("desk"))
        try:
            yield made
        finally:
            made.stop()
