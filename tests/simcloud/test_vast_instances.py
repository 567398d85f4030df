"""Renting and living: what an owner sees on the four status axes, and at the machine itself."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.ssh import KeyPair
from tests.support.vast_api import VastApi


def axes(row: dict[str, Any]) -> tuple[str, str, str, str | None]:
    return row["cur_state"], row["next_state"], row["intended_status"], row["actual_status"]


def login(key: KeyPair, row: dict[str, Any], command: str, *, wait_s: float = 10) -> str:
    """Log in directly as soon as sshd answers."""
    deadline = time.monotonic() + wait_s
    while True:
        port = int(row["ports"]["22/tcp"][0]["HostPort"])
        done = key.ssh(row["public_ipaddr"].strip(), port, command)
        if done.returncode != 255:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.05)


def refused(key: KeyPair, row: dict[str, Any]) -> bool:
    port = int(row["ports"]["22/tcp"][0]["HostPort"])
    return "refused" in key.ssh(row["public_ipaddr"].strip(), port, "true").stderr


def test_from_nothing_to_a_login_to_nothing(vast: VastApi, key: KeyPair) -> None:
    offer = vast.cheapest()
    number = vast.rent(offer, label="box", onstart="echo up > /workspace/up", env={"A": "b c"})
    row = vast.row(number)
    assert row is not None
    assert axes(row)[:3] == ("running", "running", "running")
    assert row["actual_status"] in (None, "loading")
    assert row["ports"] is None
    row = vast.wait(number, "running")
    assert row["status_msg"] == "success, running ubuntu/ssh_direc ssh_proxy"
    assert row["is_bid"] is False
    assert row["dph_base"] == offer["dph_base"]
    assert row["label"] == "box"
    assert row["extra_env"] == [["A", "b c"]]
    seen = login(key, row, "cat /workspace/up; nvidia-smi -L; env | grep -c ^A=; pwd")
    assert seen.splitlines()[0] == "up"
    assert "RTX 4090" in seen
    assert seen.splitlines()[-2:] == ["0", "/root"]
    proxied = key.ssh(row["ssh_host"], row["ssh_port"], "echo proxied")
    assert proxied.stdout == "proxied\n"
    assert vast.delete(f"/api/v0/instances/{number}/") == {"success": True}
    assert refused(key, row)
    assert vast.row(number) is None
    answer = vast.raw("DELETE", f"/api/v0/instances/{number}")
    assert (answer.status_code, answer.json()["error"]) == (404, "no_such_instance")


def test_an_offer_dies_when_it_is_rented(vast: VastApi) -> None:
    offer = vast.cheapest()
    vast.rent(offer)
    assert vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", {"image": "x"}).status_code == 404
    assert offer["machine_id"] not in [row["machine_id"] for row in vast.search(limit=500)]
    vast.destroy_all()
    again = [row for row in vast.search(limit=500) if row["machine_id"] == offer["machine_id"]]
    assert [row["id"] for row in again] != [offer["id"]]
    assert len(again) == 1


def test_every_port_asked_for_is_mapped_to_a_random_one(vast: VastApi, key: KeyPair) -> None:
    row = vast.running(
        env={"-p 8000:8000": "1", "-p 70000:70000": "1"},
        onstart="cd /workspace; echo page > index.html; echo $VAST_TCP_PORT_70000 > identity;"
        "exec python3 -m http.server 8000",
    )
    outside = int(row["ports"]["8000/tcp"][0]["HostPort"])
    url = f"http://{row['public_ipaddr']}:{outside}"
    for _ in range(100):
        try:
            answer = httpx.get(url)
            break
        except httpx.HTTPError:
            time.sleep(0.05)
    assert answer.text == "page\n"
    identity = httpx.get(url + "/identity").text.strip()
    assert row["ports"][f"{identity}/tcp"][0]["HostPort"] == identity


@pytest.mark.parametrize(
    ("env", "pairs"),
    [
        ("-e A=1 -e B='x y' -p 80:80 -h box", [["A", "1"], ["B", "x y"], ["-p 80:80", "1"], ["-h box", "1"]]),
        ({"A": 1, "-p 80:80": "1"}, [["A", "1"], ["-p 80:80", "1"]]),
        (None, []),
    ],
)  # fmt: skip
def test_environment_may_be_an_object_or_docker_flags(
    vast: VastApi, env: Any, pairs: list[list[str]]
) -> None:
    row = vast.row(vast.rent(env=env))
    assert row is not None
    assert row["extra_env"] == pairs


@pytest.mark.parametrize(
    ("order", "error", "named"),
    [
        ({"image": None}, "invalid_args", "image"),
        ({"price": 0}, "invalid_price", "0.001"),
        ({"price": 129}, "invalid_price", "128"),
        ({"price": "much"}, "invalid_price", "price"),
        ({"disk": 0}, "invalid_args", "disk"),
        ({"disk": 10**6}, "invalid_args", "disk"),
        ({"label": "x" * 1025}, "invalid_args", "label"),
        ({"onstart": "x" * 4049}, "invalid_args", "onstart"),
        ({"runtype": "windows"}, "invalid_args", "runtype"),
        ({"env": 5}, "invalid_args", "env"),
        ({"env": {"-p eighty": "1"}}, "invalid_args", "env"),
        ({"target_state": "asleep"}, "invalid_args", "target_state"),
    ],
)
def test_a_bad_order_is_refused_and_rents_nothing(
    vast: VastApi, order: dict[str, Any], error: str, named: str
) -> None:
    offer = vast.cheapest()
    body = {"image": "ubuntu", "disk": 10, **order}
    answer = vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", body)
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert named in answer.json()["msg"]
    assert vast.get("/api/v0/instances")["instances"] == []


def test_stop_keeps_the_disk_and_start_brings_it_back(vast: VastApi, key: KeyPair) -> None:
    row = vast.running()
    number = row["id"]
    login(key, row, "echo kept > /workspace/file; echo also > /root/file")
    vast.put(f"/api/v0/instances/{number}/", state="stopped")
    stopped = vast.wait(number, "exited")
    assert axes(stopped) == ("stopped", "stopped", "stopped", "exited")
    assert stopped["ports"] is None
    assert refused(key, row)
    vast.put(f"/api/v0/instances/{number}/", state="running")
    again = vast.wait(number, "running")
    assert axes(again) == ("running", "running", "running", "running")
    assert login(key, again, "cat /workspace/file /root/file") == "kept\nalso\n"


def test_start_waits_in_scheduling_while_another_has_the_gpu(vast: VastApi) -> None:
    row = vast.running()
    number = row["id"]
    vast.put(f"/api/v0/instances/{number}/", state="stopped")
    vast.wait(number, "exited")
    vast.control.vast(number, "preempt", seconds=3600)
    vast.put(f"/api/v0/instances/{number}/", state="running")
    queued = vast.row(number)
    assert queued is not None
    assert axes(queued) == ("stopped", "running", "running", "exited")
    vast.control.vast(number, "resume")
    vast.wait(number, "running")


def test_outbid_has_no_notice_and_resumes_by_itself(vast: VastApi, key: KeyPair) -> None:
    offer = vast.cheapest(type="bid")
    number = vast.rent(
        offer,
        price=round(offer["min_bid"] * 1.1, 4),
        onstart="trap 'echo warned > /workspace/warned' TERM; while :; do sleep 0.1; done",
    )
    row = vast.wait(number, "running")
    assert row["is_bid"] is True
    login(key, row, "echo mine > /workspace/file")
    vast.control.vast(number, "outbid")
    lost = vast.row(number)
    assert lost is not None
    # indistinguishable from an owner's stop: only the owner's memory tells
    assert axes(lost) == ("stopped", "stopped", "stopped", "exited")
    assert lost["min_bid"] > row["dph_base"]
    for _ in range(100):
        if refused(key, row):
            break
    assert refused(key, row)
    vast.control.vast(number, "resume")
    back = vast.wait(number, "running")
    assert login(key, back, "ls /workspace") == "file\n"


def test_a_higher_bid_wins_the_gpu_back(vast: VastApi) -> None:
    offer = vast.cheapest(type="bid")
    number = vast.rent(offer, price=offer["min_bid"])
    vast.wait(number, "running")
    vast.control.vast(number, "outbid")
    lost = vast.row(number)
    assert lost is not None
    assert lost["cur_state"] == "stopped"
    vast.put(f"/api/v0/instances/bid_price/{number}/", client_id="me", price=lost["min_bid"])
    row = vast.wait(number, "running")
    assert row["dph_base"] == lost["min_bid"]
    answer = vast.raw("PUT", f"/api/v0/instances/bid_price/{number}/", {"price": 0})
    assert answer.status_code == 400
    assert answer.json()["msg"] == "Please set a bid price >= 0.001."


def test_market_prices_alone_outbid_and_resume(vast: VastApi) -> None:
    """No fault, no flag: rivals' bids walk past ours and back."""
    # where rivals set the price and not the landlord's floor, they are close behind
    contested = next(
        host
        for host in vast.control.get("/vast/market")["hosts"]
        if len(host["slots"]) == 1
        and host["slots"][0]["rival_until"] is None
        and host["min_bids"][0] <= host["slots"][0]["rival_bid"] * 1.06
    )
    order = {"image": "x", "price": contested["min_bids"][0]}
    number = vast.put(f"/api/v0/asks/{contested['slots'][0]['ask_id']}/", **order)["new_contract"]
    vast.wait(number, "running")
    vast.control.knobs(rivals=True)
    seen = set()
    for _ in range(400):
        vast.control.post("/vast/market/tick", count=20)
        row = vast.control.get("/vast/instances")["instances"][0]
        seen.add(row["hold"])
        if {"outbid", None} <= seen and row["hold"] is None and len(seen) > 1:
            break
    assert seen == {"outbid", None}
    # whatever rivals rented meanwhile comes back
    vast.control.advance(5 * 3600)
    vast.control.post("/vast/market/tick")


def test_on_demand_preempts_a_bid(vast: VastApi) -> None:
    offer = vast.cheapest(type="bid")
    bid = vast.rent(offer, price=offer["min_bid"])
    vast.wait(bid, "running")
    [same] = [row for row in vast.search(limit=500) if row["machine_id"] == offer["machine_id"]]
    firm = vast.rent(same)
    lost = vast.row(bid)
    assert lost is not None
    assert lost["cur_state"] == "stopped"
    vast.wait(firm, "running")
    vast.delete(f"/api/v0/instances/{firm}/")
    vast.wait(bid, "running")


def test_a_low_bid_is_born_stopped_and_bills_its_disk(vast: VastApi) -> None:
    offer = vast.cheapest(type="bid")
    number = vast.rent(offer, price=round(offer["min_bid"] / 2, 4))
    row = vast.row(number)
    assert row is not None
    assert axes(row) == ("stopped", "stopped", "stopped", None)
    answer = vast.raw(
        "PUT",
        f"/api/v0/asks/{vast.cheapest(type='bid')['id']}/",
        {"image": "x", "price": 0.001, "cancel_unavail": True},
    )
    assert (answer.status_code, answer.json()["error"]) == (410, "no_such_ask")
    assert len(vast.get("/api/v0/instances")["instances"]) == 1


@pytest.mark.parametrize("knob", ["error", "error_with_contract"])
def test_a_low_bid_may_be_answered_with_an_error(vast: VastApi, knob: str) -> None:
    vast.control.knobs(low_bid_create=knob)
    offer = vast.cheapest(type="bid")
    answer = vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", {"image": "x", "price": 0.001})
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    listed = [row["id"] for row in vast.get("/api/v0/instances")["instances"]]
    expected = [answer.json()["new_contract"]] if knob == "error_with_contract" else []
    assert listed == expected


def test_forgetting_the_price_rents_on_demand(vast: VastApi) -> None:
    offer = vast.cheapest(type="bid")
    row = vast.row(vast.rent(offer))
    assert row is not None
    assert row["is_bid"] is False
    assert row["dph_base"] > offer["dph_base"]


def test_a_host_goes_offline_and_comes_back_elsewhere(vast: VastApi, key: KeyPair) -> None:
    row = vast.running()
    number = row["id"]
    login(key, row, "echo kept > /workspace/file")
    vast.control.vast(number, "host-offline")
    unknown = vast.wait(number, "unknown")
    assert axes(unknown)[:3] == ("running", "running", "running")
    assert unknown["ports"] == row["ports"]
    vast.wait(number, "offline")
    assert refused(key, row)
    vast.control.vast(number, "host-online", new_address=True)
    back = vast.wait(number, "running")
    assert back["public_ipaddr"] != row["public_ipaddr"]
    assert login(key, back, "cat /workspace/file") == "kept\n"


def test_a_cut_off_host_keeps_its_processes(vast: VastApi, key: KeyPair) -> None:
    row = vast.running(onstart="while :; do date +%s%N > /workspace/beat; sleep 0.05; done")
    number = row["id"]
    look = "until [ -s /workspace/beat ]; do sleep 0.05; done; pgrep -of onstart.sh"
    before = login(key, row, look)
    assert before
    vast.control.vast(number, "host-offline", network_only=True)
    vast.wait(number, "offline")
    vast.control.vast(number, "host-online", new_address=False)
    back = vast.wait(number, "running")
    assert login(key, back, look) == before


def test_a_container_that_dies_reads_exited_a_moment_later(vast: VastApi, key: KeyPair) -> None:
    row = vast.running()
    vast.control.machine(f"vast-{row['id']}", "kill")
    assert refused(key, row)
    dead = vast.wait(row["id"], "exited")
    assert dead["cur_state"] == "running"
    vast.put(f"/api/v0/instances/{row['id']}/", state="running")
    vast.wait(row["id"], "running")


def test_reboot_keeps_the_disk_and_recycle_does_not(vast: VastApi, key: KeyPair) -> None:
    row = vast.running()
    number = row["id"]
    login(key, row, "echo kept > /workspace/file")

    def up_since() -> float:
        return float(vast.control.get("/vast/instances")["instances"][0]["running_since"] or 0)

    def rebooted_since(before: float, row: dict[str, Any]) -> bool:
        return up_since() > before

    for operation, left in (("reboot", "kept\n"), ("recycle", "")):
        before = up_since()
        vast.put(f"/api/v0/instances/{operation}/{number}/")
        vast.wait(number, partial(rebooted_since, before))
        again = vast.wait(number, "running")
        assert login(key, again, "cat /workspace/file 2>/dev/null; true") == left


def test_keys_attach_and_detach_on_one_instance(vast: VastApi, key: KeyPair, make_key: Any) -> None:
    other = make_key("attached")
    row = vast.running()
    path = f"/api/v0/instances/{row['id']}/ssh/"
    port = int(row["ports"]["22/tcp"][0]["HostPort"])
    login(key, row, "true")
    assert other.ssh(row["public_ipaddr"], port, "true").returncode == 255
    vast.post(path, ssh_key=other.public)
    assert other.ssh(row["public_ipaddr"], port, "true").returncode == 0
    keys = json.loads(vast.get(path)["ssh_keys"])
    [number] = [each["id"] for each in keys if each["public_key"] == other.public]
    vast.delete(f"{path}{number}/")
    assert other.ssh(row["public_ipaddr"], port, "true").returncode == 255
    assert vast.raw("POST", path, {"ssh_key": "no key"}).status_code == 400


def test_logs_and_commands_reach_the_disk_even_when_stopped(vast: VastApi, key: KeyPair) -> None:
    row = vast.running(onstart="echo one; echo two; echo three; touch /workspace/file")
    number = row["id"]
    login(key, row, "true")

    def fetch(answer: Any) -> str:
        for _ in range(100):
            # no key: the official client fetches it without one
            got = httpx.get(answer["result_url"])
            if got.status_code == 200:
                return got.text
            time.sleep(0.02)
        raise AssertionError("never ready")

    path = f"/api/v0/instances/request_logs/{number}/"
    assert fetch(vast.put(path, tail="2")) == "two\nthree\n"
    assert fetch(vast.put(path, filter="one")) == "one\n"
    vast.put(f"/api/v0/instances/{number}/", state="stopped")
    vast.wait(number, "exited")
    command = f"/api/v0/instances/command/{number}/"
    assert fetch(vast.put(command, command="ls /workspace")) == "file\n"
    fetch(vast.put(command, command="rm /workspace/file"))
    assert fetch(vast.put(command, command="ls /workspace")) == ""
    for bad in ("cat /etc/passwd", "ls /etc", "ls ../../..", "rm -r /workspace", "", "x" * 513):
        assert vast.raw("PUT", command, {"command": bad}).status_code == 400


def test_the_v1_list_filters_orders_and_pages(vast: VastApi) -> None:
    offers = vast.search(verified={"in": [True, False]}, limit=31)
    labels = [f"group-{index % 2}" for index in range(31)]
    for offer, label in zip(offers, labels, strict=True):
        vast.rent(offer, label=label, target_state="stopped")
    seen: list[int] = []
    token: str | None = None
    while True:
        query: dict[str, str] = {} if token is None else {"after_token": token}
        page = vast.get("/api/v1/instances/", limit=100, **query)
        assert len(page["instances"]) <= 25
        assert page["total_instances"] == 31
        assert page["label_counts"] == {"group-0": 16, "group-1": 15}
        seen += [row["id"] for row in page["instances"]]
        token = page["next_token"]
        if token is None:
            break
    assert seen == sorted(seen)
    assert len(seen) == 31
    page = vast.get(
        "/api/v1/instances",
        select_filters=json.dumps({"label": {"in": ["group-1"]}}),
        order_by=json.dumps([{"col": "gpu_name", "dir": "desc"}]),
        select_cols=json.dumps(["id", "label", "gpu_name"]),
    )
    names = [row["gpu_name"] for row in page["instances"]]
    assert names == sorted(names, reverse=True)
    assert {row["label"] for row in page["instances"]} == {"group-1"}
    assert set(page["instances"][0]) == {"id", "label", "gpu_name"}
    bad = vast.raw("GET", "/api/v1/instances/", select_filters=json.dumps({"dph_total": {"lt": 1}}))
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid_request")
    assert vast.get("/api/v0/instances/filters/")["filters"]


def test_bulk_and_launch(vast: VastApi) -> None:
    offers = [row["id"] for row in vast.search(num_gpus={"eq": 1}, limit=3)]
    made = vast.post("/api/v0/asks/bulk/", ids=[*offers, 1], image="x", disk=10)
    assert len(made["new_contracts"]) == 3
    assert [row["success"] for row in made["results"]] == [True, True, True, False]
    launched = vast.put(
        "/api/v0/launch_instance/",
        image="x",
        disk=10,
        q={"gpu_name": {"eq": "RTX 3090"}, "order": [["dph_total", "asc"]]},
    )
    ids = [*made["new_contracts"], launched["new_contract"]]
    vast.put("/api/v0/instances/", state="stopped", ids=ids)
    assert {row["intended_status"] for row in vast.get("/api/v0/instances")["instances"]} == {
        "stopped"
    }
    vast.delete("/api/v0/instances/", instance_ids=ids)
    assert vast.get("/api/v0/instances")["instances"] == []


def test_metrics_follow_the_machine_and_start_unknown(vast: VastApi, key: KeyPair) -> None:
    vast.control.knobs(metrics_lag_seconds=0.0)
    row = vast.running(
        onstart="cp /usr/bin/perl /tmp/train; exec /tmp/train -e 'while (1) {}'",
    )
    assert row["disk_usage"] == -1 or row["disk_usage"] >= 0
    busy = vast.wait(row["id"], lambda r: r["gpu_util"] is not None and r["gpu_util"] > 30)
    assert busy["gpu_temp"] > 34
    assert 0 <= busy["disk_util"] <= 1
    vast.control.vast(row["id"], "metrics", gpu_util=3.0)
    fixed = vast.row(row["id"])
    assert fixed is not None
    assert fixed["gpu_util"] == 3.0
