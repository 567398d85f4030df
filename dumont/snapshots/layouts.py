"""Files that say of themselves where their numbers are: so that equal tensors give equal chunks.

A header is a stranger's word: one that does not fit its file counts as none.
"""

from __future__ import annotations

import io
import json
import os
import re
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
ReadAt = Callable[[int, int], bytes]
"""Reads some of a file: offset, length. Shorter where the file ends."""

_MAX_HEADER = 8 << 20
"""Enough for 80,000 tensors; what a header of brackets alone becomes in memory is bounded as well."""
_MAX_SPANS = 100_000
_ELEMENTS = {"BF16": 2, "F16": 2, "I16": 2, "U16": 2, "F32": 4, "I32": 4, "U32": 4, "F64": 8,
             "I64": 8, "U64": 8}  # fmt: skip
_NPY = b"\x93NUMPY"
_DESCR = re.compile(rb"'descr': *'[<>=|]([fiuc])(\d\d?)'")
_ZIP = b"PK\x03\x04"
_ZIPPED = (b".pt", b".pth", b".ckpt", b".bin", b".npz")
_LOCAL_HEADER = 30
_NAME_AND_EXTRA = struct.Struct("<26x2H")
_SMALL_MEMBER = 64 << 10
_PACKED = frozenset(
    b".jpg .jpeg .png .webp .gif .mp3 .mp4 .mkv .webm .zip .gz .tgz .zst .xz .bz2 .7z .whl "
    b".parquet .lz4 .br .woff2".split()
)


def hint_of(path: bytes) -> int | None:
    """0 for a file whose name says that it is compressed already; None: to be found out."""
    return 0 if os.path.splitext(path)[1].lower() in _PACKED else None


def layout_of(name: bytes, head: bytes, size: int, read_at: ReadAt) -> Layout | None:
    """Where a file's numbers are; None for a file that does not say, or lies.

    Args:
        name: Without its folder.
        head: Its first 64 KiB.
        size: Its length.
        read_at: Reads some of it; what it raises is passed on.
    """
    try:
        if name.endswith(b".safetensors"):
            return _safetensors(head, _Within(size, read_at))
        if head.startswith(_NPY):
            return _npy(head, size)
        if head.startswith(_ZIP) and name.endswith(_ZIPPED):
            return _zip(_Within(size, read_at))
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, struct.error):
        # What parsers make of nonsense. RuntimeError: nested too deeply.
        return None
    return None


class _Within(io.RawIOBase):
    """A file that cannot be read beyond its end, nor too much of it at once."""

    def __init__(self, size: int, read_at: ReadAt) -> None:
        self.size = size
        self._read_at = read_at
        self._at = 0

    def exactly(self, offset: int, length: int) -> bytes:
        """So many bytes. Raises ValueError."""
        if not (0 <= offset <= self.size - length and 0 <= length <= _MAX_HEADER):
            raise ValueError("not in this file, or too long")
        found = self._read_at(offset, length)
        if len(found) != length:
            raise ValueError("the file has become shorter")
        return found

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, length: int = -1) -> bytes:
        rest = max(0, self.size - self._at)
        found = self.exactly(self._at, rest if length < 0 else min(length, rest))
        self._at += len(found)
        return found


def _safetensors(head: bytes, file: _Within) -> Layout | None:
    length = int.from_bytes(head[:8], "little")
    header: dict[str, Any] = json.loads(file.exactly(8, length))
    begin = 8 + length
    spans = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, end = tensor["data_offsets"]
        if type(start) is not int or type(end) is not int or start < 0:
            return None
        spans.append(Span(begin + start, begin + end, _ELEMENTS.get(tensor["dtype"])))
    return _covering(spans, file.size)


def _npy(head: bytes, size: int) -> Layout | None:
    if head[6] not in (1, 2, 3):
        return None
    begin = 10 if head[6] == 1 else 12
    start = begin + int.from_bytes(head[8:begin], "little")
    if start > len(head):
        return None
    found = _DESCR.search(head[begin:start])
    element = None
    if found is not None:
        # A complex number is two.
        width = int(found[2]) // (2 if found[1] == b"c" else 1)
        element = width if width in _ELEMENTS.values() else None
    return _covering([Span(start, size, element)], size)


def _zip(file: _Within) -> Layout | None:
    """The stored members of a zip file. Nothing is unpickled: what the numbers are is found out."""
    import zipfile  # slow to import, and few workspaces need it

    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        return None
    spans = []
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size < _SMALL_MEMBER:
            continue
        local = file.exactly(member.header_offset, _LOCAL_HEADER)
        if not local.startswith(_ZIP):
            return None
        start = member.header_offset + _LOCAL_HEADER + sum(_NAME_AND_EXTRA.unpack(local))
        spans.append(Span(start, start + member.file_size, None))
    return _covering(spans, file.size) if spans else None


def _covering(spans: list[Span], size: int) -> Layout | None:
    """Spans with what lies between them; None when they overlap or leave the file."""
    if len(spans) > _MAX_SPANS:
        return None
    covering: list[Span] = []
    at = 0
    for span in sorted(span for span in spans if span.start != span.end):
        if not at <= span.start < span.end <= size:
            return None
        if span.start > at:
            covering.append(Span(at, span.start, None))
        covering.append(span)
        at = span.end
    if at < size:
        covering.append(Span(at, size, None))
    return tuple(covering)
