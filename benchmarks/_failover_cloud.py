"""A cloud in a box for the failover benchmark: one GPU instance, one VM, and the button that kills.

Both are rented over the providers' own wire protocols, and started by the product's own start
scripts. Only what they answer to a banner differs, so that a probe can tell them apart.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks._servers import Process, wait_until
from dumont.ports import MachineSecrets
from dumont.providers.vast.onstart import fit_onstart
from dumont.remote.agent_archive import agent_archive
from dumont.remote.onstart import build_onstart
from dumont.remote.standby_start import build_standby_start

ZONE = "us-central1-a"
STANDBY_MARK = b" standby"
"""At the end of the standby's banner."""
_HOST = "dumont-bench"
"""Name under which the client knows the machine's host key, wherever it runs."""
_MARKED = "grep -q ^VersionAddendum {0} || echo VersionAddendum standby >>{0}\n"


class Unsupported(Exception):
    """This computer cannot play a fault; says why."""


def key_pair(path: Path) -> str:
    """Make an Ed25519 key pair; returns the public line."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    return path.with_suffix(".pub").read_text().strip()


@dataclass(frozen=True, kw_only=True)
class Body:
    """A rented computer, seen by its user and, for judging, from below."""

    machine: str
    """Its name in the cloud in a box."""
    host: str
    port: int
    disk: Path
    """Its directory on this computer."""
    client: tuple[str, ...]
    """Options of the OpenSSH client."""

    @property
    def workspace(self) -> Path:
        """What is /workspace inside."""
        return self.disk / "workspace"

    @property
    def home(self) -> Path:
        """What is /root inside."""
        return self.disk / ("home" if (self.disk / "home/.dumont").exists() else "root-home")

    def words(self, *command: str) -> list[str]:
        """The command line that runs something there."""
        return ["ssh", *self.client, "-p", str(self.port), f"root@{self.host}", *command]

    def run(self, command: str, *, given: bytes | str = b"", seconds: float = 60) -> str:
        """Run a command there; returns what it printed.

        Raises:
            RuntimeError: It failed, or took too long.
        """
        try:
            done = subprocess.run(
                self.words(command), input=given.encode() if isinstance(given, str) else given,
                capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{command[:60]!r} took over {seconds:g} s") from None
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()[-1500:]
            raise RuntimeError(f"{command[:60]!r} on {self.machine}: {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    def agent(self, words: str, *, given: str = "", seconds: float = 90) -> dict[str, Any]:
        """Run a command of the agent; returns its answer."""
        command = f"python3 ~/.dumont/agent.pyz {words}"
        answer: dict[str, Any] = json.loads(
            self.run(command, given=given, seconds=seconds).splitlines()[-1]
        )
        return answer

    def push_agent(self) -> None:
        """Put the agent there."""
        archive = agent_archive()
        file = f"~/.dumont/{archive.file_name}"
        link = f"ln -sfn {archive.file_name} ~/.dumont/agent.pyz"
        self.run(f"cat >{file} && {link}", given=archive.content)

    def status(self) -> dict[str, Any]:
        """The agent's `status.json`; empty when there is none."""
        try:
            found: dict[str, Any] = json.loads((self.home / ".dumont/status.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def answers(self) -> bool:
        """Whether its sshd says its banner."""
        try:
            with socket.create_connection((self.host, self.port), 1) as connection:
                connection.settimeout(1)
                return connection.recv(7) == b"SSH-2.0"
        except OSError:
            return False

    def cpu_s(self) -> float:
        """CPU seconds of everything that runs and ran there since its boot."""
        try:
            root = psutil.Process(json.loads((self.disk / "run.json").read_text())["pid"])
            tree = [root, *root.children(recursive=True)]
        except (OSError, ValueError, psutil.NoSuchProcess):
            return 0.0
        total = 0.0
        for process in tree:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total


class Cloud:
    """One running cloud in a box.

    Args:
        folder: Its state, keys and logs; short, for sockets lie below it.
    """

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "c"
        self._process = Process(
            name="simcloud",
            command=[
                *(sys.executable, "-m", "simcloud", "--state", self._state, "--json"),
                *("--boot-seconds", "0,0", "--no-strict"),
            ],
            folder=folder,
        )
        self._secrets = self._make_secrets()
        self.instance = 0

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._process.start()
        log = self.folder / "simcloud.log"

        def line() -> str:
            self._process.check()
            lines = log.read_text(errors="replace").splitlines()
            return next((each for each in lines if each.startswith("{")), "")

        wait_until(lambda: bool(line()), what="the cloud in a box", seconds=60)
        said = json.loads(line())
        if said["isolation"] != "namespaces":
            raise Unsupported("machines with a private /workspace need root and mount namespaces")
        self._control = httpx.Client(base_url=said["control_url"], timeout=30, trust_env=False)
        key = {"Authorization": f"Bearer {said['vast_api_key']}"}
        self._vast = httpx.Client(
            base_url=said["vast_url"], headers=key, timeout=30, trust_env=False
        )
        self._gcp = httpx.Client(
            base_url=f"{said['gcp_url']}/compute/v1/projects/{said['project']}", timeout=60,
            trust_env=False,
        )  # fmt: skip
        _ok(self._control.put("/vast/knobs", json={"rivals": False}))

    def stop(self) -> None:
        """Stop it and with it every machine."""
        self._process.stop()

    @property
    def owner_key(self) -> Path:
        """The private key that logs in everywhere."""
        return self.folder / "owner"

    @property
    def host_key(self) -> str:
        """The machine's public host key."""
        return self._secrets.host_key_public

    @property
    def client(self) -> tuple[str, ...]:
        """Options of an OpenSSH client that checks the one host key."""
        options = (
            "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.folder}/known_hosts", f"HostKeyAlias={_HOST}",
            "ConnectTimeout=2", "LogLevel=ERROR",
        )  # fmt: skip
        return ("-F", "none", "-i", str(self.owner_key), *(f"-o{each}" for each in options))

    def control(self, path: str, **body: Any) -> None:
        """Do something to the primary from behind.

        Raises:
            Unsupported: The cloud cannot play it on this computer.
        """
        answer = self._control.post(f"/vast/instances/{self.instance}/{path}", json=body)
        if answer.status_code in (404, 501):
            raise Unsupported(answer.text[:300])
        _ok(answer)

    def reboot(self) -> None:
        """Boot a primary whose container died."""
        _ok(self._vast.put(f"/api/v0/instances/reboot/{self.instance}/"))

    def rent_primary(self) -> Body:
        """Rent the cheapest GPU by a high bid and wait for its sshd."""
        search = {"type": "bid", "limit": 1, "order": [["min_bid", "asc"]]}
        query = {**search, "gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}}
        offer = _ok(self._vast.post("/api/v0/bundles/", json=query))["offers"][0]
        script = build_onstart(keys=self._secrets, authorized_keys=[self._owner_public])
        order = {
            "client_id": "me", "image": "pytorch/pytorch", "env": {}, "disk": 20.0,
            "label": "bench", "onstart": fit_onstart(script), "runtype": "ssh_direc ssh_proxy",
            "price": round(offer["min_bid"] * 2, 4), "target_state": "running",
        }  # fmt: skip
        made = _ok(self._vast.put(f"/api/v0/asks/{offer['id']}/", json=order))
        self.instance = int(made["new_contract"])

        def row() -> dict[str, Any]:
            found = _ok(self._vast.get(f"/api/v0/instances/{self.instance}/"))["instances"]
            return found if isinstance(found, dict) else {}

        wait_until(lambda: row().get("actual_status") == "running", what="the GPU", seconds=60)
        port = int(row()["ports"]["22/tcp"][0]["HostPort"])
        return self._body(f"vast-{self.instance}", row()["public_ipaddr"].strip(), port)

    def rent_standby(self) -> Body:
        """Rent the small VM and wait for its sshd."""
        script = build_standby_start(keys=self._secrets, authorized_keys=[self._owner_public])
        first, _, rest = script.partition("\n")
        marked = f"{first}\n{_MARKED.format('/etc/ssh/sshd_config')}{rest}"
        body = {
            "name": "bench-standby",
            "machineType": f"zones/{ZONE}/machineTypes/e2-small",
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": {
                "sourceImage": "projects/debian-cloud/global/images/family/debian-12"}}],
            "networkInterfaces": [{"network": "global/networks/default",
                                   "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}],
            "metadata": {"items": [{"key": "startup-script", "value": marked}]},
        }  # fmt: skip
        operation = _ok(self._gcp.post(f"/zones/{ZONE}/instances", json=body))
        deadline = time.monotonic() + 60
        while operation["status"] != "DONE" and time.monotonic() < deadline:
            operation = _ok(
                self._gcp.post(f"/zones/{ZONE}/operations/{operation['name']}/wait", json={})
            )
        made = _ok(self._gcp.get(f"/zones/{ZONE}/instances/bench-standby"))
        address = made["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
        before = set(self._machines())
        machine = next(name for name in before if name.startswith("gcp-"))
        return self._body(machine, address, 22)

    def _machines(self) -> list[str]:
        return [path.name for path in (self._state / "machines").iterdir()]

    def _body(self, machine: str, host: str, port: int) -> Body:
        body = Body(
            machine=machine, host=host, port=port, disk=self._state / "machines" / machine,
            client=self.client,
        )  # fmt: skip

        def let_in() -> bool:
            done = subprocess.run(body.words("true"), capture_output=True, timeout=20, check=False)
            return done.returncode == 0

        wait_until(let_in, what=f"a login on {machine}", seconds=60)
        body.push_agent()
        return body

    def _make_secrets(self) -> MachineSecrets:
        host, access = self.folder / "host", self.folder / "access"
        host_public, access_public = key_pair(host), key_pair(access)
        self._owner_public = key_pair(self.owner_key)
        kind, material = host_public.split()[:2]
        (self.folder / "known_hosts").write_text(f"{_HOST} {kind} {material}\n")
        return MachineSecrets(
            host_key_private=host.read_text(),
            host_key_public=host_public,
            access_key_private=access.read_text(),
            access_key_public=access_public,
        )


def _ok(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise RuntimeError(f"{answer.request.method} {answer.request.url}: {answer.text[:500]}")
    return answer.json()
