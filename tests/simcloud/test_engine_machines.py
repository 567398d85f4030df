"""The process engine: what someone on a machine, or beside it, would notice."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from simcloud.machines import AddressPool, GpuSpec, Isolation, Machines, MachineSpec
from simcloud.machines.processes import read_stat
from simcloud.store import Store
from tests.support.ssh import KeyPair

ROOT = Path(__file__).parents[2]

private = pytest.mark.parametrize("machines", ["namespaces"], indirect=True)


@pytest.fixture
def pool(tmp_path: Path) -> AddressPool:
    return AddressPool(Store(":memory:"), seed=str(tmp_path))


@pytest.fixture(params=["namespaces", "directory"])
async def machines(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Machines]:
    isolation: Isolation = request.param
    if isolation == "namespaces" and os.geteuid() != 0:
        pytest.skip("namespaces need root")
    engine = Machines(tmp_path / "machines", isolation=isolation)
    yield engine
    await engine.close()


@pytest.fixture
def spec(pool: AddressPool, key: KeyPair) -> MachineSpec:
    return MachineSpec(
        name="one",
        hostname="one-host",
        address=pool.claim("one"),
        ssh_port=2222,
        authorized_keys=(key.public,),
        gpus=(GpuSpec(name="NVIDIA GeForce RTX 4090", memory_mb=24564),),
    )


async def run(key: KeyPair, spec: MachineSpec, command: str, *, wait_s: float = 10) -> str:
    """Log in as soon as sshd answers and return what the command printed."""
    deadline = time.monotonic() + wait_s
    while True:
        done = await asyncio.to_thread(key.ssh, spec.address, spec.ssh_port, command)
        if done.returncode != 255:
            assert done.returncode == 0, done.stderr
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        await asyncio.sleep(0.05)


def refused(spec: MachineSpec) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((spec.address, spec.ssh_port)) != 0


async def test_a_machine_is_logged_into_and_dies_for_real(
    machines: Machines, spec: MachineSpec, key: KeyPair
) -> None:
    await machines.boot(spec)
    seen = await run(key, spec, "echo kept > ~/file; whoami; nvidia-smi -L")
    lines = seen.splitlines()
    assert lines[0] == "root"
    assert lines[1].startswith("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-")
    inside = machines.pids("one")
    await machines.kill("one")
    assert refused(spec)
    assert not machines.alive("one")
    left = [read_stat(pid) for pid in inside]
    assert not [stat for stat in left if stat is not None and stat.state not in "ZX"]
    await machines.boot(spec)
    assert await run(key, spec, "cat ~/file") == "kept\n"


@private
async def test_two_machines_share_nothing(
    machines: Machines, spec: MachineSpec, pool: AddressPool, key: KeyPair
) -> None:
    other = dataclasses.replace(spec, name="two", hostname="two-host", address=pool.claim("two"))
    await asyncio.gather(machines.boot(spec), machines.boot(other))
    assert await run(key, spec, "hostname") == "one-host\n"
    assert await run(key, other, "hostname") == "two-host\n"
    await run(
        key,
        spec,
        "touch /workspace/a /root/a /tmp/a /etc/a /usr/local/bin/a /opt/a /run/a; echo x=y"
        " >> /etc/environment",
    )
    look = "ls /workspace/a /root/a /tmp/a /etc/a /usr/local/bin/a /opt/a /run/a 2>/dev/null; true"
    assert await run(key, other, look + "; cat /etc/environment") == ""
    assert len((await run(key, spec, look)).splitlines()) == 7
    assert not Path("/etc/a").exists()
    assert not Path("/usr/local/bin/a").exists()
    pids = await run(key, other, "ls -d /proc/[0-9]* | wc -l")
    assert int(pids) < 15
    keys = {
        subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", "2222", each.address],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[2]
        for each in (spec, other)
    }
    assert len(keys) == 2


@private
async def test_a_start_script_changes_its_own_host_key_only(
    machines: Machines, spec: MachineSpec, key: KeyPair, tmp_path: Path
) -> None:
    fixed = tmp_path / "fixed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(fixed)], check=True)
    script = (
        f"cat > /etc/ssh/ssh_host_ed25519_key <<'KEY'\n{fixed.read_text().strip()}\nKEY\n"
        "chmod 600 /etc/ssh/ssh_host_ed25519_key\n"
        'kill -HUP "$(cat /run/sshd.pid)"\n'
        "env >> /etc/environment\n"
        'echo "started with $TOKEN"\n'
    )
    host_key = Path("/etc/ssh/ssh_host_ed25519_key")
    before = host_key.read_bytes() if host_key.exists() else None
    await machines.boot(dataclasses.replace(spec, onstart=script, env={"TOKEN": 'it\'s "me"'}))
    wanted = fixed.with_suffix(".pub").read_text().split()[1]
    deadline = time.monotonic() + 10
    while True:
        scan = await asyncio.to_thread(
            subprocess.run,
            ["ssh-keyscan", "-t", "ed25519", "-p", "2222", spec.address],
            capture_output=True,
            text=True,
        )
        if wanted in scan.stdout:
            break
        assert time.monotonic() < deadline, machines.logs("one")
        await asyncio.sleep(0.05)
    assert await run(key, spec, 'echo "$TOKEN"') == 'it\'s "me"\n'
    assert 'started with it\'s "me"' in machines.logs("one")
    assert (host_key.read_bytes() if host_key.exists() else None) == before


async def test_environment_stays_out_of_ssh_sessions(
    machines: Machines, spec: MachineSpec, key: KeyPair
) -> None:
    await machines.boot(
        dataclasses.replace(spec, env={"TOKEN": "x"}, onstart='echo "onstart sees $TOKEN"')
    )
    assert await run(key, spec, 'echo "[$TOKEN]"') == "[]\n"
    assert "onstart sees x" in machines.logs("one")


async def test_freezing_keeps_the_port_and_stops_the_answers(
    machines: Machines, spec: MachineSpec, key: KeyPair
) -> None:
    await machines.boot(spec)
    await run(key, spec, "true")
    await machines.freeze("one")
    with socket.create_connection((spec.address, spec.ssh_port), timeout=2) as probe:
        probe.settimeout(0.5)
        with pytest.raises(TimeoutError):
            probe.recv(1)
    await machines.thaw("one")
    assert await run(key, spec, "echo back") == "back\n"
    await machines.freeze("one")
    await machines.kill("one")
    assert refused(spec)


async def test_shutting_down_gives_the_grace_and_takes_no_more(
    machines: Machines, spec: MachineSpec, key: KeyPair
) -> None:
    polite = "trap 'echo saved > ~/saved; exit 0' TERM\nwhile :; do sleep 0.1; done"
    await machines.boot(dataclasses.replace(spec, onstart=polite))
    await run(key, spec, "true")
    started = time.monotonic()
    await machines.shut_down("one", grace_s=10)
    assert time.monotonic() - started < 5
    assert machines.directory("one").home.joinpath("saved").read_text() == "saved\n"

    stubborn = "trap '' TERM\nwhile :; do sleep 0.1; done"
    await machines.boot(dataclasses.replace(spec, onstart=stubborn))
    await run(key, spec, "pgrep -f onstart.sh >/dev/null")
    started = time.monotonic()
    await machines.shut_down("one", grace_s=0.5)
    assert 0.5 <= time.monotonic() - started < 4
    assert refused(spec)


async def test_gpu_numbers_follow_what_runs(
    machines: Machines, spec: MachineSpec, key: KeyPair
) -> None:
    query = "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits"
    await machines.boot(spec)
    idle = await run(key, spec, query)
    assert int(idle.split(",")[0]) < 30
    busy = (
        "cp /usr/bin/perl /tmp/train; /tmp/train -e '$x = \"a\" x 200_000_000; while (1) {}'"
        " >/dev/null 2>&1 </dev/null & sleep 0.5; "
    )
    load, memory = (await run(key, spec, busy + query)).split(",")
    for _ in range(20):
        if int(load) > 30:
            break
        # Other work on this computer takes its share of the cores.
        load, memory = (await run(key, spec, f"sleep 0.5; {query}")).split(",")
    assert int(load) > 30
    assert int(memory) > 150
    machines.usage("one")
    await asyncio.sleep(0.3)
    usage = machines.usage("one")
    assert usage is not None
    assert usage.gpu_util is not None
    assert usage.gpu_util > 30
    machines.directory("one").set_gpu_override(utilization=7, memory_mb=1234)
    assert await run(key, spec, query) == "7, 1234\n"


async def test_keys_can_be_replaced_while_it_runs(
    machines: Machines, spec: MachineSpec, key: KeyPair, make_key: Callable[[str], KeyPair]
) -> None:
    other = make_key(f"second-{machines.isolation}")
    await machines.boot(spec)
    await run(key, spec, "echo 'ssh-ed25519 AAAAmine me@inside' >> ~/.ssh/authorized_keys")
    machines.set_authorized_keys("one", (other.public,))
    assert await run(other, spec, "grep -c mine ~/.ssh/authorized_keys") == "1\n"
    assert key.ssh(spec.address, spec.ssh_port, "true").returncode == 255


async def test_a_machine_that_ends_by_itself_is_reported(
    machines: Machines, spec: MachineSpec, key: KeyPair
) -> None:
    ended = asyncio.Event()
    machines.on_exit(lambda name: ended.set())
    await machines.boot(dataclasses.replace(spec, onstart="echo $PPID > ~/init_pid"))
    await run(key, spec, "(sleep 0.2; kill -TERM $(cat ~/init_pid)) >/dev/null 2>&1 &")
    await asyncio.wait_for(ended.wait(), 10)
    assert refused(spec)


async def test_machines_die_with_a_killed_engine(spec: MachineSpec, tmp_path: Path) -> None:
    """SIGKILL of the process that owns the engine takes every machine along."""
    script = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        from simcloud.machines import Machines, MachineSpec
        async def main():
            engine = Machines(Path({str(tmp_path / "m")!r}))
            await engine.boot(MachineSpec(name="one", hostname="h", address={spec.address!r},
                ssh_port=2222, onstart="setsid sleep 1000 & disown; echo spawned"))
            print("up", flush=True)
            await asyncio.sleep(1000)
        asyncio.run(main())
        """
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert owner.stdout is not None
    await owner.stdout.readline()
    deadline = time.monotonic() + 10
    while refused(spec):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    owner.kill()
    await owner.wait()
    deadline = time.monotonic() + 5
    while not refused(spec):
        assert time.monotonic() < deadline, "the machine outlived its engine"
        await asyncio.sleep(0.02)
    assert Machines(tmp_path / "m").reap_leftovers() == []


def test_two_pools_never_share_a_network(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    first = AddressPool(store, seed="same")
    second = AddressPool(Store(":memory:"), seed="same")
    assert first.network != second.network
    mine = first.claim("me")
    assert mine != second.claim("you")
    first.close()
    again = AddressPool(store, seed="other")
    assert again.network == first.network
    assert again.claim("next") != mine


USER = 65534


def _interpreter_for_everyone() -> str | None:
    """A Python that an ordinary user may run, with the product's libraries within reach."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        tried = subprocess.run(
            [*_as_user(), candidate, "-c", "import sys, pydantic; print(sys.version_info[:2])"],
            env=_user_environment(),
            capture_output=True,
            text=True,
            cwd="/",
        )
        if tried.stdout.strip() == str(sys.version_info[:2]):
            return candidate
    return None


def _as_user() -> list[str]:
    # `env` in between: setpriv itself still has root's reach when it executes a program
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env"]


def _as_root_that_may_not_mount() -> list[str]:
    return ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "env"]


def _user_environment() -> dict[str, str]:
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    return {"PATH": "/usr/sbin:/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
@pytest.mark.parametrize(
    ("become", "uid"),
    [(_as_user(), USER), (_as_root_that_may_not_mount(), 0)],
    ids=["user", "root"],
)
async def test_machines_without_namespaces_take_root_logins(
    pool: AddressPool, key: KeyPair, become: list[str], uid: int
) -> None:
    python = _interpreter_for_everyone() if uid else sys.executable
    if python is None:
        pytest.skip("no Python that an ordinary user may run")
    with tempfile.TemporaryDirectory(prefix="simcloud-user-") as folder:
        os.chown(folder, uid, uid)
        address = pool.claim("user")
        spec = MachineSpec(name="one", hostname="h", address=address, ssh_port=2222)
        script = textwrap.dedent(
            f"""
            import asyncio, sys
            from pathlib import Path
            from simcloud.machines import Machines, MachineSpec
            async def main():
                engine = Machines(Path({folder!r}))
                await engine.boot(MachineSpec(name="one", hostname="h", address={address!r},
                    ssh_port=2222, authorized_keys=({key.public!r},), onstart="echo mine > made"))
                print(engine.isolation, flush=True)
                await asyncio.to_thread(sys.stdin.read)
                await engine.kill("one")
            asyncio.run(main())
            """
        )
        owner = await asyncio.create_subprocess_exec(
            *become, python, "-c", script,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=_user_environment(), cwd="/",
        )  # fmt: skip
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert await owner.stdout.readline() == b"directory\n"
        seen = await run(key, spec, "cat ~/made; id -u")
        assert seen == f"mine\n{uid}\n"
        owner.stdin.close()
        assert await owner.wait() == 0
        assert refused(spec)
