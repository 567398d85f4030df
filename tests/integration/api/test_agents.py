"""Heartbeats: who may send them, what is kept, what is told, and who is fenced."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistoryEventFilterType

from dumont.domain.machine import MachinePhase
from dumont.domain.protection import AgentRole, ProtectionPolicy
from dumont.temporal.codec import CodecKey, EncryptionCodec
from dumont.temporal.ids import fleet_watch_id
from tests.integration.api.conftest import Running, Session
from tests.integration.api.protected import PROTECTED, agent, beat, become, put, with_standbys
from tests.support.temporal import TemporalServer
from workflows.fleet_watch import FleetWatch

BEAT = "/agent/heartbeat"


@pytest.fixture
async def machine(owner: Session) -> Running:
    """A protected machine of a deployment whose Temporal is away."""
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    return owner.api


async def kept(api: Running) -> dict[AgentRole, Any]:
    return (await api.services.heartbeats.latest(["m1"])).get("m1", {})


async def test_only_its_own_token_opens_it(machine: Running, owner: Session):
    assert (await machine.http.post(f"/api/v1{BEAT}", json=beat())).status_code == 401
    assert (await Session(machine, "nonsense").post(BEAT, beat())).status_code == 401
    assert (await owner.post(BEAT, beat())).status_code == 401, "a person's token is none"
    assert (await agent(machine).get("/machines")).status_code == 401, "and opens nothing else"
    for other in (
        agent(machine, machine_id="m2"),
        agent(machine, role="standby"),
        agent(machine, epoch=4),
        agent(machine, epoch=6),
    ):
        answer = await other.post(BEAT, beat())
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert await kept(machine) == {}


@pytest.mark.parametrize(
    "body",
    [
        beat(sequence=-1),
        beat(sequence=2**64),
        beat(role="both"),
        beat(boot_id="a\0b"),
        beat(instance_id="\ud800"),
        beat(host={"cpu_percent": float("inf")}),
        beat(protection={"status": "protected", "lag_s": float("nan")}),
        beat(host={str(n): n for n in range(65)}),
        beat(sent_at="yesterday"),
        {},
        [],
    ],
)
async def test_nonsense_is_refused_by_name_and_never_kept(machine: Running, body: Any):
    answer = await agent(machine).call(
        "POST", BEAT, content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
    assert await kept(machine) == {}


async def test_a_body_over_64_kb_is_not_read(machine: Running):
    answer = await agent(machine).post(BEAT, beat(boot_id="x" * 70_000))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_the_newest_is_kept_whatever_the_order(machine: Running):
    for sequence in (18, 17, 19, 19):
        answer = await agent(machine).post(BEAT, beat(sequence=sequence))
        assert answer.json() == {"ok": True, "fenced": False}
    assert (await kept(machine))[AgentRole.PRIMARY].heartbeat.sequence == 19


@pytest.mark.parametrize(
    ("role", "state", "fenced"),
    [
        ("primary", {}, False),
        ("primary", {"epoch": 6}, True),
        ("primary", {"phase": MachinePhase.DESTROYED}, True),
        ("primary", {"epoch": 4}, False),
        ("standby", {}, False),
        ("standby", {"epoch": 6}, False),
        ("standby", {"standby": None}, False),
        (
            "standby",
            {"standby": PROTECTED["standby"].model_copy(update={"instance_id": "9"})},
            True,
        ),
    ],
)
async def test_who_has_lost_authority_hears_it(
    machine: Running, role: str, state: dict[str, Any], fenced: bool
):
    await become(machine, **PROTECTED | state)
    answer = await agent(machine, role=role).post(BEAT, beat(role))
    assert answer.json() == {"ok": True, "fenced": fenced}
    assert bool(await kept(machine)) is not fenced


async def test_a_body_of_a_machine_that_nobody_knows_is_fenced(machine: Running):
    answer = await agent(machine, machine_id="m404").post(BEAT, beat(machine_id="m404"))
    assert answer.json() == {"ok": True, "fenced": True}


async def test_it_answers_in_time_while_temporal_is_away(machine: Running):
    started = time.monotonic()
    answer = await agent(machine).post(BEAT, beat())
    assert answer.json() == {"ok": True, "fenced": False}
    assert time.monotonic() - started < 4
    assert (await kept(machine))[AgentRole.PRIMARY].told is None, "to be told with the next one"


# With Temporal ------------------------------------------------------------------------------------


@pytest.fixture
async def told(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
) -> AsyncIterator[Session]:
    """A protected machine whose workflow has a history, though nobody works on it."""
    async with with_standbys(database_url, tmp_path, temporal_server) as owner:
        await put(owner, policy=ProtectionPolicy(), **PROTECTED)
        (row,) = await owner.api.services.machines.by_ids(["m1"])
        await owner.api.services.commands.start_machine(row.spec)
        yield owner


async def client_of(api: Running) -> Client:
    return await api.services.commands._connected()


async def signals(api: Running, workflow_id: str) -> list[Any]:
    client = await client_of(api)
    found = []
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events(
        event_filter_type=WorkflowHistoryEventFilterType.ALL_EVENT
    ):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            said = event.workflow_execution_signaled_event_attributes
            keys = [CodecKey(key_id=k.key_id, key=k.key) for k in api.services.keys.codec]
            opened = await EncryptionCodec(keys).decode(said.input.payloads)
            found.append((said.signal_name, *(json.loads(p.data) for p in opened)))
    return found


async def test_the_machine_hears_what_changed_and_nothing_else(told: Session):
    guard = {"authority": "primary", "epoch": 5, "link": "up"}
    standby, primary = agent(told.api, role="standby"), agent(told.api)
    for sequence in (1, 2, 3):
        await standby.post(BEAT, beat("standby", sequence=sequence, guard=guard))
        lag = {"status": "protected", "lag_s": sequence / 10}
        await primary.post(BEAT, beat(sequence=sequence, protection=lag))
    assert len(await signals(told.api, "machine/m1")) == 2, "one of each body"
    lost = guard | {"authority": "standby", "link": "down", "cause": "x" * 9_000}
    for sequence in (4, 5):
        await standby.post(BEAT, beat("standby", sequence=sequence, guard=lost))
    news = await signals(told.api, "machine/m1")
    assert len(news) == 3
    name, last = news[-1]
    assert name == "agent_news"
    assert (last["role"], last["guard"]["authority"]) == ("standby", "standby")
    assert len(last["guard"]["cause"]) <= 500, "a host may not fill the history"


async def test_news_that_came_too_early_is_told_again(told: Session):
    await become(told.api, **PROTECTED | {"standby": None})
    await agent(told.api, role="standby").post(BEAT, beat("standby", sequence=1))
    await become(told.api, **PROTECTED)
    for sequence in (2, 3):
        await agent(told.api, role="standby").post(BEAT, beat("standby", sequence=sequence))
    assert len(await signals(told.api, "machine/m1")) == 2


async def test_a_failed_signal_is_tried_again_with_the_next_heartbeat(
    told: Session, monkeypatch: pytest.MonkeyPatch
):
    commands = told.api.services.commands
    tell = commands.tell_agent_news

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(type(commands), "tell_agent_news", hang)
    started = time.monotonic()
    assert (await agent(told.api).post(BEAT, beat(sequence=1))).json()["ok"] is True
    assert time.monotonic() - started < 4
    monkeypatch.undo()
    assert commands.tell_agent_news == tell
    await agent(told.api).post(BEAT, beat(sequence=2))
    assert len(await signals(told.api, "machine/m1")) == 1


async def test_a_webhook_makes_the_watch_look_now_whatever_it_says(told: Session):
    client = await client_of(told.api)
    for watch in (fleet_watch_id("vast", "acc"), fleet_watch_id("gcp", "p")):
        await client.start_workflow(FleetWatch.run, args=[{}], id=watch, task_queue="nobody")
    address = (await told.get("/webhooks")).json()["vast"]
    path = address.removeprefix(told.api.settings.api_url)
    http = told.api.http

    async def both() -> tuple[int, int]:
        return (
            len(await signals(told.api, "fleet-watch/vast/acc")),
            len(await signals(told.api, "fleet-watch/gcp/p")),
        )

    async with asyncio.timeout(30):  # the server lists what started a moment later
        while (await both())[0] == 0:
            assert (await http.post(path, content=b"\xff not json")).status_code == 204
    before, gcp = await both()
    assert gcp == 0
    assert (await http.post(path[:-1] + ("0" if path[-1] != "0" else "1"))).status_code == 404
    assert (await http.post(path.replace("/vast/", "/gcp/"))).status_code in (404, 405)
    assert (await http.post(path, content=b"x" * 70_000)).status_code == 413
    assert (await both())[0] == before


async def test_only_administrators_see_the_secret_and_no_log_has_it(
    told: Session, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    stranger = await told.api.somebody_else()
    assert (await stranger.get("/webhooks")).status_code == 403
    address = (await told.get("/webhooks")).json()["vast"]
    await told.api.http.post(address.removeprefix(told.api.settings.api_url))
    written = capsys.readouterr()
    assert address.rpartition("/")[2] not in written.out + written.err + caplog.text
