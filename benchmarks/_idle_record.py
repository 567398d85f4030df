"""Records what the agent's own telemetry says while real programs run: one list of readings a phase.

Real: the processes, their processor time, the bytes they read and write, the bytes that cross the
loopback interface (in a network of their own where that is allowed), terminals and keys, the kernel's
process, and the agent's code that reads all of it. Declared: what the GPU does, as this computer has
none; a stand-in for nvidia-smi prints it from a file, and the agent asks and parses it as ever. A login
is a process of sshd's name and title with a real terminal. The loopback stands for the network, which
the agent otherwise leaves out.

Run as a program of its own: `python -m benchmarks._idle_record FILE SECONDS`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.server
import json
import os
import pty
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dumont.agent import telemetry
from dumont.agent.activity import Activity

Reading = dict[str, float | int | None]

_EVERY_S = 0.6
_WARM_S = 1.0
_LONG_AGO_S = 86400.0
_SMI = """#!/bin/sh
cat "$(dirname "$0")/gpu"
"""
_SERVER_BYTES = 64 << 20

_BURN = "while True: sum(i * i for i in range(20000))"
_TRAIN = "import numpy as np\na = np.ones((400, 400), 'f4')\nwhile True: a = (a @ a) % 7"
_LOAD = """
import os, zlib
data = os.urandom(1 << 22)
while True:
    with open('shard', 'wb') as file:
        file.write(data); file.flush(); os.fsync(file.fileno())
    os.posix_fadvise(os.open('shard', os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
    zlib.decompress(zlib.compress(open('shard', 'rb').read(), 1))
"""
_CHECKPOINT = """
import os
data = bytes(1 << 24)
while True:
    with open('checkpoint', 'wb') as file:
        file.write(data); file.flush(); os.fsync(file.fileno())
"""
_DOWNLOAD = """
import time, urllib.request
while True:
    with urllib.request.urlopen('http://127.0.0.1:{port}/x') as answer:
        while answer.read(1 << 17): time.sleep({pause})
"""
_UPLOAD = """
import urllib.request
while True:
    urllib.request.urlopen('http://127.0.0.1:{port}/x', data=bytes(1 << 22)).read()
"""
_HOLD = "import time\nheld = bytearray(1 << 26)\ntime.sleep(10000)"
_KERNEL = """
import sys
for line in sys.stdin:
    sum(i * i for i in range(400000))
"""
_COMPILE = """
mkdir -p tree; for i in $(seq 20); do
  for j in $(seq 400); do echo "int f$j(int x) {{ return x * $j + $i; }}"; done >tree/$i.c
done
while :; do for i in $(seq 20); do {compiler}; done; done
"""


@dataclass(frozen=True)
class Gpu:
    """What the stand-in says: a range of load, memory in use, and whether the driver is sick."""

    low: int = 0
    high: int = 0
    memory_mb: int = 4
    sick: bool = False

    def line(self, rng: random.Random) -> str:
        """One line as nvidia-smi prints it."""
        load = rng.randint(self.low, self.high)
        return "[N/A], [N/A], [N/A]" if self.sick else f"{load}, {self.memory_mb}, {load // 2}"


@dataclass(frozen=True)
class Phase:
    """A program that is recorded."""

    shell: str = ""
    python: str = ""
    gpu: Gpu = Gpu()
    login: bool = False
    types: bool = False
    """Whether somebody presses keys."""
    kernel: bool = False
    runs_cells: bool = False


_BUSY, _HELD = Gpu(60, 98, 18_000), Gpu(0, 1, 18_000)
PHASES: dict[str, Phase] = {
    "train": Phase(python=_TRAIN, gpu=_BUSY),
    "lull_loading": Phase(python=_LOAD, gpu=_HELD),
    "lull_fetching": Phase(python=_DOWNLOAD, gpu=_HELD),
    "lull_waiting": Phase(python=_HOLD, gpu=_HELD),
    "checkpoint": Phase(python=_CHECKPOINT, gpu=_HELD),
    "evaluate_on_cpu": Phase(python=_BURN),
    "compile": Phase(shell=_COMPILE),
    "download": Phase(python=_DOWNLOAD),
    "upload": Phase(python=_UPLOAD),
    "typing": Phase(shell="cat >/dev/null", login=True, types=True),
    "reading": Phase(shell="cat >/dev/null", login=True),
    "sleep_in_shell": Phase(shell="sleep 10000", login=True),
    "cells": Phase(python=_KERNEL, gpu=Gpu(20, 90, 6_000), kernel=True, runs_cells=True),
    "thinking": Phase(python=_KERNEL, gpu=Gpu(0, 1, 6_000), kernel=True),
    "held": Phase(python=_HOLD, gpu=_HELD),
    "sick_driver": Phase(python=_HOLD, gpu=Gpu(sick=True)),
    "nothing": Phase(shell="sleep 10000"),
}


def record(name: str, *, seconds: float, folder: Path, port: int, seed: int = 0) -> list[Reading]:
    """Run one phase in `folder` and return its readings, one each `_EVERY_S`."""
    phase, rng = PHASES[name], random.Random(f"{name} {seed}")
    tools = folder / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    (tools / "gpu").write_text(phase.gpu.line(rng))
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    try:
        with _running(phase, folder, port) as (process, master):
            time.sleep(_WARM_S)
            activity = Activity(folder, below=process.pid, every_s=0.0)
            reader = telemetry.Telemetry(workspace=folder, activity=activity)
            activity.read()
            found: list[Reading] = []
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                until = time.monotonic() + _EVERY_S
                if phase.types and master is not None:
                    os.write(master, b"k\n")
                if phase.runs_cells and process.stdin is not None:
                    process.stdin.write(b"run\n" * 4)
                    process.stdin.flush()
                (tools / "gpu").write_text(phase.gpu.line(rng))
                time.sleep(max(0.0, until - time.monotonic()))
                host = reader.read()
                figures = ("gpu_percent", "gpu_memory_mb", "gpu_memory_busy_percent")
                host.update(zip(figures, telemetry.gpu_load(), strict=True))
                # The whole computer's load is other programs' as well.
                host.pop("cpu_percent")
                found.append(host)
            if process.poll() is not None:
                message = f"{name} ended early with {process.returncode}"
                raise RuntimeError(message)
            return found
    finally:
        os.environ["PATH"] = os.environ["PATH"].partition(":")[2]


@contextlib.contextmanager
def _running(
    phase: Phase, folder: Path, port: int
) -> Iterator[tuple[subprocess.Popen[bytes], int | None]]:
    compiler = (
        "cc -O1 -c tree/$i.c -o tree/$i.o"
        if shutil.which("cc")
        else (f"{sys.executable} -m compileall -qf {os.path.dirname(os.__file__)}/json")
    )
    pause = 0.05 if phase.gpu.memory_mb > 512 else 0.005
    words = [
        "bash",
        "-c",
        phase.shell.replace("{{", "{").replace("}}", "}").replace("{compiler}", compiler),
    ]
    if phase.python:
        code = phase.python.replace("{port}", str(port)).replace("{pause}", str(pause))
        words = [sys.executable, "-c", code]
        if phase.kernel:
            words += ["-m", "ipykernel_launcher", "-f", "kernel-recorded.json"]
    master = slave = None
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if phase.login:
        master, slave = pty.openpty()
        tty = os.ttyname(slave)
        then = time.time() - _LONG_AGO_S
        os.utime(tty, (then, then))
        sshd = folder / "sshd"
        shutil.copy(os.path.realpath("/bin/bash"), sshd)
        words = ["bash", "-c", f'exec -a "sshd: ana@{tty[5:]}" {sshd} -c "{words[2]}; :"']
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE if slave is None else slave,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process, master
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for descriptor in (master, slave):
            if descriptor is not None:
                os.close(descriptor)


class _Far(http.server.BaseHTTPRequestHandler):
    """The other end of downloads and uploads."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(_SERVER_BYTES))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(_SERVER_BYTES >> 17):
                self.wfile.write(bytes(1 << 17))

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 17)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _loopback_bytes() -> tuple[int, int] | None:
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            words = rest.split()
            return int(words[0]), int(words[8])
    return None


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS, IFF_UP


def main() -> None:
    """Record every phase; writes `{"private_network": bool, "every_s": s, "phases": {...}}`."""
    into, seconds = Path(sys.argv[1]), float(sys.argv[2])
    private = os.environ.get("IDLE_PRIVATE_NETWORK") == "1"
    if private:
        _loopback_up()
    telemetry._network_bytes = _loopback_bytes
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Far)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    phases: dict[str, list[Reading]] = {}
    for name in PHASES:
        with tempfile.TemporaryDirectory(prefix="dumont-idle-") as folder:
            phases[name] = record(
                name, seconds=seconds, folder=Path(folder), port=server.server_address[1]
            )
        print(name, flush=True)
    into.write_text(json.dumps({"private_network": private, "every_s": _EVERY_S, "phases": phases}))
    os._exit(0)


def recorded(seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Record in a program and, where allowed, a network of its own."""
    unshare = ["unshare", "--net"]
    private = shutil.which("unshare") is not None and _works([*unshare, "true"])
    with tempfile.TemporaryDirectory(prefix="dumont-idle-") as folder:
        file = Path(folder) / "recorded.json"
        words = [sys.executable, "-m", "benchmarks._idle_record", str(file), str(seconds)]
        process = subprocess.Popen(
            [*(unshare if private else []), *words],
            env={**os.environ, "IDLE_PRIVATE_NETWORK": "1" if private else "0"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            say(f"recorded: {line.strip()}")
        if process.wait() != 0:
            message = f"the recorder ended with {process.returncode}"
            raise RuntimeError(message)
        found: dict[str, Any] = json.loads(file.read_text())
        return found


@functools.cache
def _run_once(words: tuple[str, ...]) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _works(words: list[str]) -> bool:
    return _run_once(tuple(words))


if __name__ == "__main__":
    main()
