"""What the store's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement
from dumont.ports import MachineRecord

T0 = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's own database."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> PostgresMachineStore:
    """The store on it."""
    return PostgresMachineStore(database)


def spec(number: int = 1, *, name: str = "my-box", owner: str = "u1") -> MachineSpec:
    """A valid spec of machine `number`."""
    return MachineSpec(
        machine_id=f"m{number:012x}",
        owner_id=owner,
        name=name,
        env="test",
        requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
        authorized_keys=("ssh-ed25519 AAAA me",),
    )


def record(
    of: MachineSpec,
    phase: MachinePhase = MachinePhase.PROVISIONING,
    *,
    generation: int = 1,
    version: int = 1,
    **extra: object,
) -> MachineRecord:
    """A write of a machine's projection."""
    state = MachineState(phase=phase, generation=generation, version=version)
    return MachineRecord.model_validate({"spec": of, "state": state, "at": T0} | extra)
