"""Bounded logs of the parts.

A part writes straight into its file (opened to append), so that its last words survive the
supervisor, and so that a dead supervisor never breaks a pipe under it. The price: a file that grew
too large is copied aside and cut in place, and lines written in that instant are lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024


def open_log(path: Path) -> int:
    """A file descriptor to hand to a part. The caller closes it."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def bound(path: Path, *, max_bytes: int = MAX_BYTES) -> bool:
    """Move the text of a log over `max_bytes` to `<name>.1`. Returns whether it was too long.

    Where there is no room for the copy, the text is dropped: that makes room.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):
        shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True


def tail(path: Path, *, lines: int) -> str:
    """The last lines of a log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
