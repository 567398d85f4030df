"""A part that is away: each answer names it, nothing is rented behind anybody's back, and it heals."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from dumont.db.schema import upgrade
from dumont.domain.errors import DependencyUnavailable
from dumont.domain.machine import MachineSpec
from tests.integration.api.conftest import (
    Running,
    Session,
    Whole,
    order,
    serving,
    settings_for,
    wait_for_owner,
)
from tests.support.postgres import Postgres
from tests.support.temporal import TemporalServer


async def test_without_temporal_a_create_fails_and_leaves_nothing(api: Running, owner: Session):
    started = time.monotonic()
    refused = await owner.post("/machines", order())
    assert refused.status_code == 503
    assert time.monotonic() - started < 15
    assert refused.json()["code"] == "dependency_unavailable"
    assert "Temporal" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    assert (await owner.get("/machines")).json()["items"] == []
    # The name is free again.
    assert (await owner.post("/machines", order())).status_code == 503


async def test_a_temporal_that_freezes_leaves_nothing_and_heals(
    fragile: Whole, own_temporal_server: TemporalServer
):
    own_temporal_server.freeze()
    try:
        started = time.monotonic()
        refused = await fragile.owner.post(
            "/machines", order(), headers={"Idempotency-Key": "once"}
        )
        assert refused.status_code == 503
        assert time.monotonic() - started < 20
        assert (await fragile.owner.get("/machines")).json()["items"] == []
        ready = await fragile.owner.get("/health/ready")
        assert ready.status_code == 503
        assert not ready.json()["dependencies"]["temporal"]["ok"]
        assert ready.json()["dependencies"]["postgres"]["ok"]
    finally:
        own_temporal_server.thaw()
    async with asyncio.timeout(60):
        while True:
            made = await fragile.owner.post(
                "/machines", order(), headers={"Idempotency-Key": "once"}
            )
            if made.status_code != 503:
                break
    assert made.status_code in (200, 201)
    await fragile.owner.until_phase("my-box", "running")
    assert len(fragile.cloud.orders) == 1


async def test_a_start_whose_answer_was_lost_comes_back_into_the_list(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
):
    commands = whole.api.services.commands
    start = commands.start_machine

    async def lose_answer(spec: MachineSpec) -> None:
        await start(spec)
        raise DependencyUnavailable("no answer", dependency="temporal")

    monkeypatch.setattr(commands, "start_machine", lose_answer)
    assert (await whole.owner.post("/machines", order())).status_code == 503
    machine = await whole.owner.until_phase("my-box", "running")
    assert (await whole.owner.delete("/machines/my-box")).status_code == 202
    await whole.owner.until_phase(machine["machine_id"], "destroyed")


async def test_without_a_worker_a_destroy_is_not_promised(whole: Whole):
    machine_id = (await whole.owner.post("/machines", order())).json()["machine_id"]
    await whole.owner.until_phase(machine_id, "running")
    await whole.workers.aclose()
    refused = await whole.owner.delete("/machines/my-box")
    assert refused.status_code == 503
    assert "worker" in refused.json()["detail"]
    assert (await whole.owner.get("/machines/my-box")).json()["phase"] == "running"


async def test_without_a_worker_offers_say_so(whole: Whole, monkeypatch: pytest.MonkeyPatch):
    from datetime import timedelta

    from api import commands

    monkeypatch.setattr(commands, "_LOOKUP", timedelta(seconds=2))
    await whole.workers.aclose()
    refused = await whole.owner.get("/offers")
    assert refused.status_code == 503
    assert "worker" in refused.json()["detail"]


async def test_a_row_without_a_workflow_says_who_will_mend_it(whole: Whole):
    from dumont.db.machine_store import PostgresMachineStore
    from tests.integration.db.conftest import record, spec

    me = (await whole.owner.get("/auth/me")).json()["user_id"]
    await PostgresMachineStore(whole.api.services.database).record(record(spec(owner=me)))
    refused = await whole.owner.delete("/machines/my-box")
    assert refused.status_code == 503
    assert "sweep" in refused.json()["hint"]


async def test_a_database_that_goes_away_is_named_and_found_again(
    own_postgres: Postgres, tmp_path: Path
):
    url = own_postgres.create_database()
    upgrade(url)
    async with serving(settings_for(url, tmp_path)) as running:
        await wait_for_owner(running)
        owner = await running.owner()
        own_postgres.stop()
        for path in ("/machines", "/auth/me", "/events"):
            refused = await owner.get(path)
            assert refused.status_code == 503, path
            assert "PostgreSQL" in refused.json()["detail"]
        ready = await owner.get("/health/ready")
        assert ready.status_code == 503
        assert "PostgreSQL" in ready.json()["dependencies"]["postgres"]["error"]
        assert (await owner.get("/health/live")).status_code == 204
        await asyncio.to_thread(own_postgres.start)
        assert (await owner.get("/machines")).status_code == 200


async def test_a_first_start_before_the_database_waits_for_it(
    own_postgres: Postgres, tmp_path: Path
):
    url = own_postgres.create_database()
    upgrade(url)
    own_postgres.stop()
    async with serving(settings_for(url, tmp_path)) as running:
        assert (await running.http.get("/api/v1/health/ready")).status_code == 503
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(30):
            while (await running.login()).status_code != 200:
                await asyncio.sleep(0.1)


async def test_a_full_disk_is_named_and_nothing_is_rented(
    api: Running, owner: Session, database_url: str
):
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        admin.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON machines EXECUTE FUNCTION full_disk()"
        )
    refused = await owner.post("/machines", order())
    assert refused.status_code == 503
    assert "disk is full" in refused.json()["detail"]
    assert "free space" in refused.json()["hint"]


async def test_an_unmigrated_database_says_what_to_run(empty_database_url: str, tmp_path: Path):
    async with serving(settings_for(empty_database_url, tmp_path)) as running:
        ready = await running.http.get("/api/v1/health/ready")
        assert ready.status_code == 503
        error = ready.json()["dependencies"]["postgres"]["error"]
        assert "python -m dumont.db upgrade" in error


async def test_a_fault_of_ours_tells_nothing_but_where_to_look(
    api: Running, owner: Session, monkeypatch: pytest.MonkeyPatch
):
    async def fault(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(api.services.machines, "page", fault)
    with capture_logs() as told:
        answer = await owner.get("/machines", headers={"X-Request-Id": "my-request-1"})
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json()["code"] == "internal"
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "my-request-1"
    assert [each["event"] for each in told if each["log_level"] == "error"] == ["unexpected_error"]


async def test_everything_well_is_told_part_by_part(whole: Whole):
    async with asyncio.timeout(60):
        while True:
            ready = await whole.owner.get("/health/ready")
            if "provider vast" in ready.json()["dependencies"]:
                break
            await asyncio.sleep(0.2)
    assert ready.status_code == 200
    assert ready.json()["status"] == "ok"
    assert set(ready.json()["dependencies"]) == {
        "postgres",
        "temporal",
        "worker",
        "provider vast",
    }


async def test_an_object_store_that_is_away_degrades_only(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
):
    settings = settings_for(
        database_url,
        tmp_path,
        temporal_address=temporal_server.address,
        s3_url="http://127.0.0.1:1",
    )
    async with serving(settings) as running:
        await wait_for_owner(running)
        ready = await running.http.get("/api/v1/health/ready")
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        assert not ready.json()["dependencies"]["object_store"]["ok"]
