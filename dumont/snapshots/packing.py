"""From chunks to packs in the store: each worker fills a pack of its own, uploaders send them.

Memory is bounded by the number of pack buffers: whoever finds none free waits for the network.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from dumont.snapshots import packs
from dumont.snapshots.choose import choose
from dumont.snapshots.codecs import RAW, Coder, bound
from dumont.snapshots.index import Index
from dumont.snapshots.journal import Journal
from dumont.snapshots.packs import PackWriter, Record
from dumont.snapshots.repository import Repository

LARGEST = 4 << 20
_INDEX_EVERY = 16
"""Packs, after which others may know of them."""


class Stopped(Exception):
    """Another thread has failed; its error is the one to tell."""


class Packing:
    """Stores chunks that are not stored yet.

    Args:
        repository: Where to.
        known: What is stored; grows.
        journal: Notes what has arrived.
        uploaders: How many packs travel at once.
        spare: How many more are being filled; at least one for each `Packer`.
        sent: Told of each pack that has arrived: its length.
    """

    def __init__(
        self,
        repository: Repository,
        known: Index,
        journal: Journal,
        *,
        uploaders: int,
        spare: int,
        sent: Callable[[int], None] = lambda length: None,
    ) -> None:
        self._repository = repository
        self.known = known
        self._journal = journal
        self._sent = sent
        self._free: queue.SimpleQueue[PackWriter | None] = queue.SimpleQueue()
        self._left_to_make = uploaders + spare
        self._full: queue.SimpleQueue[PackWriter | None] = queue.SimpleQueue()
        self._not_indexed: list[tuple[bytes, list[Record]]] = []
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._upload, name=f"upload-{number}", daemon=True)
            for number in range(uploaders)
        ]
        for thread in self._threads:
            thread.start()

    def fail(self, error: BaseException) -> None:
        """Have everybody stop; the first error is kept."""
        with self._lock:
            self.failure = self.failure or error
        for _ in range(64):
            self._free.put(None)

    def check(self) -> None:
        """Raises Stopped when another thread has failed."""
        if self.failure is not None:
            raise Stopped

    def writer(self) -> PackWriter:
        """An empty pack to fill. Raises Stopped."""
        self.check()
        with self._lock:
            make, self._left_to_make = self._left_to_make > 0, max(0, self._left_to_make - 1)
        found = PackWriter(self._repository.keys) if make else self._free.get()
        if found is None:
            raise Stopped
        return found

    def send(self, writer: PackWriter) -> None:
        """Hand over a pack that is full enough."""
        self._full.put(writer)

    def abandon(self) -> None:
        """After a failure: let the uploaders end."""
        for _ in self._threads:
            self._full.put(None)
        for thread in self._threads:
            thread.join()

    def finish(self) -> None:
        """Wait until everything has arrived and is in the index. Raises what went wrong."""
        for _ in self._threads:
            self._full.put(None)
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure
        self._write_index(at_least=1)

    def _upload(self) -> None:
        while (writer := self._full.get()) is not None:
            if self.failure is not None:
                continue
            try:
                view = writer.close()
                pack, records = writer.pack_id, writer.records
                self._repository.store.put(packs.key_of(pack), view)
                self._journal.add(pack)
                self.known.add(pack, records)
                self._sent(len(view))
                with self._lock:
                    self._not_indexed.append((pack, records))
                writer.begin()
                self._free.put(writer)
                self._write_index(at_least=_INDEX_EVERY)
            except BaseException as error:
                self.fail(error)

    def _write_index(self, *, at_least: int) -> None:
        with self._lock:
            if len(self._not_indexed) < at_least:
                return
            content, self._not_indexed = self._not_indexed, []
        self._repository.write_index(content)


class Packer:
    """One thread's way into `Packing`.

    Args:
        packing: Shared by all.
        dense: Smaller and slower.
    """

    def __init__(self, packing: Packing, *, dense: bool = False) -> None:
        self._packing = packing
        self._dense = dense
        self._coder = Coder()
        self._encoded = memoryview(bytearray(bound(LARGEST)))
        self._writer: PackWriter | None = None
        self.new_chunks = self.new_raw = self.new_stored = 0

    def store(self, data: memoryview, *, hint: int | None) -> bytes:
        """Have a chunk stored; returns its id.

        Args:
            data: 1 byte to 4 MiB.
            hint: Element size, 0 for what does not compress, None to find out.
        """
        self._packing.check()
        chunk = self._packing._repository.keys.chunk_id(data)
        if not self._packing.known.claim(chunk):
            return chunk
        codec, element = choose(self._coder, data, hint=hint, dense=self._dense)
        length = self._coder.encode(data, codec=codec, element=element, into=self._encoded)
        if length >= len(data):
            codec, element = RAW, 1
            length = self._coder.encode(data, codec=codec, element=element, into=self._encoded)
        if self._writer is None:
            self._writer = self._packing.writer()
        self._writer.add(chunk, self._encoded[:length], raw=len(data), codec=codec, element=element)
        self.new_chunks += 1
        self.new_raw += len(data)
        self.new_stored += length
        if self._writer.is_full:
            self.flush()
        return chunk

    def flush(self) -> None:
        """Send what is there."""
        if self._writer is not None and not self._writer.is_empty:
            self._packing.send(self._writer)
            self._writer = None
