"""Machines on a running stack: real workflows, started by the thousand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from temporalio.client import Client

from benchmarks._machines import machine_id, spec
from benchmarks._servers import Process, Stack
from benchmarks._worker import client_of
from dumont.config import Settings
from dumont.domain.machine import MachinePhase, Timing
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.queues import CONTROL
from dumont.temporal.search_attributes import register_search_attributes
from workflows.machine import Machine, MachineInput

_AT_ONCE = 32
"""Start requests under way at once."""


class Fleet:
    """A control worker, a stand-in for a provider's worker, and the machines they keep.

    Args:
        stack: Where they run.
        diary: See `benchmarks._worker`.
    """

    def __init__(self, *, stack: Stack, diary: Path | None = None) -> None:
        self._stack = stack
        noted = ["--diary", str(diary)] if diary is not None else []
        self.control = stack.python("worker-control", "benchmarks._worker", "control")
        self.provider = stack.python("worker-provider", "benchmarks._worker", "provider", *noted)
        self._client: Client | None = None

    @property
    def parts(self) -> dict[str, Process]:
        """The processes by what they are."""
        return {
            "control worker": self.control,
            "Temporal server": self._stack.temporal,
            "PostgreSQL": self._stack.postgres,
        }

    async def client(self) -> Client:
        """A client with the stack's keys."""
        if self._client is None:
            env = self._stack.env
            self._client = await client_of(
                Settings(
                    _env_file=None,
                    temporal_address=env["TEMPORAL_ADDRESS"],
                    state_dir=Path(env["DUMONT_STATE_DIR"]),
                )
            )
            await register_search_attributes(self._client)
        return self._client

    async def start(
        self, numbers: Iterable[int], *, max_usd: float = 0.6, timing: Timing | None = None
    ) -> float:
        """Start these machines as fast as Temporal takes them; returns the seconds it took."""
        client = await self.client()
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                await client.start_workflow(
                    Machine.run,
                    MachineInput(spec=spec(number, max_usd=max_usd), timing=timing or Timing()),
                    id=machine_workflow_id(machine_id(number)),
                    task_queue=CONTROL,
                )

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                group.create_task(one(number))
        return time.monotonic() - began

    async def wait_for(self, phase: MachinePhase, count: int, *, seconds: float) -> None:
        """Until the database says that so many machines are in a phase.

        Raises:
            TimeoutError: They were not, in time.
        """
        deadline = time.monotonic() + seconds
        while (there := await self.count(phase)) < count:
            self.control.check()
            self.provider.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{there} of {count} machines are {phase} after {seconds:.0f} s")
            await asyncio.sleep(0.25)

    async def count(self, phase: MachinePhase) -> int:
        """How many machines the database says are in a phase."""
        rows = await self.rows("SELECT count(*) FROM machines WHERE phase = %s", phase.value)
        return int(rows[0][0])

    async def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database."""
        url = self._stack.postgres.url
        async with await psycopg.AsyncConnection.connect(url) as connection:
            cursor = await connection.execute(query.encode(), parameters)
            return await cursor.fetchall()
