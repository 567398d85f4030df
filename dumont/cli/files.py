"""Small files the command line keeps for a user: written whole or not at all.

Nothing here knows what the files mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o600


def make_private_dir(*, path: Path) -> None:
    """Create a directory that only its owner can enter; an existing one is left as it is.

    Raises:
        OSError: It cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def replace_file(*, path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write `content` so that a reader, or a crash, sees either the old file or the new one.

    A symbolic link stays one: what it points to is replaced. The owner of an existing file is kept
    when we may (root editing a user's file).

    Args:
        path: The file; its directory must exist.
        content: All of it.
        mode: Permissions of the result.

    Raises:
        OSError: It cannot be written; the old file is untouched.
    """
    target = path.resolve()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            with contextlib.suppress(OSError):
                before = target.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(*, path: Path) -> Iterator[None]:
    """Hold the advisory lock beside `path`: one process at a time reads, changes and writes it.

    Raises:
        OSError: The lock file cannot be made.
    """
    make_private_dir(path=path.parent)
    handle = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
