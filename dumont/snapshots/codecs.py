"""The codecs of a chunk. What each writes is described in `docs/repository-format.md`."""

from __future__ import annotations

import struct

from dumont.snapshots import native
from dumont.snapshots.errors import Damaged

RAW, LZ4, ZSTD, BITSHUFFLE_LZ4, SHUFFLE_ZSTD = range(5)
ELEMENTS = (4, 8)
"""Bytes that are shuffled as one. Numbers of two bytes go in pairs: the result is no larger, and the
library's fast way back is for multiples of four alone (40 % faster)."""
BLOCK = 32 << 10
"""Bytes of one bitshuffled block. Part of the format."""
_EIGHT = 8
_LEVEL = 1
_BLOCK_HEAD = struct.Struct(">I")


class Coder:
    """One thread's contexts and scratch memory."""

    def __init__(self) -> None:
        self._zstd = native.Zstd()
        self._shuffled = bytearray()
        self._tried = bytearray()

    def try_out(self, data: memoryview, *, codec: int, element: int) -> int:
        """How many bytes `data` would become."""
        room = bound(len(data))
        if len(self._tried) < room:
            self._tried = bytearray(room)
        return self.encode(data, codec=codec, element=element, into=memoryview(self._tried))

    def encode(self, data: memoryview, *, codec: int, element: int, into: memoryview) -> int:
        """Encode a chunk; returns how many bytes of `into` are used.

        Raises:
            ValueError: `into` is too small (`bound` says what is enough), or no such codec.
        """
        if codec == RAW:
            if len(into) < len(data):
                raise ValueError("no room")
            into[: len(data)] = data
            return len(data)
        if codec == LZ4:
            return native.lz4_compress(data, into)
        if codec == ZSTD:
            return self._zstd.compress(data, into, level=_LEVEL)
        _check(element)
        if codec == BITSHUFFLE_LZ4:
            whole = len(data) - len(data) % (_EIGHT * element)
            length = native.bitshuffle_lz4_compress(
                data[:whole], into, element=element, block=BLOCK // element
            )
            rest = data[whole:]
            into[length : length + len(rest)] = rest
            return length + len(rest)
        if codec == SHUFFLE_ZSTD:
            whole = len(data) - len(data) % element
            shuffled = self._room(len(data))
            native.split_bytes(data[:whole], shuffled[:whole], element=element)
            shuffled[whole:] = data[whole:]
            return self._zstd.compress(shuffled, into, level=_LEVEL)
        raise ValueError(f"no codec {codec}")

    def decode(self, data: memoryview, *, codec: int, element: int, into: memoryview) -> None:
        """Decode a chunk of exactly `len(into)` bytes. Raises Damaged when it is not that."""
        try:
            self._decode(data, codec, element, into)
        except ValueError as error:
            raise Damaged(f"a chunk cannot be decoded: {error}") from None

    def _decode(self, data: memoryview, codec: int, element: int, into: memoryview) -> None:
        if codec == RAW:
            if len(data) != len(into):
                raise ValueError("not the length it should have")
            into[:] = data
        elif codec == LZ4:
            native.lz4_decompress(data, into)
        elif codec == ZSTD:
            self._zstd.decompress(data, into)
        elif codec == BITSHUFFLE_LZ4:
            _check(element)
            rest = len(into) % (_EIGHT * element)
            whole, packed = len(into) - rest, len(data) - rest
            if packed < 0:
                raise ValueError("bitshuffle: cut off")
            _check_blocks(data[:packed], whole)
            native.bitshuffle_lz4_decompress(
                data[:packed], into[:whole], element=element, block=BLOCK // element
            )
            into[whole:] = data[packed:]
        elif codec == SHUFFLE_ZSTD:
            _check(element)
            shuffled = self._room(len(into))
            self._zstd.decompress(data, shuffled)
            whole = len(into) - len(into) % element
            native.join_bytes(shuffled[:whole], into[:whole], element=element)
            into[whole:] = shuffled[whole:]
        else:
            raise ValueError(f"no codec {codec}")

    def _room(self, length: int) -> memoryview:
        if len(self._shuffled) < length:
            self._shuffled = bytearray(length)
        return memoryview(self._shuffled)[:length]


def bound(length: int) -> int:
    """Room that is enough for any codec."""
    shuffled = max(native.bitshuffle_bound(length, element=e, block=BLOCK // e) for e in ELEMENTS)
    return max(length, native.lz4_bound(length), native.zstd_bound(length), shuffled) + 64


def _check(element: int) -> None:
    if element not in ELEMENTS:
        raise ValueError(f"no elements of {element} bytes")


def _check_blocks(data: memoryview, raw: int) -> None:
    """Whether the blocks fill the data exactly: the decoder itself trusts their lengths."""
    at, end = 0, len(data)
    for _ in range(-(-raw // BLOCK)):
        if at + _BLOCK_HEAD.size > end:
            raise ValueError("bitshuffle: cut off")
        at += _BLOCK_HEAD.size + _BLOCK_HEAD.unpack_from(data, at)[0]
    if at != end:
        raise ValueError("bitshuffle: its blocks do not fill it")
