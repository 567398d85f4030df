"""Machines as their workflows would have recorded them, for tests of what the API shows and takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

from dumont.db.tables import heartbeats, machines
from dumont.domain.instances import SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import (
    ActiveStandby,
    AgentRole,
    ProtectionPolicy,
    ProtectionStatus,
)
from dumont.security.agent_tokens import agent_token
from dumont.security.keys import load_or_create_keys
from tests.integration.api.conftest import (
    PUBLIC_KEY,
    Running,
    Session,
    _fresh_namespace,
    serving,
    settings_for,
    wait_for_owner,
)
from tests.support.temporal import TemporalServer

PRIMARY = SshAddress(host="198.51.100.4", port=40022, user="root")
ENDPOINT = SshAddress(host="203.0.113.7", port=2222, user="root")
HOME = ActiveInstance(
    provider="vast",
    instance_id="24000001",
    label="dmt-test-m1-g1-a1",
    generation=1,
    ssh=PRIMARY,
    usd_per_hour=0.41,
    gpu="RTX 4090",
    gpu_count=1,
)
STANDBY = ActiveStandby(
    provider="gcp",
    instance_id="991",
    label="dmt-test-m1-s1",
    zone="europe-west3-a",
    number=1,
    ssh=SshAddress(host="203.0.113.7", port=22, user="root"),
    endpoint=ENDPOINT,
    usd_per_hour=0.0123,
    rtt_ms=3.9,
)
PROTECTED: dict[str, Any] = {
    "phase": MachinePhase.RUNNING,
    "instance": HOME,
    "standby": STANDBY,
    "epoch": 5,
    "mirrored": True,
    "generation": 1,
    "protection": ProtectionStatus.PROTECTED,
    "version": 9,
}
"""The state of a machine with everything in its place."""


async def put(owner: Session, *, policy: ProtectionPolicy | None = None, **state: Any) -> str:
    """A machine of this owner in the given state; returns its id."""
    me = (await owner.get("/auth/me")).json()
    spec = MachineSpec(
        machine_id="m1",
        owner_id=me["user_id"],
        name="my-box",
        env="test",
        requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
        authorized_keys=(PUBLIC_KEY,),
        protection=policy,
    )
    services = owner.api.services
    await services.machines.request(spec, at=datetime.now(UTC))
    await become(owner.api, **state)
    return spec.machine_id


async def become(api: Running, **state: Any) -> None:
    """Let the machine be in another state."""
    document = MachineState.model_validate(state)
    async with api.services.database.transaction() as connection:
        await connection.execute(
            update(machines).values(
                phase=document.phase.value, state=document.model_dump(mode="json")
            )
        )


async def silent_for(api: Running, seconds: float) -> None:
    """Let the newest heartbeats be this old."""
    async with api.services.database.transaction() as connection:
        await connection.execute(
            update(heartbeats).values(
                received_at=heartbeats.c.received_at - timedelta(seconds=seconds)
            )
        )


def beat(role: str = "primary", **changes: Any) -> dict[str, Any]:
    """A good body of POST /agent/heartbeat."""
    body: dict[str, Any] = {
        "protocol": 1,
        "role": role,
        "machine_id": "m1",
        "generation": 1,
        "epoch": 5,
        "instance_id": HOME.instance_id if role == "primary" else STANDBY.instance_id,
        "sequence": 17,
        "sent_at": "2026-11-26T12:00:00.123Z",
        "boot_id": "b1",
        "host": {"gpu_percent": 3.5, "disk_free_gb": None},
    }
    if role == "primary":
        body["protection"] = {
            "status": "protected",
            "lag_s": 0.12,
            "replicated_at": "2026-11-26T12:00:00.001Z",
        }
    else:
        body["guard"] = {"authority": "primary", "epoch": 5, "link": "up"}
    return body | changes


def agent(
    api: Running, *, role: str = "primary", machine_id: str = "m1", epoch: int = 5
) -> Session:
    """An agent with the token it would have been given."""
    keys = load_or_create_keys(api.settings.keys_path)
    token = agent_token(keys, machine_id=machine_id, role=AgentRole(role), epoch=epoch)
    return Session(api, token)


@asynccontextmanager
async def with_standbys(
    database_url: str, state: Path, server: TemporalServer
) -> AsyncIterator[Session]:
    """The owner of a deployment that rents standbys; nobody works for it."""
    settings = settings_for(
        database_url,
        state,
        temporal_address=server.address,
        temporal_namespace=await _fresh_namespace(server),
        standby_provider="gcp",
    )
    async with serving(settings) as api:
        await wait_for_owner(api)
        yield await api.owner()
