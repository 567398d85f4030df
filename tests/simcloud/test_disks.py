"""Disks that are full: the machine gets the kernel's own ENOSPC, and room when there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import Google, until
from tests.support.ssh import KeyPair
from tests.support.vast_api import VastApi


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SimCloud]:
    with SimCloud.started(tmp_path / "cloud", "--boot-seconds=0.05,0.1", "--no-strict") as found:
        found.control.knobs(rivals=False, stale_offer_probability=0.0, stop_grace_seconds=0.5)
        refused = found.vast().post(f"{found.control_url}/faults", json={"effect": "small_disk"})
        if refused.status_code == 501:
            pytest.skip(refused.json()["error"])
        found.control.clear_faults()
        yield found


def test_a_full_disk_is_full_and_empties_again(cloud: SimCloud, key: KeyPair) -> None:
    cloud.control.add_fault(
        "small_disk", operation="instances.boot", times=1, parameters={"mb": 100}
    )
    with VastApi(cloud) as api:
        api.post("/api/v0/ssh/", ssh_key=key.public)
        row = api.running()

        def run(command: str) -> str:
            where = row["public_ipaddr"], int(row["ports"]["22/tcp"][0]["HostPort"])
            done = until(lambda: key.ssh(*where, command), lambda found: found.returncode != 255)
            return str(done.stdout + done.stderr).strip()

        write = "head -c {mb}M /dev/zero >/workspace/big && echo written"
        assert run("echo kept >/workspace/file; " + write.format(mb=60)) == "written"
        name = f"vast-{row['id']}"
        answer = cloud.control.post(f"/machines/{name}/disk", free_mb=5)
        assert answer["free_mb"] == pytest.approx(5, abs=0.5)
        assert "No space left on device" in run(write.replace("big", "more").format(mb=10))
        assert run("rm /workspace/more; ls -A /workspace | grep -v lost+found") == "big\nfile"

        cloud.control.post(f"/machines/{name}/disk", free_mb=None)
        assert run(write.replace("big", "more").format(mb=10)) == "written"

        # the disk is the machine's: its files and its size outlive a stop
        api.put(f"/api/v0/instances/{row['id']}/", state="stopped")
        api.wait(row["id"], "exited")
        api.put(f"/api/v0/instances/{row['id']}/", state="running")
        row = api.wait(row["id"], "running")
        assert run("cat /workspace/file") == "kept"
        assert "No space left on device" in run(write.replace("big", "most").format(mb=60))


def test_a_standby_may_have_one_too(cloud: SimCloud, key: KeyPair) -> None:
    cloud.control.add_fault("small_disk", provider="gcp", label="small", times=1)
    google = Google(cloud)
    google.make("small", metadata={"items": [{"key": "ssh-keys", "value": f"root:{key.public}"}]})
    google.close()
    (row,) = cloud.control.get("/gcp/instances")["instances"]
    seen = until(
        lambda: key.ssh(row["address"], row["ssh_port"], "df --output=size -m /workspace"),
        lambda done: done.returncode == 0,
    )
    assert int(seen.stdout.split()[1]) < 64


def test_a_machine_without_its_own_disk_cannot_be_filled(cloud: SimCloud) -> None:
    with VastApi(cloud) as api:
        name = f"vast-{api.running()['id']}"
        url = f"{cloud.control_url}/machines/{name}/disk"
        refused = api.http.post(url, json={"free_mb": 5})
        assert refused.status_code == 409
        assert "small_disk" in refused.json()["error"]
        assert api.http.post(url, json={"free_mb": -1}).status_code == 422
