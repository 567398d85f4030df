"""Which codec a chunk gets: by what its file says it is, or by a look at the middle of it."""

from __future__ import annotations

from dumont.snapshots.codecs import (
    BITSHUFFLE_LZ4,
    ELEMENTS,
    LZ4,
    RAW,
    SHUFFLE_ZSTD,
    ZSTD,
    Coder,
    bound,
)

_PROBE = 64 << 10
_TEXT = 1.67
"""From this ratio on, LZ4 has found words: zstd finds more."""
_WORTH = 1.03
"""Below this ratio a chunk is stored as it is: decoding it would cost more than it saves."""
_SMALL = 512
_PROBED = (2, 4)


def choose(coder: Coder, data: memoryview, *, hint: int | None, dense: bool) -> tuple[int, int]:
    """Codec and element size for a chunk.

    Args:
        coder: Of the calling thread.
        data: The chunk.
        hint: Element size by the file's own header; 0 for what is known not to compress; None to look.
        dense: Prefer the smaller result.
    """
    if hint == 0 or len(data) < _SMALL:
        return (RAW, 1) if hint == 0 else (ZSTD, 1)
    start = (len(data) - _PROBE) // 2 if len(data) > _PROBE else 0
    probe = data[start - start % 8 : start - start % 8 + _PROBE]
    room = memoryview(bytearray(bound(len(probe))))

    def ratio(codec: int, element: int) -> float:
        return len(probe) / coder.encode(probe, codec=codec, element=element, into=room)

    numbers = SHUFFLE_ZSTD if dense else BITSHUFFLE_LZ4
    plain = ratio(LZ4, 1)
    if hint in ELEMENTS:
        assert hint is not None
        return (numbers, hint) if ratio(numbers, hint) >= max(_WORTH, plain) else _plain(plain)
    if plain > _TEXT:
        return ZSTD, 1
    best, element = max((ratio(numbers, size), size) for size in _PROBED)
    if best >= _WORTH and best > plain:
        return numbers, element
    return _plain(plain)


def _plain(ratio: float) -> tuple[int, int]:
    if ratio > _TEXT:
        return ZSTD, 1
    return (LZ4, 1) if ratio >= _WORTH else (RAW, 1)
