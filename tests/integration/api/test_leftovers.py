"""Leftovers through the API: whose they are, what they cost, and how old the news is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.leftovers import (
    Fate,
    Found,
    Leftover,
    LeftoverKind,
    LeftoverPlan,
    kept_snapshots,
)
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import AgentRole
from dumont.domain.reconcile import Suspicion
from dumont.domain.snapshots import SnapshotPolicy, SnapshotRecord
from dumont.ports import MachineRecord
from dumont.temporal import snapshot_schedules
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import snapshot_schedule_id
from tests.integration.api.conftest import PUBLIC_KEY, Running, Session, _fresh_namespace
from tests.support.temporal import TemporalServer
from worker.compose_leftovers import control_source

MINE, OTHERS, NOBODYS = "m00000000000a", "m00000000000b", "m00000000000c"
T0 = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def found(machine_id: str, *, usd_per_hour: float | None = 0.01, **changes: Any) -> Found:
    left = Leftover(
        kind=LeftoverKind.DETACHED_DISK, provider="gcp", resource_id=f"disk-{machine_id}",
        label=f"dmt-test-{machine_id}-g1-a1", machine_id=machine_id, place="us-central1-a",
        size_gb=20, usd_per_hour=usd_per_hour, price_note="estimate", detail="pd-balanced",
    )  # fmt: skip
    fields = {
        "leftover": left, "suspicion": Suspicion.OWNER_ENDED, "seen_since": T0,
        "fate": Fate.WATCHED, "why": "owner ended", **changes,
    }  # fmt: skip
    return Found.model_validate(fields)


async def destroyed(api: Running, machine_id: str, *, owner_id: str, name: str) -> None:
    await PostgresMachineStore(api.services.database).record(
        MachineRecord(
            spec=MachineSpec(
                machine_id=machine_id, owner_id=owner_id, name=name, env="test",
                requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
                authorized_keys=(PUBLIC_KEY,),
            ),
            state=MachineState(phase=MachinePhase.DESTROYED, version=1),
            at=T0,
        )
    )  # fmt: skip


async def user_id(session: Session) -> str:
    return str((await session.get("/auth/me")).json()["user_id"])


async def test_nobody_has_looked_yet(owner: Session):
    answer = await owner.get("/leftovers")
    assert answer.status_code == 200
    assert answer.json() == {"items": [], "usd_per_hour": 0, "unknown_prices": 0, "surveys": []}


async def test_everybody_sees_their_own_and_an_administrator_all(api: Running, owner: Session):
    other = await api.somebody_else()
    await destroyed(api, MINE, owner_id=await user_id(owner), name="mine")
    await destroyed(api, OTHERS, owner_id=await user_id(other), name="theirs")
    plan = LeftoverPlan(
        found=(found(MINE), found(OTHERS, usd_per_hour=0.02), found(NOBODYS, usd_per_hour=None)),
        blocked="too many",
    )
    await api.services.leftovers.record_survey("gcp", plan, at=T0)

    everything = (await owner.get("/leftovers")).json()
    assert [each["machine_name"] for each in everything["items"]] == ["theirs", "mine", None]
    assert everything["usd_per_hour"] == 0.03
    assert everything["unknown_prices"] == 1
    (survey,) = everything["surveys"]
    assert (survey["source"], survey["blocked"]) == ("gcp", "too many")
    assert datetime.fromisoformat(survey["surveyed_at"]) == T0
    dearest = everything["items"][0]
    assert (dearest["fate"], dearest["why"], dearest["size_gb"]) == ("watched", "owner ended", 20)
    assert everything["items"][2]["usd_per_hour"] is None

    theirs = (await other.get("/leftovers")).json()
    assert [each["machine_id"] for each in theirs["items"]] == [OTHERS]
    assert theirs["usd_per_hour"] == 0.02
    assert theirs["surveys"][0]["blocked"] is None


async def test_a_sweep_replaces_what_was_found_and_an_older_one_does_not(
    api: Running, owner: Session
):
    store = api.services.leftovers
    later = T0 + timedelta(minutes=5)
    await store.record_survey("gcp", LeftoverPlan(found=(found(MINE),)), at=T0)
    await store.record_survey("gcp", LeftoverPlan(), at=later)
    await store.record_survey("gcp", LeftoverPlan(found=(found(MINE),)), at=T0)
    await store.record_survey("vast", LeftoverPlan(found=(found(MINE),)), at=T0)
    answer = (await owner.get("/leftovers")).json()
    assert {each["source"]: datetime.fromisoformat(each["surveyed_at"]) for each in answer["surveys"]} == {
        "gcp": later, "vast": T0,
    }  # fmt: skip
    assert len(answer["items"]) == 1


async def test_it_needs_credentials_that_may_read_machines(api: Running, owner: Session):
    assert (await api.http.get("/api/v1/leftovers")).status_code == 401
    assert (await (await owner.api_key("offers:read")).get("/leftovers")).status_code == 403
    assert (await (await owner.api_key("machines:read")).get("/leftovers")).status_code == 200


async def test_files_of_destroyed_machines_are_summed_up(api: Running, owner: Session):
    me = await user_id(owner)
    await destroyed(api, MINE, owner_id=me, name="mine")
    for number in range(3):
        await api.services.snapshots.record(
            SnapshotRecord(
                machine_id=MINE, snapshot_id=f"20261127T12000{number}.000000Z-0000000{number}",
                taken_at=T0, source=AgentRole.PRIMARY, files=1, bytes=9, new_bytes=9,
                stored_bytes=5_000_000_000, seconds=1,
            )
        )  # fmt: skip
    await api.services.snapshots.forgotten(MINE, ["20261127T120000.000000Z-00000000"])
    store = api.services.leftovers
    expected = kept_snapshots(MINE, snapshots=2, stored_bytes=10**10, usd_per_gb_month=0.005)
    assert await store.snapshots_of_destroyed(usd_per_gb_month=0.005) == [expected]
    (unpriced,) = await store.snapshots_of_destroyed(usd_per_gb_month=None)
    assert unpriced.usd_per_hour is None


async def test_the_schedules_of_machines_are_found_and_ended_in_temporal(
    temporal_server: TemporalServer,
):
    namespace = await _fresh_namespace(temporal_server)
    keys = [CodecKey(key_id="test", key=b"k" * 32)]
    client = await connect(address=temporal_server.address, namespace=namespace, codec_keys=keys)
    for machine_id in (MINE, OTHERS):
        await snapshot_schedules.apply(client, machine_id, SnapshotPolicy())

    async def none() -> list[Leftover]:
        return []

    source = control_source(client, none)

    async def listed(*machine_ids: str) -> dict[str, Leftover]:
        """What is found, once it is these machines': a list may be a moment behind."""
        async with asyncio.timeout(60):
            while True:
                left = {each.machine_id: each for each in await source.find("test")}
                if set(left) == set(machine_ids):
                    return left
                await asyncio.sleep(0.1)

    left = await listed(MINE, OTHERS)
    assert left[MINE].resource_id == snapshot_schedule_id(MINE)
    assert left[MINE].usd_per_hour == 0
    await source.end(left[MINE])
    await source.end(left[MINE])
    await listed(OTHERS)
