"""Processes as /proc shows them: who is who, and ending those that are ours and no others.

A pid alone names nobody: it is used again. A pid with the process's start time does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from dumont.agent.paths import MARKER

_GONE_S = 5.0


def started(pid: int) -> str | None:
    """When the process started, in ticks since boot; None when there is none (or only a zombie)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else fields[19]


def parent(pid: int) -> int | None:
    """The parent's pid."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def pids() -> Iterator[int]:
    """All processes that can be seen."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def children(pid: int) -> list[int]:
    """The living direct children."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            found = [int(word) for word in file.read().split()]
    except OSError:
        found = [each for each in pids() if parent(each) == pid]
    return [each for each in found if started(each) is not None]


def age_s(pid: int) -> float | None:
    """For how long the process has run."""
    ticks = started(pid)
    if ticks is None:
        return None
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, now - int(ticks) / os.sysconf("SC_CLK_TCK"))


def marked(run: str) -> Iterator[int]:
    """Processes that a daemon with this run folder started, whoever is their parent now."""
    wanted = f"{MARKER}={run}".encode()
    for pid in pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    yield pid
        except OSError:
            continue


def kill_marked(run: str) -> None:
    """End what an earlier daemon left behind; returns when it is gone."""
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline:
        left = [pid for pid in marked(run) if pid != os.getpid() and started(pid) is not None]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process a signal when its parent ends. Linux only."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(number), 0, 0, 0)


def name_this() -> None:
    """Have this process shown as `dumont-agent` and not as one more `python3`. Linux only."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(15, b"dumont-agent", 0, 0, 0)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
