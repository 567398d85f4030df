"""Which forced commands of the sync key run, so that a redirect can end them.

A receiver (`receive.py`) notes itself here *before* it reads the authority, and the guard changes the authority
*before* it looks here: whoever comes second sees the other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dumont.agent import processes

if TYPE_CHECKING:
    from collections.abc import Callable

_WAIT_S = 2.0


def living(run: Path) -> list[tuple[int, int, bool]]:
    """Pid, epoch and whether it writes, of each receiver."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(str(_folder(run))):
            if not name.isdigit():
                continue
            file = _folder(run) / name
            try:
                started, epoch, writes = file.read_text().split()
                entry = (int(name), int(epoch), writes == "1")
            except (OSError, ValueError):
                continue
            if processes.started(entry[0]) == started:
                found.append(entry)
            else:
                with contextlib.suppress(OSError):
                    file.unlink()
    return found


def end(run: Path, *, allowed: Callable[[int, bool], bool]) -> int:
    """Kill the receivers that `allowed(epoch, writes)` denies; returns how many, once they are gone.

    Their rsync dies with them: it is asked to when it is started, and it is killed here as well.
    """
    doomed = [pid for pid, epoch, writes in living(run) if not allowed(epoch, writes)]
    waiting: dict[int, str | None] = {}
    for pid in doomed:
        # Children first: once their parent is gone nobody knows whose they were.
        for each in [*_descendants(pid), pid]:
            began = processes.started(each)
            with contextlib.suppress(ProcessLookupError):
                if began is not None:
                    os.kill(each, signal.SIGKILL)
                    waiting[each] = began
    deadline = time.monotonic() + _WAIT_S
    while any(processes.started(pid) == began for pid, began in waiting.items()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    return len(doomed)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for each in processes.pids():
        above = processes.parent(each)
        if above is not None:
            parents.setdefault(above, []).append(each)
    found, pending = [], [pid]
    while pending:
        below = parents.get(pending.pop(), [])
        found += below
        pending += below
    return list(reversed(found))


def _folder(run: Path) -> Path:
    return run / "receivers"
