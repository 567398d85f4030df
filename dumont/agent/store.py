"""Small files that must be whole after any crash: written beside, synced, renamed over.

`write_*` with `sync=True` (the default) returns when the content is on the disk; status files, which
are rewritten every second, pass `sync=False` and are merely never seen half-written.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace `path` atomically."""
    descriptor, name = tempfile.mkstemp(prefix="." + path.name + ".", dir=str(path.parent))
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(name, str(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    if sync:
        sync_folder(path.parent)


def write_json(path: Path, document: Any, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace `path` atomically with `document` as JSON on one line."""
    write_text(path, json.dumps(document) + "\n", mode=mode, sync=sync)


def read_text(path: Path) -> str | None:
    """The content, or None when there is no such file."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Path) -> Any:
    """The document, or None when there is no such file. Raises ValueError when it is no JSON."""
    text = read_text(path)
    return None if text is None else json.loads(text)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
