"""What survives simcloud itself: orderly stop, SIGKILL in the middle of things, start again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google, instance_body, until
from tests.support.ssh import KeyPair


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SimCloud]:
    with SimCloud.started(tmp_path / "state", "--boot-seconds", "0.3,0.4") as running:
        yield running


@pytest.mark.parametrize("kill", [False, True])
def test_restart_is_a_host_reboot(cloud: SimCloud, key: KeyPair, kill: bool) -> None:
    google = Google(cloud)
    login = {"items": [{"key": "ssh-keys", "value": f"ada:{key.public}"}]}
    before = google.make("survivor", metadata=login, labels={"owner": "ada"})
    where = before["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    port = cloud.control.get("/gcp/instances")["instances"][0]["ssh_port"]
    until(
        lambda: key.ssh(where, port, "echo kept > ~/file", user="ada"),
        lambda found: found.returncode == 0,
    )
    credentials = Path(cloud.summary["gcp_credentials"]).read_text()
    cloud.restart(kill=kill)
    with socket.socket() as probe:
        assert probe.connect_ex((where, port)) != 0
    google = Google(cloud)
    after = google.instance("survivor")
    assert (after["id"], after["labels"]) == (before["id"], {"owner": "ada"})
    assert after["status"] == "TERMINATED"
    assert len(google.events("compute.instances.hostError")) == 1
    assert google.events("insert")[0]["status"] == "DONE"
    assert Path(cloud.summary["gcp_credentials"]).read_text() == credentials
    meters = cloud.control.get("/gcp/ledger")["meters"]
    assert {m["sku"]: m["closed"] is None for m in meters} == {
        "disk": True,
        "core": False,
        "ram": False,
        "address": False,
    }
    google.wait(google.post(f"zones/{ZONE}/instances/survivor/start"))
    row = cloud.control.get("/gcp/instances")["instances"][0]
    read = until(
        lambda: key.ssh(row["address"], row["ssh_port"], "cat ~/file", user="ada"),
        lambda found: found.returncode != 255,
    )
    assert read.stdout.strip() == "kept"


def test_killed_in_the_middle_of_operations_they_are_finished_later(cloud: SimCloud) -> None:
    google = Google(cloud)
    google.make("to-delete")
    google.make("to-stop")
    cloud.control.add_fault(
        "stuck", provider="gcp", operation="machine.boot", instance="half-made", times=1
    )
    inserting = google.post(f"zones/{ZONE}/instances", instance_body("half-made"))
    google.until_status("half-made", "STAGING")
    deleting = google.delete(f"zones/{ZONE}/instances/to-delete")
    stopping = google.post(f"zones/{ZONE}/instances/to-stop/stop")
    cloud.restart(kill=True)
    google = Google(cloud)
    for operation in (inserting, deleting, stopping):
        google.wait(google.get(f"zones/{ZONE}/operations/{operation['name']}"))
    assert google.instance("half-made")["status"] == "RUNNING"
    assert google.instance("to-stop")["status"] == "TERMINATED"
    google.get(f"zones/{ZONE}/instances/to-delete", expect=404)
    google.get(f"zones/{ZONE}/disks/to-delete", expect=404)
