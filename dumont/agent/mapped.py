"""Files of the workspace that a process has mapped for shared writing.

Their content can change without any file event and, as long as the pages are dirty, without any change
of size or time. Only root sees the mappings of everybody's processes.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from dumont.agent import processes

if TYPE_CHECKING:
    from pathlib import Path

_DELETED = b" (deleted)"


def writable(workspace: Path) -> set[bytes]:
    """The names of such files, relative to the workspace."""
    base = os.fsencode(os.path.realpath(str(workspace))) + b"/"
    found = set()
    for pid in processes.pids():
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                lines = file.read()
        except OSError:
            continue
        if base in lines:
            found.update(parse(lines, base))
    return found


def parse(lines: bytes, base: bytes) -> set[bytes]:
    """Read one /proc/PID/maps."""
    found = set()
    for line in lines.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) != 6 or not fields[5].startswith(base) or fields[5].endswith(_DELETED):
            continue
        if fields[1][1:2] == b"w" and fields[1][3:4] == b"s":
            name = re.sub(rb"\\([0-7]{3})", _unescaped, fields[5])
            found.add(name[len(base) :])
    return found


def write_back(workspace: Path, names: set[bytes]) -> None:
    """Clean their pages, so that the next store to any of them moves the file's times."""
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(os.path.join(os.fsencode(str(workspace)), name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match.group(1), 8)])
