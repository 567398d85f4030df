"""What the machine is, seen from inside. Whatever cannot be learned is left unknown."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dumont.agent import PROTOCOL, __version__

WORKSPACE_NOTE = "~/.dumont/workspace"
"""Where the start script wrote down which folder is the workspace."""

_SMI_TIMEOUT_S = 20
_SMI_PLACES = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib")


def hello() -> dict[str, object]:
    """The fields of `AgentHello`."""
    where = workspace()
    names, memory_mb, driver = _gpus()
    return {
        "agent_version": __version__,
        "protocol": PROTOCOL,
        "hostname": socket.gethostname(),
        "gpus": names,
        "gpu_memory_mb": memory_mb,
        "driver": driver,
        "workspace_writable": is_writable(where),
        "workspace_free_gb": _free_gb(where),
        "cpu_count": _cpu_count(),
        "memory_gb": _memory_gb(),
        "boot_id": boot_id(),
        "clock": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def workspace() -> Path:
    """The folder that the owner works in."""
    noted = _read(os.path.expanduser(WORKSPACE_NOTE))
    return Path(noted or "/workspace")


def is_writable(folder: Path) -> bool:
    """Whether a file written there can be read back. Permissions alone do not tell (full disk)."""
    data = os.urandom(4096)
    try:
        descriptor, name = tempfile.mkstemp(prefix=".dumont-", dir=str(folder))
    except OSError as error:
        _say(f"cannot write to {folder}: {error}")
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return Path(name).read_bytes() == data
    except OSError as error:
        _say(f"cannot write to {folder}: {error}")
        return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def find_smi() -> str | None:
    """Where nvidia-smi is; logins over SSH often lack its folder in their PATH."""
    return shutil.which("nvidia-smi") or shutil.which(
        "nvidia-smi", path=os.pathsep.join(_SMI_PLACES)
    )


def _gpus() -> tuple[list[str], list[int], str | None]:
    """Names, memory in MiB (empty unless known for all) and driver, as nvidia-smi prints them."""
    program = find_smi()
    if program is None:
        _say("nvidia-smi is not installed")
        return [], [], None
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _say(f"nvidia-smi: {error}")
        return [], [], None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        _say("nvidia-smi: " + text.strip())
        return [], [], None
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    memory = [int(row[1]) for row in rows if row[1].isdigit()]
    driver = rows[0][2] if rows and rows[0][2][:1].isdigit() else None
    return [row[0] for row in rows], memory if len(memory) == len(rows) else [], driver


def _free_gb(folder: Path) -> float | None:
    try:
        return round(shutil.disk_usage(str(folder)).free / 1e9, 2)
    except OSError:
        return None


def _cpu_count() -> int | None:
    """Whole CPUs we may use: the container's share, not the host's."""
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()]
    words = _read("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
        counts.append(max(1, int(words[0]) // int(words[1])))
    known = [count for count in counts if count]
    return min(known) if known else None


def _memory_gb() -> float | None:
    limits = []
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read("/sys/fs/cgroup/" + name)
        if text.isdigit():
            limits.append(int(text))
    return round(min(limits) / 1e9, 2) if limits else None


def boot_id() -> str | None:
    """Changes when the host boots and when the container starts; None when unknown."""
    host = _read("/proc/sys/kernel/random/boot_id")
    fields = _read("/proc/1/stat").rpartition(")")[2].split()
    if not host or len(fields) < 20:
        return host or None
    return host + "-" + fields[19]


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201
