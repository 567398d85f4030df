"""Reading and signalling process trees through /proc, without races between pid and process.

A pid alone names nobody: it may have been reused. `ProcessIdentity` adds the boot and the start
time, so that a record from a previous run can be checked before anything is killed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")

# What keeps a machine alive or moves its files is not GPU work.
_HOUSEKEEPING = frozenset((Path(__file__).parent / "housekeeping.txt").read_text().split())


@dataclass(frozen=True, kw_only=True)
class ProcessStat:
    """One line of /proc/<pid>/stat."""

    pid: int
    parent: int
    command: str
    state: str
    cpu_seconds: float
    start_ticks: int
    resident_mb: float

    @property
    def is_work(self) -> bool:
        """Whether this counts as something computing on the GPU."""
        return self.command not in _HOUSEKEEPING


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process that can be told from a later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str

    def is_alive(self) -> bool:
        """Whether exactly this process still exists (a zombie does not count)."""
        stat = read_stat(self.pid)
        return (
            stat is not None
            and stat.state != "Z"
            and stat.start_ticks == self.start_ticks
            and self.boot_id == boot_id()
        )


def boot_id() -> str:
    """Return the kernel's identifier of the present boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a running process, or None when it is gone."""
    stat = read_stat(pid)
    if stat is None:
        return None
    return ProcessIdentity(pid=pid, start_ticks=stat.start_ticks, boot_id=boot_id())


def read_stat(pid: int) -> ProcessStat | None:
    """Return one process's entry, or None when it is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # the command may hold spaces and parentheses: it ends at the last ')'
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return ProcessStat(
        pid=pid,
        parent=int(fields[1]),
        command=head.partition("(")[2],
        state=fields[0],
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        start_ticks=int(fields[19]),
        resident_mb=int(fields[21]) * _PAGE / 2**20,
    )


def snapshot() -> dict[int, ProcessStat]:
    """Return every process this one can see, by pid."""
    table: dict[int, ProcessStat] = {}
    with os.scandir(_PROC) as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        stat = read_stat(pid)
        if stat is not None:
            table[pid] = stat
    return table


def descendants(root: int, table: Mapping[int, ProcessStat]) -> list[ProcessStat]:
    """Return all processes below `root` in `table`, without `root` itself."""
    children: dict[int, list[ProcessStat]] = {}
    for stat in table.values():
        children.setdefault(stat.parent, []).append(stat)
    found: list[ProcessStat] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found.extend(below)
        queue.extend(stat.pid for stat in below)
    return found


def children(pid: int) -> list[int]:
    """Return the living children of a process, as quickly as the kernel can tell."""
    try:
        listed = (_PROC / f"{pid}/task/{pid}/children").read_text()
    except OSError:
        # not every kernel keeps the list; for a process that is gone this finds nothing either
        return [s.pid for s in snapshot().values() if s.parent == pid and s.state != "Z"]
    found = [read_stat(int(child)) for child in listed.split()]
    return [stat.pid for stat in found if stat is not None and stat.state != "Z"]


def send(pid: int, number: signal.Signals) -> bool:
    """Signal `pid`; return False when it is already gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def signal_tree(root: int, number: signal.Signals) -> int:
    """Signal everything below `root` until no process is left that has not had the signal.

    Repeats because a process may fork between the look and the signal.

    Returns:
        How many processes were signalled.
    """
    signalled: set[int] = set()
    while True:
        fresh = [stat.pid for stat in descendants(root, snapshot()) if stat.pid not in signalled]
        if not fresh:
            return len(signalled)
        for pid in fresh:
            send(pid, number)
            signalled.add(pid)


def end_tree(identity: ProcessIdentity, *, timeout_s: float = 5.0) -> bool:
    """SIGKILL a recorded process and everything below it; return whether it was still there.

    For leftovers of an earlier run: blocks until the process is gone.

    Raises:
        TimeoutError: If it has not died after `timeout_s` seconds.
    """
    if not identity.is_alive():
        return False
    # the root is stopped first so that it can neither fork nor react while its children die
    send(identity.pid, signal.SIGSTOP)
    signal_tree(identity.pid, signal.SIGKILL)
    send(identity.pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while identity.is_alive():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {identity.pid} of an earlier run does not die")
        time.sleep(0.01)
    return True
