"""Files that say of themselves where their numbers are: so that equal tensors give equal chunks."""

from __future__ import annotations

import ast
import json
import os
import struct
from collections.abc import Callable
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A stretch of a file whose numbers have one size."""

    start: int
    end: int
    element: int | None
    """Bytes of a number; None: to be found out."""


Layout = tuple[Span, ...]
"""Spans in file order that cover the whole file."""

_MAX_HEADER = 100 << 20
_MAX_SPANS = 100_000
_DTYPES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U32": 4, "F64": 8, "I64": 8, "U64": 8,
           "I16": 2, "U16": 2}  # fmt: skip
_PACKED = frozenset(
    b".jpg .jpeg .png .webp .gif .mp3 .mp4 .mkv .webm .zip .gz .tgz .zst .xz .bz2 .7z .whl "
    b".parquet .lz4 .br .woff2".split()
)
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_SMALL_MEMBER = 64 << 10


def hint_of(path: bytes) -> int | None:
    """0 for a file whose name says that it is compressed already; None: to be found out."""
    return 0 if os.path.splitext(path)[1].lower() in _PACKED else None


def layout_of(
    name: bytes, head: bytes, size: int, read_at: Callable[[int, int], bytes]
) -> Layout | None:
    """Where a file's numbers are; None for a file that does not say, or lies.

    Args:
        name: Without its folder.
        head: Its first bytes.
        size: Its length.
        read_at: Reads some of it: offset, length.
    """
    try:
        if name.endswith(b".safetensors"):
            return _safetensors(head, size, read_at)
        if head.startswith(b"\x93NUMPY"):
            return _npy(head, size)
        if head.startswith(b"PK\x03\x04") and name.endswith((b".pt", b".pth", b".ckpt", b".bin")):
            return _torch(size, read_at)
    except (ValueError, KeyError, TypeError, IndexError, struct.error, SyntaxError, RecursionError):
        return None
    return None


def _safetensors(head: bytes, size: int, read_at: Callable[[int, int], bytes]) -> Layout | None:
    length = int.from_bytes(head[:8], "little")
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        return None
    header: dict[str, Any] = json.loads(read_at(8, length))
    begin = 8 + length
    parts = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, end = (begin + int(offset) for offset in tensor["data_offsets"])
        parts.append(Span(start, end, _DTYPES.get(str(tensor["dtype"]))))
    return _covering(parts, size)


def _npy(head: bytes, size: int) -> Layout | None:
    if head[6] == 1:
        length, begin = int.from_bytes(head[8:10], "little"), 10
    else:
        length, begin = int.from_bytes(head[8:12], "little"), 12
    header = ast.literal_eval(head[begin : begin + length].decode("latin-1"))
    kind = str(header["descr"])
    element = int(kind[2:]) if kind[1:2] in "fiu" and kind[2:].isdigit() else 0
    return _covering([Span(begin + length, size, element if element in (2, 4, 8) else None)], size)


def _torch(size: int, read_at: Callable[[int, int], bytes]) -> Layout | None:
    """The stored members of a zip file. Nothing is unpickled: what the numbers are is found out."""
    parts = []
    for offset, length in _members(size, read_at):
        if length < _SMALL_MEMBER:
            continue
        local = _LOCAL.unpack(read_at(offset, _LOCAL.size))
        if local[0] != b"PK\x03\x04":
            return None
        start = offset + _LOCAL.size + local[9] + local[10]
        parts.append(Span(start, start + length, None))
    return _covering(parts, size) if parts else None


def _members(size: int, read_at: Callable[[int, int], bytes]) -> list[tuple[int, int]]:
    tail_at = max(0, size - (1 << 16) - _END.size)
    tail = read_at(tail_at, size - tail_at)
    found = tail.rfind(b"PK\x05\x06")
    end = _END.unpack_from(tail, found)
    count, length, start = end[4], end[5], end[6]
    locator_at = found - _END64_LOCATOR.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\x06\x07":
        at = _END64_LOCATOR.unpack_from(tail, locator_at)[2]
        wide = _END64.unpack(read_at(at, _END64.size))
        count, length, start = wide[7], wide[8], wide[9]
    if count > _MAX_SPANS or length > _MAX_HEADER:
        raise ValueError("too many members")
    directory = read_at(start, length)
    members, at = [], 0
    for _ in range(count):
        row = _CENTRAL.unpack_from(directory, at)
        if row[0] != b"PK\x01\x02":
            raise ValueError("not a directory")
        stored, packed, offset = row[9], row[8], row[16]
        extra_at = at + _CENTRAL.size + row[10]
        if 0xFFFFFFFF in (stored, packed, offset):
            stored, offset = _wide(directory[extra_at : extra_at + row[11]], stored, packed, offset)
        if row[4] == 0:
            members.append((offset, stored))
        at = extra_at + row[11] + row[12]
    return sorted(members)


def _wide(extra: bytes, stored: int, packed: int, offset: int) -> tuple[int, int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            stored = next(values) if stored == 0xFFFFFFFF else stored
            if packed == 0xFFFFFFFF:
                next(values)
            return stored, next(values) if offset == 0xFFFFFFFF else offset
        at += 4 + length
    raise ValueError("no long lengths")


def _covering(parts: list[Span], size: int) -> Layout | None:
    """Spans with what lies between them; None when they overlap or leave the file."""
    if len(parts) > _MAX_SPANS:
        return None
    spans: list[Span] = []
    at = 0
    for part in sorted(part for part in parts if part.start != part.end):
        if part.start < at or part.end > size or part.start > part.end:
            return None
        if part.start > at:
            spans.append(Span(at, part.start, None))
        spans.append(part)
        at = part.end
    if at < size:
        spans.append(Span(at, size, None))
    return tuple(spans)
