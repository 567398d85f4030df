"""`GET /machines/{machine}/protection`: all that is known, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from dumont.domain.protection import ProtectionPolicy
from tests.integration.api.conftest import Session
from tests.integration.api.protected import (
    ENDPOINT,
    PRIMARY,
    PROTECTED,
    STANDBY,
    agent,
    beat,
    put,
    silent_for,
)

HOST = {"gpu_percent": None, "disk_free_gb": 15.2}
MIRROR = {
    "status": "protected",
    "lag_s": 0.12,
    "replicated_at": "2026-11-26T12:00:00.001Z",
    "pending_files": 2,
    "pending_bytes": None,
    "not_mirrored": [
        {"pattern": "*.pyc", "files": 10, "bytes": 4096},
        {"pattern": 7, "files": "many"},
    ],
}


async def hear(owner: Session, role: str = "primary", **changes: Any) -> None:
    answer = await agent(owner.api, role=role).post("/agent/heartbeat", beat(role, **changes))
    assert answer.json() == {"ok": True, "fenced": False}


async def detail(owner: Session) -> dict[str, Any]:
    answer = await owner.get("/machines/my-box/protection")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_everything_that_is_known_in_one_place(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    await hear(owner, protection=MIRROR, host=HOST)
    await hear(owner, "standby")
    told = await detail(owner)
    assert told["authority"] == "primary"
    assert told["epoch"] == 5
    assert told["endpoint"] == ENDPOINT.model_dump()
    assert told["direct"] == PRIMARY.model_dump()
    assert told["protection"]["lag_s"] == 0.12
    assert told["guard"]["link"] == "up"
    assert told["mirror"] == {
        "pending_files": 2,
        "pending_bytes": None,
        "not_mirrored": [{"pattern": "*.pyc", "files": 10, "bytes": 4096}],
    }
    bodies = {one["role"]: one for one in told["agents"]}
    assert bodies["primary"]["host"] == HOST
    assert bodies["primary"]["current"] is bodies["standby"]["current"] is True
    assert 0 <= bodies["primary"]["age_s"] < 60
    assert told["verdict"]["kind"] == "healthy"
    assert {w["source"] for w in told["verdict"]["witnesses"]} == {"link", "heartbeat"}
    cost = told["standby_cost"]
    parts = [cost["vm"], cost["disk"], cost["address"]]
    assert cost["total"] == pytest.approx(sum(parts))
    assert cost["as_of"]


async def test_silence_is_unknown_and_nobody_has_authority_by_hearsay(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    told = await detail(owner)
    assert told["authority"] is told["guard"] is told["mirror"] is None
    assert told["agents"] == []
    assert told["verdict"]["kind"] == "unknown"
    await hear(owner)
    await hear(owner, "standby")
    await silent_for(owner.api, 300)
    told = await detail(owner)
    assert told["authority"] is None
    assert told["verdict"]["kind"] == "suspect", "a lease has expired, and that is one witness"
    assert told["protection"]["lag_s"] is None


async def test_a_body_that_is_no_longer_the_machines_is_no_witness(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    await hear(owner, instance_id="an-earlier-one")
    told = await detail(owner)
    (body,) = told["agents"]
    assert body["current"] is False
    assert told["mirror"] is None
    assert told["verdict"]["kind"] == "unknown"


async def test_an_unknown_zone_has_unknown_prices(owner: Session):
    elsewhere = STANDBY.model_copy(update={"zone": "moon-base1-a"})
    await put(owner, policy=ProtectionPolicy(), **PROTECTED | {"standby": elsewhere})
    cost = (await detail(owner))["standby_cost"]
    assert cost["vm"] is cost["total"] is None


async def test_it_is_the_owners_alone(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    other = await owner.api.somebody_else()
    assert (await other.get("/machines/m1/protection")).status_code == 404


async def test_a_fenced_guard_is_heard_before_its_configuration_knows(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED | {"epoch": 6})
    held = {"authority": "standby", "epoch": 6, "held": True, "link": "down"}
    await hear(owner, "standby", guard=held)
    assert (await detail(owner))["authority"] == "standby"
