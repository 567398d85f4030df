"""What this machine has uploaded and not yet committed: a killed run's work is not sent again."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from dumont.snapshots.packs import PACK_ID


class Journal:
    """Ids of packs that have arrived, one a line, synced before anything counts on them.

    Args:
        file: Where it is; None keeps none.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)

    def packs(self) -> list[bytes]:
        """What earlier runs have uploaded. A line that was cut off is ignored."""
        if self._file is None or not self._file.exists():
            return []
        found = []
        for line in self._file.read_text("ascii", "replace").splitlines():
            with contextlib.suppress(ValueError):
                pack = bytes.fromhex(line)
                if len(pack) == PACK_ID:
                    found.append(pack)
        return found

    def add(self, pack: bytes) -> None:
        """Note one that has arrived."""
        if self._file is None:
            return
        with self._lock, self._file.open("ab") as out:
            out.write(pack.hex().encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())

    def clear(self) -> None:
        """All of them are in the index now."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
