"""What the API shows of protection, and how it is wanted or not when a machine is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dumont.domain.machine import MachinePhase
from dumont.domain.protection import Failback, ProtectionPolicy, ProtectionStatus
from tests.integration.api.conftest import Session, order
from tests.integration.api.protected import (
    PROTECTED,
    agent,
    beat,
    become,
    put,
    silent_for,
    with_standbys,
)
from tests.support.temporal import TemporalServer

PRIMARY = {"host": "198.51.100.4", "port": 40022, "user": "root"}
ENDPOINT = {"host": "203.0.113.7", "port": 2222, "user": "root"}


async def shown(owner: Session) -> dict[str, Any]:
    one = (await owner.get("/machines/my-box")).json()
    (listed,) = (await owner.get("/machines")).json()["items"]
    assert listed["ssh"] == one["ssh"]
    assert listed["protection"] == one["protection"]
    machine: dict[str, Any] = one
    return machine


async def test_a_protected_machine_shows_its_address_its_lag_and_what_it_costs(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED, failovers=2)
    answer = await agent(owner.api).post("/agent/heartbeat", beat())
    assert answer.json() == {"ok": True, "fenced": False}
    machine = await shown(owner)
    assert machine["ssh"] == ENDPOINT
    assert machine["direct"] == PRIMARY
    assert machine["failovers"] == 2
    assert machine["standby"] == {
        "provider": "gcp",
        "zone": "europe-west3-a",
        "label": "dmt-test-m1-s1",
        "instance_id": "991",
        "usd_per_hour": 0.0123,
        "rtt_ms": 3.9,
        "endpoint": ENDPOINT,
        "ready_at": None,
    }
    assert machine["protection"]["status"] == "protected"
    assert machine["protection"]["lag_s"] == 0.12
    assert machine["protection"]["replicated_at"] == "2026-11-26T12:00:00.001000Z"


async def test_a_lag_that_nobody_measures_any_more_is_unknown(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    assert (await shown(owner))["protection"]["lag_s"] is None, "never heard"
    await agent(owner.api).post("/agent/heartbeat", beat())
    await silent_for(owner.api, 60)
    machine = await shown(owner)
    assert machine["protection"]["lag_s"] is None
    assert machine["protection"]["replicated_at"] is not None
    await agent(owner.api).post("/agent/heartbeat", beat(sequence=18))
    assert (await shown(owner))["protection"]["lag_s"] == 0.12
    await become(owner.api, **PROTECTED | {"epoch": 6})
    assert (await shown(owner))["protection"]["lag_s"] is None, "another body's"


@pytest.mark.parametrize(
    ("state", "ssh", "direct"),
    [
        ({}, ENDPOINT, PRIMARY),
        ({"mirrored": False}, PRIMARY, PRIMARY),
        ({"standby": None, "mirrored": False}, PRIMARY, PRIMARY),
        ({"phase": MachinePhase.ON_STANDBY}, ENDPOINT, None),
        ({"phase": MachinePhase.REPLACING, "mirrored": False}, ENDPOINT, None),
        ({"phase": MachinePhase.STUCK}, ENDPOINT, None),
        ({"phase": MachinePhase.STUCK, "mirrored": False}, None, None),
        ({"phase": MachinePhase.DESTROYING}, None, None),
    ],
)
async def test_the_address_leads_to_whoever_has_the_files(
    owner: Session, state: dict[str, Any], ssh: object, direct: object
):
    await put(owner, policy=ProtectionPolicy(), **(PROTECTED | state))
    machine = (await owner.get("/machines/m1")).json()
    assert (machine["ssh"], machine["direct"]) == (ssh, direct)


async def test_an_unprotected_machine_says_why(owner: Session):
    await put(owner, phase=MachinePhase.RUNNING, version=2)
    machine = await shown(owner)
    assert machine["protection"]["status"] == "unprotected"
    assert machine["protection"]["reason"] == "this deployment rents no standbys"
    assert machine["standby"] is None
    await become(
        owner.api,
        **PROTECTED
        | {"protection": ProtectionStatus.DEGRADED, "protection_reason": "the disk is full"},
    )
    assert (await shown(owner))["protection"]["reason"] == "the disk is full"


async def test_protection_is_the_default_where_it_can_be_had(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
):
    async with with_standbys(database_url, tmp_path, temporal_server) as owner:
        made = await owner.post("/machines", order(name="one"))
        assert made.status_code == 201, made.text
        assert made.json()["protection"]["policy"] == {
            "standby_type": "e2-small",
            "standby_spot": True,
            "failback": Failback.WHEN_IDLE,
            "excludes": [],
            "asleep": "end",
        }
        off = await owner.post("/machines", order(name="two", protection={"enabled": False}))
        assert off.json()["protection"]["policy"] is None
        assert off.json()["protection"]["reason"] == (
            "protection was not wanted when it was created"
        )
        own = order(name="three", protection={"failback": "at_once", "excludes": ["*.pyc"]})
        headers = {"Idempotency-Key": "k-3"}
        policy = (await owner.post("/machines", own, headers=headers)).json()["protection"][
            "policy"
        ]
        assert (policy["failback"], policy["excludes"]) == ("at_once", ["*.pyc"])
        assert (await owner.post("/machines", own, headers=headers)).status_code == 200
        other = order(name="three", protection={"failback": "at_once"})
        assert (await owner.post("/machines", other, headers=headers)).status_code == 409


async def test_who_insists_on_protection_where_there_is_none_is_told(owner: Session):
    for wanted in ({"enabled": True}, {"failback": "at_once"}):
        answer = await owner.post("/machines", order(protection=wanted))
        assert answer.status_code == 412
        assert answer.json()["field"] == "protection"
        assert "GCP_CREDENTIALS" in answer.json()["hint"]
    assert (await owner.get("/machines")).json()["items"] == []


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        {"enable": True},
        {"standby_type": "Big Iron"},
        {"failback": "maybe"},
        {"excludes": ["a\nb"]},
        {"excludes": [""]},
    ],
)
async def test_protection_that_makes_no_sense_is_refused_by_name(owner: Session, wanted: object):
    answer = await owner.post("/machines", order(protection=wanted))
    assert answer.status_code == 422
    assert answer.json()["field"].startswith("protection")
