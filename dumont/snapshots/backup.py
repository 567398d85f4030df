"""Making a snapshot: walk, compare with last time, read what changed, store it, commit.

One thread walks and keeps the order of the table of files; workers read, hash, compress and seal;
uploaders send. Nothing points to what is uploaded before the snapshot itself is written, last.
"""

from __future__ import annotations

import collections
import ctypes
import os
import queue
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from dumont.snapshots import manifest, tree
from dumont.snapshots.chunking import Stretch
from dumont.snapshots.errors import Damaged, SnapshotError
from dumont.snapshots.exclude import Excludes
from dumont.snapshots.index import Index
from dumont.snapshots.journal import Journal
from dumont.snapshots.lease import Lease
from dumont.snapshots.manifest import Snapshot, Totals
from dumont.snapshots.packing import LARGEST, Packer, Packing, Stopped
from dumont.snapshots.places import MARKS
from dumont.snapshots.reading import SMALL, Reader, Reading, plan
from dumont.snapshots.repository import Repository
from dumont.snapshots.scan import (
    RACY_NS,
    Found,
    Memory,
    MemoryWriter,
    Remembered,
    signature_of,
    walk,
)
from dumont.snapshots.tree import Entry
from dumont.storage.errors import Missing

_WAITING = 50_000
"""At most so many entries wait for one that is still being read."""
_BUNDLE_EARLY = 1 << 20
_BUNDLE_FILES = 4096
_NAMED = 1_000
"""At most so many files are named in the totals."""


_llistxattr = ctypes.PyDLL(None).llistxattr
"""How long the list of names is. Most files have none, and a call of a microsecond is not worth letting go of
the interpreter, which is then had back only after others."""
_llistxattr.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_llistxattr.restype = ctypes.c_ssize_t


@dataclass(frozen=True)
class Options:
    """How a snapshot is made."""

    machine: str = ""
    host: str = field(default_factory=socket.gethostname)
    tags: tuple[str, ...] = ()
    kept: bool = False
    excludes: tuple[str, ...] = ()
    """rsync-like patterns of what is left out."""
    dense: bool = False
    """Smaller and slower: byte-shuffle and zstd for numbers."""
    workers: int = 0
    """Threads that read and compress; 0: one more than there are cores."""
    uploaders: int = 4
    """Packs that travel at once."""


@dataclass
class Progress:
    """How far it is. Bytes."""

    files: int = 0
    bytes: int = 0
    """Of files that are done, unchanged ones included."""
    unchanged: int = 0
    """Bytes of files that were not read."""
    read: int = 0
    new_raw: int = 0
    sent: int = 0
    seconds: float = 0.0


@dataclass
class _Slot:
    """One line of the table to be, in its place."""

    path: bytes
    state: os.stat_result
    lines: bytes = b""
    chunks: bytes = b""
    reading: Reading | None = None
    is_done: bool = False


_Job = tuple[list[_Slot], int, Stretch | None]
"""Stretch `int` of one file, or a bundle of small ones."""


class Backup:
    """One run.

    Args:
        repository: Where to.
        root: What is kept.
        options: How.
        state: A folder of this machine: what is remembered for the next time, and the journal of a
            killed run. None remembers nothing.
        on_progress: Told often; must return soon.
    """

    def __init__(
        self,
        repository: Repository,
        root: Path,
        *,
        options: Options = Options(),
        state: Path | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._repository = repository
        self._root = root
        self._options = options
        place = tree.id_text(repository.keys.chunk_id(os.fsencode(str(root.resolve()))))
        name = place.replace("/", "_")[:22]
        self._memory = state and state / repository.id / f"{name}.scan"
        self._journal = Journal(state and state / repository.id / f"{name}.journal")
        self._on_progress = on_progress
        self.progress = Progress()
        self._links: dict[tuple[int, int], bytes] = {}
        self._waiting: collections.deque[_Slot] = collections.deque()
        self._moved = threading.Condition()
        self._skipped: list[str] = []
        self._torn: list[str] = []
        self._unreadable: list[str] = []
        self._counts = collections.Counter[str]()

    def run(self) -> Snapshot:
        """Make a snapshot; returns it once it is committed.

        Raises:
            SnapshotError, StoreError: Nothing was committed; what was sent is not sent again.
        """
        if not self._root.is_dir():
            raise SnapshotError(f"{self._root} is no folder", hint="name the workspace")
        began = time.monotonic()
        with Lease(self._repository.store, who=self._options.host) as lease:
            known = self._repository.index(lasting=True)
            self._adopt(known)
            parent = self._parent()
            snapshot = self._store(known, parent, began)
            lease.check()
            self._repository.commit(snapshot)
        self._journal.clear()
        return snapshot

    def _adopt(self, known: Index) -> None:
        """Count what a killed run has uploaded."""
        found = []
        for pack in self._journal.packs():
            if pack in known.packs:
                continue
            try:
                found.append((pack, self._repository.footer(pack)))
            except (Damaged, Missing):
                continue  # it never arrived
        if found:
            self._repository.write_index(found)
            for pack, records in found:
                known.add(pack, records)

    def _parent(self) -> str | None:
        ids = sorted(
            i
            for listed in self._repository.store.list(manifest.PREFIX)
            if (i := manifest.id_of(listed.key))
        )
        return ids[-1] if ids else None

    # The walk ---------------------------------------------------------------------------------

    def _store(self, known: Index, parent: str | None, began: float) -> Snapshot:
        options = self._options
        workers = options.workers or (os.cpu_count() or 1) + 1
        packing = Packing(
            self._repository, known, self._journal,
            uploaders=options.uploaders, spare=workers + 1, sent=self._sent,
        )  # fmt: skip
        jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=4 * workers)
        packers = [Packer(packing, dense=options.dense) for _ in range(workers)]
        threads = [
            threading.Thread(
                target=self._work, args=(jobs, Reader(packer), packing), daemon=True,
                name=f"read-{number}",
            )
            for number, packer in enumerate(packers)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        own = Packer(packing)
        now = datetime.now(timezone.utc)
        remembers = MemoryWriter(self._memory) if self._memory is not None else None
        try:
            blocks = tuple(
                own.store(memoryview(block), hint=None)
                for block in tree.blocks(self._lines(known, jobs, packing, remembers, now))
            )
            for _ in threads:
                jobs.put(None)
            for thread in threads:
                thread.join()
            own.flush()
            packing.finish()
        except BaseException as error:
            packing.fail(error)
            self._drain(jobs, threads)
            packing.abandon()
            if remembers is not None:
                remembers.discard()
            if isinstance(error, Stopped) and packing.failure is not None:
                raise packing.failure from None
            raise
        if remembers is not None:
            remembers.commit()
        self.progress.seconds = time.monotonic() - began
        self._on_progress(self.progress)
        everyone = [*packers, own]
        return Snapshot(
            id=manifest.new_id(now),
            time=now,
            machine=options.machine,
            host=options.host,
            tree=blocks,
            parent=parent,
            tags=options.tags,
            kept=options.kept,
            totals=Totals(
                files=self._counts["f"],
                directories=self._counts["d"],
                links=self._counts["l"],
                bytes=self._counts["bytes"],
                new_chunks=sum(p.new_chunks for p in everyone),
                new_raw=sum(p.new_raw for p in everyone),
                new_stored=sum(p.new_stored for p in everyone),
                seconds=round(time.monotonic() - began, 3),
                skipped=self._skipped[:_NAMED],
                torn=self._torn[:_NAMED],
                unreadable=self._unreadable[:_NAMED],
            ),
        )

    def _lines(
        self,
        known: Index,
        jobs: queue.Queue[_Job | None],
        packing: Packing,
        remembers: MemoryWriter | None,
        now: datetime,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Paths and lines of the table, in order, as they become ready."""
        fresh_ns = int(now.timestamp() * 1e9) - RACY_NS
        last = Remembered(self._memory) if self._memory is not None else None
        bundle: list[_Slot] = []
        bundled = 0
        excludes = Excludes((*self._options.excludes, MARKS))
        for found in walk(self._root, exclude=excludes, unreadable=self._cannot_read):
            slot = self._slot(found, last, known)
            if slot is None:
                continue
            self._waiting.append(slot)
            if slot.reading is not None and found.state.st_size <= SMALL:
                if bundled + found.state.st_size > LARGEST or len(bundle) >= _BUNDLE_FILES:
                    jobs.put((bundle, 0, None))
                    bundle, bundled = [], 0
                bundle.append(slot)
                bundled += found.state.st_size
                if bundled >= _BUNDLE_EARLY and tree.ends_bundle(found.path):
                    jobs.put((bundle, 0, None))
                    bundle, bundled = [], 0
            elif slot.reading is not None:
                parts = plan(slot.reading)
                slot.reading.left = len(parts)
                if not parts:
                    self._done(slot)
                for number, stretch in enumerate(parts):
                    jobs.put(([slot], number, stretch))
            yield from self._ready(packing, remembers, fresh_ns, at_most=_WAITING)
        if bundle:
            jobs.put((bundle, 0, None))
        yield from self._ready(packing, remembers, fresh_ns, at_most=0)

    def _slot(self, found: Found, last: Remembered | None, known: Index) -> _Slot | None:
        path, state = found
        kind = _KINDS.get(stat.S_IFMT(state.st_mode))
        memory = last.of(path) if last is not None else None
        if kind is None:
            self._skipped.append(tree.shown(path))
            return None
        slot = _Slot(path, state)
        first = None
        if kind == "f" and state.st_nlink > 1:
            first = self._links.setdefault((state.st_dev, state.st_ino), path)
        if memory is not None and memory.signature == signature_of(state) and _all(memory, known):
            slot.lines, slot.chunks, slot.is_done = memory.lines, memory.chunks, True
            self.progress.unchanged += state.st_size if kind == "f" else 0
            return slot
        full = os.fsencode(str(self._root)) + b"/" + path
        if kind == "f" and state.st_size and first in (None, path):
            slot.reading = Reading(full, path, state)
            return slot
        try:
            entry = self._entry(kind, path, full, state)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._cannot_read(path, error)
            return None
        if first is not None and first != path:
            entry = entry._replace(link=first)
        slot.lines, slot.is_done = tree.to_lines(entry), True
        return slot

    def _entry(self, kind: str, path: bytes, full: bytes, state: os.stat_result) -> Entry:
        return Entry(
            kind,
            path,
            stat.S_IMODE(state.st_mode),
            state.st_uid,
            state.st_gid,
            state.st_mtime_ns,
            _xattrs(full),
            size=state.st_size if kind == "f" else 0,
            target=os.readlink(full) if kind == "l" else None,
        )

    def _ready(
        self,
        packing: Packing,
        remembers: MemoryWriter | None,
        fresh_ns: int,
        *,
        at_most: int,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Take what is done from the head; wait while more than `at_most` would be left."""
        while self._waiting:
            slot = self._waiting[0]
            if not slot.is_done:
                if len(self._waiting) <= at_most:
                    return
                with self._moved:
                    while not slot.is_done:
                        packing.check()
                        self._moved.wait(1.0)
            self._waiting.popleft()
            if slot.reading is not None:
                self._write_down(slot, slot.reading)
            if not slot.lines:
                continue
            self._count(slot)
            if (
                remembers is not None
                and max(slot.state.st_mtime_ns, slot.state.st_ctime_ns) < fresh_ns
            ):
                remembers.add(Memory(slot.path, signature_of(slot.state), slot.lines, slot.chunks))
            yield slot.path, slot.lines

    def _write_down(self, slot: _Slot, reading: Reading) -> None:
        """What became of a file that was read."""
        if reading.vanished:
            return
        if reading.problem:
            self._unreadable.append(f"{tree.shown(slot.path)}: {reading.problem}")
            return
        if reading.torn:
            self._torn.append(tree.shown(slot.path))
        try:
            entry = self._entry("f", slot.path, reading.full, reading.state)
        except OSError:
            return  # it has just vanished
        pieces = reading.in_order()
        slot.state = reading.state
        slot.lines = tree.to_lines(entry._replace(pieces=pieces))
        slot.chunks = b"".join(piece.chunk for piece in pieces)
        if reading.torn:
            slot.state = os.stat_result((0,) * 10)  # nothing to remember it by
        self.progress.read += reading.state.st_size

    def _count(self, slot: _Slot) -> None:
        kind = slot.lines[2:3].decode()
        self._counts[kind] += 1
        if kind == "f":
            size = slot.reading.state.st_size if slot.reading is not None else slot.state.st_size
            self._counts["bytes"] += size
            self.progress.files += 1
            self.progress.bytes += size
            if self.progress.files % 500 == 0:
                self._on_progress(self.progress)

    # The workers ------------------------------------------------------------------------------

    def _work(self, jobs: queue.Queue[_Job | None], reader: Reader, packing: Packing) -> None:
        while (job := jobs.get()) is not None:
            if packing.failure is not None:
                continue
            slots, number, stretch = job
            readings = [slot.reading for slot in slots if slot.reading is not None]
            try:
                if stretch is None:
                    reader.bundle(readings)
                    for slot in slots:
                        self._done(slot)
                else:
                    reader.stretch(readings[0], number, stretch)
                    with self._moved:
                        readings[0].left -= 1
                        last = readings[0].left == 0
                    if last:
                        reader.settle(readings[0])
                        self._done(slots[0])
            except Stopped:
                continue
            except BaseException as error:
                packing.fail(error)
        try:
            reader.packer.flush()
        except Stopped:
            return

    def _done(self, slot: _Slot) -> None:
        with self._moved:
            slot.is_done = True
            self._moved.notify_all()

    def _drain(self, jobs: queue.Queue[_Job | None], threads: Sequence[threading.Thread]) -> None:
        """Let the workers end: they do nothing any more, but must not wait for ever."""
        for thread in threads:
            while thread.is_alive():
                try:
                    jobs.put(None, timeout=0.1)
                except queue.Full:
                    continue
                break

    def _sent(self, length: int) -> None:
        self.progress.sent += length
        self._on_progress(self.progress)

    def _cannot_read(self, path: bytes, error: OSError) -> None:
        self._unreadable.append(f"{tree.shown(path)}: {error.strerror or error}")


_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}


def _all(memory: Memory, known: Index) -> bool:
    chunks = memory.chunks
    return all(
        chunks[at : at + tree.CHUNK_ID] in known for at in range(0, len(chunks), tree.CHUNK_ID)
    )


def _xattrs(full: bytes) -> dict[str, bytes] | None:
    """What the file system keeps beside the file; None where it keeps nothing, or keeps it to itself."""
    if _llistxattr(full, None, 0) == 0:
        return None
    try:
        names = os.listxattr(full, follow_symlinks=False)
        found = {name: os.getxattr(full, name, follow_symlinks=False) for name in names}
    except OSError:
        return None
    return found or None
