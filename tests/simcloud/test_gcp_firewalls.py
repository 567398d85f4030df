"""Firewall rules of the Google side: made, changed and removed as Google would have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import Google

RULES = "global/firewalls"


@pytest.fixture
def google(quick_cloud: SimCloud) -> Iterator[Google]:
    client = Google(quick_cloud)
    yield client
    for rule in client.get(RULES).get("items", []):
        if rule["name"].startswith("t-"):
            client.delete(f"{RULES}/{rule['name']}")
    client.close()


def rule(name: str = "t-endpoint", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "allowed": [{"IPProtocol": "tcp", "ports": ["2222"]}],
        "targetTags": ["dumont-standby"],
        **changes,
    }


def test_a_rules_whole_life(google: Google) -> None:
    operation = google.post(RULES, rule())
    assert operation["targetLink"].endswith("/global/firewalls/t-endpoint")
    google.wait(operation)
    made = google.get(f"{RULES}/t-endpoint")
    assert made["sourceRanges"] == ["0.0.0.0/0"]
    assert made["targetTags"] == ["dumont-standby"]
    assert (made["direction"], made["priority"], made["disabled"]) == ("INGRESS", 1000, False)
    assert made["network"].endswith("/global/networks/default")
    (listed,) = google.get(RULES, filter='name="t-endpoint"')["items"]
    assert listed == made

    changes = {"allowed": [{"IPProtocol": "tcp", "ports": ["22", "2222-2230"]}], "priority": 900}
    google.wait(google.call("PATCH", f"{RULES}/t-endpoint", changes))
    patched = google.get(f"{RULES}/t-endpoint")
    assert patched == {**made, **changes}

    google.wait(google.delete(f"{RULES}/t-endpoint"))
    google.get(f"{RULES}/t-endpoint", expect=404)
    google.delete(f"{RULES}/t-endpoint", expect=404)
    google.call("PATCH", f"{RULES}/t-endpoint", {"priority": 1}, expect=404)


def test_a_rule_that_denies_after_it_allowed(google: Google) -> None:
    google.wait(google.post(RULES, rule()))
    google.wait(google.call("PATCH", f"{RULES}/t-endpoint", {"denied": [{"IPProtocol": "all"}]}))
    found = google.get(f"{RULES}/t-endpoint")
    assert found["denied"] == [{"IPProtocol": "all"}]
    assert "allowed" not in found


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "Not-A-Name"}, "resource.name"),
        ({"allowed": []}, "resource.allowed"),
        ({"denied": [{"IPProtocol": "tcp"}]}, "resource.allowed"),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["70000"]}]}, "resource.allowed[0].ports"),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["90-80"]}]}, "resource.allowed[0].ports"),
        ({"allowed": [{"IPProtocol": "icmp", "ports": ["1"]}]}, "resource.allowed[0].ports"),
        ({"allowed": [{"IPProtocol": "carrier"}]}, "resource.allowed[0].IPProtocol"),
        ({"sourceRanges": ["300.0.0.0/8"]}, "resource.sourceRanges"),
        ({"targetTags": ["No Tag"]}, "resource.tags.items"),
        ({"network": "global/networks/other"}, "resource.network"),
        ({"priority": 65536}, "resource.priority"),
        ({"direction": "SIDEWAYS"}, "resource.direction"),
        ({"direction": "EGRESS", "sourceRanges": ["10.0.0.0/8"]}, "resource.direction"),
    ],
)
def test_what_google_would_not_take(google: Google, changes: dict[str, Any], named: str) -> None:
    refused = google.post(RULES, rule(**changes), expect=400)
    assert f"'{named}'" in refused["error"]["message"]
    assert all(not r["name"].startswith("t-") for r in google.get(RULES)["items"])


def test_names_are_taken_once_and_requests_count_once(google: Google) -> None:
    key = "4a8a0c0e-53c5-4c0a-9a3c-0d5d9f6b7a11"
    first = google.post(RULES, rule(), requestId=key)
    again = google.post(RULES, rule(), requestId=key)
    assert again["name"] == first["name"]
    google.post(RULES, rule(), expect=409)


def test_rules_survive_a_restart_and_a_deleted_default_stays_away(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with SimCloud.started(tmp_path_factory.mktemp("cloud")) as cloud:
        google = Google(cloud)
        google.wait(google.post(RULES, rule()))
        google.wait(google.delete(f"{RULES}/default-allow-icmp"))
        google.close()
        cloud.restart(kill=True)
        google = Google(cloud)
        names = [each["name"] for each in google.get(RULES)["items"]]
        google.close()
    assert names == ["default-allow-internal", "default-allow-ssh", "t-endpoint"]
