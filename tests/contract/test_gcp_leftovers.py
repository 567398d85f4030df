"""Disks and addresses of a Google project, against a running simcloud: found, and deleted with care."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dumont.domain.errors import ProviderUnavailable, RequestRefused
from dumont.domain.labels import MACHINE_KEY
from dumont.domain.leftovers import LeftoverKind, detached_disks, idle_addresses, stopped_instances
from dumont.domain.protection import AgentRole
from dumont.ports import CloudRemains, VmOrder
from dumont.providers.gcp.adapter import GcpProvider
from tests.support.cloud import SimCloud
from tests.support.google import Google

ZONE, REGION = "us-central1-a", "us-central1"
MACHINE = "m0123456789ab"
OURS = {MACHINE_KEY: MACHINE}
LABEL = f"dmt-t-{MACHINE}-g1-a1"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.1,0.2") as running:
        yield running


@pytest.fixture
def google(cloud: SimCloud) -> Iterator[Google]:
    """The same project, as somebody with other tools works in it; leaves nothing there."""
    client = Google(cloud)
    yield client
    cloud.control.clear_faults()
    for row in client.get(f"zones/{ZONE}/instances").get("items", []):
        client.wait(client.delete(f"zones/{ZONE}/instances/{row['name']}"))
    for row in client.get(f"zones/{ZONE}/disks").get("items", []):
        client.wait(client.delete(f"zones/{ZONE}/disks/{row['name']}"))
    for row in client.get(f"regions/{REGION}/addresses").get("items", []):
        cloud.control.post(f"/gcp/addresses/{REGION}/{row['name']}/use", user=None)
        client.wait(client.delete(f"regions/{REGION}/addresses/{row['name']}"))
    client.close()


@pytest.fixture
async def provider(cloud: SimCloud, google: Google) -> AsyncIterator[GcpProvider]:
    credentials: dict[str, Any] = json.loads(Path(cloud.summary["gcp_credentials"]).read_text())
    found = GcpProvider(credentials=credentials, url=cloud.gcp_url)
    yield found
    found.close()


@pytest.fixture
def remains(provider: GcpProvider) -> CloudRemains:
    return provider.remains


def add_disk(google: Google, name: str, **changes: Any) -> Any:
    body = {"name": name, "sizeGb": "20", "type": f"zones/{ZONE}/diskTypes/pd-balanced", **changes}
    google.wait(google.post(f"zones/{ZONE}/disks", body))
    return google.get(f"zones/{ZONE}/disks/{name}")


def add_address(google: Google, name: str, **changes: Any) -> Any:
    google.wait(google.post(f"regions/{REGION}/addresses", {"name": name, **changes}))
    return google.get(f"regions/{REGION}/addresses/{name}")


async def test_the_disk_of_a_vm_carries_our_labels_and_goes_with_it(
    provider: GcpProvider, google: Google
) -> None:
    await provider.insert(VmOrder(name=LABEL, zone=ZONE, labels=OURS, disk_gb=12))
    (disk,) = await provider.remains.list_disks(label_prefix="dmt-t-")
    assert (disk.name, disk.zone, disk.size_gb, disk.disk_type) == (LABEL, ZONE, 12, "pd-balanced")
    assert disk.labels == OURS
    assert disk.users == (LABEL,)
    assert detached_disks([disk], env="t") == []
    with pytest.raises(RequestRefused, match="is used by"):
        await provider.remains.delete_disk(zone=ZONE, name=LABEL, disk_id=disk.disk_id)
    await provider.delete(zone=ZONE, name=LABEL)
    assert await provider.remains.list_disks(label_prefix="dmt-t-") == []


async def test_a_stopped_vm_is_priced_by_its_disk(provider: GcpProvider) -> None:
    again = LABEL.replace("-g1-", "-g2-")
    await provider.insert(VmOrder(name=again, zone=ZONE, labels=OURS, disk_gb=73))
    await provider.stop(zone=ZONE, name=again)
    (found,) = stopped_instances(
        await provider.list_instances(label_prefix="dmt-t-"),
        env="t",
        body=AgentRole.STANDBY,
        disks=await provider.remains.list_disks(label_prefix="dmt-t-"),
    )
    assert found.size_gb == 73
    assert found.usd_per_hour == pytest.approx(0.01)
    assert "list prices" in found.price_note


async def test_a_detached_disk_is_found_priced_and_deleted(
    remains: CloudRemains, google: Google
) -> None:
    made = add_disk(google, LABEL, labels=OURS)
    add_disk(google, "dmt-t-mffffffffffff-g1-a1")
    add_disk(google, "somebodys-data")
    ours = await remains.list_disks(label_prefix="dmt-t-")
    assert {disk.name for disk in ours} == {LABEL, "dmt-t-mffffffffffff-g1-a1"}
    (found,) = detached_disks(ours, env="t")  # the other one has the name and not the label
    assert (found.resource_id, found.place, found.size_gb) == (made["id"], ZONE, 20)
    assert found.usd_per_hour == pytest.approx(20 * 0.1 / 730)

    await remains.delete_disk(zone=ZONE, name=LABEL, disk_id="1")
    google.get(f"zones/{ZONE}/disks/{LABEL}")  # another one by that name is left alone
    await remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])
    google.get(f"zones/{ZONE}/disks/{LABEL}", expect=404)
    await remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])
    google.get(f"zones/{ZONE}/disks/somebodys-data")


async def test_a_disk_that_was_attached_since_is_left_alone(
    provider: GcpProvider, google: Google
) -> None:
    body = {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"}
    made = add_disk(google, LABEL, labels=OURS, **body)
    google.make("somebodys-vm", disks=[{"boot": True, "source": f"zones/{ZONE}/disks/{LABEL}"}])
    with pytest.raises(RequestRefused, match="used by somebodys-vm"):
        await provider.remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])
    google.get(f"zones/{ZONE}/disks/{LABEL}")


async def test_an_unused_address_is_found_priced_and_released(
    remains: CloudRemains, google: Google, cloud: SimCloud
) -> None:
    made = add_address(google, LABEL, labels=OURS)
    add_address(google, "somebodys-address", labels=OURS)
    (address,) = await remains.list_addresses(label_prefix="dmt-t-")
    (found,) = idle_addresses([address], env="t")
    assert found.kind is LeftoverKind.ADDRESS
    assert (found.resource_id, found.place, found.detail) == (made["id"], REGION, made["address"])
    ledger = cloud.control.get("/gcp/ledger")["meters"]
    billed = next(m for m in ledger if m["resource_id"] == made["id"])
    assert found.usd_per_hour == billed["unit_price"]

    where = {"region": REGION, "name": LABEL, "address_id": made["id"]}
    rule = f"regions/{REGION}/forwardingRules/web"
    cloud.control.post(f"/gcp/addresses/{REGION}/{LABEL}/use", user=rule)
    (address,) = await remains.list_addresses(label_prefix="dmt-t-")
    assert idle_addresses([address], env="t") == []
    with pytest.raises(RequestRefused, match="used by web"):
        await remains.delete_address(**where)
    cloud.control.post(f"/gcp/addresses/{REGION}/{LABEL}/use", user=None)
    await remains.delete_address(**{**where, "address_id": "1"})
    google.get(f"regions/{REGION}/addresses/{LABEL}")
    await remains.delete_address(**where)
    google.get(f"regions/{REGION}/addresses/{LABEL}", expect=404)
    await remains.delete_address(**where)


@pytest.mark.parametrize("effect", ["server_error", "html", "drop", "truncate"])
async def test_a_broken_cloud_is_no_evidence(
    remains: CloudRemains, cloud: SimCloud, google: Google, effect: str
) -> None:
    made = add_disk(google, LABEL, labels=OURS)
    cloud.control.add_fault(effect, provider="gcp", operation="disks.*")
    cloud.control.add_fault(effect, provider="gcp", operation="addresses.*")
    with pytest.raises(ProviderUnavailable):
        await remains.list_disks(label_prefix="dmt-")
    with pytest.raises(ProviderUnavailable):
        await remains.list_addresses(label_prefix="dmt-")
    with pytest.raises(ProviderUnavailable):
        await remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])
    cloud.control.clear_faults()
    google.get(f"zones/{ZONE}/disks/{LABEL}")


async def test_a_404_of_something_in_between_deletes_nothing(
    remains: CloudRemains, cloud: SimCloud, google: Google
) -> None:
    made = add_disk(google, LABEL, labels=OURS)
    cloud.control.add_fault(
        "error", provider="gcp", operation="disks.delete",
        parameters={"status": 404, "body": "nothing here"},
    )  # fmt: skip
    with pytest.raises(ProviderUnavailable):
        await remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])


async def test_an_answer_that_was_lost_is_asked_for_again(
    remains: CloudRemains, cloud: SimCloud, google: Google
) -> None:
    made = add_disk(google, LABEL, labels=OURS)
    cloud.control.add_fault("drop_after", provider="gcp", operation="disks.delete", times=1)
    with pytest.raises(ProviderUnavailable):
        await remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])
    await remains.delete_disk(zone=ZONE, name=LABEL, disk_id=made["id"])
    assert await remains.list_disks(label_prefix="dmt-t-") == []
