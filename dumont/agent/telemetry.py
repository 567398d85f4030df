"""How busy the host is. Every figure that cannot be had is None: unknown, never zero.

Rates are means since the last reading. Containers often see the host's numbers in /proc; memory is
therefore read from the cgroup where it has a limit.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Optional, Tuple

from dumont.agent.activity import Activity
from dumont.agent.hello import find_smi
from dumont.agent.paths import Paths

_SMI_TIMEOUT_S = 10.0
_SMI_EVERY_S = 5.0

Gpu = Tuple[Optional[float], Optional[int], Optional[float]]
_NO_GPU: Gpu = (None, None, None)


class Telemetry:
    """Reads the host; remembers the last counters for rates.

    Args:
        workspace: Whose disk is meant.
        activity: What people do; None: by the processes of this machine.
    """

    def __init__(self, *, workspace: Path, activity: Activity | None = None) -> None:
        self._workspace = workspace
        self._activity = activity or Activity(Paths().base)
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
        gpu_percent, gpu_memory_mb, gpu_memory_busy_percent = self._gpu.read()
        return {
            "gpu_percent": gpu_percent,
            "gpu_memory_mb": gpu_memory_mb,
            "gpu_memory_busy_percent": gpu_memory_busy_percent,
            "cpu_percent": busy,
            "memory_used_mb": memory_used_mb(),
            "disk_free_gb": free_gb,
            "disk_used_percent": used_percent,
            "net_rx_bps": received,
            "net_tx_bps": sent,
            **self._activity.read(),
        }


class _Gpu:
    """Asks nvidia-smi now and then, in a thread: a sick driver makes it hang."""

    def __init__(self) -> None:
        self._latest = _NO_GPU
        self._asked_at: float | None = None
        self._busy = threading.Lock()

    def read(self) -> Gpu:
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at >= _SMI_EVERY_S:
            if self._busy.acquire(blocking=False):
                self._asked_at = now
                threading.Thread(target=self._ask, daemon=True).start()
            else:
                self._latest = _NO_GPU
        return self._latest

    def _ask(self) -> None:
        try:
            self._latest = gpu_load()
        finally:
            self._busy.release()


def gpu_load() -> Gpu:
    """Over all GPUs: mean utilisation in percent, memory in use in MiB, and the memory traffic of the
    busiest in percent (one busy GPU of eight is lost in a mean)."""
    program = find_smi()
    if program is None:
        return _NO_GPU
    query = "--query-gpu=utilization.gpu,memory.used,utilization.memory"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return _NO_GPU
    if done.returncode != 0:
        return _NO_GPU
    return parse_smi(done.stdout.decode("utf-8", "replace"))


def parse_smi(text: str) -> Gpu:
    """Read nvidia-smi's table; a column with any cell that is no number (`[N/A]`) is unknown."""
    rows = [line.split(",") for line in text.splitlines() if line.strip()]
    if not rows or any(len(row) != 3 for row in rows):
        return _NO_GPU
    loads, memories, traffics = [_numbers(column) for column in zip(*rows)]
    return (
        sum(loads) / len(loads) if loads else None,
        sum(memories) if memories else None,
        float(max(traffics)) if traffics else None,
    )


def _numbers(column: tuple[str, ...]) -> list[int]:
    cells = [cell.strip() for cell in column]
    return [int(cell) for cell in cells] if all(map(str.isdigit, cells)) else []


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
