"""What Google has: regions, zones, types, images, prices; lists, pages, scopes, partial answers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    with SimCloud.started(tmp_path_factory.mktemp("cloud")) as cloud:
        client = Google(cloud)
        yield client
        client.close()


def test_regions_and_zones_are_googles(google: Google) -> None:
    regions = google.get("regions")["items"]
    assert len(regions) == 42
    zones = google.get("zones")["items"]
    assert len(zones) == 127
    in_iowa = [zone["name"] for zone in zones if zone["region"].endswith("/us-central1")]
    assert in_iowa == ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]
    linked = {link for region in regions for link in region["zones"]}
    assert linked == {zone["selfLink"] for zone in zones}
    assert google.get(f"zones/{ZONE}")["selfLink"] == (
        f"https://www.googleapis.com/compute/v1/projects/{google.cloud.project}/zones/{ZONE}"
    )


def test_unknown_places_are_refused_as_google_does(google: Google) -> None:
    google.get("zones/us-moon1-a", expect=404)
    refused = google.get("zones/us-moon1-a/instances", expect=400)
    assert refused["error"]["message"] == (
        "Invalid value for field 'zone': 'us-moon1-a'. Unknown zone."
    )
    other = google.get("/compute/v1/projects/someone-elses/zones", expect=404)
    assert other["error"]["errors"][0]["reason"] == "notFound"
    google.get("/compute/v1/nonsense", expect=404)
    missing = google.post("global/instanceTemplates", {}, expect=501)
    assert "does not implement POST" in missing["error"]["message"]


def test_machine_types_have_googles_sizes(google: Google) -> None:
    small = google.get(f"zones/{ZONE}/machineTypes/e2-small")
    assert (small["guestCpus"], small["memoryMb"], small["isSharedCpu"]) == (2, 2048, True)
    standard = google.get(f"zones/{ZONE}/machineTypes/n1-standard-4")
    assert (standard["guestCpus"], standard["memoryMb"]) == (4, 15360)
    custom = google.get(f"zones/{ZONE}/machineTypes/e2-custom-4-8192")
    assert (custom["guestCpus"], custom["memoryMb"]) == (4, 8192)
    google.get(f"zones/{ZONE}/machineTypes/e2-enormous", expect=404)


def test_pages_follow_each_other_and_cover_everything(google: Google) -> None:
    path = f"zones/{ZONE}/machineTypes"
    everything = [row["name"] for row in google.get(path)["items"]]
    collected: list[str] = []
    query = {"maxResults": 7}
    while True:
        page = google.get(path, **query)
        assert len(page["items"]) <= 7
        collected += [row["name"] for row in page["items"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    assert collected == everything


def test_list_parameters_are_checked(google: Google) -> None:
    path = f"zones/{ZONE}/machineTypes"
    for query in (
        {"maxResults": "501"},
        {"maxResults": "many"},
        {"pageToken": "made-up"},
        {"orderBy": "guestCpus"},
        {"filter": "name ="},
    ):
        refused = google.get(path, expect=400, **query)
        assert f"'{next(iter(query))}'" in refused["error"]["message"]
    token = google.get(path, maxResults=3)["nextPageToken"]
    google.get(path, pageToken=token, filter="name:e2", expect=400)


def test_filter_and_empty_lists(google: Google) -> None:
    path = f"zones/{ZONE}/machineTypes"
    micro = google.get(path, filter='(name = "e2-micro") (isSharedCpu = true)')["items"]
    assert [row["name"] for row in micro] == ["e2-micro"]
    assert "items" not in google.get(path, filter="name=nothing")


def test_aggregated_list_has_every_zone(google: Google) -> None:
    found = google.get("aggregated/machineTypes", filter="name=e2-small", maxResults=500)
    assert len(found["items"]) == 127
    assert found["items"][f"zones/{ZONE}"]["machineTypes"][0]["name"] == "e2-small"
    empty = google.get("aggregated/disks")["items"]["zones/africa-south1-a"]
    assert empty["warning"]["code"] == "NO_RESULTS_ON_PAGE"


def test_images_by_name_family_and_view(google: Google) -> None:
    newest = google.get("/compute/v1/projects/debian-cloud/global/images/family/debian-12")
    assert newest["family"] == "debian-12"
    root = "/compute/v1/projects/debian-cloud"
    assert google.get(f"{root}/global/images/{newest['name']}")["id"] == newest["id"]
    view = google.get(f"{root}/zones/{ZONE}/imageFamilyViews/debian-12")
    assert view["image"]["selfLink"] == newest["selfLink"]
    older = [
        image["name"]
        for image in google.get(f"{root}/global/images", filter="family=debian-12")["items"]
    ]
    assert older[-1] == newest["name"]
    assert len(older) == 2
    google.get(f"{root}/global/images/family/debian-99", expect=404)


def test_network_and_disk_types(google: Google) -> None:
    network = google.get("global/networks/default")
    assert len(network["subnetworks"]) == 42
    google.get("global/networks/other", expect=404)
    subnets = google.get("aggregated/subnetworks")["items"]
    ranges = {scope["subnetworks"][0]["ipCidrRange"] for scope in subnets.values()}
    assert len(ranges) == 42
    assert google.get(f"zones/{ZONE}/diskTypes/pd-standard")["validDiskSize"] == "10GB-65536GB"
    google.get("aggregated/diskTypes")
    google.get("global/firewalls/default-allow-ssh")
    google.get("regions/us-central1/addresses")
    google.get("aggregated/addresses")


def test_partial_answers(google: Google) -> None:
    only = google.get("zones", fields="items(name,status),kind", maxResults=2)
    assert set(only) == {"items", "kind"}
    assert all(set(row) == {"name", "status"} for row in only["items"])
    assert google.get("zones", fields="items/name", maxResults=1) == {
        "items": [{"name": "africa-south1-a"}]
    }
    google.get("zones", fields="items(name", expect=400)


def test_answers_are_compressed_when_asked(google: Google) -> None:
    answer = google.http.get(f"{google.root}/zones", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    plain = google.http.get(f"{google.root}/zones", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert answer.json() == plain.json()


def test_price_list_adds_up_to_known_prices(google: Google) -> None:
    rows, token = [], ""
    while True:
        answer = google.http.get(
            "/v1/services/6F81-5844-456A/skus", params={"pageSize": 200, "pageToken": token}
        ).json()
        rows += answer["skus"]
        token = answer["nextPageToken"]
        if not token:
            break

    def price(part: str, region: str, *, spot: bool) -> float:
        (sku,) = [
            row
            for row in rows
            if region in row["serviceRegions"]
            and f"E2 Instance {part} running in" in row["description"]
            and row["description"].startswith("Spot Preemptible") is spot
        ]
        (rate,) = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"]
        return int(rate["unitPrice"]["units"]) + rate["unitPrice"]["nanos"] / 1e9

    def medium(region: str, *, spot: bool) -> float:
        return price("Core", region, spot=spot) + 4 * price("Ram", region, spot=spot)

    # e2-small a month on demand, and e2-medium an hour on Spot, as published
    small = 0.5 * price("Core", "us-central1", spot=False)
    small += 2 * price("Ram", "us-central1", spot=False)
    assert small * 730 == pytest.approx(12.23, abs=0.01)
    assert medium("us-central1", spot=True) == pytest.approx(0.01547, abs=1e-7)
    assert medium("us-west4", spot=True) == pytest.approx(0.00358, abs=1e-7)
    assert len({row["skuId"] for row in rows}) == len(rows)
    missing = httpx.get(f"{google.cloud.gcp_url}/v1/services/0000-0000-0000/skus")
    assert missing.status_code == 404
