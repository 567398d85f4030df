"""`GcpProvider` against a running simcloud: a standby's whole life, and the faults of its cloud."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    OutcomeUnknown,
    ProviderUnavailable,
    QuotaExceeded,
    RequestRefused,
)
from dumont.domain.instances import InstanceState, Rental
from dumont.ports import VmOrder, VmProvider
from dumont.providers.gcp.adapter import GcpProvider
from dumont.security.ssh import new_machine_secrets
from tests.support.cloud import SimCloud

ZONE = "us-central1-a"
KEY = new_machine_secrets("m0123456789ab").access_key_public


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.1,0.2") as running:
        yield running


@pytest.fixture
def credentials(cloud: SimCloud) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(cloud.summary["gcp_credentials"]).read_text())
    return found


def provider_for(cloud: SimCloud, credentials: dict[str, Any], **options: Any) -> GcpProvider:
    return GcpProvider(credentials=credentials, url=cloud.gcp_url, **options)


@pytest.fixture
async def provider(cloud: SimCloud, credentials: dict[str, Any]) -> AsyncIterator[GcpProvider]:
    cloud.control.clear_faults()
    cloud.control.reset_requests()
    found = provider_for(cloud, credentials)
    yield found
    cloud.control.clear_faults()
    for left in await found.list_instances(label_prefix="dmt-"):
        await found.delete(zone=left.region or ZONE, name=left.label or "")
    found.close()


def order(name: str, **changes: Any) -> VmOrder:
    fields = {"name": name, "zone": ZONE, "ssh_keys": (KEY,), **changes}
    return VmOrder.model_validate(fields)


def inserts(cloud: SimCloud) -> int:
    return len(cloud.control.requests("instances.insert"))


async def test_a_standbys_whole_life(provider: VmProvider) -> None:
    made = await provider.insert(order("dmt-t-s1", labels={"a": "b"}))
    assert made.label == "dmt-t-s1"
    assert made.state in (InstanceState.STARTING, InstanceState.RUNNING)
    assert made.rental is Rental.SPOT
    assert made.region == ZONE
    assert made.created_at is not None
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=5)
    running = await provider.get(zone=ZONE, name="dmt-t-s1")
    assert running is not None
    assert running.state is InstanceState.RUNNING
    assert running.ssh is not None
    assert running.ssh.host.startswith("127.")

    await provider.stop(zone=ZONE, name="dmt-t-s1")
    stopped = await provider.get(zone=ZONE, name="dmt-t-s1")
    assert stopped is not None
    assert stopped.state is InstanceState.STOPPED
    await provider.start(zone=ZONE, name="dmt-t-s1")
    again = await provider.get(zone=ZONE, name="dmt-t-s1")
    assert again is not None
    assert again.state is InstanceState.RUNNING
    assert again.instance_id == made.instance_id

    await provider.delete(zone=ZONE, name="dmt-t-s1")
    assert await provider.get(zone=ZONE, name="dmt-t-s1") is None
    await provider.delete(zone=ZONE, name="dmt-t-s1")


async def test_inserting_twice_is_one_vm(provider: VmProvider, cloud: SimCloud) -> None:
    first, second = await asyncio.gather(
        provider.insert(order("dmt-t-twice")), provider.insert(order("dmt-t-twice"))
    )
    third = await provider.insert(order("dmt-t-twice", disk_gb=30))
    assert first.instance_id == second.instance_id == third.instance_id
    assert len(await provider.list_instances(label_prefix="dmt-t-twice")) == 1


async def test_an_insert_whose_answer_was_lost_is_found_again(
    provider: GcpProvider, cloud: SimCloud
) -> None:
    cloud.control.add_fault("drop_after", operation="instances.insert", times=1)
    with pytest.raises(ProviderUnavailable):
        await provider.insert(order("dmt-t-lost"))
    found = await provider.insert(order("dmt-t-lost"))
    assert found.label == "dmt-t-lost"
    assert len(await provider.list_instances(label_prefix="dmt-t-lost")) == 1
    assert inserts(cloud) == 2


async def test_a_list_covers_all_zones_and_only_ours(provider: VmProvider) -> None:
    zones = [ZONE, "europe-west3-b"]
    await asyncio.gather(
        *(provider.insert(order(f"dmt-t-zone{n}", zone=zone)) for n, zone in enumerate(zones)),
        provider.insert(order("somebody-else")),
    )
    try:
        found = await provider.list_instances(label_prefix="dmt-t-")
        assert {(i.label, i.region) for i in found} == {
            ("dmt-t-zone0", zones[0]),
            ("dmt-t-zone1", zones[1]),
        }
    finally:
        await provider.delete(zone=ZONE, name="somebody-else")


async def test_absence_is_said_by_google_alone(provider: VmProvider, cloud: SimCloud) -> None:
    assert await provider.get(zone=ZONE, name="dmt-t-nobody") is None
    with pytest.raises(InstanceGone):
        await provider.start(zone=ZONE, name="dmt-t-nobody")
    with pytest.raises(InstanceGone):
        await provider.stop(zone=ZONE, name="dmt-t-nobody")
    cloud.control.add_fault(
        "error", provider="gcp", operation="instances.get",
        parameters={"status": 404, "body": "<html>404</html>", "content_type": "text/html"},
    )  # fmt: skip
    with pytest.raises(ProviderUnavailable):
        await provider.get(zone=ZONE, name="dmt-t-nobody")
    cloud.control.clear_faults()
    cloud.control.add_fault(
        "error", provider="gcp", operation="instances.delete",
        parameters={"status": 404, "body": "nothing here"},
    )  # fmt: skip
    with pytest.raises(ProviderUnavailable):
        await provider.delete(zone=ZONE, name="dmt-t-nobody")


async def test_an_unknown_zone_is_not_an_absent_vm(provider: VmProvider) -> None:
    with pytest.raises(RequestRefused):
        await provider.get(zone="nowhere-1-x", name="dmt-t-nobody")


@pytest.mark.parametrize(
    ("effect", "parameters"),
    [
        ("server_error", {}),
        ("html", {}),
        ("drop", {}),
        ("truncate", {}),
        ("error", {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}),
    ],
)
async def test_a_broken_cloud_is_no_evidence(
    provider: VmProvider, cloud: SimCloud, effect: str, parameters: dict[str, Any]
) -> None:
    cloud.control.add_fault(effect, provider="gcp", operation="instances.*", parameters=parameters)
    with pytest.raises(ProviderUnavailable):
        await provider.get(zone=ZONE, name="dmt-t-x")
    with pytest.raises(ProviderUnavailable):
        await provider.list_instances(label_prefix="dmt-")


async def test_a_silent_cloud_is_given_up(
    cloud: SimCloud, credentials: dict[str, Any], provider: GcpProvider
) -> None:
    cloud.control.add_fault("hang", provider="gcp", operation="instances.get")
    hasty = provider_for(cloud, credentials, timeout_s=0.5)
    with pytest.raises(ProviderUnavailable):
        await hasty.get(zone=ZONE, name="dmt-t-x")
    hasty.close()


async def test_being_too_fast_is_waited_out(provider: VmProvider, cloud: SimCloud) -> None:
    cloud.control.add_fault(
        "rate_limit", provider="gcp", operation="instances.get", times=2,
        parameters={"retry_after": 1},
    )  # fmt: skip
    assert await provider.get(zone=ZONE, name="dmt-t-x") is None
    assert len(cloud.control.requests("instances.get")) == 3


async def test_a_zone_without_capacity_can_be_tried_again(
    provider: VmProvider, cloud: SimCloud
) -> None:
    cloud.control.post("/gcp/stockout", zone=ZONE, times=1)
    with pytest.raises(ProviderUnavailable, match="enough resources"):
        await provider.insert(order("dmt-t-full"))
    assert await provider.get(zone=ZONE, name="dmt-t-full") is None
    found = await provider.insert(order("dmt-t-full"))
    assert found.label == "dmt-t-full"


async def test_a_quota_is_not_a_moment(provider: VmProvider, cloud: SimCloud) -> None:
    limits = {"region": "us-central1", "metric": "PREEMPTIBLE_CPUS"}
    cloud.control.post("/gcp/quota", **limits, limit=0)
    cloud.control.post("/gcp/quota", region="us-central1", metric="CPUS", limit=0)
    try:
        with pytest.raises(QuotaExceeded) as refusal:
            await provider.insert(order("dmt-t-quota"))
        assert not refusal.value.retryable
    finally:
        cloud.control.post("/gcp/quota", **limits, limit=100)
        cloud.control.post("/gcp/quota", region="us-central1", metric="CPUS", limit=100)


async def test_a_preempted_vm_is_stopped_and_named(provider: VmProvider, cloud: SimCloud) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    await provider.insert(order("dmt-t-prey"))
    assert await provider.preemptions(zone=ZONE, since=began) == []
    cloud.control.post(f"/gcp/instances/{ZONE}/dmt-t-prey/preempt")
    assert await provider.preemptions(zone=ZONE, since=began) == ["dmt-t-prey"]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await provider.preemptions(zone=ZONE, since=later) == []
    seen = await provider.get(zone=ZONE, name="dmt-t-prey")
    assert seen is not None
    assert seen.state is InstanceState.STOPPED


async def test_an_operation_that_never_ends_is_left_to_itself(
    cloud: SimCloud, credentials: dict[str, Any], provider: GcpProvider
) -> None:
    hasty = provider_for(cloud, credentials, operation_timeout_s=0.05)
    with pytest.raises(OutcomeUnknown):
        await hasty.insert(order("dmt-t-slow"))
    hasty.close()
    assert (await provider.insert(order("dmt-t-slow"))).label == "dmt-t-slow"


async def test_zones(provider: VmProvider) -> None:
    zones = await provider.zones()
    assert ZONE in zones
    assert len(zones) > 100


async def test_a_key_of_somebody_else_is_refused(
    cloud: SimCloud, credentials: dict[str, Any]
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    forged = copy.deepcopy(credentials)
    forged["private_key"] = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )
    found = provider_for(cloud, forged)
    with pytest.raises(AuthFailed) as refusal:
        await found.zones()
    assert "GCP_CREDENTIALS" in (refusal.value.hint or "")
    found.close()


async def test_damaged_credentials_are_named(cloud: SimCloud, credentials: dict[str, Any]) -> None:
    for damage in ({"private_key": "nonsense"}, {"token_uri": None}, {"client_email": None}):
        kept = {k: v for k, v in {**credentials, **damage}.items() if v is not None}
        found = provider_for(cloud, kept)
        with pytest.raises(AuthFailed) as refusal:
            await found.zones()
        assert refusal.value.field == "GCP_CREDENTIALS"
        found.close()


def test_going_without_credentials_must_be_said() -> None:
    with pytest.raises(AuthFailed):
        GcpProvider(credentials=None, project="p")
    GcpProvider(credentials=None, project="p", anonymous=True).close()


async def test_a_token_server_that_is_down_is_not_a_wrong_key(
    cloud: SimCloud, credentials: dict[str, Any]
) -> None:
    found = provider_for(cloud, {**credentials, "token_uri": "http://127.0.0.1:9/token"})
    with pytest.raises(ProviderUnavailable):
        await found.zones()
    found.close()


_ALONE = """
import asyncio, ipaddress, json, sys
from pathlib import Path
from dumont.ports import VmOrder
from dumont.providers.gcp.adapter import GcpProvider
from tests.support.cloud import SimCloud

strangers = []

def watch(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        if not ipaddress.ip_address(args[1][0]).is_loopback:
            strangers.append(args[1])
    if event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "localhost", None):
        strangers.append(args[0])

sys.addaudithook(watch)

async def main(cloud):
    credentials = json.loads(Path(cloud.summary["gcp_credentials"]).read_text())
    provider = GcpProvider(credentials=credentials, url=cloud.gcp_url)
    name = {"zone": "us-central1-a", "name": "dmt-t-alone"}
    await provider.insert(VmOrder(**name))
    await provider.stop(**name)
    await provider.start(**name)
    await provider.list_instances(label_prefix="dmt-")
    await provider.zones()
    await provider.delete(**name)
    provider.close()

with SimCloud.started(Path(sys.argv[1]), "--boot-seconds", "0.1,0.1") as cloud:
    asyncio.run(main(cloud))
print("strangers:", strangers)
"""


@pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root and network namespaces",
)
def test_no_socket_leaves_loopback(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(_ALONE)
    command = f"ip link set lo up && exec {sys.executable} {tmp_path}/alone.py {tmp_path}/cloud"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", command],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "strangers: []"
