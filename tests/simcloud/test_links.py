"""Cut links: what somebody on the machine, beside it, or with other firewall rules would notice."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from simcloud.machines import AddressPool, LinkFault, Machines, MachineSpec
from simcloud.store import Store
from tests.support.cloud import SimCloud
from tests.support.google import until
from tests.support.ssh import KeyPair
from tests.support.vast_api import VastApi

CUT = LinkFault(cut="both")
SILENCE_S = 0.4

# Does what a file in the workspace says: a machine that is cut off cannot be logged into.
MAILBOX = """\
cd /workspace
python3 -m http.server 8099 --bind 127.0.0.1 --directory /workspace >/dev/null 2>&1 &
until bash -c 'echo >/dev/tcp/127.0.0.1/8099' 2>/dev/null; do sleep 0.01; done
touch ready
while :; do
    if [ -e ask ]; then
        mv ask doing
        bash doing >answer.part 2>&1
        mv answer.part answer
    fi
    sleep 0.01
done
"""


def iptables(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["iptables", "-w", "10", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def chains(pid: int | None = None) -> list[str]:
    """The chains of one process, this one unless another is named; others may be at work too."""
    start = f"-N SIM-{pid or os.getpid()}-"
    return [line[3:] for line in iptables("-S").stdout.splitlines() if line.startswith(start)]


def foreign() -> list[str]:
    """All rules but those of any simcloud."""
    return [line for line in iptables("-S").stdout.splitlines() if "SIM-" not in line]


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    if os.geteuid() != 0:
        pytest.skip("cutting links needs root")
    engine = Machines(tmp_path / "machines")
    if not engine.links:
        pytest.skip(engine.links_reason)
    yield engine
    await engine.close()


@pytest.fixture
def pool(tmp_path: Path) -> AddressPool:
    return AddressPool(Store(":memory:"), seed=str(tmp_path))


@pytest.fixture
async def spec(machines: Machines, pool: AddressPool, key: KeyPair) -> MachineSpec:
    found = MachineSpec(
        name="one",
        hostname="one",
        address=pool.claim("one"),
        ssh_port=2222,
        authorized_keys=(key.public,),
        onstart=MAILBOX,
    )
    await machines.boot(found)
    await asyncio.to_thread(until, lambda: banner(found), bool)
    workspace = machines.directory("one").workspace
    await asyncio.to_thread(until, (workspace / "ready").exists, bool)
    return found


async def inside(machines: Machines, command: str, *, name: str = "one") -> str:
    """Run a command on a machine without the network; return what it printed."""
    workspace = machines.directory(name).workspace
    (workspace / "ask.part").write_text(command)
    (workspace / "ask.part").rename(workspace / "ask")
    await asyncio.to_thread(until, (workspace / "answer").exists, bool)
    answer = (workspace / "answer").read_text()
    (workspace / "answer").unlink()
    return answer


def banner(spec: MachineSpec) -> bytes:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((spec.address, spec.ssh_port), timeout=2) as found,
    ):
        return found.recv(8)
    return b""


def attempt(address: str, port: int) -> str:
    """What a client sees: `open`, `refused`, `reset` or `silence`."""
    with socket.socket() as probe:
        probe.settimeout(SILENCE_S)
        try:
            probe.connect((address, port))
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "refused"
        except ConnectionResetError:
            return "reset"
        return "open"


REACH = "timeout {seconds} bash -c 'echo >/dev/tcp/{host}/{port}' && echo open || echo $?"
TIMED_OUT = "124\n"


@contextlib.contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_a_cut_is_silence_in_both_directions_and_for_what_is_open(
    machines: Machines, spec: MachineSpec
) -> None:
    with listener() as outside, socket.create_connection((spec.address, spec.ssh_port)) as open_:
        port = outside.getsockname()[1]
        assert open_.recv(100).startswith(b"SSH-2.0")
        await machines.set_link("one", CUT)
        assert machines.link("one") == CUT
        assert attempt(spec.address, spec.ssh_port) == "silence"
        # a port that nobody listens on is no different: a cut does not refuse
        assert attempt(spec.address, 9) == "silence"
        reach = REACH.format(seconds=SILENCE_S, host="127.0.0.1", port=port)
        assert await inside(machines, reach) == TIMED_OUT
        open_.sendall(b"SSH-2.0-test\r\n")
        open_.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            open_.recv(1)

        await machines.set_link("one", LinkFault())
        open_.settimeout(5)
        assert open_.recv(1), "the connection goes on where it stood, as after a real cut"
        assert attempt(spec.address, spec.ssh_port) == "open"
        assert attempt(spec.address, 9) == "refused"
        assert await inside(machines, reach) == "open\n"
    assert chains() == []


async def test_a_cut_machine_still_has_itself(machines: Machines, spec: MachineSpec) -> None:
    fetch = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8099/ready', timeout=3).status)\"\n"
    hold = (
        "(exec 3<>/dev/tcp/127.0.0.1/8099; touch holding; while [ ! -e go ]; do sleep 0.01; done;"
        " printf 'GET /ready HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3 >held) >/dev/null 2>&1 &\n"
        "while [ ! -e holding ]; do sleep 0.01; done"
    )
    await inside(machines, hold)
    await machines.set_link("one", CUT)
    assert await inside(machines, fetch) == "200\n"
    own = REACH.format(seconds=3, host=spec.address, port=spec.ssh_port)
    assert await inside(machines, own) == "open\n"
    workspace = machines.directory("one").workspace
    (workspace / "go").touch()
    held = workspace / "held"
    await asyncio.to_thread(until, lambda: held.exists() and held.read_text(), bool)
    assert "200" in held.read_text()


async def test_other_machines_are_not_cut(
    machines: Machines, spec: MachineSpec, pool: AddressPool
) -> None:
    other = dataclasses.replace(spec, name="two", hostname="two", address=pool.claim("two"))
    await machines.boot(other)
    await asyncio.to_thread(until, lambda: banner(other), bool)
    await machines.set_link("one", CUT)
    assert attempt(other.address, other.ssh_port) == "open"
    to_other = REACH.format(seconds=SILENCE_S, host=other.address, port=other.ssh_port)
    to_one = REACH.format(seconds=SILENCE_S, host=spec.address, port=spec.ssh_port)
    assert await inside(machines, to_other) == TIMED_OUT
    assert await inside(machines, to_one, name="two") == TIMED_OUT
    # the second one's fault and its end leave the first one's alone
    await machines.set_link("two", CUT)
    assert attempt(other.address, other.ssh_port) == "silence"
    await machines.kill("two")
    assert attempt(spec.address, spec.ssh_port) == "silence"
    await machines.set_link("one", LinkFault())
    assert attempt(spec.address, spec.ssh_port) == "open"


@pytest.mark.parametrize("cut", ["in", "out"])
async def test_one_direction_may_be_dead_alone(
    machines: Machines, spec: MachineSpec, cut: str
) -> None:
    """A datagram each way, over a flow that the machine began."""
    echo = (
        "python3 - <<'END' >heard 2>&1 &\n"
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.connect(('127.0.0.1', {port}))\n"
        "s.send(b'hello')\n"
        "s.settimeout(30)\n"
        "print(s.recv(100).decode(), flush=True)\n"
        "try:\n"
        "    s.send(b'again')\n"
        "except OSError:\n"
        "    pass\n"
        "s.settimeout({seconds})\n"
        "try:\n"
        "    print(s.recv(100).decode(), flush=True)\n"
        "except TimeoutError:\n"
        "    print('nothing', flush=True)\n"
        "END"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.bind(("127.0.0.1", 0))
        outside.settimeout(10)
        await inside(machines, echo.format(port=outside.getsockname()[1], seconds=1))
        hello, sender = await asyncio.to_thread(outside.recvfrom, 100)
        assert hello == b"hello"
        heard = machines.directory("one").workspace / "heard"
        if cut == "in":
            await machines.set_link("one", LinkFault(cut="in"))
            outside.settimeout(SILENCE_S)
            # it waits for an answer that never comes, and would have said so
            with contextlib.suppress(PermissionError):
                outside.sendto(b"lost", sender)
            assert heard.read_text() == ""
            await machines.set_link("one", LinkFault())
            outside.sendto(b"first", sender)
            outside.settimeout(10)
            assert (await asyncio.to_thread(outside.recvfrom, 100))[0] == b"again"
        else:
            await machines.set_link("one", LinkFault(cut="out"))
            outside.sendto(b"first", sender)
            outside.settimeout(SILENCE_S)
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(outside.recvfrom, 100)
            outside.sendto(b"second", sender)
            await asyncio.to_thread(until, lambda: "second" in heard.read_text(), bool)
        assert heard.read_text().splitlines()[0] == "first"


async def test_loss_loses_a_share(machines: Machines, spec: MachineSpec) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        outside.bind(("127.0.0.1", 0))
        await machines.set_link("one", LinkFault(loss=0.3))
        sent = 2000
        await inside(
            machines,
            "python3 - <<'END'\n"
            "import contextlib, socket\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"for n in range({sent}):\n"
            "    with contextlib.suppress(OSError):\n"
            f"        s.sendto(b'x', ('127.0.0.1', {outside.getsockname()[1]}))\n"
            "END",
        )
        outside.setblocking(False)
        arrived = 0
        with contextlib.suppress(BlockingIOError):
            while outside.recv(10):
                arrived += 1
    # five standard deviations: 0.3 +- 0.05
    assert 0.65 < arrived / sent < 0.75
    await asyncio.to_thread(until, lambda: banner(spec), bool)


async def test_a_cut_machine_that_dies_refuses_and_comes_back_sound(
    machines: Machines, spec: MachineSpec
) -> None:
    await machines.set_link("one", CUT)
    await machines.kill("one")
    assert attempt(spec.address, spec.ssh_port) == "refused"
    assert machines.link("one") == LinkFault()
    assert chains() == []
    await machines.boot(spec)
    await asyncio.to_thread(until, lambda: banner(spec), bool)


async def test_a_killed_machine_refuses_within_milliseconds(
    machines: Machines, spec: MachineSpec
) -> None:
    """What detects a death in milliseconds must find it dead in milliseconds."""
    seen = []
    for _ in range(5):
        with socket.create_connection((spec.address, spec.ssh_port), timeout=5) as open_:
            open_.recv(100)
            began = time.perf_counter()
            dying = asyncio.create_task(machines.kill("one"))
            await asyncio.sleep(0)
            while attempt(spec.address, spec.ssh_port) != "refused":
                await asyncio.sleep(0)
            seen.append(time.perf_counter() - began)
            open_.settimeout(1)
            with contextlib.suppress(ConnectionResetError):
                assert open_.recv(1) == b""
            await dying
        await machines.boot(spec)
        await asyncio.to_thread(until, lambda: banner(spec), bool)
    # the best of five: the others tell how busy this computer is
    assert min(seen) < 0.02, seen


async def test_other_peoples_rules_and_chains_are_left_alone(
    machines: Machines, spec: MachineSpec
) -> None:
    mine = "T-SIMCLOUD-TEST"
    iptables("-N", mine)
    iptables("-A", "OUTPUT", "-d", "127.9.9.9", "-j", mine)
    try:
        before = foreign()
        assert f"-A OUTPUT -d 127.9.9.9/32 -j {mine}" in before
        await machines.set_link("one", CUT)
        assert chains()
        assert foreign() == before
        await machines.set_link("one", LinkFault())
        assert chains() == []
        assert foreign() == before
    finally:
        iptables("-D", "OUTPUT", "-d", "127.9.9.9", "-j", mine)
        iptables("-X", mine)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SimCloud]:
    with SimCloud.started(tmp_path / "cloud", "--boot-seconds=0.05,0.1", "--no-strict") as found:
        if not found.summary["links"]:
            pytest.skip(found.control.get("/health")["links_reason"])
        yield found


def test_the_control_api_cuts_port_forwards_too(cloud: SimCloud, key: KeyPair) -> None:
    cloud.control.knobs(rivals=False, stale_offer_probability=0.0)
    with VastApi(cloud) as api:
        api.post("/api/v0/ssh/", ssh_key=key.public)
        web = "python3 -m http.server 8000"
        row = api.running(env={"-p 8000:8000": "1"}, onstart=web)
        number = row["id"]
        address = row["public_ipaddr"]
        ports = {inside: int(each[0]["HostPort"]) for inside, each in row["ports"].items()}
        name = f"vast-{number}"
        until(lambda: attempt(address, ports["22/tcp"]), lambda seen: seen == "open")

        answer = cloud.control.post(f"/machines/{name}/link", cut="both")
        assert answer == {"name": name, "cut": "both", "loss": 0.0}
        for port in ports.values():
            assert attempt(address, port) == "silence"
        (machine,) = cloud.control.get("/machines")["machines"]
        assert machine["link"] == {"cut": "both", "loss": 0.0}
        assert api.wait(number, "running")

        cloud.control.post(f"/machines/{name}/link", cut="none")
        for port in ports.values():
            assert attempt(address, port) == "open"
        cloud.control.machine(name, "kill")
        for port in ports.values():
            assert attempt(address, port) == "refused"


def test_a_rule_cuts_an_instance_after_its_birth(cloud: SimCloud, key: KeyPair) -> None:
    cloud.control.knobs(rivals=False, stale_offer_probability=0.0)
    cloud.control.add_fault(
        "cut_after", operation="asks.create", times=1, parameters={"seconds": 0.5, "cut": "out"}
    )
    with VastApi(cloud) as api:
        row = api.running()
        name = f"vast-{row['id']}"
        until(
            lambda: cloud.control.get("/machines")["machines"][0]["link"],
            lambda seen: seen == {"cut": "out", "loss": 0.0},
        )
        port = int(row["ports"]["22/tcp"][0]["HostPort"])
        assert attempt(row["public_ipaddr"], port) == "silence"
        assert cloud.control.get("/machines")["machines"][0]["name"] == name
        refused = api.http.post(
            f"{cloud.control_url}/faults",
            json={"effect": "cut_after", "parameters": {"cut": "half"}},
        )
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("parameters.cut")


def test_a_host_without_network_is_cut_and_computes_on(cloud: SimCloud, key: KeyPair) -> None:
    cloud.control.knobs(rivals=False, stale_offer_probability=0.0, offline_after_seconds=0.1)
    with VastApi(cloud) as api:
        row = api.running(onstart="while :; do date +%N > /workspace/beat; sleep 0.02; done")
        beat = cloud.state / f"machines/vast-{row['id']}/workspace/beat"
        port = int(row["ports"]["22/tcp"][0]["HostPort"])
        until(lambda: attempt(row["public_ipaddr"], port), lambda seen: seen == "open")
        cloud.control.vast(row["id"], "host-offline", network_only=True)
        api.wait(row["id"], "offline")
        assert attempt(row["public_ipaddr"], port) == "silence"
        last = beat.read_text()
        until(beat.read_text, lambda now: now not in ("", last))
        cloud.control.vast(row["id"], "host-online", new_address=False)
        api.wait(row["id"], "running")
        assert attempt(row["public_ipaddr"], port) == "open"


def test_what_a_killed_simcloud_left_is_removed_by_the_next(cloud: SimCloud, key: KeyPair) -> None:
    with VastApi(cloud) as api:
        api.post("/api/v0/ssh/", ssh_key=key.public)
        number = api.running()["id"]
        cloud.control.vast(number, "link", cut="both")
        dead = cloud.pid
        ours = chains(dead)
        assert ours
    cloud.kill()
    assert chains(dead) == ours
    cloud.start()
    assert chains(dead) == []
    left = subprocess.run(
        ["find", "/sys/fs/cgroup", "-maxdepth", "3", "-name", min(ours, key=len)],
        capture_output=True,
        check=True,
    )
    assert left.stdout == b""


def test_where_links_cannot_be_cut_the_call_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("unshare", "setpriv", "sh", "bash", "ssh-keygen"):
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    with SimCloud.started(tmp_path / "cloud", "--boot-seconds=0.05,0.1", "--no-strict") as cloud:
        assert cloud.summary["links"] is False
        reason = cloud.control.get("/health")["links_reason"]
        assert "root" in reason or "iptables" in reason
        with VastApi(cloud) as api:
            number = api.running()["id"]
            refused = cloud.vast().post(
                f"{cloud.control_url}/machines/vast-{number}/link", json={"cut": "both"}
            )
        assert refused.status_code == 501
        assert refused.json()["error"] == reason


@pytest.mark.parametrize(
    ("body", "named"), [({"cut": "half"}, "cut"), ({"loss": 1.5}, "loss"), ({"delay": 1}, "delay")]
)
def test_a_fault_that_cannot_be_is_refused(
    cloud: SimCloud, body: dict[str, object], named: str
) -> None:
    with VastApi(cloud) as api:
        number = api.running()["id"]
        refused = cloud.vast().post(f"{cloud.control_url}/machines/vast-{number}/link", json=body)
        assert refused.status_code == 422
        assert refused.json()["error"].startswith(named)
