"""`GcpProvider.ensure_firewall` and the tag of every VM: users must get in to the endpoint, and a
project's own wishes about its firewall must be left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dumont.domain.errors import AuthFailed, ProviderUnavailable, RequestRefused
from dumont.ports import VmOrder
from dumont.providers.gcp.adapter import GcpProvider
from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google, until

RULE = "global/firewalls/dumont-endpoint"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.1,0.2", "--no-gcp-anonymous") as running:
        yield running


@pytest.fixture
def google(cloud: SimCloud) -> Iterator[Google]:
    """Google's API with a token, without our rule."""
    from google.auth.transport.requests import Request
    from google.oauth2 import service_account

    account = service_account.Credentials.from_service_account_file(
        cloud.summary["gcp_credentials"],
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    account.refresh(Request())
    client = Google(cloud, token=account.token)
    for rule in client.get("global/firewalls")["items"]:
        if rule["name"] == "dumont-endpoint":
            client.wait(client.delete(RULE))
    cloud.control.clear_faults()
    cloud.control.reset_requests()
    yield client
    cloud.control.clear_faults()
    client.close()


@pytest.fixture
async def provider(cloud: SimCloud) -> AsyncIterator[GcpProvider]:
    found = new_provider(cloud)
    yield found
    for left in await found.list_instances(label_prefix="dmt-"):
        await found.delete(zone=left.region or ZONE, name=left.label or "")
    found.close()


def new_provider(cloud: SimCloud) -> GcpProvider:
    credentials = json.loads(Path(cloud.summary["gcp_credentials"]).read_text())
    return GcpProvider(credentials=credentials, url=cloud.gcp_url)


def writes(cloud: SimCloud) -> dict[str, int]:
    seen = [request["operation"] for request in cloud.control.requests(provider="gcp")]
    return {
        name: seen.count(f"firewalls.{name}")
        for name in ("insert", "patch", "delete")
        if f"firewalls.{name}" in seen
    }


async def test_a_standby_is_let_in_to_and_nothing_else_is(
    provider: GcpProvider, google: Google, cloud: SimCloud
) -> None:
    await provider.insert(VmOrder(name="dmt-t-door", zone=ZONE))
    rule = google.get(RULE)
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["2222"]}]
    assert rule["sourceRanges"] == ["0.0.0.0/0"]
    assert rule["direction"] == "INGRESS"
    tags = google.instance("dmt-t-door")["tags"]["items"]
    assert rule["targetTags"] == tags == ["dumont-standby"]
    await provider.insert(VmOrder(name="dmt-t-door2", zone=ZONE))
    looks = cloud.control.requests("firewalls.list")
    assert len(looks) == 1
    assert writes(cloud) == {"insert": 1}


async def test_many_processes_make_one_rule(google: Google, cloud: SimCloud) -> None:
    providers = [new_provider(cloud) for _ in range(3)]
    await asyncio.gather(*(each.ensure_firewall() for each in providers for _ in range(3)))
    for each in providers:
        each.close()
    assert google.get(RULE)["targetTags"] == ["dumont-standby"]


async def test_a_rule_that_lets_in_already_is_left_as_its_owner_wants_it(
    provider: GcpProvider, google: Google, cloud: SimCloud
) -> None:
    own = {
        "name": "dumont-endpoint",
        "allowed": [{"IPProtocol": "tcp", "ports": ["22", "2000-3000"]}],
        "sourceRanges": ["198.51.100.0/24"],
        "targetTags": ["dumont-standby", "others"],
    }
    google.wait(google.post("global/firewalls", own))
    cloud.control.reset_requests()
    await provider.ensure_firewall()
    assert writes(cloud) == {}


async def test_a_rule_for_another_port_is_mended_without_opening_it_wider(
    provider: GcpProvider, google: Google
) -> None:
    stale = {
        "name": "dumont-endpoint",
        "allowed": [{"IPProtocol": "tcp", "ports": ["2022"]}],
        "sourceRanges": ["198.51.100.0/24"],
        "targetTags": ["somebody"],
    }
    google.wait(google.post("global/firewalls", stale))
    await provider.ensure_firewall()
    rule = google.get(RULE)
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["2222"]}]
    assert rule["targetTags"] == ["dumont-standby"]
    assert rule["sourceRanges"] == ["198.51.100.0/24"]


async def test_a_rule_that_was_switched_off_is_not_switched_on(
    provider: GcpProvider, google: Google
) -> None:
    off = {
        "name": "dumont-endpoint",
        "allowed": [{"IPProtocol": "tcp", "ports": ["2222"]}],
        "targetTags": ["dumont-standby"],
        "disabled": True,
    }
    google.wait(google.post("global/firewalls", off))
    with pytest.raises(RequestRefused, match="dumont-endpoint") as refusal:
        await provider.ensure_firewall()
    assert "enable it" in (refusal.value.hint or "")
    assert google.get(RULE)["disabled"] is True


async def test_an_account_without_the_right_is_told_what_to_do(
    provider: GcpProvider, google: Google, cloud: SimCloud
) -> None:
    cloud.control.add_fault(
        "google_error", provider="gcp", operation="firewalls.insert",
        parameters={
            "code": 403, "reason": "forbidden", "domain": "global",
            "message": "Required 'compute.firewalls.create' permission",
        },
    )  # fmt: skip
    with pytest.raises(AuthFailed, match=r"compute\.firewalls\.create") as refusal:
        await provider.insert(VmOrder(name="dmt-t-shut", zone=ZONE))
    assert "compute.securityAdmin" in (refusal.value.hint or "")
    assert "--allow tcp:2222" in (refusal.value.hint or "")
    assert await provider.get(zone=ZONE, name="dmt-t-shut") is None
    cloud.control.clear_faults()
    await provider.ensure_firewall()
    assert google.get(RULE)["disabled"] is False


async def test_a_cloud_that_does_not_answer_is_asked_again_later(
    provider: GcpProvider, google: Google, cloud: SimCloud
) -> None:
    cloud.control.add_fault("server_error", operation="firewalls.list", times=1)
    with pytest.raises(ProviderUnavailable):
        await provider.ensure_firewall()
    await provider.ensure_firewall()
    assert google.get(RULE)["targetTags"] == ["dumont-standby"]


async def test_a_preempted_standby_starts_again_with_its_disk_at_another_address(
    provider: GcpProvider, google: Google, cloud: SimCloud
) -> None:
    made = await provider.insert(
        VmOrder(
            name="dmt-t-back", zone=ZONE, disk_gb=25, disk_type="pd-ssd",
            startup_script='date +%N >> "$HOME/boots"',
        )
    )  # fmt: skip
    assert made.ssh is not None
    disk = google.get(f"zones/{ZONE}/disks/dmt-t-back")
    assert (disk["sizeGb"], disk["type"].rpartition("/")[2]) == ("25", "pd-ssd")
    first = boots(cloud, disk, at_least=1)
    google.control("dmt-t-back", "preempt")
    google.until_status("dmt-t-back", "TERMINATED", timeout_s=40)

    await provider.start(zone=ZONE, name="dmt-t-back")
    again = await provider.get(zone=ZONE, name="dmt-t-back")
    assert again is not None
    assert again.instance_id == made.instance_id
    assert again.ssh is not None
    assert again.ssh.host != made.ssh.host
    assert google.get(f"zones/{ZONE}/disks/dmt-t-back")["id"] == disk["id"]
    assert boots(cloud, disk, at_least=2)[: len(first)] == first


def boots(cloud: SimCloud, disk: Any, *, at_least: int) -> list[str]:
    """What each boot wrote to the disk; read from outside, as a forensic would."""
    where = cloud.state / f"machines/gcp-{disk['id']}/home/boots"

    def read() -> list[str]:
        return where.read_text().split() if where.exists() else []

    return list(until(read, lambda found: len(found) >= at_least))


def test_a_disk_that_google_would_not_make_is_not_ordered() -> None:
    for wrong in ({"disk_gb": 5}, {"disk_gb": 100_000}, {"disk_type": "pd-paper"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VmOrder.model_validate({"name": "n", "zone": "z", **wrong})
