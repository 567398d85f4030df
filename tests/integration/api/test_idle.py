"""Idleness through the API: what is explained, what an owner can change, and what agents add to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from api.services import Services
from dumont.db.tables import activity
from dumont.domain.idle import IdlePolicy, IdleState, Sample, merge
from dumont.domain.idle_resources import IdlePolicyOrder
from dumont.domain.idle_watch import NO_STORE, reading_of
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import ProtectionPolicy
from tests.integration.api.conftest import Running, Session, serving, settings_for, wait_for_owner
from tests.integration.api.protected import HOME, PROTECTED, agent, beat, become, put
from tests.support.idleness import BUSY, QUIET

MINUTE = timedelta(minutes=1)
BOX = "/machines/my-box"
LONG_AGO = {
    **PROTECTED,
    "instance": HOME.model_copy(update={"ready_at": datetime.now(UTC) - timedelta(days=8)}),
}


@pytest.fixture
async def owner(database_url: str, tmp_path: Path) -> AsyncIterator[Session]:
    """The owner of a machine that runs, of a deployment with a store that nobody reaches."""
    settings = settings_for(
        database_url, tmp_path, s3_url="http://127.0.0.1:1", s3_bucket="b",
        s3_access_key="k", s3_secret_key="s",
    )  # fmt: skip
    async with serving(settings) as api:
        await wait_for_owner(api)
        owner = await api.owner()
        await put(owner, policy=ProtectionPolicy(), **LONG_AGO)
        yield owner


async def did(api: Running, what: dict[str, Any], *, minutes: int, ago: int = 0) -> None:
    """The machine's minutes up to `ago` minutes before now."""
    now = (await api.services.activity.now()).replace(second=0, microsecond=0)
    samples: list[Sample] = [
        merge(now - n * MINUTE, [reading_of(what)]) for n in range(ago + 1, ago + minutes + 1)
    ]
    rows = [
        {"machine_id": "m1", "minute": each.minute, "sample": each.model_dump(mode="json")}
        for each in samples
    ]
    async with api.services.database.transaction() as connection:
        await connection.execute(insert(activity).values(rows))


async def warn(services: Services) -> None:
    now = await services.activity.now()
    warned = IdleState(warned_at=now, act_at=now + 5 * MINUTE)
    await services.activity.set_state("m1", warned, generation=1)


async def kinds(owner: Session) -> list[str]:
    return [event["kind"] for event in (await owner.get(f"{BOX}/events")).json()["items"]]


async def test_heartbeats_of_the_gpu_are_what_is_judged(owner: Session):
    figures = {"gpu_percent": 97.0, "cpu_cores": 3.0, "ssh_sessions": -4, "not_ours": 1.0}
    await agent(owner.api).post("/agent/heartbeat", beat(host=figures))
    guard = beat("standby", host={"gpu_percent": 1.0, "cpu_cores": 9.0})
    await agent(owner.api, role="standby").post("/agent/heartbeat", guard)
    services = owner.api.services
    now = await services.activity.now()
    [sample] = (await services.activity.samples(["m1"], since=now - 2 * MINUTE))["m1"]
    assert (sample.heard, sample.gpu_percent, sample.cpu_cores) == (1, 97.0, 3.0)
    assert sample.ssh_sessions is None, "nonsense is unknown"

    view = (await owner.get(f"{BOX}/idle")).json()
    assert view["judgement"]["idle"] is False
    gpu = next(each for each in view["judgement"]["signals"] if each["name"] == "gpu")
    assert gpu["says"] == "active"
    assert "97" in gpu["value"]


async def test_a_heartbeat_is_taken_whatever_becomes_of_its_figures(
    owner: Session, monkeypatch: pytest.MonkeyPatch
):
    async def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(owner.api.services.activity, "add", fails)
    answer = await agent(owner.api).post("/agent/heartbeat", beat())
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "fenced": False})
    assert "m1" in await owner.api.services.heartbeats.latest(["m1"])


async def test_a_heartbeat_of_before_is_no_activity(owner: Session):
    for sequence in (18, 17):
        body = beat(sequence=sequence, host={"gpu_percent": float(sequence)})
        await agent(owner.api).post("/agent/heartbeat", body)
    now = await owner.api.services.activity.now()
    [sample] = (await owner.api.services.activity.samples(["m1"], since=now - 2 * MINUTE))["m1"]
    assert (sample.heard, sample.gpu_percent) == (1, 18.0)


async def test_why_it_is_idle_and_what_happens_then(owner: Session):
    await did(owner.api, QUIET, minutes=30)
    await warn(owner.api.services)
    view = (await owner.get(f"{BOX}/idle")).json()
    assert view["judgement"]["idle"] is True
    assert {each["says"] for each in view["judgement"]["signals"]} == {"idle"}
    assert (view["acts"], view["why_not"]) == (True, "")
    warned, act = (datetime.fromisoformat(view["warning"][k]) for k in ("warned_at", "act_at"))
    assert act - warned == 5 * MINUTE
    assert view["policy"] == IdlePolicy().model_dump(mode="json")
    assert view["keep_alive"] is None


async def test_nothing_known_is_not_idle(owner: Session):
    view = (await owner.get(f"{BOX}/idle")).json()
    assert view["judgement"]["idle"] is False
    assert "unknown" in {each["says"] for each in view["judgement"]["signals"]}
    assert view["last_week"]["minutes_heard"] == 0
    assert view["last_week"]["rule"]["acts"] == 0


async def test_the_last_week_beside_the_bare_rule(owner: Session):
    """A lull of a training at 0 % GPU that loads data, and a night on which it was forgotten."""
    lull = QUIET | {"cpu_cores": 3.0, "user_processes": 8, "disk_read_bps": 9e8}
    await did(owner.api, BUSY, minutes=10)
    await did(owner.api, lull, minutes=20, ago=10)
    await did(owner.api, BUSY, minutes=10, ago=30)
    await did(owner.api, QUIET, minutes=180, ago=40)
    await did(owner.api, BUSY, minutes=10, ago=220)
    week = (await owner.get(f"{BOX}/idle")).json()["last_week"]
    assert week["minutes_heard"] == 230
    assert (week["rule"]["acts"], week["bare_rule"]["acts"]) == (1, 2)
    assert 2.5 < week["rule"]["saved_gpu_hours"] < 3.0
    [night] = week["rule"]["stretches"]
    assert night["acted_at"] is not None
    assert night["ended_by"]


@pytest.mark.parametrize(
    ("phase", "why"),
    [(MachinePhase.ON_STANDBY, "on_standby"), (MachinePhase.HIBERNATED, "hibernated")],
)
async def test_a_machine_without_a_gpu_is_not_judged(owner: Session, phase: MachinePhase, why: str):
    await become(owner.api, **LONG_AGO | {"phase": phase})
    view = (await owner.get(f"{BOX}/idle")).json()
    assert view["judgement"] is None
    assert (view["acts"], why in view["why_not"]) == (False, True)


async def test_without_a_store_it_says_that_nothing_can_happen(database_url: str, tmp_path: Path):
    async with serving(settings_for(database_url, tmp_path)) as api:
        await wait_for_owner(api)
        owner = await api.owner()
        await put(owner, **LONG_AGO)
        view = (await owner.get(f"{BOX}/idle")).json()
    assert (view["acts"], view["why_not"]) == (False, NO_STORE)
    assert view["judgement"] is not None


async def test_a_policy_changes_by_what_is_said(owner: Session):
    first = await owner.call("PUT", f"{BOX}/idle-policy", json={"idle_for_s": 600})
    second = await owner.call("PUT", f"{BOX}/idle-policy", json={"warn_s": 900, "gpu_percent": 2})
    assert first.status_code == second.status_code == 200
    changed = {"idle_for_s": 600.0, "warn_s": 900.0, "gpu_percent": 2.0}
    assert second.json() == IdlePolicy().model_dump(mode="json") | changed
    assert (await owner.get(f"{BOX}/idle")).json()["policy"] == second.json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"idle_for_s": 5}, "idle_for_s"),
        ({"gpu_percent": 0}, "gpu_percent"),
        ({"gpu_percent": "much"}, "gpu_percent"),
        ({"warn_s": 1e12}, "warn_s"),
        ({"gpu": 5}, "gpu"),
    ],
)
async def test_a_policy_that_means_nothing_is_refused(
    owner: Session, body: dict[str, Any], field: str
):
    answer = await owner.call("PUT", f"{BOX}/idle-policy", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
    assert field in answer.text
    assert await owner.api.services.activity.policy("m1") == IdlePolicy()


def test_all_of_a_policy_can_be_said():
    assert set(IdlePolicyOrder.model_fields) == set(IdlePolicy.model_fields)


async def test_switching_it_off_withdraws_a_warning(owner: Session):
    await warn(owner.api.services)
    answer = await owner.call("PUT", f"{BOX}/idle-policy", json={"enabled": False})
    assert answer.json()["enabled"] is False
    view = (await owner.get(f"{BOX}/idle")).json()
    assert view["warning"] is None
    assert (view["acts"], "switched off" in view["why_not"]) == (False, True)
    assert (await kinds(owner))[0] == "idle.withdrawn"


async def test_keeping_it_up_withdraws_a_warning_at_once(owner: Session):
    await did(owner.api, QUIET, minutes=30)
    await warn(owner.api.services)
    answer = await owner.post(f"{BOX}/keep-alive", {"seconds": 7200, "reason": "thinking"})
    assert answer.status_code == 200, answer.text
    left = datetime.fromisoformat(answer.json()["until"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2, minutes=1)
    view = (await owner.get(f"{BOX}/idle")).json()
    assert (view["warning"], view["judgement"]["idle"]) == (None, False)
    assert view["keep_alive"]["reason"] == "thinking"
    assert view["keep_alive"]["by"] == "owner@example.com"
    [newest] = (await owner.get(f"{BOX}/events", params={"limit": 1})).json()["items"]
    assert newest["kind"] == "idle.withdrawn"
    assert "thinking" in newest["summary"]

    for _ in range(2):
        assert (await owner.delete(f"{BOX}/keep-alive")).status_code == 204
    view = (await owner.get(f"{BOX}/idle")).json()
    assert (view["keep_alive"], view["judgement"]["idle"]) == (None, True)


async def test_without_a_warning_there_is_nothing_to_withdraw(owner: Session):
    until = (datetime.now(UTC) + timedelta(days=6)).isoformat()
    assert (await owner.post(f"{BOX}/keep-alive", {"until": until})).status_code == 200
    assert "idle.withdrawn" not in await kinds(owner)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"seconds": 0},
        {"seconds": 8 * 86_400},
        {"seconds": 600, "until": "2090-01-01T00:00:00Z"},
        {"until": "2090-01-01T00:00:00Z"},
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "2026-12-01T00:00:00"},
        {"seconds": 600, "reason": "two\nlines"},
        {"seconds": 600, "forever": True},
    ],
)
async def test_a_wish_without_a_sensible_end_is_refused(owner: Session, body: dict[str, Any]):
    answer = await owner.post(f"{BOX}/keep-alive", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
    assert await owner.api.services.activity.keep_alive("m1") is None


async def test_whose_machine_it_is(owner: Session):
    stranger = await owner.api.somebody_else()
    reader = await owner.api_key("machines:read")
    assert (await reader.get(f"{BOX}/idle")).status_code == 200
    for session, status in ((stranger, 404), (reader, 403)):
        for method, path, body in (
            ("PUT", "idle-policy", {"enabled": False}),
            ("POST", "keep-alive", {"seconds": 600}),
            ("DELETE", "keep-alive", None),
        ):
            answer = await session.call(method, f"{BOX}/{path}", json=body)
            assert answer.status_code == status, (method, path)
    assert (await stranger.get(f"{BOX}/idle")).status_code == 404


async def test_a_destroyed_machine_needs_no_wishes(owner: Session):
    await become(owner.api, phase=MachinePhase.DESTROYED)
    assert (await owner.post("/machines/m1/keep-alive", {"seconds": 600})).status_code == 409
    answer = await owner.call("PUT", "/machines/m1/idle-policy", json={"enabled": False})
    assert answer.status_code == 409
