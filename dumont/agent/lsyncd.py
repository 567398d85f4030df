"""lsyncd: turns the kernel's file events into rsync calls within a tenth of a second.

It runs in our process group and logs to a pipe that we read: that is how we learn of an overflow of
the event queue, of a watch limit, and of transfers that fail. What it cannot see (stores to mapped
memory) or lost (an overflow) is the business of the full passes in `mirror.py`.

Its configuration is a Lua program, so every text that goes in is written as a literal in which
nothing but harmless characters stands for itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

from dumont.agent import processes, store, transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LANES = 4
"""rsync processes at a time: a big file must not hold up small ones. (sshd allows ten channels a
connection, and the mirror needs some of them itself.)"""

_WATCHES = "/proc/sys/fs/inotify/max_user_watches"
_WANTED_WATCHES = 1 << 20


class Lsyncd:
    """One lsyncd process.

    Attributes:
        out_of_watches: Whether it ended because of the limit of inotify watches.
        trouble: The last failure that it reported.
    """

    def __init__(
        self, *, workspace: Path, run: Path, rsh: str, excludes: tuple[str, ...], xattrs: bool,
        log: logging.Logger, on_overflow: Callable[[], None],
    ) -> None:  # fmt: skip
        self._workspace = workspace
        self._run = run
        self._text = configuration(
            workspace=workspace, run=run, rsh=rsh, excludes=excludes, xattrs=xattrs
        )
        self._log = log
        self._on_overflow = on_overflow
        self._process: subprocess.Popen[bytes] | None = None
        self.out_of_watches = False
        self.trouble = ""

    def start(self) -> None:
        """Start it. Raises OSError."""
        path = self._run / "lsyncd.lua"
        store.write_text(path, self._text, mode=0o600, sync=False)
        self._process = subprocess.Popen(
            ["lsyncd", "-nodaemon", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it and its transfers."""
        process = self._process
        if process is None:
            return
        transfers = processes.children(process.pid)
        for pid in [process.pid, *transfers]:
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        process.wait()

    def transfers(self) -> list[int]:
        """The pids of its running transfers."""
        return [] if self._process is None else processes.children(self._process.pid)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode("utf-8", "backslashreplace").rstrip()
                if "OVERFLOW" in line:
                    self._log.warning("lsyncd: the event queue overflowed")
                    self._on_overflow()
                elif "max_user_watches" in line or "out of inotify watches" in line:
                    self.out_of_watches = True
                elif re.search(r"rsync error|Error:|failed:|No space left", line):
                    self.trouble = line[:300]
                    self._log.info("lsyncd: %s", self.trouble)


def configuration(
    *, workspace: Path, run: Path, rsh: str, excludes: tuple[str, ...], xattrs: bool
) -> str:
    """The Lua program.

    `delay = 0` and "CloseWrite or Modify" show a file that stays open (a log, a checkpoint written in
    place) within 0.1 s instead of 5-10 s. There is no first synchronisation: ours comes after it.
    """
    extra = [word for word in transfer.flags(xattrs=xattrs) if word.startswith("--")]
    extra += ["--no-D", *transfer.filters(excludes)]
    items = ", ".join(quoted(word) for word in extra)
    return f"""\
settings {{
    nodaemon = true,
    insist = true,
    inotifyMode = "CloseWrite or Modify",
    maxProcesses = {LANES},
    statusFile = {quoted(str(run / "lsyncd.status"))},
    statusInterval = 1,
}}
sync {{
    default.rsync,
    source = {quoted(str(workspace))},
    target = {quoted(transfer.REMOTE)},
    init = false,
    delay = 0,
    maxProcesses = {LANES},
    rsync = {{
        binary = {quoted(shutil.which("rsync") or "/usr/bin/rsync")},
        links = true,
        times = true,
        perms = true,
        owner = true,
        group = true,
        acls = {_boolean(xattrs)},
        xattrs = {_boolean(xattrs)},
        protect_args = false,
        rsh = {quoted(rsh)},
        _extra = {{ {items} }},
    }},
}}
"""


def quoted(text: str) -> str:
    """A Lua string literal: every byte but the harmless ones by its number."""
    return (
        '"'
        + "".join(
            chr(byte) if chr(byte) in _HARMLESS else f"\\{byte:03d}"
            for byte in text.encode("utf-8", "surrogateescape")
        )
        + '"'
    )


_HARMLESS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 /._-=:")


def raise_watch_limit(log: logging.Logger) -> bool:
    """Allow more inotify watches, where we may; returns whether the limit is higher now."""
    try:
        with open(_WATCHES, "r+", encoding="ascii") as file:
            limit = int(file.read())
            if limit >= _WANTED_WATCHES:
                return False
            file.seek(0)
            file.write(str(_WANTED_WATCHES))
        log.info("raised max_user_watches from %d to %d", limit, _WANTED_WATCHES)
        return True
    except (OSError, ValueError) as error:
        log.warning("the limit of inotify watches cannot be raised: %s", error)
        return False


def install(log: logging.Logger) -> str:
    """Make lsyncd and rsync available, once; returns why they are not, or nothing."""
    missing = [name for name in ("rsync", "lsyncd") if shutil.which(name) is None]
    if not missing:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{' and '.join(missing)} cannot be installed: that needs root and apt-get"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    log.info("installing %s", " ".join(missing))
    for attempt in (command, ["apt-get", "update"], command):
        try:
            done = subprocess.run(
                attempt,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=300,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(attempt)}: {error}"
        if done.returncode == 0 and attempt is command:
            break
    missing = [name for name in missing if shutil.which(name) is None]
    return f"apt-get could not install {' and '.join(missing)}" if missing else ""


def _boolean(value: bool) -> str:
    return "true" if value else "false"
