"""Budgets through the API: who may set which, what they refuse at once, and what they show."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.budget_watch import Due, Figure, MachineBurn
from dumont.domain.budgets import Budget, Cap, Scope, Step
from dumont.domain.instances import SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineSpec, MachineState
from dumont.domain.offers import GpuRequirement
from dumont.ports import MachineRecord
from tests.integration.api.conftest import Running, Session, Whole, order

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


async def me(who: Session) -> str:
    found: str = (await who.get("/auth/me")).json()["user_id"]
    return found


async def add(
    who: Session,
    name: str = "my-box",
    *,
    usd: float | None = 0.4,
    number: int = 1,
    phase: MachinePhase = MachinePhase.RUNNING,
) -> str:
    """A machine as its workflow reports it."""
    machine_id = f"m{number:012x}"
    live = ActiveInstance(
        provider="vast", instance_id=str(number), label=f"dmt-test-{machine_id}-g1-a1",
        generation=1, ssh=SshAddress(host="127.0.0.1", port=22), usd_per_hour=usd, gpu="RTX 4090",
        gpu_count=1,
    )  # fmt: skip
    await PostgresMachineStore(who.api.services.database).record(
        MachineRecord(
            spec=MachineSpec(
                machine_id=machine_id, owner_id=await me(who), name=name, env="test",
                requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
                authorized_keys=("ssh-ed25519 AAAA me",),
            ),
            state=MachineState(
                phase=phase,
                generation=1,
                version=number,
                instance=live if phase is MachinePhase.RUNNING else None,
            ),
            at=NOW,
        )
    )  # fmt: skip
    return machine_id


async def put(who: Session, **body: Any) -> Any:
    return await who.call("PUT", "/budgets", json=body)


async def test_a_budget_is_set_shown_replaced_and_taken_away(owner: Session):
    machine_id = await add(owner)
    answer = await put(owner, usd_per_hour=1.5, usd_per_day=20)
    assert answer.status_code == 200, answer.text
    mine = answer.json()
    assert (mine["scope"], mine["usd_per_hour"], mine["usd_per_month"]) == ("owner", 1.5, None)
    assert (mine["warn_at"], mine["actions"]) == (0.8, ["notify", "cheaper", "hibernate"])
    own = (await put(owner, machine="my-box", usd_per_hour=0.5, actions=["notify"])).json()
    assert (own["machine_id"], own["machine_name"]) == (machine_id, "my-box")
    await put(owner, total=True, usd_per_month=900)
    await put(owner, usd_per_hour=2)

    listed = (await owner.get("/budgets")).json()["items"]
    assert [(b["scope"], b["usd_per_hour"], b["usd_per_day"]) for b in listed] == [
        ("machine", 0.5, None),
        ("owner", 2, None),
        ("total", None, None),
    ]
    assert listed[1]["set_by"] == "owner@example.com"
    assert (await owner.delete("/budgets", params={"machine": "my-box"})).status_code == 204
    gone = await owner.delete("/budgets", params={"machine": "my-box"})
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"usd_per_hour": 0},
        {"usd_per_hour": -1},
        {"usd_per_hour": "a lot"},
        {"usd_per_hour": 1, "warn_at": 80},
        {"usd_per_hour": 1, "actions": ["hibernate"]},
        {"usd_per_hour": 1, "actions": []},
        {"usd_per_hour": 1, "total": True, "machine": "my-box"},
        {"usd_per_hour": 1, "usd_per_year": 5},
    ],
)
async def test_what_is_no_budget(owner: Session, body: dict[str, Any]):
    answer = await put(owner, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_everybody_limits_what_is_theirs(api: Running, owner: Session):
    await add(owner)
    other = await api.somebody_else()
    refused = await put(other, total=True, usd_per_hour=1)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await other.delete("/budgets", params={"total": True})).status_code == 403
    assert (await put(other, machine="my-box", usd_per_hour=1)).status_code == 404
    await put(owner, usd_per_hour=1)
    await put(owner, total=True, usd_per_hour=5)
    assert (await other.get("/budgets")).json()["items"] == []
    seen = (await other.get("/budgets/status")).json()
    assert (seen["total"], seen["budgets"], seen["mine"]["usd_per_hour"]) == (None, [], 0)


async def test_a_key_for_machines_does_not_raise_a_cap(owner: Session):
    key = await owner.api_key("machines:read", "machines:write")
    assert (await put(key, usd_per_hour=100)).status_code == 403
    assert (await key.get("/budgets/status")).status_code == 200
    assert (await put(await owner.api_key("account:write"), usd_per_hour=1)).status_code == 200


async def test_a_new_machine_without_room_is_refused_at_once_and_leaves_nothing(owner: Session):
    await add(owner, usd=0.5)
    await put(owner, usd_per_hour=0.5)
    answer = await owner.post("/machines", order(name="second"))
    assert (answer.status_code, answer.json()["code"]) == (409, "budget_exceeded")
    assert "the owner's budget is $0.50/h" in answer.json()["detail"]
    assert "dumont budget set" in answer.json()["hint"]
    assert (await owner.get("/machines", params={"name": "second"})).json()["items"] == []


async def test_waking_without_room_is_refused_at_once(owner: Session):
    await add(owner, usd=0.5)
    await add(owner, "asleep", number=2, phase=MachinePhase.HIBERNATED)
    await put(owner, total=True, usd_per_hour=0.5)
    answer = await owner.post("/machines/asleep/wake")
    assert (answer.status_code, answer.json()["code"]) == (409, "budget_exceeded")
    assert "0.5" not in answer.json()["detail"], "what others spend is nobody's business"


async def test_the_status_shows_what_is_known_and_what_is_not(owner: Session):
    await add(owner, usd=0.4)
    await add(owner, "priceless", usd=None, number=2)
    await put(owner, usd_per_hour=0.3, usd_per_day=20)
    seen = (await owner.get("/budgets/status")).json()
    mine = seen["mine"]
    assert (mine["usd_per_hour"], mine["unknown"], mine["today_usd"]) == (0.4, 1, 0)
    midnight_h = 24 - (datetime.fromisoformat(mine["at"]).hour + 1)
    assert 0.4 * midnight_h <= mine["projected_today_usd"] <= 0.4 * (midnight_h + 1)
    assert seen["total"]["usd_per_hour"] == 0.4
    caps = {cap["cap"]: cap for cap in seen["budgets"][0]["caps"]}
    assert caps["usd_per_hour"]["passes"] is True
    assert caps["usd_per_day"]["passes"] is False
    assert caps["usd_per_day"]["limit_usd"] == 20


async def test_receipts_are_their_owners_and_the_administrators(api: Running, owner: Session):
    other = await api.somebody_else()
    theirs = await me(other)
    due = Due(
        budget=Budget(scope=Scope.OWNER, scope_id=theirs, usd_per_hour=1), cap=Cap.HOUR,
        step=Step.NOTIFY, at=NOW, period="2026-05-04", cause="too much", figures=(),
        owner_id=theirs, machines=(),
    )  # fmt: skip
    await api.services.budgets.record(due.act(None, done="the owner was told", result="told"), [])
    (act,) = (await other.get("/budgets/acts")).json()["items"]
    assert (act["step"], act["cause"], act["result"]) == ("notify", "too much", "told")
    assert len((await owner.get("/budgets/acts")).json()["items"]) == 1
    third = await api.somebody_else()
    assert (await third.get("/budgets/acts")).json()["items"] == []


async def test_what_all_may_spend_is_the_administrators_alone(api: Running, owner: Session):
    """Whose machine was put to sleep for it sees that it was, and not by which figures."""
    other = await api.somebody_else()
    theirs = await me(other)
    machine = MachineBurn(
        machine_id="m1", owner_id=theirs, name="box", phase=MachinePhase.RUNNING, gpu_usd=0.4
    )
    due = Due(
        budget=Budget(scope=Scope.TOTAL, usd_per_day=987, warn_at=0.7), cap=Cap.DAY,
        step=Step.HIBERNATE, at=NOW, period="2026-05-04", cause="$986.54 of $987.00 are spent",
        figures=(Figure(name="spent today", usd=986.54, basis="the ledger"),), owner_id=None,
        machines=(machine,),
    )  # fmt: skip
    act = due.act(machine, done="ordered to hibernate", accepted=True, result="it goes to sleep")
    await api.services.budgets.record(act, [])
    answer = await other.get("/budgets/acts")
    assert answer.status_code == 200, answer.text
    for hidden in ("987", "986", "0.7", "spent today"):
        assert hidden not in answer.text
    (seen,) = answer.json()["items"]
    assert (seen["machine_name"], seen["result"]) == ("box", "it goes to sleep")
    assert (seen["budget"]["scope"], seen["figures"]) == ("total", [])
    assert "budget of the whole deployment" in seen["cause"]
    (whole,) = (await owner.get("/budgets/acts")).json()["items"]
    assert whole["cause"] == "$986.54 of $987.00 are spent"
    assert (whole["budget"]["usd_per_day"], whole["budget"]["warn_at"]) == (987, 0.7)
    assert whole["figures"][0]["usd"] == 986.54


async def test_two_machines_created_at_once_do_not_share_one_machines_room(whole: Whole):
    """The API lets both begin, for there is room for one; the workers let one rent."""
    await put(whole.owner, usd_per_hour=0.5)
    answers = await asyncio.gather(
        *(whole.owner.post("/machines", order(name=f"box-{n}")) for n in (1, 2))
    )
    assert [answer.status_code for answer in answers] == [201, 201]
    async with asyncio.timeout(60):
        while True:
            items = (await whole.owner.get("/machines")).json()["items"]
            if sorted(item["phase"] for item in items) == ["running", "stuck"]:
                break
            await asyncio.sleep(0.1)
    stuck = next(item for item in items if item["phase"] == "stuck")
    assert re.search(r"the owner's budget is \$0\.50/h: .* would make \$0\.\d+/h", stuck["reason"])
    assert stuck["next_try_at"] is not None
    assert len(whole.cloud.alive()) == 1
