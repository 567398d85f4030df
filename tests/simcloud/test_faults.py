"""Faults: each can be aimed at one call, one instance, one label or the whole cloud, and counted."""

from __future__ import annotations

import random
import socket
import time
from typing import Any

import httpx
import pytest

from simcloud.faults import FaultRule, Faults
from simcloud.store import Store
from tests.support.cloud import SimCloud
from tests.support.ssh import KeyPair
from tests.support.vast_api import VastApi


def listed(vast: VastApi) -> list[int]:
    """What truly exists, whatever the API says at the moment."""
    return [row["id"] for row in vast.control.get("/vast/instances")["instances"]]


# -- rules -------------------------------------------------------------------------------------


@pytest.fixture
def faults() -> Faults:
    return Faults(Store(":memory:"), random.Random(1))


def fire(faults: Faults, operation: str = "a.b", **about: Any) -> bool:
    rule = faults.fire(provider="vast", operation=operation, effects={"slow"}, **about)
    return rule is not None


def test_a_rule_strikes_where_it_matches_and_nowhere_else(faults: Faults) -> None:
    faults.add(FaultRule(effect="slow", provider="vast", operation="a.*", label="dmt-*-g1-*"))
    assert fire(faults, label="dmt-x-g1-a1")
    assert not fire(faults, label="dmt-x-g2-a1")
    assert not fire(faults)
    assert not fire(faults, "b.a", label="dmt-x-g1-a1")
    other = faults.fire(provider="gcp", operation="a.b", effects={"slow"}, label="dmt-x-g1-a1")
    assert other is None
    played_elsewhere = faults.fire(
        provider="vast", operation="a.b", effects={"hang"}, label="dmt-x-g1-a1"
    )
    assert played_elsewhere is None


def test_a_rule_can_wait_and_wear_out(faults: Faults) -> None:
    faults.add(FaultRule(effect="slow", skip=2, times=3))
    assert [fire(faults) for _ in range(7)] == [False, False, True, True, True, False, False]
    assert faults.list() == []


def test_a_rule_can_be_a_matter_of_chance(faults: Faults) -> None:
    faults.add(FaultRule(effect="slow", probability=0.3))
    assert 200 < sum(fire(faults) for _ in range(1000)) < 400


def test_rules_survive_a_restart(tmp_path: Any) -> None:
    store = Store(tmp_path / "s.db")
    kept = Faults(store, random.Random(1)).add(FaultRule(effect="slow", times=2))
    again = Faults(store, random.Random(1))
    assert fire(again)
    assert [rule.id for rule in again.list()] == [kept.id]
    assert again.remove(kept.id)
    assert not fire(again)


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({}, "effect"),
        ({"effect": "slow", "probability": 2}, "probability"),
        ({"effect": "slow", "times": 0}, "times"),
        ({"effect": "slow", "color": "red"}, "color"),
        ({"effect": "server_eror"}, "server_error"),
    ],
)
def test_a_bad_rule_is_refused_by_name(
    quick_cloud: SimCloud, rule: dict[str, Any], named: str
) -> None:
    answer = httpx.post(f"{quick_cloud.control_url}/faults", json=rule)
    assert answer.status_code == 422
    assert named in answer.json()["error"]


# -- the transport -----------------------------------------------------------------------------


def test_a_create_that_timed_out_in_truth_succeeded(vast: VastApi) -> None:
    vast.control.add_fault("hang_after", operation="asks.create", label="once-*", times=1)
    offer = vast.cheapest()
    vast.control.reset_requests()
    with pytest.raises(httpx.ReadTimeout):
        vast.http.put(
            f"/api/v0/asks/{offer['id']}/", json={"image": "x", "label": "once-1"}, timeout=0.5
        )
    assert len(listed(vast)) == 1
    deadline = time.monotonic() + 5
    while not vast.control.requests("asks.create"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    [entry] = vast.control.requests("asks.create")
    assert entry["status"] is None
    assert entry["label"] == "once-1"
    assert entry["fault"].startswith("fault-")


def test_a_create_that_timed_out_in_truth_did_nothing(vast: VastApi) -> None:
    vast.control.add_fault("hang", operation="asks.create", times=1)
    with pytest.raises(httpx.ReadTimeout):
        vast.http.put(f"/api/v0/asks/{vast.cheapest()['id']}/", json={"image": "x"}, timeout=0.5)
    assert listed(vast) == []
    vast.rent()


@pytest.mark.parametrize("effect", ["drop", "drop_after"])
def test_connections_are_cut_before_or_after_the_work(vast: VastApi, effect: str) -> None:
    offer = vast.cheapest()
    vast.control.add_fault(effect, operation="asks.create", times=1)
    with pytest.raises(httpx.TransportError):
        vast.http.put(f"/api/v0/asks/{offer['id']}/", json={"image": "x"})
    assert len(listed(vast)) == (1 if effect == "drop_after" else 0)


def test_an_answer_is_cut_in_half(vast: VastApi) -> None:
    vast.control.add_fault("truncate", operation="offers.search", times=1)
    with pytest.raises(httpx.TransportError):
        vast.search()
    assert vast.search()


@pytest.mark.parametrize(
    ("effect", "parameters", "status", "kind", "text"),
    [
        ("server_error", {"status": 502}, 502, "text/plain", "upstream"),
        ("error", {"status": 500, "body": {"a": 1}}, 500, "application/json", '{"a": 1}'),
        ("error_after", {"status": 504}, 504, "text/plain", "upstream"),
        ("html", {}, 200, "text/html", "<html>"),
        ("rate_limit", {"threshold": 2.0}, 429, "application/json", "threshold=2.0"),
        ("rate_limit", {"shape": "text"}, 429, "text/plain", "too frequent"),
    ],
)
def test_answers_can_be_replaced(
    vast: VastApi, effect: str, parameters: dict[str, Any], status: int, kind: str, text: str
) -> None:
    vast.control.add_fault(effect, operation="users.*", times=1, parameters=parameters)
    answer = vast.raw("GET", "/api/v0/users/current/")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(kind)
    assert text in answer.text
    assert vast.raw("GET", "/api/v0/users/current/").status_code == 200


def test_retry_after_is_as_told(vast: VastApi) -> None:
    vast.control.add_fault("rate_limit", times=1, parameters={"retry_after": 7})
    assert vast.raw("GET", "/api/v0/users/current/").headers["retry-after"] == "7"


def test_a_slow_call_is_slow(vast: VastApi) -> None:
    vast.control.add_fault("slow", operation="users.current", times=1, parameters={"seconds": 0.4})
    started = time.monotonic()
    assert vast.raw("GET", "/api/v0/users/current/").status_code == 200
    assert time.monotonic() - started >= 0.4


def test_calls_are_counted_by_operation_and_status(vast: VastApi) -> None:
    vast.control.reset_requests()
    vast.search()
    vast.search()
    vast.raw("DELETE", "/api/v0/instances/1/")
    totals = vast.control.totals()["vast"]
    assert totals == {"offers.search": {"200": 2}, "instances.destroy": {"404": 1}}


# -- renting -----------------------------------------------------------------------------------


def test_created_but_error_carries_the_instance_to_clean_up(vast: VastApi) -> None:
    offer = vast.cheapest()
    vast.control.add_fault("created_but_error", times=1)
    answer = vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", {"image": "x"})
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    number = answer.json()["new_contract"]
    assert listed(vast) == [number]
    row = vast.row(number)
    assert row is not None
    assert row["cur_state"] == "stopped"


@pytest.mark.parametrize("status", [404, 409, 410])
def test_an_offer_is_gone_at_the_last_moment(vast: VastApi, status: int) -> None:
    offer = vast.cheapest()
    vast.control.add_fault("offer_gone", times=1, parameters={"status": status})
    answer = vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", {"image": "x"})
    assert answer.status_code == status
    assert "no_such_ask" in answer.text
    assert listed(vast) == []


def test_no_offers_and_no_more_searches(vast: VastApi) -> None:
    vast.control.add_fault("empty_offers", times=1)
    assert vast.search() == []
    assert vast.search()
    vast.control.add_fault("search_quota_exceeded", times=1)
    assert vast.raw("POST", "/api/v0/bundles/", {}).status_code == 429
    assert vast.raw("POST", "/api/v0/bundles/", {}).status_code == 429
    vast.control.put("/vast/account/searches", left=1000)


def test_no_credit_for_one_call(vast: VastApi) -> None:
    vast.control.add_fault("insufficient_credit", times=1)
    answer = vast.raw("PUT", f"/api/v0/asks/{vast.cheapest()['id']}/", {"image": "x"})
    assert answer.json()["error"] == "insufficient_credit"


def test_outbid_during_provisioning(vast: VastApi) -> None:
    vast.control.add_fault("outbid_after", times=1, parameters={"seconds": 0.1})
    number = vast.rent(vast.cheapest(type="bid"), price=1.0)
    vast.wait(number, lambda row: row["cur_state"] == "stopped")


# -- booting -----------------------------------------------------------------------------------


def test_it_never_leaves_loading(vast: VastApi) -> None:
    vast.control.add_fault("never_leaves_loading", label="stuck")
    stuck, fine = vast.rent(label="stuck"), vast.rent(label="fine")
    vast.wait(fine, "running")
    row = vast.row(stuck)
    assert row is not None
    assert row["actual_status"] == "loading"
    vast.delete(f"/api/v0/instances/{stuck}/")
    assert stuck not in listed(vast)


def test_the_container_cannot_be_created(vast: VastApi) -> None:
    vast.control.add_fault("oci_error", times=1)
    row = vast.wait(vast.rent(), "created")
    assert "OCI runtime create failed" in row["status_msg"]


def test_the_container_exits_at_once(vast: VastApi) -> None:
    vast.control.add_fault("exits", times=1)
    vast.wait(vast.rent(), "exited")


def test_running_without_ssh(vast: VastApi, key: KeyPair) -> None:
    vast.control.add_fault("no_ssh", times=1)
    row = vast.running()
    port = int(row["ports"]["22/tcp"][0]["HostPort"])
    assert "refused" in key.ssh(row["public_ipaddr"], port, "true").stderr


def test_ssh_refuses_the_key_until_it_is_attached(vast: VastApi, key: KeyPair) -> None:
    vast.control.add_fault("wrong_key", times=1)
    row = vast.running()
    port = int(row["ports"]["22/tcp"][0]["HostPort"])
    deadline = time.monotonic() + 10
    while "denied" not in (done := key.ssh(row["public_ipaddr"], port, "true")).stderr:
        assert time.monotonic() < deadline, done
    vast.post(f"/api/v0/instances/{row['id']}/ssh/", ssh_key=key.public)
    assert key.ssh(row["public_ipaddr"], port, "true").returncode == 0


def test_the_port_takes_up_and_never_answers(vast: VastApi) -> None:
    vast.control.add_fault("unreachable", times=1)
    row = vast.running()
    address = (row["public_ipaddr"], int(row["ports"]["22/tcp"][0]["HostPort"]))
    with socket.create_connection(address, timeout=0.5) as probe, pytest.raises(TimeoutError):
        probe.recv(10)


def test_the_port_map_comes_late(vast: VastApi) -> None:
    vast.control.add_fault("ports_missing", times=1, parameters={"seconds": 0.6})
    number = vast.rent()
    assert vast.wait(number, "running")["ports"] is None
    assert vast.wait(number, lambda row: row["ports"] is not None)["actual_status"] == "running"


def test_a_frozen_machine_is_silent_until_it_thaws(vast: VastApi, key: KeyPair) -> None:
    row = vast.running()
    port = int(row["ports"]["22/tcp"][0]["HostPort"])
    deadline = time.monotonic() + 10
    while key.ssh(row["public_ipaddr"], port, "true").returncode != 0:
        assert time.monotonic() < deadline
    vast.control.machine(f"vast-{row['id']}", "freeze")
    with socket.create_connection((row["public_ipaddr"], port), timeout=1) as probe:
        probe.settimeout(0.3)
        with pytest.raises(TimeoutError):
            probe.recv(1)
    vast.control.machine(f"vast-{row['id']}", "thaw")
    assert key.ssh(row["public_ipaddr"], port, "echo back").stdout == "back\n"


# -- showing -----------------------------------------------------------------------------------


def test_lists_can_lie_once(vast: VastApi) -> None:
    numbers = [vast.rent(offer) for offer in vast.search(num_gpus={"eq": 1}, limit=4)]
    vast.control.add_fault("empty_list", operation="instances.list_v1", times=1)
    vast.control.add_fault("truncated_list", operation="instances.list_v1", times=1)
    seen = [[row["id"] for row in vast.get("/api/v1/instances/")["instances"]] for _ in range(3)]
    assert seen == [[], numbers[:2], numbers]


def test_metrics_can_be_null_or_minus_one(vast: VastApi) -> None:
    number = vast.rent()
    vast.control.add_fault("metrics_null", instance=str(number), times=1)
    vast.control.add_fault("metrics_unknown", instance=str(number), times=1)
    first, second = vast.row(number), vast.row(number)
    assert first is not None
    assert second is not None
    assert (first["gpu_util"], first["disk_usage"]) == (None, None)
    assert (second["gpu_util"], second["disk_usage"]) == (-1, -1)


def test_an_address_can_end_with_a_newline(vast: VastApi) -> None:
    number = vast.rent()
    vast.control.add_fault("trailing_newline", times=1)
    row = vast.row(number)
    assert row is not None
    assert row["public_ipaddr"].endswith("\n")


def test_destroyed_and_listed_for_a_while(vast: VastApi) -> None:
    number = vast.rent()
    vast.control.add_fault("destroyed_but_listed", times=1, parameters={"seconds": 0.6})
    vast.delete(f"/api/v0/instances/{number}/")
    row = vast.row(number)
    assert row is not None
    assert row["cur_state"] == "stopped"
    assert vast.raw("DELETE", f"/api/v0/instances/{number}/").status_code == 404
    deadline = time.monotonic() + 5
    while vast.row(number) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_control_api_says_what_it_does_not_know(quick_cloud: SimCloud) -> None:
    url = quick_cloud.control_url
    assert httpx.post(f"{url}/vast/instances/1/outbid", json={}).status_code == 404
    assert "none of" in httpx.post(f"{url}/vast/instances/1/explode", json={}).json()["error"]
    assert httpx.post(f"{url}/machines/nobody/kill").status_code == 404
    assert httpx.delete(f"{url}/faults/fault-999").status_code == 404
    bad = httpx.put(f"{url}/vast/knobs", json={"rivals": "perhaps"})
    assert (bad.status_code, "rivals" in bad.json()["error"]) == (422, True)
    assert httpx.post(f"{url}/clock", json={"advance": -1}).status_code == 422
    page = httpx.get(url)
    assert page.headers["content-type"].startswith("text/html")
