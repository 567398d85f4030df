"""Machines through the API, with real workflows behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dumont.temporal.ids import machine_workflow_id
from tests.integration.api.conftest import PUBLIC_KEY, Running, Session, Whole, order
from tests.support.fakes import offer
from workflows.machine import Machine


async def test_a_machine_is_created_shown_and_destroyed(whole: Whole):
    made = await whole.owner.post("/machines", order())
    assert made.status_code == 201, made.text
    machine_id = made.json()["machine_id"]
    assert made.headers["location"] == f"/api/v1/machines/{machine_id}"

    running = await whole.owner.until_phase("my-box", "running")
    assert running["ssh"] == {"host": "127.1.1.1", "port": 22, "user": "root"}
    assert running["host_key"].startswith("ssh-ed25519 ")
    assert running["instance"]["label"] == f"dmt-test-{machine_id}-g1-a1"
    assert running["workflow_url"].endswith(f"/workflows/machine%2F{machine_id}")
    reached = {rung["rung"] for rung in running["ladder"] if rung["reached_at"]}
    assert {"rented", "running"} <= reached

    ended = await whole.owner.delete("/machines/my-box")
    assert ended.status_code == 202
    await whole.owner.until_phase(machine_id, "destroyed")
    assert whole.cloud.alive() == []
    again = await whole.owner.delete(f"/machines/{machine_id}")
    assert (again.status_code, again.json()["machine"]["phase"]) == (202, "destroyed")
    assert (await whole.owner.get("/machines")).json()["items"] == []


async def test_the_event_log_tells_who_destroyed_it(whole: Whole):
    machine_id = (await whole.owner.post("/machines", order())).json()["machine_id"]
    await whole.owner.until_phase(machine_id, "running")
    await whole.owner.delete("/machines/my-box")
    await whole.owner.until_phase(machine_id, "destroyed")
    events: list[dict[str, Any]] = []
    cursor = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await whole.owner.get(f"/machines/{machine_id}/events", params=params)).json()
        events += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(seqs, reverse=True)
    assert len(set(seqs)) == len(seqs)
    kinds = [event["kind"] for event in reversed(events)]
    assert kinds[0] == "machine.requested"
    assert kinds[-1] == "machine.destroyed"
    (asked,) = [event for event in events if event["kind"] == "machine.destroying"]
    assert "owner@example.com" in asked["summary"]


async def test_the_same_key_is_the_same_machine(whole: Whole):
    async def ask() -> tuple[int, str]:
        answer = await whole.owner.post("/machines", order(), headers={"Idempotency-Key": "k-1"})
        return answer.status_code, answer.json()["machine_id"]

    answers = await asyncio.gather(*(ask() for _ in range(6)))
    assert len({machine_id for _, machine_id in answers}) == 1
    assert sorted(status for status, _ in answers) == [200] * 5 + [201]
    await whole.owner.until_phase("my-box", "running")
    assert len(whole.cloud.orders) == 1


async def test_a_destroyed_machine_does_not_come_back_by_its_old_key(whole: Whole):
    headers = {"Idempotency-Key": "k-1"}
    machine_id = (await whole.owner.post("/machines", order(), headers=headers)).json()[
        "machine_id"
    ]
    await whole.owner.until_phase(machine_id, "running")
    await whole.owner.delete("/machines/my-box")
    await whole.owner.until_phase(machine_id, "destroyed")
    again = await whole.owner.post("/machines", order(), headers=headers)
    assert (again.status_code, again.json()["phase"]) == (200, "destroyed")
    assert len(whole.cloud.orders) == 1


async def test_a_key_used_for_something_else_is_refused(whole: Whole):
    headers = {"Idempotency-Key": "k-1"}
    await whole.owner.post("/machines", order(), headers=headers)
    dearer = order(requirement={"gpu": "RTX 4090", "max_usd_per_hour": 5})
    refused = await whole.owner.post("/machines", dearer, headers=headers)
    assert refused.status_code == 409
    assert refused.json()["field"] == "Idempotency-Key"


async def test_a_second_machine_of_a_name_is_refused_until_the_first_is_gone(whole: Whole):
    machine_id = (await whole.owner.post("/machines", order())).json()["machine_id"]
    refused = await whole.owner.post("/machines", order())
    assert refused.status_code == 409
    assert refused.json()["field"] == "name"
    assert "dumont destroy my-box" in refused.json()["hint"]
    await whole.owner.delete("/machines/my-box")
    await whole.owner.until_phase(machine_id, "destroyed")
    assert (await whole.owner.post("/machines", order())).status_code == 201


async def test_another_owner_neither_sees_nor_touches_it(whole: Whole):
    machine_id = (await whole.owner.post("/machines", order())).json()["machine_id"]
    other = await whole.api.somebody_else()
    for ref in ("my-box", machine_id):
        for method, path in (
            ("GET", f"/machines/{ref}"),
            ("DELETE", f"/machines/{ref}"),
            ("GET", f"/machines/{ref}/events"),
            ("GET", f"/machines/{ref}/logs"),
            ("GET", f"/machines/{ref}/wake-quote"),
            ("GET", f"/events?machine={ref}"),
        ):
            assert (await other.call(method, path)).status_code == 404, (method, path)
    assert (await other.get("/machines")).json()["items"] == []
    assert (await other.post("/machines", order())).status_code == 201
    assert (await whole.owner.get(f"/machines/{machine_id}")).json()["phase"] != "destroying"


async def test_stored_ssh_keys_are_let_in(whole: Whole):
    await whole.owner.post("/ssh-keys", {"name": "laptop", "public_key": PUBLIC_KEY})
    made = await whole.owner.post("/machines", order(ssh_keys=[]))
    handle = whole.temporal.get_workflow_handle_for(
        Machine.run, machine_workflow_id(made.json()["machine_id"])
    )
    history = await handle.fetch_history()
    (start,) = await whole.temporal.data_converter.decode(
        history.events[0].workflow_execution_started_event_attributes.input.payloads
    )
    assert start["spec"]["authorized_keys"] == [PUBLIC_KEY]


async def test_without_any_ssh_key_nothing_is_rented(whole: Whole):
    refused = await whole.owner.post("/machines", order(ssh_keys=[]))
    assert refused.status_code == 412
    assert refused.json()["field"] == "ssh_keys"
    assert (await whole.owner.get("/machines")).json()["items"] == []


async def test_logs_come_from_the_provider(whole: Whole):
    whole.cloud.offers = []
    await whole.owner.post("/machines", order())
    await whole.owner.until_phase("my-box", "stuck")
    early = await whole.owner.get("/machines/my-box/logs")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    whole.cloud.offers = [offer()]
    await whole.owner.post("/machines", order(name="other-box"))
    await whole.owner.until_phase("other-box", "running")
    assert (await whole.owner.get("/machines/other-box/logs")).json()["text"] == "hello\n"
    whole.cloud.instances.clear()
    gone = await whole.owner.get("/machines/other-box/logs")
    assert (gone.status_code, gone.json()["code"]) == (409, "instance_gone")


async def test_a_stuck_machine_says_why_and_when_it_tries_again(whole: Whole):
    whole.cloud.offers = []
    await whole.owner.post("/machines", order())
    stuck = await whole.owner.until_phase("my-box", "stuck")
    assert "RTX 4090" in stuck["reason"]
    assert stuck["next_try_at"] is not None
    assert stuck["ssh"] is None


async def test_what_a_wake_would_cost_now(whole: Whole):
    await whole.owner.post("/machines", order())
    await whole.owner.until_phase("my-box", "running")
    said = (await whole.owner.get("/machines/my-box/wake-quote")).json()
    assert said["usd_per_hour"] > 0
    assert said["fitting"] >= 1
    assert said["seconds"] >= 0
    assert said["basis"].startswith("estimate: the median of its last start")
    assert said["bytes"] is None, "nothing is known of a workspace without a snapshot"
    assert len(whole.cloud.orders) == 1, "asking rents nothing"


async def test_offers_are_asked_for_once_by_many(whole: Whole):
    asked = 0
    browse = whole.cloud.browse_offers

    async def counted(**how: Any) -> Any:
        nonlocal asked
        asked += 1
        return await browse(**how)

    whole.cloud.browse_offers = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(
        *(whole.owner.get("/offers", params={"gpu": "4090"}) for _ in range(5))
    )
    assert [answer.status_code for answer in answers] == [200] * 5
    prices = [item["usd_per_hour"] for item in answers[0].json()["items"]]
    assert prices == [0.30, 0.32]
    assert asked == 1


async def test_an_empty_market_is_an_empty_list(whole: Whole):
    whole.cloud.offers = []
    assert (await whole.owner.get("/offers")).json()["items"] == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "my/box"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "My-Box"}, "name"),
        ({"requirement": {"gpu": "RTX 9999", "max_usd_per_hour": 1}}, "gpu"),
        (
            {"requirement": {"gpu": "RTX 4090", "max_usd_per_hour": 0}},
            "requirement.max_usd_per_hour",
        ),
        (
            {"requirement": {"gpu": "RTX 4090", "max_usd_per_hour": -1}},
            "requirement.max_usd_per_hour",
        ),
        ({"requirement": {"gpu": "RTX 4090"}}, "requirement.max_usd_per_hour"),
        ({"ssh_keys": ["nonsense"]}, "ssh_keys.0"),
        ({"ssh_keys": [PUBLIC_KEY, f"{PUBLIC_KEY}\nssh-ed25519 AAAA evil"]}, "ssh_keys.1"),
        ({"setup_script": "x" * 2001}, "setup_script"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_input_is_refused_by_field(owner: Session, changes: dict[str, Any], field: str):
    refused = await owner.post("/machines", order(**changes))
    assert refused.status_code == 422, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["field"] == field
    assert refused.json()["code"] == "invalid_input"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/machines?limit=0", "limit"),
        ("/machines?limit=201", "limit"),
        ("/machines?cursor=%21", "cursor"),
        ("/machines?cursor=MjAyNiBi", "cursor"),
        ("/machines?phase=asleep", "phase.0"),
        ("/offers?gpu=RTX+9999", "gpu"),
        ("/offers?max_usd_per_hour=nan", "max_usd_per_hour"),
        ("/events?after=-1", "after"),
        ("/events?after=99999999999999999999", "after"),
    ],
)
async def test_bad_queries_are_refused_by_field(owner: Session, path: str, field: str):
    refused = await owner.get(path)
    assert refused.status_code == 422, refused.text
    assert refused.json()["field"] == field


async def test_a_body_that_is_no_json_or_too_large_is_refused(api: Running, owner: Session):
    broken = await owner.call(
        "POST", "/machines", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (broken.status_code, broken.json()["field"]) == (422, "body")

    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    for content in (b" " * 2_000_000, endless()):
        large = await owner.call(
            "POST", "/machines", content=content, headers={"Content-Type": "application/json"}
        )
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


async def test_all_pages_together_show_each_machine_once(api: Running, owner: Session):
    from tests.integration.db.conftest import record, spec

    me = (await owner.get("/auth/me")).json()["user_id"]
    from dumont.db.machine_store import PostgresMachineStore

    store = PostgresMachineStore(api.services.database)
    for number in range(23):
        await store.record(record(spec(number, name=f"box-{number}", owner=me)))
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 5} | ({"cursor": cursor} if cursor else {})
        page = (await owner.get("/machines", params=params)).json()
        seen += [machine["name"] for machine in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == 23
    assert set(seen) == {f"box-{number}" for number in range(23)}
    assert [m["name"] for m in (await owner.get("/machines?name=box-7")).json()["items"]] == [
        "box-7"
    ]
    phases = "/machines?phase=provisioning&phase=stuck&limit=200"
    assert len((await owner.get(phases)).json()["items"]) == 23
    assert (await owner.get("/machines?phase=running")).json()["items"] == []
