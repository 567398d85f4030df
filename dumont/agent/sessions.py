"""Who is logged in on the standby, and how long nobody has done anything.

utmp may be absent and VS Code has no terminal, so this reads what is always there: sshd's processes,
their connections, the terminals' times, and the processes that work in the workspace. Whatever cannot
be read is None: unknown, never idle.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent import processes
from dumont.agent.paths import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TITLE = re.compile(r"sshd(?:-session)?: ([^ @\[]+)@(notty|[a-z]+/?[0-9]+)")
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Session:
    """One login."""

    pid: int
    user: str
    tty: str | None
    """`pts/0`; None: without a terminal, as VS Code's."""
    endpoint: bool | None
    """Whether it came through the endpoint; None: cannot be read."""
    since: float | None
    idle_s: float | None

    def document(self) -> dict[str, Any]:
        """As `sessions` prints it."""
        return {
            "user": self.user,
            "tty": self.tty,
            "through_endpoint": self.endpoint,
            "seconds": None if self.since is None else round(time.time() - self.since, 1),
            "idle_s": None if self.idle_s is None else round(self.idle_s, 1),
        }


def find(*, sshd: tuple[str, int], haproxy_pid: int | None) -> list[Session]:
    """The logins of people: all through the endpoint, and direct ones that have a terminal.

    Direct logins without one are the control plane and the mirror.

    Args:
        sshd: Address and port of this machine's own sshd; logins to another one are not ours.
        haproxy_pid: Whose connections are the endpoint's.
    """
    connections = _connections()
    endpoint = {
        connections[inode][0] for inode in _inodes(haproxy_pid or 0) if inode in connections
    }
    found = []
    here = _link("/proc/self/ns/net")
    for pid, user, tty in _logins():
        if _link(f"/proc/{pid}/ns/net") not in ("", here):
            continue  # a container's, or another machine's on the same host
        pairs = [connections[inode] for inode in _inodes(pid) if inode in connections]
        ours = [pair for pair in pairs if pair[0] == sshd or _is_any(sshd, pair[0])]
        if pairs and not ours:
            continue
        through = any(remote in endpoint for _, remote in ours) if ours else None
        if through is False and tty is None:
            continue
        found.append(Session(pid, user, tty, through, _began(pid), _tty_idle(tty)))
    return found


def working(workspace: Path, *, spare: Iterable[int]) -> list[int]:
    """Processes of people in the workspace: their folder is there, or a file there is open to write.

    Args:
        workspace: The folder.
        spare: Processes that are not people's, with all below them.
    """
    here = os.path.realpath(str(workspace))
    spared = set(spare) | {os.getpid()}
    return [
        pid
        for pid in processes.pids()
        if not _is_spared(pid, spared)
        and (_is_below(_link(f"/proc/{pid}/cwd"), here) or _writes(pid, here))
    ]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have used so far."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (
                Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            )
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def command_of(pid: int) -> str:
    """What a process is, for people."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode("utf-8", "replace").strip()[:120]
    return ""


def _logins() -> Iterator[tuple[int, str, str | None]]:
    for pid in processes.pids():
        match = _TITLE.match(command_of(pid))
        if match and processes.started(pid) is not None:
            yield pid, match[1], None if match[2] == "notty" else match[2]


def _tty_idle(tty: str | None) -> float | None:
    """Seconds since somebody typed (reading changes atime) or a program printed (mtime)."""
    if tty is None:
        return None
    try:
        state = os.stat("/dev/" + tty)
    except OSError:
        return None
    return max(0.0, time.time() - max(state.st_atime, state.st_mtime))


def _began(pid: int) -> float | None:
    began = processes.started(pid)
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if began is None or clock is None:
        return None
    age = time.clock_gettime(clock) - int(began) / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _connections() -> dict[str, tuple[tuple[str, int], tuple[str, int]]]:
    """Local and remote end of each established TCP connection, by the socket's inode."""
    found = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net/" + name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _ESTABLISHED:
                    found[fields[9]] = (_end(fields[1]), _end(fields[2]))
    return found


def _end(text: str) -> tuple[str, int]:
    """`0100007F:0016` as address and port; IPv4 in IPv6 as IPv4."""
    address, _, port = text.partition(":")
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    raw = b"".join(words)
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]
    if len(raw) == 4:
        return ".".join(str(byte) for byte in raw), int(port, 16)
    import ipaddress

    return str(ipaddress.IPv6Address(raw)), int(port, 16)


def _is_any(sshd: tuple[str, int], local: tuple[str, int]) -> bool:
    """Reached at 127.0.0.1 means that sshd listens everywhere: other addresses are its as well."""
    return sshd[0] == "127.0.0.1" and sshd[1] == local[1]


def _inodes(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = _link(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:["):
                found.append(target[8:-1])
    return found


def _is_spared(pid: int, spared: set[int]) -> bool:
    above: int | None = pid
    for _ in range(64):
        if above is None or above <= 1:
            break
        if above in spared:
            return True
        above = processes.parent(above)
    with contextlib.suppress(OSError):
        return f"{MARKER}=".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    return False


def _writes(pid: int, here: str) -> bool:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            if _is_below(_link(f"/proc/{pid}/fd/{name}"), here):
                for line in Path(f"/proc/{pid}/fdinfo/{name}").read_text().splitlines():
                    if line.startswith("flags:") and int(line.split()[1], 8) & 3:
                        return True
    return False


def _is_below(path: str, folder: str) -> bool:
    return (path + "/").startswith(folder.rstrip("/") + "/")


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
