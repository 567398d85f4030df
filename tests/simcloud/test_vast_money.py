"""Money: every second billed once, by the rules, and what happens when it runs out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.vast_api import VastApi

HOUR, DAY = 3600.0, 86_400.0


def bill(vast: VastApi, number: int) -> dict[str, Any]:
    """Return the charge of one instance over all days, items summed by type."""
    vast.control.put("/vast/account")  # bills up to this moment
    rows = vast.get(
        "/api/v0/charges/",
        select_filters=json.dumps({"day": {"gte": 0, "lte": 10**11}}),
        limit=500,
        format="table",
    )["results"]
    [row] = [row for row in rows if row["source"] == f"instance-{number}"]
    items: dict[str, dict[str, float]] = {}
    for item in row["items"]:
        entry = items.setdefault(item["type"], {"amount": 0.0, "quantity": 0.0})
        entry["amount"] += item["amount"]
        entry["quantity"] += item["quantity"]
    return {**row, "items": items}


def credit(vast: VastApi) -> float:
    return float(vast.get("/api/v0/users/current")["credit"])


def test_running_bills_gpu_and_disk_and_stopping_only_disk(vast: VastApi) -> None:
    row = vast.running(disk=100)
    number = row["id"]
    before = credit(vast)
    vast.control.advance(10 * HOUR)
    charge = bill(vast, number)
    hours = charge["items"]["gpu"]["quantity"]
    assert hours == pytest.approx(10, abs=0.01)
    assert charge["items"]["gpu"]["amount"] == pytest.approx(row["dph_base"] * hours, rel=1e-3)
    disk = row["storage_cost"] * 100 / 720
    assert charge["items"]["disk"]["amount"] == pytest.approx(disk * 10, rel=1e-2)
    assert charge["amount"] == pytest.approx(
        sum(i["amount"] for i in charge["items"].values()), abs=1e-5
    )
    assert before - credit(vast) == pytest.approx(row["dph_total"] * 10, rel=1e-2)

    vast.put(f"/api/v0/instances/{number}/", state="stopped")
    vast.wait(number, "exited")
    gpu = bill(vast, number)["items"]["gpu"]["amount"]
    vast.control.advance(10 * HOUR)
    later = bill(vast, number)["items"]
    assert later["gpu"]["amount"] == pytest.approx(gpu, rel=1e-3)
    assert later["disk"]["amount"] == pytest.approx(disk * 20, rel=1e-2)


def test_nothing_is_billed_while_the_host_is_offline(vast: VastApi) -> None:
    row = vast.running(disk=100)
    vast.control.vast(row["id"], "host-offline")
    vast.wait(row["id"], "offline")
    before = credit(vast)
    vast.control.advance(5 * DAY)
    vast.control.put("/vast/account")
    assert credit(vast) == before
    vast.control.vast(row["id"], "host-online")


def test_no_gpu_is_billed_while_loading(vast: VastApi) -> None:
    vast.control.add_fault("never_leaves_loading")
    number = vast.rent(disk=100)
    vast.wait(number, "loading")
    vast.control.advance(3 * HOUR)
    items = bill(vast, number)["items"]
    assert items["gpu"]["amount"] == 0
    assert items["disk"]["amount"] > 0


def test_a_day_that_ends_starts_a_new_line(vast: VastApi) -> None:
    row = vast.running()
    vast.control.advance(3 * DAY)
    vast.control.put("/vast/account")
    rows = vast.get("/api/v0/charges/", select_filters=json.dumps({"day": {"gte": 0}}), limit=500)
    [charge] = [each for each in rows["results"] if each["source"] == f"instance-{row['id']}"]
    days = {item["metadata"]["day"] for item in charge["items"]}
    assert len(days) == 4
    assert all(item["quantity"] <= 24.001 for item in charge["items"] if item["type"] == "gpu")


def test_traffic_is_billed_by_the_gigabyte(vast: VastApi) -> None:
    offer = vast.cheapest(inet_up_cost={"gt": 0}, inet_down_cost={"gt": 0})
    number = vast.rent(offer)
    vast.control.vast(number, "bandwidth", up_gb=10, down_gb=100)
    items = bill(vast, number)["items"]
    assert items["bwu"]["amount"] == pytest.approx(offer["inet_up_cost"] * 10)
    assert items["bwd"]["amount"] == pytest.approx(offer["inet_down_cost"] * 100)


def test_a_new_bid_changes_the_price_from_then_on(vast: VastApi) -> None:
    offer = vast.cheapest(type="bid")
    number = vast.rent(offer, price=1.0)
    vast.wait(number, "running")
    vast.control.advance(HOUR)
    vast.put(f"/api/v0/instances/bid_price/{number}/", price=2.0)
    vast.control.advance(HOUR)
    assert bill(vast, number)["items"]["gpu"]["amount"] == pytest.approx(3.0, rel=1e-2)


def test_without_credit_everything_stops_and_nothing_starts(vast: VastApi) -> None:
    row = vast.running()
    number = row["id"]
    vast.control.put("/vast/account", credit=0)
    stopped = vast.wait(number, "exited")
    assert stopped["cur_state"] == "stopped"
    offer = vast.cheapest()
    answer = vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", {"image": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "insufficient_credit"
    assert vast.raw("PUT", f"/api/v0/instances/{number}/", {"state": "running"}).status_code == 400
    vast.control.put("/vast/account", add=50)
    vast.put(f"/api/v0/instances/{number}/", state="running")
    vast.wait(number, "running")


def test_a_contract_ends(vast: VastApi) -> None:
    row = vast.running()
    vast.control.put("/vast/account", credit=100_000)
    vast.control.advance(row["duration"] + 60)
    ended = vast.wait(row["id"], "exited")
    assert ended["duration"] == 0
    answer = vast.raw("PUT", f"/api/v0/instances/{row['id']}/", {"state": "running"})
    assert answer.status_code == 400
    vast.control.advance(2 * DAY)
    vast.control.put("/vast/account")
    for _ in range(200):
        if vast.row(row["id"]) is None:
            break
    assert vast.row(row["id"]) is None


def test_invoices_are_what_came_in(vast: VastApi) -> None:
    vast.control.put("/vast/account", add=25)
    answer = vast.get("/api/v1/invoices/", select_filters=json.dumps({"when": {"gte": 0}}))
    assert answer["results"][-1]["amount"] == 25
    missing = vast.raw("GET", "/api/v1/invoices/")
    assert missing.status_code == 200
    assert missing.json()["success"] is False


def test_a_price_increase_waits_for_its_answer(vast: VastApi) -> None:
    row = vast.running()
    vast.control.vast(row["id"], "price-increase", factor=2.0)
    [pending] = vast.get("/api/v0/instances/pending-price-increases/")["pending_price_increases"]
    assert pending["contract_id"] == row["id"]
    body = {"pending_price_increase_id": pending["pending_price_increase_id"]}
    assert (
        vast.raw("PUT", "/api/v0/instances/accept-price-increase/", {**body, "x": 1}).status_code
        == 400
    )
    vast.put("/api/v0/instances/accept-price-increase/", **body)
    again = vast.row(row["id"])
    assert again is not None
    assert again["dph_base"] == pytest.approx(row["dph_base"] * 2, rel=1e-3)
    stale = vast.raw("PUT", "/api/v0/instances/reject-price-increase/", body)
    assert (stale.status_code, stale.json()["error"]) == (404, "no_pending_price_increase")
