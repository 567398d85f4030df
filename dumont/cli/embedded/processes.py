"""Which process is it: identities that survive pid reuse, and ending exactly those processes.

A pid alone is no name: after a crash or a reboot it may belong to somebody else. With the start time
(in clock ticks since boot) and the boot's id it is one. Nothing here looks at a process's name or
command line, and nothing is signalled whose identity was not proven at that moment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_POLL_S = 0.02


def boot_id() -> str:
    """The id of the running boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class _Stat:
    """The fields of `/proc/<pid>/stat` that matter here."""

    def __init__(self, pid: int) -> None:
        # The command name is in parentheses and may itself contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.state = fields[0]
        self.session = int(fields[3])
        self.start_ticks = int(fields[19])


def _stat(pid: int) -> _Stat | None:
    try:
        stat = _Stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat.state in "ZX" else stat


class ProcessId(BaseModel):
    """One process, for good: no other process ever has the same identity."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start_ticks: int
    """When it started, in clock ticks since boot."""
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The identity of a live process; None when there is none (a zombie is none)."""
        stat = _stat(pid)
        if stat is None:
            return None
        return cls(pid=pid, start_ticks=stat.start_ticks, boot_id=boot_id())

    @classmethod
    def mine(cls) -> ProcessId:
        """The identity of this process."""
        identity = cls.of(os.getpid())
        assert identity is not None
        return identity

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process; False when it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The handle pins whichever process has the pid now; only then is the identity checked.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def session_of(leader: ProcessId) -> list[ProcessId]:
    """The live processes of the session that `leader` started, itself included.

    The kernel gives a session's number to no new process while the session has members. So members
    of a session whose leader is gone are the leader's, unless a newer process has the leader's pid.
    """
    if leader.boot_id != boot_id():
        return []
    now = ProcessId.of(leader.pid)
    if now is not None and now != leader:
        return []
    pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    return [
        ProcessId(pid=pid, start_ticks=stat.start_ticks, boot_id=leader.boot_id)
        for pid in pids
        if (stat := _stat(pid)) is not None
        and stat.session == leader.pid
        and stat.start_ticks >= leader.start_ticks
    ]


async def end_session(
    leader: ProcessId, *, stop_signal: signal.Signals, grace_s: float
) -> list[ProcessId]:
    """Ask the leader to stop, wait, then kill whatever of its session is left.

    Returns:
        The processes that had to be killed.
    """
    if leader.send(stop_signal):
        await _until_gone([leader], timeout_s=grace_s)
    killed = [member for member in session_of(leader) if member.send(signal.SIGKILL)]
    await _until_gone(killed, timeout_s=None)
    return killed


async def _until_gone(processes: list[ProcessId], *, timeout_s: float | None) -> None:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while any(process.is_alive() for process in processes):
        if deadline is not None and time.monotonic() >= deadline:
            return
        await asyncio.sleep(_POLL_S)  # they need not be our children: nobody tells us
