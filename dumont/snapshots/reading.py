"""Reading files into chunks: in stretches that workers share, small ones bundled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from dumont.snapshots.chunking import Stretch, cuts, stretches
from dumont.snapshots.layouts import Layout, hint_of, layout_of
from dumont.snapshots.packing import LARGEST, Packer
from dumont.snapshots.scan import signature_of
from dumont.snapshots.tree import Piece

SMALL = 256 << 10
"""Files up to this size are bundled."""
_WINDOW = 8 << 20
_TRIES = 3
_HEAD = 1 << 16


@dataclass
class Reading:
    """A file that is being read, and what became of it."""

    full: bytes
    """Where it is."""
    path: bytes
    state: os.stat_result
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    """By stretch."""
    left: int = 1
    torn: bool = False
    vanished: bool = False
    problem: str = ""

    def in_order(self) -> tuple[Piece, ...]:
        """All pieces."""
        return tuple(piece for number in sorted(self.pieces) for piece in self.pieces[number])


class Reader:
    """One thread's buffers for reading.

    Args:
        packer: Where chunks go.
    """

    def __init__(self, packer: Packer) -> None:
        self.packer = packer
        self._window = memoryview(bytearray(_WINDOW))

    def stretch(self, reading: Reading, number: int, stretch: Stretch) -> None:
        """Read one stretch of a large file. What goes wrong is noted in `reading`."""
        try:
            descriptor = os.open(reading.full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                reading.pieces[number] = self._chunks(descriptor, stretch, hint_of(reading.path))
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            reading.vanished = True
        except OSError as error:
            reading.problem = error.strerror or str(error)

    def settle(self, reading: Reading) -> None:
        """After the last stretch: read again what has changed meanwhile."""
        for _ in range(_TRIES):
            if reading.vanished or reading.problem:
                return
            try:
                now = os.lstat(reading.full)
            except FileNotFoundError:
                reading.vanished = True
                return
            if signature_of(now) == signature_of(reading.state):
                return
            reading.state = now
            reading.pieces = {}
            for number, stretch in enumerate(plan(reading)):
                self.stretch(reading, number, stretch)
        reading.torn = True

    def bundle(self, readings: list[Reading]) -> None:
        """Read small files into one chunk, as far as they are still small."""
        at = 0
        placed: list[tuple[Reading, int, int]] = []
        grown: list[Reading] = []
        for reading in readings:
            room = LARGEST - at
            length = self._small(reading, self._window[at : at + min(room, SMALL + 1)])
            if length is None:
                continue
            if length > SMALL or length > room:
                grown.append(reading)
            elif length:
                placed.append((reading, at, length))
                at += length
        if placed:
            chunk = self.packer.store(self._window[:at], hint=None)
            for reading, start, length in placed:
                reading.pieces[0] = [Piece(chunk, 0, start, length)]
        for reading in grown:
            self._alone(reading)

    def _alone(self, reading: Reading) -> None:
        for number, stretch in enumerate(plan(reading)):
            self.stretch(reading, number, stretch)
        self.settle(reading)

    def _small(self, reading: Reading, into: memoryview) -> int | None:
        """The file's bytes, as they were at one moment; None when there is nothing to store."""
        length = 0
        for _ in range(_TRIES):
            try:
                descriptor = os.open(reading.full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                reading.vanished = True
                return None
            except OSError as error:
                reading.problem = error.strerror or str(error)
                return None
            try:
                before = os.fstat(descriptor)
                length = _read_all(descriptor, 0, into)
                after = os.fstat(descriptor)
            except OSError as error:
                reading.problem = error.strerror or str(error)
                return None
            finally:
                os.close(descriptor)
            reading.state = after
            if signature_of(before) == signature_of(after) and length == min(
                after.st_size, len(into)
            ):
                return length
        reading.torn = True
        return length

    def _chunks(self, descriptor: int, stretch: Stretch, hint: int | None) -> list[Piece]:
        hint = stretch.element if stretch.element is not None else hint
        found: list[Piece] = []
        at, have = stretch.start, 0
        while True:
            room = min(_WINDOW, stretch.end - at)
            have += _read_all(descriptor, at + have, self._window[have:room])
            last = at + have >= stretch.end or have < room
            if not have:
                return found
            used = 0
            for length in self._lengths(stretch, self._window[:have], last=last):
                chunk = self.packer.store(self._window[used : used + length], hint=hint)
                found.append(Piece(chunk, at + used, 0, length))
                used += length
            if last and used == have:
                return found
            self._window[: have - used] = self._window[used:have]
            at, have = at + used, have - used

    def _lengths(self, stretch: Stretch, data: memoryview, *, last: bool) -> list[int]:
        if not stretch.fixed:
            return cuts(data, last=last)
        whole, rest = divmod(len(data), LARGEST)
        return [LARGEST] * whole + ([rest] if rest and last else [])


def plan(reading: Reading) -> list[Stretch]:
    """The stretches of a large file; holes are in none."""
    state = reading.state
    try:
        descriptor = os.open(reading.full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return [Stretch(0, state.st_size, False, None)]  # reading it will tell what is wrong
    try:
        layout = _layout(descriptor, reading)
        whole = stretches(state.st_size, layout)
        if state.st_blocks * 512 >= state.st_size:
            return list(whole)
        return list(_within(list(_extents(descriptor, state.st_size)), whole))
    except OSError:
        return list(stretches(state.st_size, None))
    finally:
        os.close(descriptor)


def _layout(descriptor: int, reading: Reading) -> Layout | None:
    def read_at(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset)

    head = read_at(0, _HEAD)
    return layout_of(os.path.basename(reading.path), head, reading.state.st_size, read_at)


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a sparse file has data."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            return  # nothing but a hole up to the end
        at = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start < at:
            yield start, at


def _within(extents: list[tuple[int, int]], whole: Iterator[Stretch]) -> Iterator[Stretch]:
    number = 0
    for stretch in whole:
        while number < len(extents) and extents[number][1] <= stretch.start:
            number += 1
        here = number
        while here < len(extents) and extents[here][0] < stretch.end:
            start, end = max(extents[here][0], stretch.start), min(extents[here][1], stretch.end)
            yield stretch._replace(start=start, end=end)
            here += 1


def _read_all(descriptor: int, offset: int, into: memoryview) -> int:
    """As many bytes as there are, up to the buffer's length."""
    have = 0
    while have < len(into):
        read = os.preadv(descriptor, [into[have:]], offset + have)
        if not read:
            break
        have += read
    return have
