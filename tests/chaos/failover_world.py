"""Protected machines under the product's real processes, and the person who works on one of them.

What a test asserts is what that person would notice: the address answers, always with the same host
key; every file is there, by hash; and nothing is rented that nobody needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from temporalio.client import Client, WorkflowHandle

from benchmarks._servers import Process, Stack, free_port, wait_until
from dumont.domain.instances import SshAddress
from dumont.domain.machine import (
    ActiveInstance,
    MachinePhase,
    MachineSpec,
    MachineState,
    Timing,
)
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import ActiveStandby, Failback, ProtectionPolicy, ProtectionStatus
from dumont.domain.receipts import Receipt
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import machine_workflow_id
from dumont.temporal.queues import CONTROL
from tests.support.ssh import KeyPair, make_key_pair
from workflows.machine import DestroyRequest, Machine, MachineInput

if TYPE_CHECKING:
    from tests.support.cloud import SimCloud

ENV = "chaos"
BRISK = Timing(
    gone_confirm_s=1,
    attempt_s=120,
    race_width=1,
    retry_ladder_s=(2,),
    assess_s=0.5,
    idle_s=2,
    start_again_s=1,
    rescue_s=2,
)
"""As patient as the product, but for the waits that only make a test long."""
API_HOST = "127.66.7.1"
"""Not 127.0.0.1: a machine whose link is cut keeps that one."""
_GIVE_UP_S = 30
_HASHES = (
    "cd /workspace && find . -type f -not -path './.dumont/*' -print0 | xargs -0r sha256sum -z"
)
_BODY = 'grep -o \'"role": *"[a-z]*"\' ~/.dumont/agent.json | cut -d\'"\' -f4'


class FailoverWorld:
    """A control plane of real processes over one stack and one cloud.

    Args:
        stack: PostgreSQL and Temporal.
        cloud: Where GPUs and VMs are rented.
        folder: For keys and what ssh remembers.
    """

    def __init__(self, stack: Stack, cloud: SimCloud, folder: Path) -> None:
        self.stack = stack
        self.cloud = cloud
        self.folder = folder
        self.key: KeyPair = make_key_pair(folder, "owner")
        self._api_port = free_port()
        self._worker: Process | None = None
        self._api: Process | None = None
        self._processes = 0
        self._kept: Protected | None = None
        # Prices that move and rivals who rent are another test's subject.
        cloud.control.knobs(rivals=False)

    @property
    def env(self) -> dict[str, str]:
        """How the product's processes are configured."""
        return {
            "DUMONT_ENV": ENV,
            "VAST_URL": self.cloud.vast_url,
            "VAST_API_KEY": self.cloud.vast_key,
            "GCP_CREDENTIALS": self.cloud.summary["gcp_credentials"],
            "GCP_URL": self.cloud.gcp_url,
            "DUMONT_GONE_CONFIRM_S": "1",
            "DUMONT_RECONCILE_EVERY_S": "2",
            "DUMONT_FLEET_POLL_S": "1",
            "DUMONT_API_HOST": API_HOST,
            "DUMONT_API_PORT": str(self._api_port),
            "DUMONT_AGENT_API_URL": f"http://{API_HOST}:{self._api_port}",
        }

    def start(self) -> None:
        """Have a worker and an API, whichever does not run."""
        if self._api is None or self._api.ended:
            self._api = self._process("api")
        if self._worker is None or self._worker.ended:
            self.worker("worker")

    def worker(self, *command: str) -> Process:
        """Start a worker: the only one from now on."""
        self.kill_worker()
        self._worker = self._process(*command)
        return self._worker

    def kill_worker(self) -> None:
        """kill -9."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def stop(self) -> None:
        """End the product's processes."""
        for process in (self._worker, self._api):
            if process is not None:
                process.kill()

    def log(self) -> str:
        """The worker's last words."""
        return self._worker.log() if self._worker is not None else ""

    async def client(self) -> Client:
        """A connection to Temporal for the running event loop."""
        keys = load_or_create_keys(self.stack.folder / "state" / "keys.json")
        return await connect(
            address=self.stack.temporal.address,
            namespace="default",
            codec_keys=[CodecKey(key_id=k.key_id, key=k.key) for k in keys.codec],
        )

    async def machine(self, *, timing: Timing = BRISK) -> Protected:
        """A machine that is protected. One that an earlier test has left so is as good.

        Args:
            timing: How patient its workflows are; another patience needs a machine of its own.
        """
        self.start()
        self.cloud.control.clear_faults()
        kept = self._kept
        if kept is not None:
            kept.again(await self.client())
            if kept.timing == timing and kept.is_at_rest():
                return kept
            await kept.leave()
        self._kept = made = await self._new_machine(timing)
        await made.until_protected(seconds=120)
        return made

    async def _new_machine(self, timing: Timing) -> Protected:
        client = await self.client()
        machine_id = f"m{uuid.uuid4().hex[:12]}"
        spec = MachineSpec(
            machine_id=machine_id,
            owner_id="owner",
            name=f"box-{machine_id}",
            env=ENV,
            requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.9),
            authorized_keys=(self.key.public,),
            protection=ProtectionPolicy(failback=Failback.AT_ONCE),
        )
        handle = await client.start_workflow(
            Machine.run,
            MachineInput(spec=spec, timing=timing),
            id=machine_workflow_id(machine_id),
            task_queue=CONTROL,
        )
        return Protected(self, machine_id, handle, timing)

    def power_cut(self) -> None:
        """kill -9 PostgreSQL and Temporal at once, and start them on what they left.

        Not for another thread: a server dies with the thread that started it.
        """
        servers = (self.stack.postgres, self.stack.temporal)
        for server in servers:
            server.kill()
        for server in servers:
            server.start()
        for server in servers:
            server.wait()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the product's database."""
        with psycopg.connect(self.stack.postgres.url) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def _process(self, *command: str) -> Process:
        self._processes += 1
        name = f"{command[0].rpartition('.')[2]}{self._processes}"
        process = self.stack.python(name, *command, env=self.env)
        process.start()
        return process


@dataclass
class Protected:
    """A machine with a standby, and the person who works on it."""

    world: FailoverWorld
    machine_id: str
    handle: WorkflowHandle[Machine, MachineState]
    timing: Timing
    saved: dict[str, str] = field(default_factory=dict)
    """What was ever saved: path in the workspace -> SHA-256."""

    @property
    def gpu(self) -> ActiveInstance:
        """The instance it lives on."""
        instance = self.state.instance
        assert instance is not None
        return instance

    @property
    def vm(self) -> ActiveStandby:
        """The standby it has."""
        standby = self.state.standby
        assert standby is not None
        return standby

    def again(self, client: Client) -> None:
        """Belong to another event loop from now on."""
        self.handle = client.get_workflow_handle_for(Machine.run, self.handle.id)

    # What the person does ---------------------------------------------------------------------

    @property
    def address(self) -> SshAddress:
        """The stable address."""
        return self.vm.endpoint

    def ssh(
        self, command: str, *, stdin: bytes = b"", at: SshAddress | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Log in once, by the stable address unless another is given. The host key never changes."""
        address = at or self.address
        return subprocess.run(
            [
                "ssh", "-F", "none", "-i", str(self.world.key.private), "-p", str(address.port),
                "-oIdentitiesOnly=yes", "-oBatchMode=yes", "-oConnectTimeout=3", "-oLogLevel=ERROR",
                "-oStrictHostKeyChecking=accept-new", f"-oHostKeyAlias={self.machine_id}",
                f"-oUserKnownHostsFile={self.world.folder}/known_hosts",
                f"root@{address.host}", command,
            ],
            input=stdin, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def do(self, command: str, *, stdin: bytes = b"", seconds: float = _GIVE_UP_S) -> bytes:
        """Do something as a person does: whoever is cut off logs in again."""
        deadline = time.monotonic() + seconds
        while True:
            done = self.ssh(command, stdin=stdin)
            if done.returncode == 0:
                return done.stdout
            said = done.stderr.decode(errors="replace").strip()
            assert "HOST IDENTIFICATION HAS CHANGED" not in said, said
            assert time.monotonic() < deadline, f"{command[:60]}: {done.returncode}: {said}"

    def save(self, **files: bytes) -> None:
        """Save files into the workspace, by the stable address; `__` in a name is a folder."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name.replace("__", "/"))
                member.size, member.mtime = len(content), time.time()
                tar.addfile(member, io.BytesIO(content))
        self.do("tar -xmf - -C /workspace", stdin=archive.getvalue())
        for name, content in files.items():
            self.saved[name.replace("__", "/")] = hashlib.sha256(content).hexdigest()

    def flush(self) -> None:
        """The barrier, as a training loop asks for it."""
        self.do("dumont-flush")

    def files(self) -> dict[str, str]:
        """What the workspace holds behind the stable address: path -> SHA-256."""
        lines = self.do(_HASHES).decode(errors="surrogateescape").split("\0")
        return {line[66:].removeprefix("./"): line[:64] for line in lines if line}

    def kept_aside(self) -> dict[str, bytes]:
        """Divergent files beside the workspace: path below `.dumont/conflicts` -> content."""
        packed = self.do(
            "mkdir -p /workspace/.dumont/conflicts; tar -cC /workspace/.dumont/conflicts ."
        )
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            return {
                member.name.removeprefix("./"): (tar.extractfile(member) or io.BytesIO()).read()
                for member in tar
                if member.isfile()
            }

    def body(self) -> str:
        """Where the stable address leads to: `primary` or `standby`."""
        return self.do(_BODY).decode().strip()

    async def until_on(self, body: str, *, seconds: float = 20) -> None:
        """Wait until the stable address leads there."""
        await self.until(
            f"the address leads to the {body}", lambda: self.body() == body, seconds=seconds
        )

    # What can be seen from behind -------------------------------------------------------------

    @property
    def state(self) -> MachineState:
        """What is recorded of it."""
        rows = self.world.rows("SELECT state FROM machines WHERE machine_id = %s", self.machine_id)
        return MachineState.model_validate(rows[0][0]) if rows else MachineState()

    def gpus(self) -> list[dict[str, Any]]:
        """Its instances at Vast.ai. By the control API: the other's rate limit is the worker's."""
        rows = self.world.cloud.control.get("/vast/instances")["instances"]
        return [row for row in rows if self.machine_id in (row["label"] or "")]

    def vms(self) -> list[dict[str, Any]]:
        """Its VMs at Google."""
        rows = self.world.cloud.control.get("/gcp/instances")["instances"]
        return [row for row in rows if self.machine_id in row["name"]]

    def receipts(self) -> list[Receipt]:
        """What was filed, oldest first; without the false alarms of a host that is too busy."""
        query = "SELECT receipt FROM receipts WHERE machine_id = %s ORDER BY number"
        rows = self.world.rows(query, self.machine_id)
        return [r for r in (Receipt.model_validate(row[0]) for row in rows) if not r.false_alarm]

    def events(self, kind: str = "%") -> list[str]:
        """The event log's sentences, those of one kind or all."""
        query = (
            "SELECT kind, summary FROM events WHERE machine_id = %s AND kind LIKE %s ORDER BY seq"
        )
        return [f"{row[0]}: {row[1]}" for row in self.world.rows(query, self.machine_id, kind)]

    def steps(self, *, after: int) -> list[str]:
        """The steps of all failovers later than one, so far."""
        query = (
            "SELECT data->>'step' FROM events WHERE machine_id = %s AND kind = 'failover.step' "
            "AND (data->>'failover')::int > %s ORDER BY seq"
        )
        return [row[0] for row in self.world.rows(query, self.machine_id, after)]

    def disk_of(self, machine: str) -> Path:
        """A body's disk at its provider, whether the body runs or not."""
        return self.world.cloud.state / "machines" / machine

    def agents(self) -> str:
        """The last words of the agents on all its bodies."""
        said = []
        for machine in [row["machine"] for row in (*self.gpus(), *self.vms())]:
            for file in self.disk_of(machine).glob("*home/.dumont/log/*.log"):
                lines = file.read_text(errors="replace").splitlines()[-15:]
                said += [f"-- {machine} {file.name}", *lines]
        return "\n".join(said)

    def authority(self) -> list[dict[str, Any]]:
        """Who had authority over the workspace, oldest first, by the standbys' own journals."""
        found = []
        for row in self.vms():
            for home in ("home", "root-home"):
                file = self.disk_of(row["machine"]) / home / ".dumont/authority.journal"
                if file.exists():
                    found += [json.loads(each) for each in file.read_text().split("\n") if each]
        return found

    def is_at_rest(self) -> bool:
        """Running, protected, and nothing former is left."""
        state = self.state
        return (
            state.phase is MachinePhase.RUNNING
            and state.protection is ProtectionStatus.PROTECTED
            and state.mirrored
            and not state.retiring
            and len(self.gpus()) == 1
            and len(self.vms()) == 1
            and self.authority()[-1]["authority"] == "primary"
        )

    # What a test waits for --------------------------------------------------------------------

    async def until(
        self, what: str, check: Callable[[], object], *, seconds: float = 60
    ) -> MachineState:
        """Wait until something is so; returns the state then.

        Raises:
            AssertionError: With everything that is known.
        """
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                told = "\n".join(self.events()[-25:])
                raise AssertionError(
                    f"not within {seconds:g} s: {what}\n{self.state!r}\n{told}\n{self.authority()[-3:]}\n"
                    f"{self.agents()}\n{self.world.log()}"
                )
            await asyncio.sleep(0.1)
        return self.state

    async def until_protected(self, *, seconds: float = 120) -> MachineState:
        """Wait until a GPU runs, its mirror is complete and everything else is ended."""
        return await self.until("protected, nothing else rented", self.is_at_rest, seconds=seconds)

    async def until_step(self, step: str, *, after: int, seconds: float = 90) -> None:
        """Wait until a failover later than one has said that it has reached a step."""
        await self.until(
            f"a failover's step {step!r}", lambda: step in self.steps(after=after), seconds=seconds
        )

    async def until_replaced(self, former: ActiveInstance, *, seconds: float = 120) -> MachineState:
        """Wait until another GPU has everything and nothing of the former one is left."""
        await self.until(
            f"another GPU than {former.label}",
            lambda: (self.state.instance or former).label != former.label,
            seconds=seconds,
        )
        return await self.until_protected(seconds=seconds)

    def assert_whole(self) -> None:
        """Every file that was ever saved is there, as it was saved."""
        there = self.files()
        missing = {name for name in self.saved if there.get(name) != self.saved[name]}
        assert not missing, f"lost or changed: {sorted(missing)}; there: {sorted(there)}"

    async def leave(self) -> None:
        """Have it ended by and by: nobody needs it any more."""
        if not self.state.stopping:
            await self.handle.execute_update(Machine.destroy, DestroyRequest())

    async def destroy(self) -> None:
        """End it; afterwards nothing of it is rented anywhere."""
        await self.leave()
        await self.until(
            "destroyed", lambda: self.state.phase is MachinePhase.DESTROYED, seconds=90
        )
        assert self.gpus() == []
        assert self.vms() == []


def until_dead(process: Process, *, seconds: float = 60) -> None:
    """Wait until a doomed process has killed itself."""
    wait_until(lambda: process.ended, what=f"the death of {process.name}", seconds=seconds)
