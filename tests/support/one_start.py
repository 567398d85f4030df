"""One demo starts at a time: two that look for their usual ports at the same moment find the same free."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_start() -> Iterator[None]:
    """Held from before a demo looks for its ports until it listens on them; across test processes."""
    path = Path(tempfile.gettempdir()) / f"dumont-tests-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
