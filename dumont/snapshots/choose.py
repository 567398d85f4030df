"""Which codec a chunk gets: by what its file says it is, and by a look at some of it."""

from __future__ import annotations

from dumont.snapshots.codecs import BITSHUFFLE_LZ4, ELEMENTS, LZ4, RAW, SHUFFLE_ZSTD, ZSTD, Coder

_PIECES = 4
_PIECE = 16 << 10
"""Looked at, bytes: a bundle of small files has text in one place and images in another."""
_TEXT = 1.67
"""From this ratio on, LZ4 has found words: zstd finds more."""
_WORTH = 1.03
"""How much smaller a kind must be than one that decodes faster."""
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

    # LZ4 is hardly slower than copying when there is nothing to find.
    plain = ratio(LZ4, 1)
    if plain > _TEXT and not hint:
        return ZSTD, 1
    best, kind = (plain, (LZ4, 1)) if plain >= _WORTH else (1.0, (RAW, 1))
    numbers = SHUFFLE_ZSTD if dense else BITSHUFFLE_LZ4
    elements = ELEMENTS if hint is None else (max(hint, ELEMENTS[0]),) if hint else ()
    others = [(numbers, element) for element in elements]
    if plain > _TEXT:
        others.append((ZSTD, 1))
    for other in others:
        found = ratio(*other)
        if found >= best * _WORTH:
            best, kind = found, other
    return kind


def _some_of(data: memoryview) -> memoryview:
    """Pieces from all over, each at a place where numbers begin."""
    if len(data) <= _PIECES * _PIECE:
        return data
    step = (len(data) - _PIECE) // (_PIECES - 1) // 8 * 8
    starts = (number * step for number in range(_PIECES))
    return memoryview(b"".join(data[start : start + _PIECE] for start in starts))
