"""The sweep as the worker puts it together: PostgreSQL, Temporal and Google's wire are real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dumont.db.engine import Database
from dumont.db.events import EventLog
from dumont.db.leftovers import PostgresLeftovers
from dumont.domain.labels import MACHINE_KEY
from dumont.domain.leftovers import Fate
from dumont.domain.machine import MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement
from dumont.ports import MachineRecord
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.queues import CONTROL, PROVIDER_GCP
from dumont.temporal.search_attributes import register_search_attributes
from tests.integration.api.conftest import PUBLIC_KEY, _fresh_namespace, settings_for
from tests.support.cloud import SimCloud
from tests.support.google import Google
from tests.support.temporal import TemporalServer
from worker.compose import Parts, control_activities
from worker.compose_gcp import gcp_activities, gcp_provider
from worker.compose_leftovers import (
    SCHEDULES,
    control_leftovers,
    ensure_leftovers_sweep,
    leftovers_of,
)
from worker.roles import control_worker, gcp_worker, leftovers_served
from workflows.leftovers import Leftovers

MACHINE = "m00000000000a"
LABEL = f"dmt-test-{MACHINE}-g1-a1"
ZONE, REGION = "us-central1-a", "us-central1"


@pytest.fixture
async def parts(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
) -> AsyncIterator[tuple[Parts, SimCloud]]:
    """The parts of a worker beside a cloud, with both of its queues polled."""
    with SimCloud.started(tmp_path / "cloud", "--boot-seconds", "0.1,0.2") as cloud:
        settings = settings_for(
            database_url, tmp_path, gcp_url=cloud.gcp_url, gone_confirm_s=0.001,
            gcp_credentials=json.loads(Path(cloud.summary["gcp_credentials"]).read_text()),
        )  # fmt: skip
        keys = load_or_create_keys(settings.keys_path)
        client = await connect(
            address=temporal_server.address,
            namespace=await _fresh_namespace(temporal_server),
            codec_keys=[CodecKey(key_id=key.key_id, key=key.key) for key in keys.codec],
        )
        await register_search_attributes(client)
        database = Database(database_url)
        made = Parts(settings=settings, keys=keys, client=client, database=database)
        project = gcp_provider(settings)
        money = leftovers_served(control_leftovers(made))
        async with (
            control_worker(client, control_activities(made, money=money)),
            gcp_worker(client, gcp_activities(made, project)),
        ):
            yield made, cloud
        project.close()
        await database.close()


async def test_what_a_destroyed_machine_left_at_google_stops_billing(
    parts: tuple[Parts, SimCloud],
) -> None:
    made, cloud = parts
    google = Google(cloud)
    labels = {MACHINE_KEY: MACHINE}
    disk = {"name": LABEL, "sizeGb": "20", "type": f"zones/{ZONE}/diskTypes/pd-balanced"}
    google.wait(google.post(f"zones/{ZONE}/disks", {**disk, "labels": labels}))
    google.wait(google.post(f"zones/{ZONE}/disks", {**disk, "name": "somebodys-data"}))
    google.wait(google.post(f"regions/{REGION}/addresses", {"name": LABEL, "labels": labels}))
    await made.store.record(
        MachineRecord(
            spec=MachineSpec(
                machine_id=MACHINE, owner_id="u1", name="old-box", env="test",
                requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
                authorized_keys=(PUBLIC_KEY,),
            ),
            state=MachineState(phase=MachinePhase.DESTROYED, version=1),
            at=datetime.now(UTC),
        )
    )  # fmt: skip

    for number in range(2):
        async with asyncio.timeout(60):
            await made.client.execute_workflow(
                Leftovers.run,
                leftovers_of(made.settings, PROVIDER_GCP),
                id=f"sweep-{number}",
                task_queue=CONTROL,
            )

    google.get(f"zones/{ZONE}/disks/{LABEL}", expect=404)
    google.get(f"regions/{REGION}/addresses/{LABEL}", expect=404)
    google.get(f"zones/{ZONE}/disks/somebodys-data")
    google.close()
    meters = cloud.control.get("/gcp/ledger")["meters"]
    assert {m["resource"]: m["closed"] is None for m in meters} == {
        f"disks/{ZONE}/{LABEL}": False, f"addresses/{REGION}/{LABEL}": False,
        f"disks/{ZONE}/somebodys-data": True,
    }  # fmt: skip
    (survey,) = await PostgresLeftovers(made.database).surveys()
    assert survey.source == "gcp"
    assert [each.fate for each in survey.plan.found] == [Fate.ENDING, Fate.ENDING]
    page = await EventLog(made.database).page(MACHINE, limit=10)
    kinds = sorted(event.kind.value for event in page)
    assert kinds == ["leftover.ended"] * 2 + ["leftover.found"] * 2


async def test_the_schedule_starts_a_sweep_that_works(parts: tuple[Parts, SimCloud]) -> None:
    made, _ = parts
    await ensure_leftovers_sweep(made, CONTROL)
    await ensure_leftovers_sweep(made, CONTROL)
    await made.client.get_schedule_handle(SCHEDULES[CONTROL]).trigger()
    store = PostgresLeftovers(made.database)
    async with asyncio.timeout(60):
        while not (surveys := await store.surveys()):
            await asyncio.sleep(0.1)
    assert [(each.source, each.plan.found) for each in surveys] == [("control", ())]
