"""Reserved addresses of the Google side: made, labelled, billed, in use, released."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import Google

REGION = "us-central1"
PLACE = f"regions/{REGION}/addresses"


@pytest.fixture
def google(quick_cloud: SimCloud) -> Iterator[Google]:
    client = Google(quick_cloud)
    yield client
    for row in client.get(PLACE).get("items", []):
        client.cloud.control.post(f"/gcp/addresses/{REGION}/{row['name']}/use", user=None)
        client.delete(f"{PLACE}/{row['name']}")
    client.close()


def meters(google: Google, name: str) -> list[dict[str, object]]:
    report = google.cloud.control.get("/gcp/ledger")
    return [m for m in report["meters"] if m["resource"] == f"addresses/{REGION}/{name}"]


def test_an_addresses_whole_life(google: Google) -> None:
    operation = google.post(PLACE, {"name": "a-life", "labels": {"kind": "test"}})
    assert operation["region"].endswith(f"/regions/{REGION}")
    google.wait(operation)
    made = google.get(f"{PLACE}/a-life")
    assert (made["status"], made["addressType"], made["networkTier"]) == (
        "RESERVED", "EXTERNAL", "PREMIUM",
    )  # fmt: skip
    assert made["labels"] == {"kind": "test"}
    assert made["address"].startswith("127.")
    assert "users" not in made
    (listed,) = google.get(PLACE, filter="labels.kind=test")["items"]
    assert listed == made
    everywhere = google.get("aggregated/addresses")["items"]
    assert everywhere[f"regions/{REGION}"]["addresses"] == [made]
    assert everywhere["regions/europe-west3"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"

    google.post(f"{PLACE}/a-life/setLabels", {"labels": {}, "labelFingerprint": "bm8="}, expect=412)
    change = {"labels": {"kind": "other"}, "labelFingerprint": made["labelFingerprint"]}
    google.wait(google.post(f"{PLACE}/a-life/setLabels", change))
    assert google.get(f"{PLACE}/a-life")["labels"] == {"kind": "other"}

    google.wait(google.delete(f"{PLACE}/a-life"))
    google.get(f"{PLACE}/a-life", expect=404)
    google.delete(f"{PLACE}/a-life", expect=404)


def test_it_costs_twice_as_much_while_nothing_uses_it(google: Google) -> None:
    google.wait(google.post(PLACE, {"name": "a-bill"}))
    (idle,) = meters(google, "a-bill")
    assert (idle["sku"], idle["unit_price"], idle["closed"]) == ("address", 0.01, None)

    user = f"regions/{REGION}/forwardingRules/f"
    google.cloud.control.post(f"/gcp/addresses/{REGION}/a-bill/use", user=user)
    used = google.get(f"{PLACE}/a-bill")
    assert used["status"] == "IN_USE"
    assert used["users"][0].endswith(user)
    refused = google.delete(f"{PLACE}/a-bill", expect=400)
    assert refused["error"]["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    idle, busy = meters(google, "a-bill")
    assert idle["closed"] is not None
    assert (busy["unit_price"], busy["closed"]) == (0.005, None)

    google.cloud.control.post(f"/gcp/addresses/{REGION}/a-bill/use", user=None)
    google.wait(google.delete(f"{PLACE}/a-bill"))
    assert all(meter["closed"] is not None for meter in meters(google, "a-bill"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "Not-A-Name"}, "resource.name"),
        ({"addressType": "INTERNAL"}, "resource.addressType"),
        ({"addressType": "ELSEWHERE"}, "resource.addressType"),
        ({"address": "203.0.113.7"}, "resource.address"),
        ({"labels": {"Upper": "x"}}, "resource.labels"),
    ],
)
def test_what_is_refused(google: Google, changes: dict[str, object], named: str) -> None:
    refused = google.post(PLACE, {"name": "a-bad", **changes}, expect=400)
    assert f"'{named}'" in refused["error"]["message"]
    assert "items" not in google.get(PLACE)


def test_names_are_taken_once_and_requests_count_once(google: Google) -> None:
    key = "5a8a0c0e-53c5-4c0a-9a3c-0d5d9f6b7a11"
    first = google.post(PLACE, {"name": "a-once"}, requestId=key)
    again = google.post(PLACE, {"name": "a-once"}, requestId=key)
    assert again["name"] == first["name"]
    google.post(PLACE, {"name": "a-once"}, expect=409)
    google.wait(google.post("regions/europe-west3/addresses", {"name": "a-once"}))
    google.wait(google.delete("regions/europe-west3/addresses/a-once"))


def test_addresses_and_the_quota_survive_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with SimCloud.started(tmp_path_factory.mktemp("cloud")) as cloud:
        google = Google(cloud)
        cloud.control.post("/gcp/quota", region=REGION, metric="STATIC_ADDRESSES", limit=1)
        google.wait(google.post(PLACE, {"name": "a-kept", "labels": {"kind": "test"}}))
        before = google.get(f"{PLACE}/a-kept")
        google.close()
        cloud.restart(kill=True)
        google = Google(cloud)
        assert google.get(f"{PLACE}/a-kept")["id"] == before["id"]
        quotas = {each["metric"]: each for each in google.get(f"regions/{REGION}")["quotas"]}
        assert quotas["STATIC_ADDRESSES"]["usage"] == 1
        refused = google.post(PLACE, {"name": "a-more"}, expect=403)
        assert refused["error"]["errors"][0]["reason"] == "quotaExceeded"
        google.close()
