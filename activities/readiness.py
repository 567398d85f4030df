"""The last rungs of the ladder: from a mapped port to a machine that works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from temporalio import activity

from activities.deadline import Deadline
from activities.heartbeat import heartbeating
from activities.instances import note_rung
from dumont.domain.errors import InstanceDead, NotReady
from dumont.domain.instances import Message, SshAddress
from dumont.domain.ladder import AgentHello, Rung
from dumont.ports import LadderRecord, MachineShell, MachineStore

POLL_S = 0.5

T = TypeVar("T")


class WaitUntilUsable(Message):
    """Input of `wait_until_usable`."""

    machine_id: str
    generation: int
    attempt: int
    address: SshAddress
    gpu_count: int = 1
    within_s: float


class WaitUntilReachable(Message):
    """Input of `wait_until_reachable`."""

    machine_id: str
    address: SshAddress
    within_s: float


class ReadinessActivities:
    """SSH to machines. Safe to repeat: probes change nothing, pushing the agent twice is one push."""

    def __init__(self, *, shell: MachineShell, store: MachineStore) -> None:
        self._shell = shell
        self._store = store

    @activity.defn
    async def wait_until_usable(self, ask: WaitUntilUsable) -> AgentHello:
        """Climb TCP, SSH with the machine's own host key, and the agent's hello.

        Raises:
            InstanceDead: It answers and is not what was rented, or time is up; names the rung.
        """
        deadline = Deadline(ask.within_s)
        where = f"{ask.address.host}:{ask.address.port}"
        async with heartbeating():
            await _until_ready(lambda: self._shell.probe_tcp(ask.address), deadline)
            await self._note(ask, Rung.TCP, where)
            await _until_ready(
                lambda: self._shell.probe_ssh(ask.address, machine_id=ask.machine_id),
                deadline,
            )
            await self._note(ask, Rung.SSH, where)
            hello = await _until_ready(
                lambda: self._shell.hello(ask.address, machine_id=ask.machine_id), deadline
            )
            if len(hello.gpus) < ask.gpu_count:
                raise InstanceDead(
                    f"{len(hello.gpus)} of {ask.gpu_count} GPUs are visible to nvidia-smi"
                )
            if not hello.workspace_writable:
                raise InstanceDead("/workspace is not writable")
            await self._note(ask, Rung.AGENT, f"{', '.join(hello.gpus)}; driver {hello.driver}")
            return hello

    @activity.defn
    async def wait_until_reachable(self, ask: WaitUntilReachable) -> None:
        """Wait for a whole SSH login with the machine's own host key.

        Raises:
            InstanceDead: Time is up; says what was missing.
        """
        deadline = Deadline(ask.within_s)
        async with heartbeating():
            await _until_ready(
                lambda: self._shell.probe_ssh(ask.address, machine_id=ask.machine_id), deadline
            )

    async def _note(self, ask: WaitUntilUsable, rung: Rung, detail: str) -> None:
        await note_rung(
            self._store,
            LadderRecord(
                machine_id=ask.machine_id,
                generation=ask.generation,
                attempt=ask.attempt,
                rung=rung,
                at=datetime.now(UTC),
                detail=detail,
            ),
        )


async def _until_ready(probe: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
    last = ""
    while True:
        try:
            return await probe()
        except NotReady as error:
            if deadline.passed():
                raise InstanceDead(f"not usable in time: {error.message}") from error
            if error.message != last:
                last = error.message
                activity.logger.info("not yet: %s", last)
            await asyncio.sleep(POLL_S)
