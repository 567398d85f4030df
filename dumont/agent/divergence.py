"""What changed here since the last moment at which everything was on the standby.

For a primary that came back after its standby had taken over: these are the edits that only exist
here. Rather too many than one too few: without a reliable moment, all files are named. Names that are
not UTF-8 are shown with `\\xff` escapes, see manifest.py.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from dumont.agent import manifest, restored
from dumont.agent.context import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dumont.agent.paths import Paths

_NAMED = 1000


def run(paths: Paths) -> dict[str, Any]:
    """The command `divergence`."""
    files: list[dict[str, Any]] = []
    count = size = 0
    for name, length in changed(paths):
        count, size = count + 1, size + length
        if len(files) < _NAMED:
            files.append({"path": manifest.shown(name), "bytes": length})
    moment = restored.replicated_at(paths)
    return {
        "files": files,
        "total_files": count,
        "total_bytes": size,
        "since": None if moment is None else timestamp(moment),
    }


def changed(paths: Paths) -> Iterator[tuple[bytes, int]]:
    """Files and links that may not be on the standby as they are here, with their sizes."""
    after = restored.changed_after(paths)
    for name, state in manifest.walk(paths.workspace):
        ours = stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode)
        if ours and not is_product(name) and (after is None or state.st_ctime >= after):
            yield name, state.st_size


def is_product(name: bytes) -> bool:
    """Whether the name belongs to the product, not to the owner's work."""
    inside = name.startswith(b".dumont/")
    return inside and not name.startswith(b".dumont/conflicts/")
