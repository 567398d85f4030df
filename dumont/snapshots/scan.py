"""Walking a workspace, and knowing from last time what has not changed.

Both the tree and what is remembered of it come in the same order (`tree.order`), so that they are
merged like two sorted lists: memory does not grow with the number of files, only with the largest
directory's names.
"""

from __future__ import annotations

import marshal
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from dumont.snapshots import tree
from dumont.snapshots.errors import Damaged
from dumont.snapshots.zstd import compress, decompress

Signature = tuple[int, int, int, int, int]
"""Modification and change time (ns), size, inode, device: what tells an unchanged file."""
RACY_NS = 2_000_000_000
"""A file touched so shortly before it was looked at may change again within the clock's resolution."""
_BLOCK = 5_000
_LIMIT = 1 << 30
_HEAD = f"dumont scan 1 {sys.version_info[0]}.{sys.version_info[1]}\n".encode()
"""The blocks are Python's own format: another version begins anew."""


class Found(NamedTuple):
    """Something in the workspace."""

    path: bytes
    state: os.stat_result


class Memory(NamedTuple):
    """What is remembered of a file: how it looked, and how it stands in the table of files."""

    path: bytes
    signature: Signature
    lines: bytes
    chunks: bytes
    """Ids of the chunks it is in, one after the other."""


def signature_of(state: os.stat_result) -> Signature:
    """What is compared with last time."""
    return (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev)


def walk(
    root: Path,
    *,
    exclude: Callable[[bytes, bool], bool],
    unreadable: Callable[[bytes, OSError], None],
) -> Iterator[Found]:
    """Everything below a folder, in the order of the table of files; never follows a link.

    Args:
        root: The folder; not yielded itself.
        exclude: Told a path and whether it is a directory; true leaves it out, with what is in it.
        unreadable: Told of what cannot be looked at.
    """
    yield from _below(os.fsencode(str(root)), b"", exclude, unreadable)


def _below(
    folder: bytes,
    prefix: bytes,
    exclude: Callable[[bytes, bool], bool],
    unreadable: Callable[[bytes, OSError], None],
) -> Iterator[Found]:
    stack = [(folder, prefix, iter(_names(folder, prefix, unreadable)))]
    while stack:
        folder, prefix, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        path, full = prefix + name, folder + b"/" + name
        try:
            state = os.lstat(full)
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable(path, error)
            continue
        is_folder = stat.S_ISDIR(state.st_mode)
        if exclude(path, is_folder):
            continue
        yield Found(path, state)
        if is_folder:
            stack.append((full, path + b"/", iter(_names(full, path, unreadable))))


def _names(folder: bytes, path: bytes, unreadable: Callable[[bytes, OSError], None]) -> list[bytes]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        unreadable(path, error)
        return []


class Remembered:
    """What the last snapshot of a workspace saw, read along with the walk.

    A memory that cannot be read is none: files are read again, which costs time and nothing else.

    Args:
        file: Where it is.
    """

    def __init__(self, file: Path) -> None:
        self._memories = _read(file)
        self._next = next(self._memories, None)

    def of(self, path: bytes) -> Memory | None:
        """What is remembered of a path; ask in the order of the walk."""
        wanted = tree.order(path)
        try:
            while self._next is not None and tree.order(self._next.path) < wanted:
                self._next = next(self._memories, None)
        except Damaged:
            self._next = None
        found = self._next
        return found if found is not None and found.path == path else None


class MemoryWriter:
    """Writes what the next snapshot will remember; it takes the old one's place on `commit`."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._target = file
        self._partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        self._out = self._partial.open("wb")
        os.chmod(self._partial, 0o600)
        self._out.write(_HEAD)
        self._block: list[tuple[object, ...]] = []

    def add(self, memory: Memory) -> None:
        """Remember one."""
        self._block.append(tuple(memory))
        if len(self._block) >= _BLOCK:
            self._flush()

    def commit(self) -> None:
        """Keep what was written."""
        self._flush()
        self._out.close()
        self._partial.replace(self._target)

    def discard(self) -> None:
        """Throw it away; the old one stays."""
        self._out.close()
        self._partial.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._block:
            packed = compress(marshal.dumps(self._block))
            self._out.write(len(packed).to_bytes(4, "big") + blake3(packed).digest() + packed)
            self._block = []


def _read(file: Path) -> Iterator[Memory]:
    try:
        source = file.open("rb")
    except OSError:
        return
    with source:
        if source.read(len(_HEAD)) != _HEAD:
            return
        while len(head := source.read(4 + 32)) == 4 + 32:
            packed = source.read(int.from_bytes(head[:4], "big"))
            # `marshal` is safe on what we wrote ourselves, and on nothing else.
            if blake3(packed).digest() != head[4:]:
                return
            for values in marshal.loads(decompress(packed, limit=_LIMIT)):  # noqa: S302
                yield Memory(*values)
