"""What is not mirrored, counted: an exclude must never drop somebody's data silently."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from dumont.agent import manifest

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = "(devices, pipes and sockets)"


def not_mirrored(workspace: Path, hidden: dict[str, list[bytes]]) -> list[dict[str, Any]]:
    """Files and bytes by pattern; `hidden` is what rsync's filters leave out."""
    rows = []
    for pattern, names in sorted(hidden.items()):
        files = size = 0
        for name in names:
            more_files, more_size = _weigh(os.path.join(os.fsencode(str(workspace)), name))
            files, size = files + more_files, size + more_size
        rows.append({"pattern": pattern, "files": files, "bytes": size})
    special = sum(1 for _, state in manifest.walk(workspace) if _is_special(state.st_mode))
    if special:
        rows.append({"pattern": SPECIAL, "files": special, "bytes": 0})
    return rows


def _weigh(path: bytes) -> tuple[int, int]:
    try:
        state = os.lstat(path)
    except OSError:
        return 0, 0
    if not stat.S_ISDIR(state.st_mode):
        return 1, state.st_size
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_size
                files += 1
            except OSError:
                continue
    return files, size


def _is_special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))
