"""Which codec a chunk gets: by what its file says it is, and by a look at some of it."""

from __future__ import annotations

from dumont.snapshots.codecs import BITSHUFFLE_LZ4, ELEMENTS, LZ4, RAW, SHUFFLE_ZSTD, ZSTD, Coder

_PIECES = 4
_PIECE = 16 << 10
"""Looked at, bytes: a bundle of small files has text in one place and images in another."""
_TEXT = 1.67
"""From this ratio on, LZ4 has found words: zstd finds more."""
_WORTH = 1.03
"""Below this ratio a chunk is stored as it is: decoding it would cost more than it saves."""
_SMALL = 512


def choose(coder: Coder, data: memoryview, *, hint: int | None, dense: bool) -> tuple[int, int]:
    """Codec and element size for a chunk.

    Args:
        coder: Of the calling thread.
        data: The chunk.
        hint: Bytes of a number by the file's own header; 0 when there are none, as in what is
            compressed already; None to find out.
        dense: Prefer the smaller result to the faster one.
    """
    if len(data) < _SMALL:
        return ZSTD, 1
    some = _some_of(data)

    def ratio(codec: int, element: int) -> float:
        return len(some) / coder.try_out(some, codec=codec, element=element)

    plain = ratio(LZ4, 1)
    if hint:
        sizes: tuple[int, ...] = (max(hint, ELEMENTS[0]),)
    else:
        sizes = () if hint == 0 or plain > _TEXT else ELEMENTS
    numbers = SHUFFLE_ZSTD if dense else BITSHUFFLE_LZ4
    best, element = max(((ratio(numbers, size), size) for size in sizes), default=(0.0, 1))
    if best >= _WORTH and best > plain:
        return numbers, element
    if plain > _TEXT:
        return ZSTD, 1
    return (LZ4, 1) if plain >= _WORTH else (RAW, 1)


def _some_of(data: memoryview) -> memoryview:
    """Pieces from all over, each at a place where numbers begin."""
    if len(data) <= _PIECES * _PIECE:
        return data
    step = (len(data) - _PIECE) // (_PIECES - 1) // 8 * 8
    starts = (number * step for number in range(_PIECES))
    return memoryview(b"".join(data[start : start + _PIECE] for start in starts))
