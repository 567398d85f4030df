"""rsync from the workspace to the standby and back: the flags, the passes, the parallel streams.

All copies of this product are made with the same flags, so that whichever ran last, the result is the
same. Paths on the standby are relative: its forced command runs rsync in its workspace.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
import stat
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dumont.agent import manifest
from dumont.agent.link import HOST, Fenced, Link, LinkDown
from dumont.agent.words import FENCED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

REMOTE = f"{HOST}:./"
MARK_TEMPORARY = "/.dumont/mark.tmp"
"""The only thing that is never mirrored: the mark before it gets its name."""

_VANISHED = 24
_PARTIAL = 23
_UNREACHABLE = (10, 12, 30, 35, 255)
_IO_TIMEOUT_S = 120
_LOTS_A_STREAM = 3
_FILE_COST = 16384
"""Bytes that one more file weighs when work is split between streams."""
_LEAST_LOT = 8 << 20
"""What a lot weighs at least, bytes: about what one more SSH login and rsync cost on a fast link."""


@dataclass
class Outcome:
    """What a transfer did."""

    problem: str = ""
    """Why it is not complete; empty: everything that can be mirrored was."""
    unreadable: int = 0
    """Files that could not be read or written, in a transfer that did all others."""
    bytes_sent: int = 0
    lines: list[str] = field(default_factory=list)


def flags(*, xattrs: bool) -> list[str]:
    """The flags of every copy. Devices, pipes and sockets are left out (and counted elsewhere)."""
    short = "-lptgoHAX" if xattrs else "-lptgoH"
    return [short, "--numeric-ids", "--modify-window=-1", f"--timeout={_IO_TIMEOUT_S}"]


def filters(excludes: Iterable[str]) -> list[str]:
    """Exclude rules as arguments; `- ` makes any pattern a pattern, whatever it begins with."""
    return [f"--filter=- {pattern}" for pattern in (MARK_TEMPORARY, *excludes)]


class Transfers:
    """Copies between this workspace and the standby's.

    Attributes:
        xattrs: Whether ACLs and extended attributes are copied; turned off for good when an end says
            that it cannot.
    """

    def __init__(
        self, *, workspace: Path, link: Link, excludes: tuple[str, ...], log: logging.Logger
    ) -> None:
        self._workspace = workspace
        self._link = link
        self._excludes = excludes
        self._log = log
        self.xattrs = _can_xattrs()

    def full_pass(self) -> Outcome:
        """Make the standby's tree like ours, deletions and hard links included.

        Raises:
            Fenced, LinkDown: It could not be done.
        """
        arguments = ["-r", "--delete", "--force", *self._common(self._link.rsh)]
        return self._run([*arguments, self._source, REMOTE])

    def send(self, names: list[bytes], *, forced: bool = False, own: bool = False) -> Outcome:
        """Copy these files. `forced`: even those that look the same. Raises Fenced, LinkDown."""
        arguments = self._common(self._link.own_rsh if own else self._link.rsh)
        arguments += ["--from0", "--files-from=-", "--ignore-missing-args"]
        if forced:
            arguments.append("--ignore-times")
        return self._run([*arguments, self._source, REMOTE], given=b"\0".join(names))

    def send_all(self, streams: int, progress: Callable[[int, int], None]) -> Outcome:
        """Copy every file, in parallel streams; a full pass has to follow.

        Args:
            streams: How many, at most.
            progress: Called with files and bytes that are left.
        """
        # A list of files goes past the rules for the folders that they are in.
        hidden = Hidden(self.hidden())
        wanted = (pair for pair in manifest.walk(self._workspace) if pair[0] not in hidden)
        lots = split(wanted, streams)
        return self._parallel(lots, streams, lambda names: self.send(names, own=True), progress)

    def fetch(
        self, sizes: dict[bytes, int], streams: int, progress: Callable[[int, int], None]
    ) -> Outcome:
        """Copy these files from the standby, in parallel streams."""
        lots = _share([[name] for name in sizes], sizes, streams)
        return self._parallel(
            lots, streams, lambda names: self.fetch_some(names, own=True), progress
        )

    def fetch_some(self, names: list[bytes], *, forced: bool = False, own: bool = False) -> Outcome:
        """Copy these files from the standby. `forced`: even those that look the same."""
        arguments = self._common(self._link.own_rsh if own else self._link.rsh)
        arguments += ["--from0", "--files-from=-", "--ignore-missing-args"]
        if forced:
            arguments.append("--ignore-times")
        return self._run([*arguments, REMOTE, self._source], given=b"\0".join(names))

    def fetch_pass(self, *, keep: tuple[str, ...]) -> Outcome:
        """Make our tree like the standby's, but do not delete what `keep` names."""
        arguments = ["-r", "--delete", "--force", *self._common(self._link.rsh)]
        arguments += [f"--filter=P {pattern}" for pattern in keep]
        return self._run([*arguments, REMOTE, self._source])

    def hidden(self) -> dict[str, list[bytes]]:
        """What the excludes leave out, by pattern; folders stand for all below them."""
        if not self._excludes:
            return {}
        command = ["rsync", "-rn", "--debug=FILTER1", "--8-bit-output", *filters(self._excludes)]
        with tempfile.TemporaryDirectory(prefix="dumont-") as nothing:
            done = subprocess.run(
                [*command, self._source, nothing],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                check=False,
            )
        return parse_hidden(done.stdout)

    @property
    def _source(self) -> str:
        return str(self._workspace) + "/"

    def _common(self, rsh: str) -> list[str]:
        return [*flags(xattrs=self.xattrs), f"--rsh={rsh}", *filters(self._excludes)]

    def _run(self, words: list[str], *, given: bytes | None = None) -> Outcome:
        process = subprocess.Popen(
            ["rsync", "--stats", *words],
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
        out, err = process.communicate(given)
        return self._judge(words, given, process.returncode, out, err)

    def _judge(
        self, words: list[str], given: bytes | None, status: int, out: bytes, err: bytes
    ) -> Outcome:
        lines = err.decode("utf-8", "backslashreplace").strip().splitlines()
        said = _reason(lines) or f"rsync ended with status {status}"
        # rsync may meet the closed pipe before it has the exit status of the refusal.
        if status == FENCED or (status in _UNREACHABLE and _is_refused(lines)):
            raise Fenced("the standby refused")
        if status != 0 and self.xattrs and re.search(_NO_XATTRS, "\n".join(lines), re.IGNORECASE):
            self._log.warning("no ACLs and extended attributes from now on: %s", said)
            self.xattrs = False
            plain = flags(xattrs=False)
            changed = [plain[0] if word == flags(xattrs=True)[0] else word for word in words]
            return self._run(changed, given=given)
        if status in _UNREACHABLE and not _is_full(lines):
            raise LinkDown(said)
        outcome = Outcome(bytes_sent=_sent(out), lines=lines)
        if status == _PARTIAL and not _is_full(lines):
            outcome.unreadable = max(1, len([line for line in lines if "failed" in line]))
            outcome.problem = said
        elif status not in (0, _VANISHED):
            outcome.problem = said
        return outcome

    def _parallel(
        self,
        lots: list[tuple[list[bytes], int]],
        streams: int,
        work: Callable[[list[bytes]], Outcome],
        progress: Callable[[int, int], None],
    ) -> Outcome:
        """Work on the lots, some at a time. Raises the first failure when all have ended."""
        left_files = sum(len(names) for names, _ in lots)
        left_bytes = sum(size for _, size in lots)
        total = Outcome()
        lock = threading.Lock()

        def one(lot: tuple[list[bytes], int]) -> None:
            nonlocal left_files, left_bytes
            outcome = _retried(lambda: work(lot[0]))
            with lock:
                total.problem = total.problem or outcome.problem
                total.unreadable += outcome.unreadable
                total.bytes_sent += outcome.bytes_sent
                left_files -= len(lot[0])
                left_bytes -= lot[1]
                progress(left_files, left_bytes)

        progress(left_files, left_bytes)
        with ThreadPoolExecutor(max_workers=streams) as pool:
            for done in [pool.submit(one, lot) for lot in lots]:
                done.result()
        return total


_NO_XATTRS = r"(acls?|xattrs?|extended attributes?)[^\n]*not supported|(set|get)xattr[^\n]*not supp"


class Hidden:
    """Whether the excludes leave a name out."""

    def __init__(self, hidden: dict[str, list[bytes]]) -> None:
        self._names = {name for names in hidden.values() for name in names}
        self._names.add(b".dumont/mark.tmp")

    def __contains__(self, name: bytes) -> bool:
        while name:
            if name in self._names:
                return True
            name = os.path.dirname(name)
        return False


def split(
    entries: Iterable[tuple[bytes, os.stat_result]], streams: int
) -> list[tuple[list[bytes], int]]:
    """Share files and links out in lots of about the same weight; hard links stay together."""
    groups: dict[tuple[int, int] | bytes, list[bytes]] = {}
    sizes: dict[bytes, int] = {}
    for name, state in entries:
        if stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode):
            several = stat.S_ISREG(state.st_mode) and state.st_nlink > 1
            key = (state.st_dev, state.st_ino) if several else name
            groups.setdefault(key, []).append(name)
            sizes[name] = state.st_size if len(groups[key]) == 1 else 0
    return _share(list(groups.values()), sizes, streams)


def _share(
    groups: list[list[bytes]], sizes: dict[bytes, int], streams: int
) -> list[tuple[list[bytes], int]]:
    weighed = [(sum(sizes[name] + _FILE_COST for name in group), group) for group in groups]
    weighed.sort(key=lambda pair: pair[0], reverse=True)
    # More lots than streams: progress can be told, and no stream ends long before the others. But each
    # lot costs a login: a small one is not worth it.
    worth = -(-sum(weight for weight, _ in weighed) // _LEAST_LOT)
    count = max(1, min(streams * _LOTS_A_STREAM, len(groups), worth))
    lots: list[list[bytes]] = [[] for _ in range(count)]
    weights = [(0, index) for index in range(len(lots))]
    for weight, group in weighed:
        so_far, index = heapq.heappop(weights)
        lots[index].extend(group)
        heapq.heappush(weights, (so_far + weight, index))
    # Sorted, so that rsync walks folders in order.
    return [(sorted(lot), sum(sizes[name] for name in lot)) for lot in lots if lot]


def parse_hidden(out: bytes) -> dict[str, list[bytes]]:
    """Read rsync's account of its filters: `[sender] hiding file NAME because of pattern P`."""
    found: dict[str, list[bytes]] = {}
    line = re.compile(rb"\[sender\] hiding (?:file|directory|\w+) (.*) because of pattern (.*?)$")
    for text in out.split(b"\n"):
        match = line.match(text)
        if match:
            pattern = manifest.shown(match.group(2))
            if pattern != MARK_TEMPORARY:
                found.setdefault(pattern, []).append(_unescaped(match.group(1)))
    return found


def _unescaped(name: bytes) -> bytes:
    return re.sub(rb"\\#([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), name)


def _retried(work: Callable[[], Outcome]) -> Outcome:
    """Try again when a connection is refused: sshd limits how many begin at once (MaxStartups)."""
    pause = 0.2
    while True:
        try:
            return work()
        except LinkDown:
            if pause > 3:
                raise
            time.sleep(pause)
            pause *= 2


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _can_xattrs() -> bool:
    try:
        done = subprocess.run(
            ["rsync", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
    except OSError:
        return False
    text = done.stdout.decode("utf-8", "replace")
    return "xattrs" in text and "no xattrs" not in text and "no ACLs" not in text


def _sent(out: bytes) -> int:
    match = re.search(rb"Total transferred file size: ([\d,.]+)", out)
    return int(re.sub(rb"\D", b"", match.group(1))) if match else 0


def _is_refused(lines: list[str]) -> bool:
    """Whether the forced command (`receive.py`) said that this body has no authority."""
    return any(line.startswith("dumont: fenced") for line in lines)


def _is_full(lines: list[str]) -> bool:
    return any("No space left" in line or "Disk quota exceeded" in line for line in lines)


def _reason(lines: list[str]) -> str:
    """The line that says most: a full disk, else the first that is not rsync's own epilogue."""
    for line in lines:
        if "No space left" in line or "Disk quota exceeded" in line:
            return "the standby's disk is full: " + line[:200]
    for line in lines:
        if not line.startswith(("rsync error", "rsync warning")) and line.strip():
            return line[:300]
    return lines[0][:300] if lines else ""
