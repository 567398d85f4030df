"""What people do on this machine: their processes, logins, kernels, and what they asked for.

Idleness is decided elsewhere; this only says what is seen, and None where it cannot be told. Everything
is taken from /proc of this machine's own processes: in a container the host's totals (/proc/stat,
/proc/diskstats) are other people's.

People's processes are those that are neither ours (the daemon's by their environment, the control
plane's by their command line, with all below them) nor the system's (`_SYSTEM`). The figures are means
over at least `_LOOK_EVERY_S`: over less, one wake-up of a server looks like work.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from dumont.agent import processes, store
from dumont.agent.paths import MARKER

NOTICEABLE_CORES = 0.1
"""A process that uses less of a core is at rest: a server's timers, a `watch`, a shell's prompt."""
LONGEST_KEEP_ALIVE_S = 7 * 86400.0
KEEP_ALIVE = "keep-alive"
TOLD = "told"
_LOOK_EVERY_S = 10.0
_AT_REST_CORES = 0.03
"""A kernel or an editor's server at rest: its heartbeats and timers."""
_AT_REST_BYTES_S = 2048.0
"""What an editor's open connection sends to stay open is less."""
_SETTLED_S = 30.0
"""A login without a terminal that is younger is a single command, ours or a person's."""
_OUR_WORDS = (".dumont/", "dumont.agent", "dumont.snapshots")
_SYSTEM = frozenset(
    [
        "init",
        "systemd",
        "tini",
        "dumb-init",
        "docker-init",
        "supervisord",
        "s6-svscan",
        "s6-supervise",
        "runsvdir",
        "cron",
        "crond",
        "atd",
        "sshd",
        "sshd-session",
        "sshd-auth",
        "sftp-server",
        "dbus-daemon",
        "rsyslogd",
        "syslogd",
        "udevd",
        "agetty",
        "login",
        "getty",
        "containerd",
        "containerd-shim",
        "dockerd",
        "chronyd",
        "ntpd",
        "polkitd",
        "snapd",
        "unattended-upgr",
        "lsyncd",
        "haproxy",
        "nvidia-smi",
        "nvidia-persiste",
        "nv-hostengine",
        "dcgm-exporter",
        "google_osconfig",
        "google_guest_ag",
    ]
)
_LOGIN = re.compile(r"sshd(?:-session)?: ([^ @\[]+)@(notty|[a-z]+/?[0-9]+)")
_KERNEL = re.compile(r"ipykernel|kernel-[0-9a-f-]{8,}\.json|IRkernel|IJulia")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(s|m|min|h|d)?")
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

Io = Optional[Tuple[int, int, int]]
Spent = Dict[int, Tuple[float, float, float, float]]


class _Process(NamedTuple):
    """One line of /proc as far as it matters."""

    pid: int
    parent: int
    start: str
    name: str
    tty: int
    own: int
    """Ticks of its own."""
    reaped: int
    """Ticks of its children that have ended."""
    io: Io
    """Bytes read from and written to disks, and passed through calls; with its ended children's.
    None: not for us to read."""


class Activity:
    """Looks at the processes; remembers the last look for rates.

    Args:
        folder: The agent's (`~/.dumont`).
        below: Only this process and what is below it count; None: all that can be seen.
        every_s: The shortest time that figures are taken over; sooner, the last ones are given again.
    """

    def __init__(
        self, folder: Path, *, below: int | None = None, every_s: float = _LOOK_EVERY_S
    ) -> None:
        self._folder = folder
        self._below = below
        self._every_s = every_s
        self._boot = _boot_id()
        self._at = _clock()
        self._table = self._scan()
        self._lively: dict[str, float] = {}
        """When each login without a terminal, and each kernel, last did something."""
        self._commands: dict[str, str] = {}
        self._ours: dict[str, bool] = {}
        self._figures: dict[str, Any] = dict.fromkeys(_NAMES)

    def read(self) -> dict[str, float | int | None]:
        """Figures of the `host` section; see docs/protection.md."""
        now = _clock()
        if now - self._at >= self._every_s:
            try:
                self._look(now)
            except OSError:
                self._figures = dict.fromkeys(_NAMES)
        return {**self._figures, "keep_alive_s": keep_alive_left(self._folder)}

    def _look(self, now: float) -> None:
        before, table = self._table, self._scan()
        seconds = max(now - self._at, 1e-3)
        self._table, self._at = table, now
        spent = _spent(before, table, seconds)
        people = self._people(table)
        # What a process that ended had used before may be counted at its grandparent once more.
        cores = min(sum(spent[pid][0] for pid in people), float(os.cpu_count() or 1))
        read, written = _disk(people, spent)
        self._figures = {
            "cpu_cores": round(cores, 3),
            "user_processes": sum(spent[pid][0] >= NOTICEABLE_CORES for pid in people),
            "disk_read_bps": read,
            "disk_write_bps": written,
        }
        sessions, idle_s = self._sessions(table, people, spent, now)
        self._figures.update(ssh_sessions=sessions, session_idle_s=idle_s)
        kernels = [pid for pid in people if _KERNEL.search(self._command(table[pid]))]
        below = _Below(table)
        quiet = []
        for pid in kernels:
            tree = [pid, *below(pid)]
            busy = sum(spent[each][0] for each in tree) >= _AT_REST_CORES
            quiet.append(self._quiet_s("kernel", table[pid], busy, now))
        self._figures["jupyter_kernels"] = len(kernels)
        self._figures["jupyter_idle_s"] = min(quiet) if quiet else None
        self._forget(table)

    def _scan(self) -> dict[int, _Process]:
        found = {}
        for pid in processes.pids():
            one = _process(pid)
            if one is not None:
                found[pid] = one
        if self._below is None:
            return found
        kept = {self._below, *_Below(found)(self._below)}
        return {pid: one for pid, one in found.items() if pid in kept}

    def _people(self, table: dict[int, _Process]) -> list[int]:
        """Processes of people. Those below one of ours are ours, whatever they are."""
        above_us = set() if self._below is not None else _above(table, os.getpid())
        ours = {pid for pid, one in table.items() if pid == os.getpid() or self._is_ours(one)}
        kernel = {pid for pid in (2,) if pid in table and table[pid].name == "kthreadd"}
        found = []
        for pid, one in table.items():
            if pid in above_us or one.name in _SYSTEM or one.name.startswith("systemd"):
                continue
            if pid in kernel or one.parent in kernel:
                continue
            if pid in ours or ours & _above(table, pid):
                continue
            found.append(pid)
        return found

    def _is_ours(self, one: _Process) -> bool:
        if self._below is not None:
            return False
        key = _key(one)
        if key not in self._ours:
            words = self._command(one)
            mine = any(word in words for word in _OUR_WORDS)
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{one.pid}/environ").read_bytes()
                mine = mine or (MARKER + "=").encode() in environment
            self._ours[key] = mine
        return self._ours[key]

    def _command(self, one: _Process) -> str:
        """Its command line. A process that starts another program keeps pid and start: the name tells."""
        key = _key(one)
        if key not in self._commands:
            text = ""
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{one.pid}/cmdline").read_bytes().split(b"\0")
                text = b" ".join(words).decode("utf-8", "replace").strip()[:4096]
            if not one.name.startswith("sshd"):  # sshd changes its title as a login goes on
                self._commands[key] = text
            return text
        return self._commands[key]

    def _sessions(
        self,
        table: dict[int, _Process],
        people: list[int],
        spent: Spent,
        now: float,
    ) -> tuple[int | None, float | None]:
        """Logins of people, and for how long the liveliest has been quiet.

        A login counts by its terminal. One without (VS Code's) counts when something of a person's runs
        below it for a while; it is lively when its connection or what runs below it is. Terminals that
        no login has (tmux, those of an editor, a notebook's) count to the quiet time of all.
        """
        below, mine = _Below(table), set(people)
        mine_above = _above(table, os.getpid())
        seen = False
        quiet: list[float | None] = []
        ttys: set[str | None] = {None}
        for pid, one in table.items():
            if not one.name.startswith("sshd"):
                continue
            seen = True
            match = _LOGIN.match(self._command(one))
            if match is None or pid in mine_above:
                continue
            if match.group(2) != "notty":
                ttys.add(match.group(2))
                quiet.append(self._tty_quiet_s(match.group(2)))
                continue
            theirs = [each for each in below(pid) if each in mine]
            age = processes.age_s(pid)
            if not theirs or (age is not None and age < _SETTLED_S):
                continue
            tree = [pid, *theirs]
            busy = (
                sum(spent[each][0] for each in tree) >= _AT_REST_CORES
                or spent[pid][3] >= _AT_REST_BYTES_S
            )
            quiet.append(self._quiet_s("login", one, busy, now))
        if not seen and self._below is None:
            return None, None
        if not quiet:
            return 0, None
        count = len(quiet)
        for name in {_tty_name(table[pid].tty) for pid in people} - ttys:
            also = self._tty_quiet_s(str(name))
            quiet += [] if also is None else [also]  # one of a container inside is not in our /dev
        known = [each for each in quiet if each is not None]
        return count, round(min(known), 1) if len(known) == len(quiet) else None

    def _tty_quiet_s(self, tty: str) -> float | None:
        """Since somebody typed (atime) or a program printed (mtime); what we printed does not count."""
        try:
            state = os.stat("/dev/" + tty)
        except OSError:
            return None
        last = state.st_atime
        try:
            told = os.stat(str(self._folder / TOLD)).st_mtime
        except OSError:
            told = 0.0
        # The kernel notes a terminal's times to 8 seconds.
        if abs(state.st_mtime - told) > 10.0:
            last = max(last, state.st_mtime)
        return max(0.0, time.time() - last)

    def _quiet_s(self, kind: str, one: _Process, busy: bool, now: float) -> float:
        """Since it last did something that we saw; what is seen first counts as lively."""
        key = kind + " " + _key(one)
        if busy or key not in self._lively:
            self._lively[key] = now
        return round(max(0.0, now - self._lively[key]), 1)

    def _forget(self, table: dict[int, _Process]) -> None:
        there = {_key(one) for one in table.values()}
        for memory in (self._commands, self._ours):
            for key in set(memory) - there:
                del memory[key]
        for key in [key for key in self._lively if key.partition(" ")[2] not in there]:
            del self._lively[key]

    # --- between two runs of `observe` ------------------------------------------------------------

    def recall(self, file: Path, *, oldest_s: float = 600.0) -> bool:
        """Go on where another process stopped (`remember`); False when that is not to be had."""
        try:
            kept = store.read_json(file)
            if kept["boot"] != self._boot or not 0 < _clock() - kept["at"] <= oldest_s:
                return False
            table = {}
            for words in kept["table"]:
                one = _Process(*words)
                table[one.pid] = one._replace(io=one.io and (one.io[0], one.io[1], one.io[2]))
            lively = {str(key): float(value) for key, value in kept["lively"].items()}
            at = float(kept["at"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return False
        self._table, self._lively, self._at = table, lively, at
        return True

    def remember(self, file: Path) -> None:
        """Keep what the next process needs."""
        table = [list(one) for one in self._table.values()]
        kept = {"boot": self._boot, "at": self._at, "table": table, "lively": self._lively}
        store.write_json(file, kept, mode=0o600, sync=False)


# --- keep-alive -----------------------------------------------------------------------------------


def keep_alive(folder: Path, words: str) -> dict[str, Any]:
    """Ask that this machine is left alone for a time; `0` withdraws. Returns until when.

    Args:
        folder: The agent's.
        words: `2h`, `90m`, `1.5 h`, `3d`, `0`; at most 7 days. A number alone is minutes.

    Raises:
        ValueError: It is no such time.
    """
    seconds = duration_s(words)
    file = folder / KEEP_ALIVE
    if seconds == 0:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        return {"keep_alive": None, "seconds": 0}
    until = time.time() + seconds
    store.write_text(file, f"{until:.0f}\n")
    from dumont.agent.context import timestamp

    return {"keep_alive": timestamp(until), "seconds": round(seconds)}


def duration_s(words: str) -> float:
    """Seconds of `2h`; raises ValueError with the reason."""
    match = _DURATION.fullmatch(words.strip().lower())
    if match is None:
        raise ValueError(f"{words!r} is not a time like 2h, 90m or 3d (0 withdraws)")
    seconds = float(match.group(1)) * _UNITS[match.group(2) or "m"]
    if seconds > LONGEST_KEEP_ALIVE_S:
        raise ValueError(f"{words!r} is too long: 7 days at most")
    if 0 < seconds < 60:
        raise ValueError(f"{words!r} is too short: a minute at least")
    return seconds


def keep_alive_left(folder: Path) -> float | None:
    """Seconds left of what was asked for; 0: nothing. None: the file cannot be read or understood."""
    try:
        text = store.read_text(folder / KEEP_ALIVE)
        left = 0.0 if text is None else float(text) - time.time()
    except (OSError, ValueError):
        return None
    if left != left or left > LONGEST_KEEP_ALIVE_S + 60:
        return None  # not written by us
    return round(max(0.0, left), 1)


def terminals() -> list[str]:
    """Terminals that processes have, as names below /dev."""
    table = [one for one in map(_process, processes.pids()) if one is not None]
    return sorted({name for one in table for name in [_tty_name(one.tty)] if name is not None})


# --- /proc ----------------------------------------------------------------------------------------

_NAMES = (
    "cpu_cores",
    "user_processes",
    "disk_read_bps",
    "disk_write_bps",
    "ssh_sessions",
    "session_idle_s",
    "jupyter_kernels",
    "jupyter_idle_s",
)


def _process(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    if len(fields) < 20 or fields[0] == "Z":
        return None
    name = head.partition("(")[2]
    own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return _Process(pid, int(fields[1]), fields[19], name, int(fields[4]), own, reaped, _io(pid))


def _io(pid: int) -> Io:
    found = {}
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                found[name] = int(value)
        return found["read_bytes"], found["write_bytes"], found["rchar"] + found["wchar"]
    except (OSError, ValueError, KeyError):
        return None


def _spent(before: dict[int, _Process], now: dict[int, _Process], seconds: float) -> Spent:
    """Of each process since the last look: cores, bytes/s read, written and passed; NaN is unknown.

    What its ended children used is in it, as compilers end faster than anybody looks; less what had
    been seen of them while they lived.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    seen_ticks: dict[int, int] = {}
    seen_io: dict[int, list[int]] = {}
    for pid, old in before.items():
        if pid not in now or now[pid].start != old.start:
            seen_ticks[old.parent] = seen_ticks.get(old.parent, 0) + old.own + old.reaped
            sums = seen_io.setdefault(old.parent, [0, 0, 0])
            for at, value in enumerate(old.io or (0, 0, 0)):
                sums[at] += value
    found = {}
    for pid, one in now.items():
        earlier = before.get(pid)
        if earlier is not None and earlier.start != one.start:
            earlier = None
        own = one.own - (earlier.own if earlier else 0)
        ended = one.reaped - (earlier.reaped if earlier else 0) - seen_ticks.get(pid, 0)
        cores = (max(0, own) + max(0, ended)) / ticks / seconds
        old_io = earlier.io if earlier else (0, 0, 0)
        if one.io is None or old_io is None:
            rates = [float("nan")] * 3
        else:
            known = seen_io.get(pid, [0, 0, 0])
            rates = [
                max(0, value - old - seen) / seconds
                for value, old, seen in zip(one.io, old_io, known)
            ]
        found[pid] = (cores, rates[0], rates[1], rates[2])
    return found


def _disk(people: list[int], spent: Spent) -> tuple[int | None, int | None]:
    """Bits per second. A process that we may not look into and that worked makes it unknown; one that
    did not run has read and written nothing."""
    sums = [0.0, 0.0]
    for pid in people:
        cores, read, written, _ = spent[pid]
        if read != read:
            if cores >= _AT_REST_CORES:
                return None, None
            continue
        sums[0] += read
        sums[1] += written
    return int(8 * sums[0]), int(8 * sums[1])


def _above(table: dict[int, _Process], pid: int) -> set[int]:
    """A process's ancestors but for the first of all, which is everybody's."""
    found: set[int] = set()
    one = table.get(pid)
    while one is not None and one.parent > 1 and one.parent not in found:
        found.add(one.parent)
        one = table.get(one.parent)
    return found


class _Below:
    """All that is below a process, from one table."""

    def __init__(self, table: dict[int, _Process]) -> None:
        self._children: dict[int, list[int]] = {}
        for pid, one in table.items():
            self._children.setdefault(one.parent, []).append(pid)

    def __call__(self, pid: int) -> list[int]:
        found, rest = [], list(self._children.get(pid, ()))
        while rest:
            each = rest.pop()
            found.append(each)
            rest += self._children.get(each, ())
        return found


def _tty_name(number: int) -> str | None:
    """`pts/3` of a device number in /proc/PID/stat; None: no terminal, or none that a person has."""
    major = (number >> 8) & 0xFFF
    minor = (number & 0xFF) | ((number >> 12) & 0xFFF00)
    return f"pts/{minor + 256 * (major - 136)}" if 136 <= major <= 143 else None


def _key(one: _Process) -> str:
    return f"{one.pid} {one.start} {one.name}"


def _clock() -> float:
    """Seconds since boot: the same for every process, and nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
