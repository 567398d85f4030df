"""What the product's standby does inside a VM of simcloud: its start script, and its notice of the end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dumont.domain.instances import Instance
from dumont.ports import MachineSecrets, VmOrder
from dumont.providers.gcp.adapter import GcpProvider
from dumont.remote.standby_start import build_standby_start
from dumont.security.ssh import new_machine_secrets
from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google, until


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.05,0.1") as running:
        if running.summary["isolation"] != "namespaces":
            pytest.skip("a machine without a file system of its own has one account")
        yield running


@pytest.fixture
async def provider(cloud: SimCloud) -> AsyncIterator[GcpProvider]:
    credentials = json.loads(Path(cloud.summary["gcp_credentials"]).read_text())
    found = GcpProvider(credentials=credentials, url=cloud.gcp_url)
    yield found
    found.close()


class Door:
    """Root's way into a VM, for who knows the machine's host key and has its access key."""

    def __init__(self, place: Path, keys: MachineSecrets) -> None:
        self._private = place / "access"
        self._private.write_text(keys.access_key_private)
        self._private.chmod(0o600)
        self._known = place / "known_hosts"
        self._known.write_text("the-machine " + " ".join(keys.host_key_public.split()[:2]) + "\n")

    def ssh(self, cloud: SimCloud, name: str, command: str) -> subprocess.CompletedProcess[str]:
        rows = cloud.control.get("/gcp/instances")["instances"]
        (row,) = [each for each in rows if each["name"] == name]
        options = {
            "UserKnownHostsFile": self._known, "HostKeyAlias": "the-machine",
            "StrictHostKeyChecking": "yes", "BatchMode": "yes", "IdentitiesOnly": "yes",
            "ConnectTimeout": 5, "LogLevel": "ERROR",
        }  # fmt: skip
        return subprocess.run(
            [
                *("ssh", "-i", str(self._private), "-p", str(row["ssh_port"])),
                *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
                *(f"root@{row['address']}", command),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


async def insert(provider: GcpProvider, name: str, keys: MachineSecrets, script: str) -> Instance:
    order = VmOrder(name=name, zone=ZONE, ssh_keys=(keys.access_key_public,), startup_script=script)
    return await provider.insert(order)


async def test_the_start_script_opens_root_with_the_machines_own_host_key(
    provider: GcpProvider, cloud: SimCloud, tmp_path: Path
) -> None:
    keys = new_machine_secrets("m0123456789ab")
    door = Door(tmp_path, keys)
    script = build_standby_start(keys=keys, authorized_keys=[keys.access_key_public])
    await insert(provider, "dmt-t-guest", keys, script)
    seen = until(
        lambda: door.ssh(cloud, "dmt-t-guest", "id -un; cat ~/.dumont/workspace"),
        lambda done: done.returncode == 0,
    )
    assert seen.stdout.split() == ["root", "/workspace"]
    door.ssh(cloud, "dmt-t-guest", "echo kept > /workspace/file")
    await provider.stop(zone=ZONE, name="dmt-t-guest")
    await provider.start(zone=ZONE, name="dmt-t-guest")
    again = until(
        lambda: door.ssh(cloud, "dmt-t-guest", "cat /workspace/file"),
        lambda done: done.returncode == 0,
    )
    assert again.stdout == "kept\n"


async def test_root_is_kept_out_of_a_vm_that_was_not_told(
    provider: GcpProvider, cloud: SimCloud, tmp_path: Path
) -> None:
    """Otherwise the script could forget to open the door and nobody here would notice."""
    keys = new_machine_secrets("m0123456789ab")
    half = "mkdir -p /root/.ssh; echo '{}' >/root/.ssh/authorized_keys; echo done-so-far"
    await insert(provider, "dmt-t-shut", keys, half.format(keys.access_key_public))
    google = Google(cloud)
    until(lambda: console(google, "dmt-t-shut"), lambda text: "exit status 0" in text)
    google.close()
    door = Door(tmp_path, keys)
    rows = cloud.control.get("/gcp/instances")["instances"]
    (row,) = [each for each in rows if each["name"] == "dmt-t-shut"]
    scanned = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", "-p", str(row["ssh_port"]), row["address"]],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    (tmp_path / "known_hosts").write_text(f"the-machine {scanned[1]} {scanned[2]}\n")
    refused = door.ssh(cloud, "dmt-t-shut", "true")
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


_GUARD = """\
cat >/root/guard.py <<'END'
import signal, time, urllib.request
signal.signal(signal.SIGTERM, lambda *_: None)
url = "http://metadata.google.internal/computeMetadata/v1/instance/preempted?wait_for_change=true"
request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
print("guard waits", flush=True)
answer = urllib.request.urlopen(request).read().decode()
print("guard heard", answer, flush=True)
for beat in range(20):
    time.sleep(0.1)
    print("guard works on", beat, flush=True)
print("guard is done", flush=True)
END
exec python3 /root/guard.py
"""


async def test_a_guard_hears_of_its_preemption_and_has_time_to_act(
    provider: GcpProvider, cloud: SimCloud
) -> None:
    keys = new_machine_secrets("m0123456789ab")
    await insert(provider, "dmt-t-guard", keys, _GUARD)
    google = Google(cloud)
    until(lambda: console(google, "dmt-t-guard"), lambda text: "guard waits" in text)
    google.control("dmt-t-guard", "preempt")
    began = time.monotonic()
    google.until_status("dmt-t-guard", "TERMINATED", timeout_s=40)
    text = console(google, "dmt-t-guard")
    google.close()
    assert "guard heard TRUE" in text
    assert "guard is done" in text, "it may take up to 30 s, and took two"
    assert 2 <= time.monotonic() - began < 29


def console(google: Google, name: str) -> Any:
    return google.get(f"zones/{ZONE}/instances/{name}/serialPort")["contents"]
