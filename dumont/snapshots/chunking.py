"""Where files are cut into chunks. Part of the format: other cuts would end all deduplication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pyfastcdc import FastCDC

from dumont.snapshots.layouts import Layout

SMALLEST, AVERAGE, LARGEST = 256 << 10, 1 << 20, 4 << 20
STRETCH = 64 << 20
"""Longest part of a file that one worker reads."""
_SMALL_SPAN = 256 << 10
"""Spans of numbers below this are cut together: a model may have thousands of tiny tensors."""
_cutter = FastCDC(
    avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=1, seed=0
)
"""Keeps nothing between calls: threads share it."""


class Stretch(NamedTuple):
    """A part of a file that one worker reads."""

    start: int
    end: int
    fixed: bool
    """Cut every 4 MiB; otherwise by content."""
    element: int | None
    """Bytes of a number; None: to be found out."""


def stretches(size: int, layout: Layout | None) -> Iterator[Stretch]:
    """The stretches of a file, in order."""
    if layout is None:
        for start in range(0, size, STRETCH):
            yield Stretch(start, min(start + STRETCH, size), False, None)
        return
    for start, end, element in _joined(layout):
        for at in range(start, end, STRETCH):
            yield Stretch(at, min(at + STRETCH, end), True, element)


def cuts(data: memoryview, *, last: bool) -> list[int]:
    """Lengths of the chunks at the beginning of `data`, by content.

    Args:
        data: A window into a stretch, longer than `LARGEST` unless it is the last.
        last: Whether the stretch ends with it; otherwise what may go on beyond it is left out.
    """
    lengths = [chunk.length for chunk in _cutter.cut_buf(data)]
    if not last and lengths:
        lengths.pop()
    return lengths


def _joined(layout: Layout) -> Iterator[tuple[int, int, int | None]]:
    """Small neighbours with numbers of the same size become one."""
    start, end, element = 0, 0, None
    for span in layout:
        small = span.end - span.start < _SMALL_SPAN
        if end > start and small and end - start < _SMALL_SPAN and span.element == element:
            end = span.end
            continue
        if end > start:
            yield start, end, element
        start, end, element = span
    if end > start:
        yield start, end, element
