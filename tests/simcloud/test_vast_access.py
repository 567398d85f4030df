"""Who may call how often: keys and their refusals, rate limits, quota, slashes, webhooks."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.cloud import SimCloud
from tests.support.vast_api import VastApi


@pytest.mark.parametrize(
    ("method", "path", "without", "wrong"),
    [
        ("GET", "/api/v0/instances/", 401, 401),
        ("GET", "/api/v1/instances", 401, 401),
        ("GET", "/api/v0/users/current", 401, 401),
        ("PUT", "/api/v0/asks/1/", 401, 401),
        ("GET", "/api/v0/charges/", 403, 404),
        ("GET", "/api/v1/invoices/", 403, 404),
        ("POST", "/api/v0/bundles/", 200, 404),
        ("GET", "/api/v0/gpu_names/unique/", 200, 200),
    ],
)
def test_keys_are_refused_in_each_endpoints_own_way(
    quick_cloud: SimCloud, method: str, path: str, without: int, wrong: int
) -> None:
    url = quick_cloud.vast_url + path
    answer = httpx.request(method, url, json={} if method != "GET" else None)
    assert answer.status_code == without
    bad = httpx.request(
        method,
        url,
        json={} if method != "GET" else None,
        headers={"Authorization": "Bearer nonsense"},
    )
    assert bad.status_code == wrong
    if wrong != 200:
        assert bad.json()["error"] == "auth_error"
        assert bad.json()["msg"] == "Invalid user key"
    if without == 403:
        assert answer.json()["msg"] == "This action requires login."


def test_the_key_may_come_in_the_query_and_paths_may_lack_a_slash(quick_cloud: SimCloud) -> None:
    for path in ("/api/v0/users/current", "/api/v0/users/current/"):
        answer = httpx.get(quick_cloud.vast_url + path, params={"api_key": quick_cloud.vast_key})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"


def test_unknown_paths_and_bodies_answer_json(vast: VastApi) -> None:
    assert vast.raw("GET", "/api/v0/nowhere/").json()["error"] == "not_found"
    assert vast.raw("PATCH", "/api/v0/bundles/").status_code == 405
    answer = vast.http.request("POST", "/api/v0/bundles/", content=b"{not json")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_an_instances_own_key_manages_only_that_instance(vast: VastApi) -> None:
    first, second = vast.cheapest(), vast.search(num_gpus={"eq": 1}, limit=1)[0]
    made = vast.put(f"/api/v0/asks/{first['id']}/", image="x", disk=10)
    other = vast.put(f"/api/v0/asks/{second['id']}/", image="x", disk=10)
    with VastApi(vast.cloud, key=made["instance_api_key"]) as own:
        assert own.raw("GET", "/api/v0/instances/").status_code == 403
        path = f"/api/v0/instances/{other['new_contract']}/"
        assert own.raw("DELETE", path).status_code == 403
        own.put(f"/api/v0/instances/{made['new_contract']}/", state="stopped")
        own.delete(f"/api/v0/instances/{made['new_contract']}/")
        gone = own.raw("DELETE", f"/api/v0/instances/{made['new_contract']}/")
        assert gone.status_code == 401


def test_an_instance_can_end_itself_with_what_it_was_given(vast: VastApi) -> None:
    """A dead-man's switch has the container's environment and nothing else."""
    other = vast.running()
    call = "curl -s -o /dev/null -w '%{http_code} ' -H \"Authorization: Bearer $CONTAINER_API_KEY\""
    api = f"{vast.cloud.vast_url}/api/v0"
    stop = '-X PUT -d \'{"state": "stopped"}\''
    row = vast.running(
        onstart=f"""
        {call} {api}/users/current/
        {call} {api}/instances/
        {call} -X PUT -d '{{"price": 1}}' {api}/instances/bid_price/$CONTAINER_ID/
        {call} {stop} {api}/instances/{other["id"]}/
        {call} -X DELETE {api}/instances/{other["id"]}/
        echo; {call} {stop} {api}/instances/$CONTAINER_ID/
        """
    )
    stopped = vast.wait(row["id"], "exited")
    assert stopped["intended_status"] == "stopped"
    console = vast.control.get(f"/machines/vast-{row['id']}/logs")["log"]
    assert "403 403 403 403 403" in console
    assert vast.wait(other["id"], "running")


def test_a_scoped_key_does_what_its_scopes_say(vast: VastApi) -> None:
    made = vast.post(
        "/api/v0/auth/apikeys/", name="reader", permissions={"api": {"instance_read": {}}}
    )
    with VastApi(vast.cloud, key=made["key"]) as reader:
        assert reader.get("/api/v0/instances/")["instances"] == []
        assert reader.raw("PUT", "/api/v0/asks/1/", {"image": "x"}).status_code == 403
        assert reader.raw("GET", "/api/v0/charges/").status_code == 403
        vast.delete(f"/api/v0/auth/apikeys/{made['id']}/")
        assert reader.raw("GET", "/api/v0/instances/").status_code == 401


@pytest.fixture
def strict(vast: VastApi) -> Iterator[VastApi]:
    vast.control.put("/vast/strict", strict=True)
    yield vast
    vast.control.put("/vast/strict", strict=False)


def test_calls_too_close_together_get_both_shapes_of_429(strict: VastApi) -> None:
    path = "/api/v0/instances/bid_price/1/"
    assert strict.raw("PUT", path, {"price": 1}).status_code == 404
    refusals = [strict.raw("PUT", path, {"price": 1}) for _ in range(8)]
    assert {answer.status_code for answer in refusals} == {429}
    shapes = {
        (answer.headers["content-type"].partition(";")[0], "retry-after" in answer.headers)
        for answer in refusals
    }
    assert shapes == {
        ("application/json", True),
        ("application/json", False),
        ("text/plain", True),
        ("text/plain", False),
    }
    for answer in refusals:
        assert "API requests too frequent" in answer.text
        assert 1 <= int(answer.headers.get("retry-after", "1")) <= 6
    detail = next(a.json()["detail"] for a in refusals if "json" in a.headers["content-type"])
    assert detail == "API requests too frequent endpoint threshold=5.5"


def test_limits_are_per_endpoint_and_identity_and_end(strict: VastApi) -> None:
    strict.control.knobs(threshold_unit_seconds=0.3)
    assert strict.raw("GET", "/api/v0/instances/1/").status_code == 200
    # another id is the same endpoint; another endpoint and another key are not
    assert strict.raw("GET", "/api/v0/instances/2/").status_code == 429
    assert strict.raw("GET", "/api/v0/instances/").status_code == 200
    key = strict.post("/api/v0/auth/apikeys/", name="other")["key"]
    with VastApi(strict.cloud, key=key) as other:
        assert other.raw("GET", "/api/v0/instances/1/").status_code == 200
    deadline = time.monotonic() + 5
    while strict.raw("GET", "/api/v0/instances/1/").status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_daily_search_quota_ends_and_resets(vast: VastApi) -> None:
    vast.control.put("/vast/account/searches", left=2)
    vast.search()
    vast.search()
    answer = vast.raw("POST", "/api/v0/bundles/", {})
    assert (answer.status_code, answer.json()["error"]) == (429, "search_quota_exceeded")
    now = vast.control.get("/clock")["now"]
    reset = int(answer.headers["x-ratelimit-reset"])
    assert 0 < reset - now <= 86_400
    assert reset % 86_400 == 0
    vast.control.advance(reset - now + 1)
    assert vast.search()


class Receiver:
    """A webhook receiver that fails a number of times first."""

    def __init__(self, failures: int = 0) -> None:
        self.got: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            left = failures

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.put(({k.lower(): v for k, v in self.headers.items()}, body))
                failing = type(self).left > 0
                type(self).left -= 1
                self.send_response(503 if failing else 204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    each = Receiver(failures=2)
    yield each
    each.close()


def test_webhooks_are_signed_and_retried_and_name_no_instance_field(
    vast: VastApi, receiver: Receiver
) -> None:
    made = vast.post(
        "/api/v0/webhooks/", url=receiver.url, notification_types=["client:outbid"], secret="s3cret"
    )
    assert "secret" not in vast.get("/api/v0/webhooks/")["webhooks"][0]
    number = vast.rent(vast.cheapest(type="bid"), price=1.0, label="hooked")
    vast.wait(number, "running")
    vast.control.vast(number, "outbid")
    deliveries = [receiver.got.get(timeout=10) for _ in range(3)]
    for attempt, (headers, body) in enumerate(deliveries, start=1):
        assert headers["x-vast-delivery-attempt"] == str(attempt)
        signed = headers["x-vast-timestamp"].encode() + b"." + body
        expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
        assert headers["x-vast-signature-256"] == f"sha256={expected}"
    payload: dict[str, Any] = json.loads(deliveries[-1][1])
    assert payload["notif_type"] == "outbid"
    assert deliveries[-1][0]["x-vast-event-id"] == payload["event_id"]
    assert set(payload) == {
        "event_id", "user_id", "notif_type", "subject", "message", "timestamp",
    }  # fmt: skip
    assert str(number) in payload["message"]
    vast.control.vast(number, "resume")
    vast.wait(number, "running")
    with pytest.raises(queue.Empty):
        receiver.got.get(timeout=0.2)
    vast.delete(f"/api/v0/webhooks/{made['webhook']['id']}/")


def test_webhooks_are_at_most_four_and_https_or_loopback(vast: VastApi) -> None:
    for bad in ("http://example.com/x", "ftp://127.0.0.1/", "", None, 5):
        assert vast.raw("POST", "/api/v0/webhooks/", {"url": bad}).status_code == 400
    made = [
        vast.post("/api/v0/webhooks/", url="https://example.test/hook")["webhook"]["id"]
        for _ in range(4)
    ]
    assert vast.raw("POST", "/api/v0/webhooks/", {"url": "https://a.test/"}).status_code == 400
    slugs = [
        row["slug"]
        for row in vast.get("/api/v0/webhooks/notification-types/")["notification_types"]
    ]
    assert "client:outbid" in slugs
    for number in made:
        vast.put(f"/api/v0/webhooks/{number}/", enabled=False)
        vast.delete(f"/api/v0/webhooks/{number}/")
