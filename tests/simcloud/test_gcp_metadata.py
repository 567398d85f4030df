"""The metadata server and sign-in: what runs in a machine, and who may call the API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google

ROOT = "/computeMetadata/v1"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.2,0.3") as cloud:
        client = Google(cloud)
        yield client
        client.close()


@pytest.fixture(scope="module")
def guest(google: Google) -> Iterator[httpx.Client]:
    """What a program inside the instance `guest` sees."""
    google.make(
        "guest",
        metadata={
            "items": [
                {"key": "Purpose", "value": "standby"},
                {"key": "enable-guest-attributes", "value": "TRUE"},
            ]
        },
        serviceAccounts=[
            {"email": "default", "scopes": ["https://www.googleapis.com/auth/compute"]}
        ],
        tags={"items": ["web"]},
    )
    rows = google.cloud.control.get("/gcp/instances")["instances"]
    (row,) = [row for row in rows if row["name"] == "guest"]
    # port 80 as root, as a guest expects it
    base = f"http://{row['metadata_address']}"
    with httpx.Client(base_url=base, headers={"Metadata-Flavor": "Google"}, timeout=30) as client:
        yield client


def test_leaves_are_text_and_directories_lists(google: Google, guest: httpx.Client) -> None:
    found = google.instance("guest")
    answer = guest.get(f"{ROOT}/instance/name")
    assert (answer.text, answer.headers["metadata-flavor"]) == ("guest", "Google")
    assert answer.headers["etag"]
    assert guest.get(f"{ROOT}/instance/id").text == found["id"]
    assert guest.get(f"{ROOT}/instance/zone").text.endswith(f"/zones/{ZONE}")
    assert guest.get(f"{ROOT}/instance/preempted").text == "FALSE"
    assert guest.get(f"{ROOT}/instance/attributes/Purpose").text == "standby"
    assert guest.get(f"{ROOT}/project/project-id").text == google.cloud.project
    ip = guest.get(f"{ROOT}/instance/network-interfaces/0/access-configs/0/external-ip").text
    assert ip == found["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    listing = guest.get(f"{ROOT}/instance/").text.split()
    assert {"attributes/", "network-interfaces/", "preempted", "zone"} <= set(listing)
    moved = guest.get(f"{ROOT}/instance", follow_redirects=False)
    assert moved.status_code == 301
    assert guest.get(f"{ROOT}/instance/nothing").status_code == 404


def test_recursive_json_is_camel_case_but_keeps_the_users_names(guest: httpx.Client) -> None:
    tree = guest.get(f"{ROOT}/instance/", params={"recursive": "true", "alt": "json"}).json()
    assert tree["networkInterfaces"][0]["accessConfigs"][0]["type"] == "ONE_TO_ONE_NAT"
    assert tree["attributes"]["enable-guest-attributes"] == "TRUE"
    assert tree["tags"] == ["web"]
    flat = guest.get(f"{ROOT}/instance/", params={"recursive": "true", "alt": "text"}).text
    assert "network-interfaces/0/mtu 1460\n" in flat


def test_header_is_required_and_proxies_are_refused(guest: httpx.Client) -> None:
    bare = httpx.get(f"{guest.base_url}{ROOT}/instance/name")
    assert bare.status_code == 403
    forwarded = guest.get(f"{ROOT}/instance/name", headers={"X-Forwarded-For": "10.0.0.1"})
    assert forwarded.status_code == 403


def test_each_machine_sees_itself(google: Google, guest: httpx.Client) -> None:
    google.make("neighbour")
    rows = google.cloud.control.get("/gcp/instances")["instances"]
    (row,) = [row for row in rows if row["name"] == "neighbour"]
    answer = httpx.get(
        f"http://{row['metadata_address']}{ROOT}/instance/name",
        headers={"Metadata-Flavor": "Google"},
    )
    assert answer.text == "neighbour"
    assert guest.get(f"{ROOT}/instance/name").text == "guest"


def test_waiting_for_change_returns_with_the_change(google: Google, guest: httpx.Client) -> None:
    path = f"{ROOT}/instance/attributes/Purpose"
    etag = guest.get(path).headers["etag"]
    unchanged = guest.get(
        path, params={"wait_for_change": "true", "timeout_sec": "1", "last_etag": etag}
    )
    assert unchanged.text == "standby"
    seen: list[tuple[float, str]] = []

    def wait() -> None:
        answer = guest.get(path, params={"wait_for_change": "true"})
        seen.append((time.monotonic(), answer.text))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)  # the waiter must be waiting: there is nothing to observe until it is not
    assert not seen
    found = google.instance("guest")
    items = [
        {**item, "value": "primary"} if item["key"] == "Purpose" else item
        for item in found["metadata"]["items"]
    ]
    changed = time.monotonic()
    google.post(
        f"zones/{ZONE}/instances/guest/setMetadata",
        {"items": items, "fingerprint": found["metadata"]["fingerprint"]},
    )
    waiting.join(10)
    assert seen[0][1] == "primary"
    assert seen[0][0] - changed < 2
    # a client that missed it learns at once
    assert guest.get(path, params={"wait_for_change": "true", "last_etag": etag}).text == "primary"


def test_preemption_wakes_a_waiting_guest(google: Google) -> None:
    google.make("watcher")
    rows = google.cloud.control.get("/gcp/instances")["instances"]
    (row,) = [row for row in rows if row["name"] == "watcher"]
    answers: list[str] = []

    def wait() -> None:
        answers.append(
            httpx.get(
                f"http://{row['metadata_address']}{ROOT}/instance/preempted",
                params={"wait_for_change": "true"},
                headers={"Metadata-Flavor": "Google"},
                timeout=30,
            ).text
        )

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    google.control("watcher", "preempt")
    waiting.join(10)
    assert answers == ["TRUE"]


def test_guest_attributes_go_from_guest_to_api(google: Google, guest: httpx.Client) -> None:
    path = f"zones/{ZONE}/instances/guest/getGuestAttributes"
    assert guest.put(f"{ROOT}/instance/guest-attributes/dumont/state", content="ok").is_success
    found = google.get(path, queryPath="dumont/")["queryValue"]["items"]
    assert found == [{"namespace": "dumont", "key": "state", "value": "ok"}]
    assert guest.delete(f"{ROOT}/instance/guest-attributes/dumont/state").is_success
    google.get(path, queryPath="dumont/", expect=404)
    assert guest.put(f"{ROOT}/instance/name", content="x").status_code == 403


def test_token_of_the_machine_opens_the_api(google: Google, guest: httpx.Client) -> None:
    base = f"{ROOT}/instance/service-accounts/default"
    token = guest.get(f"{base}/token").json()
    assert token["token_type"] == "Bearer"
    Google(google.cloud, token=token["access_token"]).get("zones")
    Google(google.cloud, token=token["access_token"] + "x").get("zones", expect=401)
    identity = guest.get(f"{base}/identity", params={"audience": "https://me"}).text
    claims = jwt.decode(identity, options={"verify_signature": False})
    assert claims["aud"] == "https://me"
    assert guest.get(f"{base}/identity").status_code == 400


def assertion(google: Google, **changes: Any) -> str:
    account = json.loads(Path(google.cloud.summary["gcp_credentials"]).read_text())
    now = int(time.time())
    claims = {
        "iss": account["client_email"],
        "aud": account["token_uri"],
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    return jwt.encode(claims, account["private_key"], algorithm="RS256")


def exchange(google: Google, signed: str) -> httpx.Response:
    return httpx.post(
        f"{google.cloud.gcp_url}/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": signed,
        },
    )


def test_signed_assertion_buys_a_token(google: Google) -> None:
    file = Path(google.cloud.summary["gcp_credentials"])
    assert file.stat().st_mode & 0o077 == 0
    token = exchange(google, assertion(google)).json()["access_token"]
    client = Google(google.cloud, token=token)
    operation = client.post(f"zones/{ZONE}/instances/guest/simulateMaintenanceEvent", expect=200)
    assert operation["user"] == json.loads(file.read_text())["client_email"]
    google.until_status("guest", "TERMINATED")
    google.wait(google.post(f"zones/{ZONE}/instances/guest/start"))


def test_bad_assertions_buy_nothing(google: Google) -> None:
    past = int(time.time()) - 7200
    header, claims, signature = assertion(google).split(".")
    forged = ".".join([header, claims, signature[:-8] + "AAAAAAAA"])
    for signed in (
        assertion(google, iat=past, exp=past + 3600),
        assertion(google, iss="other@example.com"),
        assertion(google, aud="https://example.com/token"),
        assertion(google, exp=int(time.time()) + 10 * 3600),
        forged,
        "nonsense",
    ):
        refused = exchange(google, signed)
        assert refused.status_code == 400
        assert refused.json()["error"] == "invalid_grant"
    no_scope = exchange(google, assertion(google, scope=""))
    assert no_scope.json()["error"] == "invalid_scope"
    wrong_grant = httpx.post(f"{google.cloud.gcp_url}/token", data={"grant_type": "password"})
    assert wrong_grant.json()["error"] == "unsupported_grant_type"


def test_bad_bearers_are_refused_and_anonymous_is_a_choice(google: Google) -> None:
    past = int(time.time()) - 7200
    for token in ("wrong", assertion(google, iat=past, exp=past + 3600)):
        refused = Google(google.cloud, token=token).get("zones", expect=401)
        assert refused["error"]["errors"][0]["reason"] == "authError"
    # a token that the account signed for itself needs no exchange
    Google(google.cloud, token=assertion(google, aud="https://compute.googleapis.com/")).get(
        "zones"
    )
    google.get("zones")
    google.cloud.control.post("/gcp/settings", anonymous_allowed=False)
    try:
        refused = google.get("zones", expect=401)
        assert refused["error"]["errors"][0]["reason"] == "required"
    finally:
        google.cloud.control.post("/gcp/settings", anonymous_allowed=True)


def test_start_options_of_the_google_side(tmp_path: Path) -> None:
    options = ("--no-gcp-anonymous", "--gcp-preempt-hours", "12")
    with SimCloud.started(tmp_path / "state", *options) as cloud:
        assert httpx.get(f"{cloud.gcp_url}/compute/v1/projects/{cloud.project}").status_code == 401
        assert cloud.control.get("/gcp/instances")["preempt_mean_hours"] == 12
