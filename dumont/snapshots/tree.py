"""The table of files of a snapshot: one JSON array a line, in chunks that unchanged parts share."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from blake3 import blake3

from dumont.snapshots.errors import Damaged

BLOCK = 4 << 20
"""Largest chunk of the table."""
CHUNK_ID = 32
_PIECES = 10_000
"""At most so many in one line, so that a line fits a chunk."""
_WITH_MORE = 10
"""A file's row is longer than this when lines with more of its pieces follow: it says how many."""


class Piece(NamedTuple):
    """A stretch of a file that is stored."""

    chunk: bytes
    at: int
    """Where it begins in the file."""
    start: int
    """Where it begins in the chunk."""
    length: int


class Entry(NamedTuple):
    """A file, directory or symbolic link. Numbers as `os.lstat` has them."""

    kind: str
    """`f`, `d` or `l`."""
    path: bytes
    """Relative, without `.` and `..`."""
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[str, bytes] | None = None
    size: int = 0
    link: bytes | None = None
    """The first name of a file that has several."""
    pieces: tuple[Piece, ...] = ()
    target: bytes | None = None


def order(path: bytes) -> bytes:
    """What paths are sorted by: names bytewise, a directory right before what is in it."""
    return path.replace(b"/", b"\0")


def ends_block(path: bytes) -> bool:
    """Whether the table is cut after this path."""
    first = blake3(path).digest(2)
    return first[0] == 0 and first[1] < 64


def ends_bundle(path: bytes) -> bool:
    """Whether a bundle of small files may end early after this path."""
    return blake3(path).digest(1)[0] < 16


def to_lines(entry: Entry) -> bytes:
    """An entry as it is stored: a line, and for a huge file more lines with the rest of its pieces."""
    xattrs = {
        name: base64.b64encode(value).decode()
        for name, value in sorted((entry.xattrs or {}).items())
    }
    path = _text(entry.path)
    row: list[Any] = [entry.kind, path, entry.mode, entry.uid, entry.gid, entry.mtime_ns]
    row.append(xattrs or None)
    if entry.kind == "l":
        row.append(_text(entry.target or b""))
    if entry.kind != "f":
        return _line(row)
    pieces = [[id_text(p.chunk), p.at, p.start, p.length] for p in entry.pieces]
    row += [entry.size, entry.link and _text(entry.link), pieces[:_PIECES]]
    starts = range(_PIECES, len(pieces), _PIECES)
    if starts:
        row.append(len(starts))
    lines = [_line(row)]
    for first in starts:
        lines.append(_line(["+", path, pieces[first : first + _PIECES]]))
    return b"".join(lines)


def from_lines(
    lines: Iterable[bytes | None], *, on_damage: Callable[[str], None] | None = None
) -> Iterator[Entry]:
    """The reverse.

    Args:
        lines: In order; None where some are lost.
        on_damage: Told of what cannot be read, which is left out then.

    Raises:
        Damaged: A line cannot be read, or names a path that leads out of the tree; not with `on_damage`.
    """

    def wrong(words: str) -> None:
        if on_damage is None:
            raise Damaged(words)
        on_damage(words)

    entry: Entry | None = None
    missing = 0
    for line in _and_end(lines):
        try:
            row = json.loads(line) if line is not None else None
            if row is not None and row[0] == "+":
                if entry is not None and missing and _bytes(row[1]) == entry.path:
                    entry = entry._replace(pieces=entry.pieces + _pieces(row[2]))
                    missing -= 1
                continue
            if entry is not None and missing:
                wrong(f"{shown(entry.path)}: where the rest of it is, is lost")
            elif entry is not None:
                yield entry
            entry, missing = None, 0
            if row is None:
                continue
            found = _entry(row)
            if not all(is_inside(name) for name in (found.path, found.link) if name is not None):
                wrong(f"{shown(found.path)} leads out of the snapshot")
                continue
            entry, missing = found, int(row[10]) if len(row) > _WITH_MORE else 0
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            wrong(f"a line of the table of files cannot be read: {error}")


def _and_end(lines: Iterable[bytes | None]) -> Iterator[bytes | None]:
    yield from lines
    yield None


def _entry(row: list[Any]) -> Entry:
    kind, path = row[0], _bytes(row[1])
    mode, uid, gid, mtime_ns = (int(value) for value in row[2:6])
    xattrs = row[6] and {str(k): base64.b64decode(v, validate=True) for k, v in row[6].items()}
    entry = Entry(kind, path, mode, uid, gid, mtime_ns, xattrs)
    if kind == "f":
        link = None if row[8] is None else _bytes(row[8])
        return entry._replace(size=int(row[7]), link=link, pieces=_pieces(row[9]))
    if kind == "l":
        return entry._replace(target=_bytes(row[7]))
    if kind != "d":
        raise ValueError(f"unknown kind {kind!r}")
    return entry


def _pieces(rows: list[Any]) -> tuple[Piece, ...]:
    return tuple(Piece(id_bytes(p[0]), int(p[1]), int(p[2]), int(p[3])) for p in rows)


def _line(row: list[Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def blocks(lines: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Cut a table (pairs of path and line) into chunks."""
    block: list[bytes] = []
    size = 0
    for path, unit in lines:
        for line in unit.splitlines(keepends=True) if size + len(unit) > BLOCK else (unit,):
            if size + len(line) > BLOCK and block:
                yield b"".join(block)
                block, size = [], 0
            block.append(line)
            size += len(line)
        if ends_block(path):
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


def is_inside(path: bytes) -> bool:
    """Whether a path stays below the folder that it is relative to."""
    parts = path.split(b"/")
    return not path.startswith(b"/") and all(part not in (b"", b".", b"..") for part in parts)


def shown(path: bytes) -> str:
    """A path for people: what cannot be shown is escaped."""
    return path.decode("utf-8", "backslashreplace")


def id_text(chunk: bytes) -> str:
    """A chunk id as it stands in documents."""
    return base64.b64encode(chunk).decode().rstrip("=")


def id_bytes(text: str) -> bytes:
    """The reverse. Raises ValueError."""
    found = base64.b64decode(text + "=", validate=True)
    if len(found) != CHUNK_ID:
        raise ValueError("not a chunk id")
    return found


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
