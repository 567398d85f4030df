"""Google's command line, unmodified, against simcloud: the commands of an ordinary day.

Runs where gcloud is installed (Debian package google-cloud-cli of Google's own repository).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import ZONE
from tests.support.ssh import KeyPair, make_key_pair

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


class Gcloud:
    """gcloud with a configuration of its own, signed in with simcloud's service account."""

    def __init__(self, cloud: SimCloud, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "USER": "ada",
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{cloud.gcp_url}/compute/v1/",
            "CLOUDSDK_CORE_PROJECT": cloud.project,
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        }
        self("auth", "activate-service-account", "--key-file", cloud.summary["gcp_credentials"])

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            ["gcloud", *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--format", "json"))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.2,0.3") as running:
        running.control.post("/gcp/settings", anonymous_allowed=False)
        yield running


@pytest.fixture(scope="module")
def gcloud(cloud: SimCloud, tmp_path_factory: pytest.TempPathFactory) -> Gcloud:
    return Gcloud(cloud, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("key"), "ada")


def test_an_ordinary_day(gcloud: Gcloud, ada: KeyPair) -> None:
    keys = gcloud.folder / "keys"
    keys.write_text(f"ada:{ada.public}\n")
    (made,) = gcloud.json(
        *("compute", "instances", "create", "standby", "--zone", ZONE),
        *("--machine-type", "e2-small", "--provisioning-model", "SPOT"),
        *("--instance-termination-action", "STOP", "--labels", "owner=ada"),
        *("--image-family", "debian-12", "--image-project", "debian-cloud"),
        *("--metadata", "enable-guest-attributes=TRUE", "--metadata-from-file", f"ssh-keys={keys}"),
    )
    assert made["status"] == "RUNNING"
    listed = gcloud.json("compute", "instances", "list", "--filter", "labels.owner=ada")
    assert [row["name"] for row in listed] == ["standby"]
    assert gcloud.json("compute", "instances", "list", "--filter", "name=other") == []
    one = ("standby", "--zone", ZONE)
    gcloud("compute", "instances", "add-labels", *one, "--labels", "tier=spot")
    gcloud("compute", "instances", "add-tags", *one, "--tags", "web")
    found = gcloud.json("compute", "instances", "describe", *one)
    assert found["labels"] == {"owner": "ada", "tier": "spot"}
    gcloud("compute", "instances", "simulate-maintenance-event", *one)
    events = gcloud.json(
        *("compute", "operations", "list", "--filter"),
        'operationType="compute.instances.preempted"',
    )
    assert [event["targetId"] for event in events] == [found["id"]]
    gcloud("compute", "instances", "stop", *one)
    gcloud("compute", "instances", "update", *one, "--deletion-protection")
    assert "protected against deletion" in gcloud(
        "compute", "instances", "delete", *one, fails=True
    )
    gcloud("compute", "instances", "update", *one, "--no-deletion-protection")
    gcloud("compute", "instances", "start", *one)
    gcloud("compute", "instances", "delete", *one)
    assert gcloud.json("compute", "instances", "list") == []
    assert gcloud.json("compute", "disks", "list") == []
    assert "was not found" in gcloud("compute", "instances", "describe", *one, fails=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="more than one account needs namespaces")
def test_gcloud_ssh_brings_its_own_key(gcloud: Gcloud) -> None:
    one = ("shell", "--zone", ZONE)
    gcloud(
        *("compute", "instances", "create", *one),
        *("--machine-type", "e2-micro", "--metadata", "enable-guest-attributes=TRUE"),
    )
    said = gcloud(
        *("compute", "ssh", "eve@shell", "--zone", ZONE, "--command", "id -un; hostname"),
        "--strict-host-key-checking=yes",
    )
    assert said.split()[-2:] == ["eve", "shell"]  # after ssh-keygen has had its say


def test_the_catalogue(gcloud: Gcloud) -> None:
    assert len(gcloud.json("compute", "zones", "list")) == 127
    assert len(gcloud.json("compute", "regions", "list")) == 42
    types = gcloud.json("compute", "machine-types", "list", "--zones", "us-south1-a")
    assert "e2-small" in [row["name"] for row in types]
    images = gcloud.json("compute", "images", "list", "--project", "debian-cloud")
    assert "debian-12" in [row.get("family") for row in images]
