"""Fetching chunks: ranges of packs, in parallel, each chunk once, opened and verified."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple

from dumont.snapshots import packs
from dumont.snapshots.errors import Damaged
from dumont.snapshots.index import Index, Place
from dumont.snapshots.repository import Repository
from dumont.snapshots.tree import Piece
from dumont.storage.errors import Missing, Short

_RANGE = 16 << 20
"""Longest stretch of a pack that is fetched at once."""
_GAP = 256 << 10
"""Bytes that are fetched for nothing, rather than ask twice."""
_LARGEST = 4 << 20


class Want(NamedTuple):
    """A chunk, and what it is wanted for."""

    chunk: bytes
    file: object
    piece: Piece


class _Chunk(NamedTuple):
    chunk: bytes
    place: Place
    wants: list[Want]


class _Range(NamedTuple):
    pack: bytes
    start: int
    end: int
    chunks: list[_Chunk]


class Batch:
    """Some chunks on their way; `Fetcher.wait` for it."""

    def __init__(
        self, write: Callable[[Want, memoryview], None], fail: Callable[[Want, str], None]
    ) -> None:
        self.write = write
        self.fail = fail
        self.left = 0
        """Ranges that are not done."""


class Fetcher:
    """A pool of threads that fetch, each with buffers of its own.

    Args:
        repository: Where from.
        known: Where each chunk is.
        workers: How many threads.
    """

    def __init__(self, repository: Repository, known: Index, *, workers: int) -> None:
        self._repository = repository
        self._known = known
        self._jobs: queue.SimpleQueue[tuple[Batch, _Range] | None] = queue.SimpleQueue()
        self._moved = threading.Condition()
        self._failure: BaseException | None = None
        self.fetched = 0
        """Bytes that came over the network."""
        self._threads = [
            threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> Fetcher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def begin(
        self,
        wants: Iterable[Want],
        *,
        write: Callable[[Want, memoryview], None],
        fail: Callable[[Want, str], None],
    ) -> Batch:
        """Bring chunks and hand each to whoever wants it, after those that were asked for before.

        Args:
            wants: In any order.
            write: Called in a worker's thread with the verified chunk.
            fail: Called for what cannot be had, with the reason.
        """
        batch = Batch(write, fail)
        ranges = self._ranges(wants, fail)
        batch.left = len(ranges)
        for each in ranges:
            self._jobs.put((batch, each))
        return batch

    def wait(self, batch: Batch) -> None:
        """Return when a batch is done.

        Raises:
            StoreError: The store does not answer.
            Exception: Whatever `write` raised.
        """
        with self._moved:
            while batch.left:
                self._moved.wait()
        if self._failure is not None:
            raise self._failure

    def _ranges(self, wants: Iterable[Want], fail: Callable[[Want, str], None]) -> list[_Range]:
        chunks: dict[bytes, _Chunk] = {}
        for want in wants:
            found = chunks.get(want.chunk)
            if found is not None:
                found.wants.append(want)
                continue
            place = self._known.get(want.chunk)
            if place is None:
                fail(want, f"chunk {want.chunk.hex()[:16]} is nowhere")
            else:
                chunks[want.chunk] = _Chunk(want.chunk, place, [want])
        ranges: list[_Range] = []
        for found in sorted(chunks.values(), key=lambda c: (c.place.pack, c.place.offset)):
            place = found.place
            end = place.offset + place.sealed
            last = ranges[-1] if ranges else None
            if (
                last is not None
                and last.pack == place.pack
                and place.offset - last.end <= _GAP
                and end - last.start <= _RANGE
            ):
                last.chunks.append(found)
                ranges[-1] = last._replace(end=max(last.end, end))
            else:
                ranges.append(_Range(place.pack, place.offset, end, [found]))
        return ranges

    def _work(self) -> None:
        sealed = memoryview(bytearray(_RANGE + _LARGEST))
        raw = memoryview(bytearray(_LARGEST))
        while (job := self._jobs.get()) is not None:
            batch, wanted = job
            try:
                if self._failure is None:
                    self._range(batch, wanted, sealed, raw)
            except BaseException as error:
                self._failure = self._failure or error
            with self._moved:
                batch.left -= 1
                self._moved.notify_all()

    def _range(self, batch: Batch, job: _Range, buffer: memoryview, raw: memoryview) -> None:
        view = buffer[: job.end - job.start]
        try:
            self._repository.store.read_into(packs.key_of(job.pack), job.start, view)
        except Missing:
            _lost(batch, job.chunks, f"pack {job.pack.hex()} is missing")
            return
        except Short:
            if len(job.chunks) > 1:
                for chunk in job.chunks:
                    place = chunk.place
                    end = place.offset + place.sealed
                    self._range(batch, _Range(job.pack, place.offset, end, [chunk]), buffer, raw)
            else:
                _lost(batch, job.chunks, f"pack {job.pack.hex()} is cut off")
            return
        with self._moved:
            self.fetched += len(view)
        cipher = self._repository.keys.pack_cipher(job.pack)
        for chunk in job.chunks:
            place = chunk.place
            start = place.offset - job.start
            into = raw[: place.raw]
            try:
                self._repository.open_chunk(
                    cipher, place.record(chunk.chunk), view[start : start + place.sealed], into
                )
            except Damaged as error:
                _lost(batch, [chunk], f"{error.message}, in pack {job.pack.hex()}")
                continue
            for want in chunk.wants:
                batch.write(want, into)


def _lost(batch: Batch, chunks: list[_Chunk], why: str) -> None:
    for chunk in chunks:
        for want in chunk.wants:
            batch.fail(want, why)
