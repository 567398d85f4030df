"""Working hours through the API: in force when it answers, by Temporal's own word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from temporalio.client import Client

from dumont.domain.machine import MachinePhase
from dumont.domain.protection import ProtectionPolicy
from dumont.domain.working_hours import HoursAct, WorkingHours, next_acts
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import hours_schedule_id
from tests.integration.api.conftest import (
    Session,
    _fresh_namespace,
    serving,
    settings_for,
    wait_for_owner,
)
from tests.integration.api.protected import PROTECTED, become, put
from tests.support.temporal import TemporalServer

PATH = "/machines/my-box/working-hours"
HOURS = {"wake": "08:45", "hibernate": "19:00", "timezone": "Europe/Berlin"}
STORE = {"s3_url": "http://127.0.0.1:1", "s3_access_key_id": "k", "s3_secret_access_key": "s"}


@pytest.fixture
async def owner(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
) -> AsyncIterator[Session]:
    """The owner of a machine, with Temporal there and no worker needed."""
    namespace = await _fresh_namespace(temporal_server)
    settings = settings_for(
        database_url, tmp_path, temporal_address=temporal_server.address,
        temporal_namespace=namespace, **STORE,
    )  # fmt: skip
    async with serving(settings) as running:
        await wait_for_owner(running)
        session = await running.owner()
        await put(session, policy=ProtectionPolicy(), **PROTECTED)
        yield session


async def temporal(owner: Session) -> Client:
    settings = owner.api.settings
    keys = load_or_create_keys(settings.keys_path)
    return await connect(
        address=settings.temporal_address,
        namespace=settings.temporal_namespace,
        codec_keys=[CodecKey(key_id=key.key_id, key=key.key) for key in keys.codec],
    )


async def schedules(owner: Session) -> list[str]:
    client, there = await temporal(owner), []
    for act in HoursAct:
        handle = client.get_schedule_handle(hours_schedule_id("m1", act))
        try:
            await handle.describe()
        except Exception:
            continue
        there.append(act.value)
    return there


async def change(owner: Session, **said: Any) -> dict[str, Any]:
    answer = await owner.call("PUT", PATH, json=HOURS | said)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_they_are_in_force_when_it_answers(owner: Session):
    assert (await owner.get(PATH)).json() == {"hours": None, "next": []}
    found = await change(owner, days="mon-fri")
    assert found["hours"] == HOURS | {
        "days": ["mon", "tue", "wed", "thu", "fri"], "paused": False, "holidays": [],
    }  # fmt: skip
    wanted = next_acts(WorkingHours.model_validate(HOURS), datetime.now(UTC), 6)
    assert [(each["act"], datetime.fromisoformat(each["at"])) for each in found["next"]] == [
        (each.act.value, each.at) for each in wanted
    ]
    for each in found["next"]:
        local = datetime.fromisoformat(each["local"])
        assert f"{local:%H:%M}" == HOURS[each["act"]]
        assert local.utcoffset() == local.astimezone(ZoneInfo("Europe/Berlin")).utcoffset()
    assert await schedules(owner) == ["wake", "hibernate"]
    assert (await owner.get(PATH)).json() == found


async def test_they_are_changed_paused_and_taken_away(owner: Session):
    await change(owner)
    only_wake = await change(owner, hibernate=None)
    assert {each["act"] for each in only_wake["next"]} == {"wake"}
    assert await schedules(owner) == ["wake"]
    paused = await change(owner, paused=True)
    assert (paused["hours"]["paused"], paused["next"]) == (True, [])
    assert (await owner.delete(PATH)).status_code == 204
    assert (await owner.delete(PATH)).status_code == 204
    assert (await owner.get(PATH)).json() == {"hours": None, "next": []}
    assert await schedules(owner) == []


@pytest.mark.parametrize(
    ("said", "field", "about"),
    [
        ({"timezone": "Berlin"}, "timezone", "did you mean Europe/Berlin?"),
        ({"wake": "8.45"}, "wake", "for example 08:45"),
        ({"wake": "19:00"}, "body", "same time of day"),
        ({"wake": None, "hibernate": None}, "body", "say when to wake"),
        ({"days": "workdays"}, "days", "for example mon-fri"),
        ({"hibernates": "20:00"}, "hibernates", "not permitted"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    owner: Session, said: dict[str, Any], field: str, about: str
):
    await change(owner)
    answer = await owner.call("PUT", PATH, json=HOURS | said)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "invalid_input", field)
    assert about in problem["detail"]
    assert (await owner.get(PATH)).json()["hours"]["wake"] == "08:45", "what was there stays"


async def test_whose_machine_it_is_and_whether_it_lives(owner: Session):
    stranger = await owner.api.somebody_else()
    assert (await stranger.get("/machines/m1/working-hours")).status_code == 404
    assert (await stranger.call("PUT", "/machines/m1/working-hours", json=HOURS)).status_code == 404
    reader = await owner.api_key("machines:read")
    assert (await reader.get(PATH)).status_code == 200
    assert (await reader.call("PUT", PATH, json=HOURS)).status_code == 403
    assert (await reader.delete(PATH)).status_code == 403
    await change(owner)
    await become(owner.api, phase=MachinePhase.DESTROYED)
    answer = await owner.call("PUT", "/machines/m1/working-hours", json=HOURS)
    assert answer.json()["code"] == "conflict"
    assert (await owner.get("/machines/m1/working-hours")).json()["next"] == []


async def test_without_temporal_what_is_wanted_is_written_down(database_url: str, tmp_path: Path):
    async with serving(settings_for(database_url, tmp_path, **STORE)) as running:
        await wait_for_owner(running)
        owner = await running.owner()
        await put(owner, policy=ProtectionPolicy(), **PROTECTED)
        found = await change(owner)
        assert found["next"] is None, "not known is not nothing"
        assert (await owner.get(PATH)).json() == found
        assert (await owner.delete(PATH)).status_code == 204


async def test_without_a_store_nothing_can_hibernate(database_url: str, tmp_path: Path):
    async with serving(settings_for(database_url, tmp_path)) as running:
        await wait_for_owner(running)
        owner = await running.owner()
        await put(owner, policy=ProtectionPolicy(), **PROTECTED)
        answer = await owner.call("PUT", PATH, json=HOURS)
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
        assert (await owner.get(PATH)).json()["hours"] is None


async def test_a_holiday_is_not_among_what_comes(owner: Session):
    first = datetime.fromisoformat((await change(owner, days="daily"))["next"][0]["local"])
    later = (first + timedelta(days=1)).date().isoformat()
    found = await change(owner, days="daily", holidays=[later])
    assert later not in {each["local"][:10] for each in found["next"]}
