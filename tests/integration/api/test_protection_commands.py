"""Drill, fail-back and flush through the API, and the receipts that it hands out."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from dumont.domain.errors import AgentRefused
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import Barrier, ProtectionPolicy
from dumont.domain.receipts import Receipt
from tests.integration.api.conftest import Session, Whole, order
from tests.integration.api.protected import PROTECTED, become, put

T0 = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
BODY = {"provider": "vast", "instance_id": "24", "label": "dmt-test-m1-g1-a1"}


def receipt(number: int = 1, **changes: Any) -> Receipt:
    return Receipt.model_validate(
        {
            "machine_id": "m1",
            "machine_name": "my-box",
            "number": number,
            "cause": "link lost — größer",
            "drill": False,
            "outcome": "replaced",
            "detected_at": T0,
            "closed_at": T0,
            "timeline": [{"phase": "detected", "at": T0, "ms": 0.1 + 0.2}],
            "former": BODY,
            "adopted": BODY,
            "standby": BODY,
            "epoch_before": 1,
            "epoch_after": 2,
            "unreplicated": {},
        }
        | changes
    )


async def test_what_the_machine_does_not_allow_is_a_conflict_in_its_own_words(whole: Whole):
    await whole.owner.post("/machines", order())
    await whole.owner.until_phase("my-box", "running")
    drill = await whole.owner.post("/machines/my-box/drill")
    assert (drill.status_code, drill.json()["code"]) == (409, "conflict"), drill.text
    assert "no standby" in drill.json()["detail"]
    back = await whole.owner.post("/machines/my-box/fail-back")
    assert (back.status_code, back.json()["code"]) == (409, "conflict")
    assert "nothing to fail back from" in back.json()["detail"]
    flush = await whole.owner.post("/machines/my-box/flush")
    assert (flush.status_code, flush.json()["code"]) == (412, "precondition_failed")
    assert "rents no standbys" in flush.json()["detail"]
    assert (await whole.owner.get("/machines/my-box")).json()["phase"] == "running"


async def test_a_drill_is_passed_on_as_it_was_ordered(
    owner: Session, monkeypatch: pytest.MonkeyPatch
):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    asked: list[Any] = []

    async def take(_: object, machine_id: str, request: Any, *, update_id: str) -> None:
        asked.append((machine_id, request, update_id))

    commands = type(owner.api.services.commands)
    monkeypatch.setattr(commands, "drill", take)
    monkeypatch.setattr(commands, "fail_back", take)
    plain = await owner.post("/machines/my-box/drill", headers={"Idempotency-Key": "k"})
    assert plain.status_code == 202
    assert plain.json()["machine"]["name"] == "my-box"
    body = {"flush": False, "redirect_only": True}
    assert (await owner.post("/machines/my-box/drill", body)).status_code == 202
    assert (await owner.post("/machines/my-box/fail-back")).status_code == 202
    (_, first, key), (_, second, _), (_, third, _) = asked
    assert (first.flush, first.redirect_only, first.actor, key) == (
        True,
        False,
        "owner@example.com",
        "k",
    )
    assert (second.flush, second.redirect_only) == (False, True)
    assert third.actor == "owner@example.com"
    assert (await owner.post("/machines/my-box/drill", {"flash": True})).status_code == 422


async def test_the_barrier_is_handed_out_and_a_refusal_is_told(
    owner: Session, monkeypatch: pytest.MonkeyPatch
):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    barrier = Barrier(epoch=5, replicated_at=T0, files=2, bytes=10, hashed=2, seconds=0.4)

    async def done(*_: object) -> Barrier:
        return barrier

    async def refuse(*_: object) -> Barrier:
        raise AgentRefused("the standby's disk is full", hint="make room")

    commands = type(owner.api.services.commands)
    monkeypatch.setattr(commands, "flush", done)
    answer = await owner.post("/machines/my-box/flush")
    assert answer.status_code == 200
    assert Barrier.model_validate_json(answer.content) == barrier
    monkeypatch.setattr(commands, "flush", refuse)
    answer = await owner.post("/machines/my-box/flush")
    assert (answer.status_code, answer.json()["code"]) == (409, "agent_refused")
    assert answer.json()["detail"] == "the standby's disk is full"


async def test_without_temporal_nothing_is_accepted(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    for what in ("drill", "fail-back", "flush"):
        answer = await owner.post(f"/machines/my-box/{what}")
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    await become(owner.api, phase=MachinePhase.DESTROYED)
    for what in ("drill", "fail-back", "flush"):
        assert (await owner.post(f"/machines/m1/{what}")).status_code == 409


async def test_a_receipt_is_sent_so_that_its_digest_can_be_checked(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    for number in (1, 2):
        await owner.api.services.receipts.record(receipt(number))
    listed = (await owner.get("/machines/my-box/receipts")).json()["items"]
    assert [item["receipt"]["number"] for item in listed] == [2, 1]
    raw = await owner.get("/machines/my-box/receipts/1")
    document = raw.json()
    assert document == listed[1]
    inner = raw.content[raw.content.index(b'"receipt":') + len(b'"receipt":') : -1]
    assert hashlib.sha256(inner).hexdigest() == document["digest"]
    assert (await owner.get("/machines/my-box/receipts/3")).status_code == 404
    assert (await owner.get("/machines/my-box/receipts/0")).status_code == 422


async def test_nobody_else_sees_or_moves_it(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    await owner.api.services.receipts.record(receipt())
    stranger = await owner.api.somebody_else()
    reader = await owner.api_key("machines:read")
    for path in ("receipts", "receipts/1"):
        assert (await stranger.get(f"/machines/m1/{path}")).status_code == 404
        assert (await reader.get(f"/machines/m1/{path}")).status_code == 200
    for path in ("drill", "fail-back", "flush"):
        assert (await stranger.post(f"/machines/m1/{path}")).status_code == 404
        assert (await reader.post(f"/machines/m1/{path}")).status_code == 403
