"""Machines for benchmarks: deterministic specs, and the records of running ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import SshAddress
from dumont.domain.labels import Label
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement
from dumont.ports import MachineRecord

ENV: Final = "bench"
HOPELESS_USD: Final = 0.01
"""The stand-in provider has no offer for machines that pay at most this."""

_GPUS: Final = ("RTX 4090", "RTX 3090", "A100 SXM4", "H100 SXM")
_KEY: Final = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6Fk7Yw0u8oPZbq0y8c3ZV7Qm2y1l9v5x3t0n4r6s8u bench"
)


def machine_id(number: int) -> str:
    """The id of machine `number`."""
    return f"m{number:012x}"


def spec(number: int, *, owner_id: str = "bench-owner", max_usd: float = 0.6) -> MachineSpec:
    """What its owner asked for."""
    return MachineSpec(
        machine_id=machine_id(number),
        owner_id=owner_id,
        name=f"box-{number}",
        env=ENV,
        requirement=GpuRequirement(gpu=_GPUS[number % len(_GPUS)], max_usd_per_hour=max_usd),
        authorized_keys=(_KEY,),
    )


def running(number: int, *, owner_id: str) -> MachineRecord:
    """Its record once it runs, with the event that says so. Each was made a second after the last."""
    at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    made = spec(number, owner_id=owner_id)
    label = str(Label(ENV, made.machine_id, 1, 1))
    state = MachineState(
        phase=MachinePhase.RUNNING,
        reason=f"ready: 1x {made.requirement.gpu}",
        generation=1,
        version=5,
        instance=ActiveInstance(
            provider="vast",
            instance_id=str(20_000_000 + number),
            label=label,
            generation=1,
            ssh=SshAddress(host=f"ssh{number % 9}.example.com", port=10_000 + number % 50_000),
            usd_per_hour=0.3 + number % 100 / 1000,
            gpu=made.requirement.gpu,
            gpu_count=1,
            host_id=str(number % 400),
            region="Texas, US",
            ready_at=at,
        ),
    )
    event = MachineEvent(
        key=f"{made.machine_id}/v5",
        machine_id=made.machine_id,
        kind=EventKind.READY,
        at=at,
        generation=1,
        summary=state.reason,
        data={},
    )
    return MachineRecord(spec=made, state=state, at=at, events=(event,))
