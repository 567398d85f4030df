"""How busy the host is. Every figure that cannot be had is None: unknown, never zero.

Rates are means since the last reading. Containers often see the host's numbers in /proc; memory is
therefore read from the cgroup where it has a limit.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from pathlib import Path

from dumont.agent import processes
from dumont.agent.hello import find_smi

_SMI_TIMEOUT_S = 10.0
_SMI_EVERY_S = 5.0


class Telemetry:
    """Reads the host; remembers the last counters for rates."""

    def __init__(self, *, workspace: Path) -> None:
        self._workspace = workspace
        self._cpu = _cpu_ticks()
        self._network = _network_bytes()
        self._read_at = time.monotonic()
        self._gpu = _Gpu()

    def read(self) -> dict[str, float | int | None]:
        """The `host` section of the heartbeat."""
        now = time.monotonic()
        seconds = max(now - self._read_at, 1e-3)
        cpu, network = _cpu_ticks(), _network_bytes()
        received, sent = _rates(self._network, network, seconds)
        busy = _busy_percent(self._cpu, cpu)
        self._cpu, self._network, self._read_at = cpu, network, now
        free_gb, used_percent = _disk(self._workspace)
        gpu_percent, gpu_memory_mb = self._gpu.read()
        return {
            "gpu_percent": gpu_percent,
            "gpu_memory_mb": gpu_memory_mb,
            "cpu_percent": busy,
            "memory_used_mb": memory_used_mb(),
            "disk_free_gb": free_gb,
            "disk_used_percent": used_percent,
            "net_rx_bps": received,
            "net_tx_bps": sent,
            "ssh_sessions": ssh_sessions(),
        }


class _Gpu:
    """Asks nvidia-smi now and then, in a thread: a sick driver makes it hang."""

    def __init__(self) -> None:
        self._latest: tuple[float | None, int | None] = (None, None)
        self._asked_at: float | None = None
        self._busy = threading.Lock()

    def read(self) -> tuple[float | None, int | None]:
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at >= _SMI_EVERY_S:
            if self._busy.acquire(blocking=False):
                self._asked_at = now
                threading.Thread(target=self._ask, daemon=True).start()
            else:
                self._latest = (None, None)
        return self._latest

    def _ask(self) -> None:
        try:
            self._latest = gpu_load()
        finally:
            self._busy.release()


def gpu_load() -> tuple[float | None, int | None]:
    """Mean utilisation in percent and memory in use in MiB over all GPUs."""
    program = find_smi()
    if program is None:
        return None, None
    query = "--query-gpu=utilization.gpu,memory.used"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if done.returncode != 0:
        return None, None
    return parse_smi(done.stdout.decode("utf-8", "replace"))


def parse_smi(text: str) -> tuple[float | None, int | None]:
    """Read nvidia-smi's table; a column with any cell that is no number (`[N/A]`) is unknown."""
    rows = [line.split(",") for line in text.splitlines() if line.strip()]
    if not rows or any(len(row) != 2 for row in rows):
        return None, None
    loads, memories = [[cell.strip() for cell in column] for column in zip(*rows)]
    percent = sum(map(int, loads)) / len(loads) if all(map(str.isdigit, loads)) else None
    memory = sum(map(int, memories)) if all(map(str.isdigit, memories)) else None
    return percent, memory


def memory_used_mb() -> int | None:
    """Memory in use that cannot be reclaimed."""
    limit = _number("/sys/fs/cgroup/memory.max")
    current = _number("/sys/fs/cgroup/memory.current")
    if limit is not None and current is not None:
        cache = 0
        for line in _lines("/sys/fs/cgroup/memory.stat"):
            if line.startswith("inactive_file "):
                cache = int(line.split()[1])
        return max(0, current - cache) >> 20
    fields = {line.partition(":")[0]: line.split() for line in _lines("/proc/meminfo")}
    try:
        return (int(fields["MemTotal"][1]) - int(fields["MemAvailable"][1])) >> 10
    except (KeyError, ValueError, IndexError):
        return None


def ssh_sessions() -> int | None:
    """Logins over SSH: sshd processes that serve somebody (`sshd: root@pts/0`, `sshd: root@notty`).

    None when no sshd at all can be seen here.
    """
    seen, sessions = False, 0
    for pid in processes.pids():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
            words = title.split()
            if not words or not words[0].rpartition(b"/")[2].startswith((b"sshd", b"sshd-session")):
                continue
            seen = True
            if len(words) >= 2 and words[0].endswith(b":") and b"@" in words[1]:
                sessions += 1
    return sessions if seen else None


def _cpu_ticks() -> tuple[int, int] | None:
    """Ticks in use and in all since boot."""
    for line in _lines("/proc/stat"):
        if line.startswith("cpu "):
            ticks = [int(word) for word in line.split()[1:9]]
            total = sum(ticks)
            return total - ticks[3] - ticks[4], total
    return None


def _busy_percent(before: tuple[int, int] | None, now: tuple[int, int] | None) -> float | None:
    if before is None or now is None or now[1] <= before[1]:
        return None
    return round(100.0 * max(0, now[0] - before[0]) / (now[1] - before[1]), 1)


def _network_bytes() -> tuple[int, int] | None:
    """Bytes received and sent on all interfaces but the loopback."""
    received = sent = 0
    lines = _lines("/proc/net/dev")
    for line in lines[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.strip() != "lo" and len(words) >= 9:
            received += int(words[0])
            sent += int(words[8])
    return (received, sent) if lines else None


def _rates(
    before: tuple[int, int] | None, now: tuple[int, int] | None, seconds: float
) -> tuple[int | None, int | None]:
    """Bits per second."""
    if before is None or now is None or now[0] < before[0] or now[1] < before[1]:
        return None, None
    return int(8 * (now[0] - before[0]) / seconds), int(8 * (now[1] - before[1]) / seconds)


def _disk(folder: Path) -> tuple[float | None, float | None]:
    try:
        usage = shutil.disk_usage(str(folder))
    except OSError:
        return None, None
    return round(usage.free / 1e9, 2), round(100.0 * usage.used / max(usage.total, 1), 1)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _number(path: str) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None
