"""The unmodified official client of Vast.ai against simcloud: the wire is what it expects."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud import SimCloud
from tests.support.ssh import KeyPair, make_key_pair
from tests.support.vastai_client import VastaiClient


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    """Strict rate limits, as the real service: the client's own retries must cope."""
    with SimCloud.started(tmp_path_factory.mktemp("cloud"), "--boot-seconds=0.2,0.5") as running:
        running.control.knobs(rivals=False, stop_grace_seconds=1.0)
        yield running


@pytest.fixture
def vastai(cloud: SimCloud, tmp_path: Path) -> VastaiClient:
    return VastaiClient(url=cloud.vast_url, key=cloud.vast_key, home=tmp_path / "home")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("key"), "owner")


def until(what: Callable[[], Any], *, timeout_s: float = 30) -> Any:
    """Poll until `what` returns something true."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)
    return found


def inside(cloud: SimCloud, instance: int) -> dict[str, Any]:
    [row] = [
        row
        for row in cloud.control.get("/vast/instances")["instances"]
        if row["id"] == instance and row["gone_at"] is None
    ]
    return dict(row)


def cheapest(vastai: VastaiClient, kind: str = "on-demand") -> dict[str, Any]:
    offers = vastai.raw(
        *("search", "offers", "gpu_name=RTX_4090 num_gpus=1 reliability>0.9 disk_space>30"),
        *("--type", kind, "-o", "dph_total"),
    )
    assert offers
    return dict(offers[0])


def test_a_rented_machine_from_search_to_destruction(
    cloud: SimCloud, vastai: VastaiClient, key: KeyPair
) -> None:
    assert "ssh-key created" in vastai.run("create", "ssh-key", key.public)
    assert key.public in vastai.run("show", "ssh-keys")

    offer = cheapest(vastai)
    created = vastai.raw(
        *("create", "instance", str(offer["id"]), "--image", "pytorch/pytorch", "--disk", "20"),
        *("--ssh", "--direct", "--label", "box-1", "--env", "-e A=1 -p 8080:8080"),
        *("--onstart-cmd", "echo started with $A"),
    )
    assert created["success"] is True
    number = created["new_contract"]
    until(lambda: inside(cloud, number)["actual_status"] == "running")

    row = vastai.raw("show", "instance", str(number))
    assert row["id"] == number
    assert row["is_bid"] is False
    assert row["dph_base"] == pytest.approx(offer["dph_base"])
    assert row["extra_env"] == {"A": "1", "-p 8080:8080": "1"}
    assert "8080/tcp" in row["ports"]
    [listed] = [each for each in vastai.raw("show", "instances") if each["id"] == number]
    assert listed["label"] == "box-1"
    table = vastai.run("show", "instances")
    assert str(number) in table
    assert "box-1" in table

    url = vastai.run("ssh-url", str(number)).strip()
    assert url.startswith("ssh://root@127.")
    address, _, port = url.removeprefix("ssh://root@").partition(":")
    done = until(lambda: _login(key, address, int(port), "nvidia-smi -L; pwd"))
    assert "RTX 4090" in done.stdout

    # the client crashes on its own success here only for `execute`, not for `logs`
    assert "started with 1" in vastai.run("logs", str(number), "--tail", "20")

    vastai.run("label", "instance", str(number), "box-2")
    assert inside(cloud, number)["label"] == "box-2"

    vastai.run("stop", "instance", str(number))
    until(lambda: inside(cloud, number)["actual_status"] == "exited")
    assert key.ssh(address, int(port), "true").returncode == 255
    vastai.run("start", "instance", str(number))
    until(lambda: inside(cloud, number)["actual_status"] == "running")
    up_since = inside(cloud, number)["running_since"]
    vastai.run("reboot", "instance", str(number))
    until(lambda: (inside(cloud, number)["running_since"] or 0) > up_since)

    charges = vastai.raw("show", "invoices-v1", "--charges")
    [charge] = [row for row in charges["results"] if row["source"] == f"instance-{number}"]
    assert charge["amount"] > 0
    assert "Instance" in vastai.run("show", "invoices-v1", "--charges")
    assert vastai.raw("show", "user")["credit"] < 100

    vastai.run("destroy", "instance", str(number), "-y")
    assert number not in [each["id"] for each in vastai.raw("show", "instances")]
    assert key.ssh(address, int(port), "true").returncode == 255


def _login(
    key: KeyPair, address: str, port: int, command: str
) -> subprocess.CompletedProcess[str] | None:
    done = key.ssh(address, port, command)
    return done if done.returncode == 0 else None


def test_a_bid_is_outbid_and_raised(cloud: SimCloud, vastai: VastaiClient) -> None:
    offer = cheapest(vastai, "bid")
    assert offer["is_bid"] is True
    assert offer["dph_base"] == offer["min_bid"]
    bid = round(offer["min_bid"] * 1.1, 3)
    created = vastai.raw(
        *("create", "instance", str(offer["id"]), "--image", "ubuntu", "--disk", "10", "--ssh"),
        *("--bid_price", str(bid)),
    )
    number = created["new_contract"]
    until(lambda: inside(cloud, number)["actual_status"] == "running")
    row = vastai.raw("show", "instance", str(number))
    assert row["is_bid"] is True
    assert row["dph_base"] == bid

    cloud.control.vast(number, "outbid")
    until(lambda: inside(cloud, number)["cur_state"] == "stopped")
    assert vastai.raw("show", "instance", str(number))["actual_status"] == "exited"
    vastai.run("change", "bid", str(number), "--price", "2.5")
    until(lambda: inside(cloud, number)["actual_status"] == "running")
    vastai.run("destroy", "instance", str(number), "-y")


def test_the_market_reads_well(cloud: SimCloud, vastai: VastaiClient) -> None:
    table = vastai.run("search", "offers", "gpu_name in [RTX_4090,H100_SXM]", "-o", "dph_total")
    assert "RTX" in table
    assert "H100" in table
    europe = vastai.raw("search", "offers", "geolocation in [FR,DE,FI,SE,NL,BG,ES,NO,CZ,PL]")
    assert europe
    assert {row["geolocation"][-2:] for row in europe} <= {
        "FR",
        "DE",
        "FI",
        "SE",
        "NL",
        "BG",
        "ES",
        "NO",
        "CZ",
        "PL",
    }
    reserved = vastai.raw("search", "offers", "num_gpus=1", "--type", "reserved")
    assert all(row["discounted_dph_total"] < row["dph_total"] for row in reserved)
    new_style = vastai.raw("search", "offers", "num_gpus=1", "--new")
    assert new_style
    assert "RTX_4090" in vastai.run("show", "gpu-metrics")
    assert "=== RTX 4090 ===" in vastai.run("show", "gpu-trends", "RTX_4090")
    assert "RTX_4090" in vastai.run("show", "gpu-locations")
    vastai.run("show", "volumes")
    vastai.run("show", "invoices-v1", "--invoices")


def test_refusals_are_understood(cloud: SimCloud, vastai: VastaiClient) -> None:
    vastai.run("create", "instance", "123", "--image", "x", "--ssh")
    assert "no_such_ask" in vastai.errors
    vastai.run("destroy", "instance", "123", "-y")
    assert "no_such_instance" in vastai.errors
    stranger = VastaiClient(url=cloud.vast_url, key="wrong", home=Path(cloud.state) / "stranger")
    stranger.run("show", "instances")
    assert "Invalid user key" in stranger.errors


def test_the_sdk_and_gpuhunt_read_offers(cloud: SimCloud, vastai: VastaiClient) -> None:
    printed = vastai.python(
        "from vastai import VastAI\n"
        f"sdk = VastAI(api_key={cloud.vast_key!r}, server_url={cloud.vast_url!r})\n"
        "rows = sdk.search_offers(query='gpu_name=RTX_4090 num_gpus=1')\n"
        "print(len(rows), sdk.show_instances())\n"
    )
    count, _, rest = printed.strip().partition(" ")
    assert int(count) > 3
    assert rest == "[]"
    printed = vastai.python(
        "import gpuhunt.providers.vastai as v\n"
        "from gpuhunt._internal.models import QueryFilter\n"
        f"v.bundles_url = '{cloud.vast_url}/api/v0/bundles/'\n"
        "f = QueryFilter(gpu_name=['RTX4090'], min_gpu_count=1, max_gpu_count=1)\n"
        "items = v.VastAIProvider().get(f)\n"
        "print(sum(i.spot for i in items), sum(not i.spot for i in items), items[0].gpu_memory)\n"
    )
    spot, on_demand, memory = printed.split()
    assert int(spot) > 3
    assert int(on_demand) > 3
    assert memory == "24.0"
