"""Bringing a snapshot back: small files first, every chunk verified, damage named and worked around.

A file takes its place when all of it is there, by a rename: whoever looks sees the old file or the new
one, and a restore that was killed is simply done again; what is right already is not fetched.

It may come in two runs, the small files first, with people at work between them and beside them: what they
changed since the first one began is theirs and stays (`beside`).
"""

from __future__ import annotations

import collections
import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dumont.snapshots import tree
from dumont.snapshots.beside import Beside, Outcome
from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.fetching import Batch, Fetcher, Want
from dumont.snapshots.index import Index
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.places import Verdict, make_way
from dumont.snapshots.reading import SMALL
from dumont.snapshots.repository import Repository
from dumont.snapshots.tree import Entry

_BATCH_FILES = 4_000
_BATCH_BYTES = 1 << 30
_UNDER_WAY = 3
"""Batches that are fetched while the next one is looked up."""
_WRITE = 256 << 10
"""Larger writes take larger, colder pages: slower."""
_COMPARE = 1 << 20
_NAMED = 1_000
"""At most so many files that were kept are named in the report."""


TABLE = "(table of files)"
"""The path of a problem that costs files whose names are lost too."""


@dataclass(frozen=True)
class Problem:
    """Something that could not be restored."""

    path: str
    why: str


@dataclass
class Report:
    """What a restore did. Sizes in bytes."""

    snapshot: str
    files: int = 0
    bytes: int = 0
    """Of files that are in place and verified."""
    unchanged: int = 0
    """How many of them were right already."""
    directories: int = 0
    links: int = 0
    fetched: int = 0
    usable_s: float | None = None
    """When all small files were back."""
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    later: int = 0
    """Large files that were not asked for, and are not back unless another run brought them."""
    later_bytes: int = 0
    kept: list[str] = field(default_factory=list)
    """What somebody had changed since the first run began, and what therefore stays; the first of them."""
    kept_count: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything is back, but for what somebody changed meanwhile."""
        return not self.problems and not self.later


class _File:
    """A file on its way back."""

    def __init__(self, entry: Entry, final: bytes, *, partial: bytes, is_new: bool) -> None:
        self.entry = entry
        self.final = final
        self.partial = partial
        self.is_new = is_new
        """Its folder was made by this run: nothing can be in its place, but for somebody's own."""
        self.there: os.stat_result | None = None
        """What gives way to it, where people are at work; None: nothing is there."""
        self.left = len(entry.pieces)
        self.is_begun = False
        self.problem = ""
        self.lock = threading.Lock()


class Restore:
    """One run.

    Args:
        repository: Where from.
        snapshot: What.
        target: The folder to fill; made when it is missing.
        paths: Only these, with what is below them; empty: everything.
        known: The index, when it has been read already.
        on_progress: Told often.
        on_usable: Told once, when all small files are back.
        workers: Threads; 0 chooses.
        small_only: Only folders, links and small files; the others are for a later run.
        keep_changed: People work in the target: what they changed since the first such run of this
            snapshot into this folder began is kept and named. What they deleted comes back.
    """

    def __init__(
        self,
        repository: Repository,
        snapshot: Snapshot,
        target: Path,
        *,
        paths: Iterable[bytes] = (),
        known: Index | None = None,
        on_progress: Callable[[Report], None] = lambda report: None,
        on_usable: Callable[[Report], None] = lambda report: None,
        workers: int = 0,
        small_only: bool = False,
        keep_changed: bool = False,
    ) -> None:
        self._repository = repository
        self._snapshot = snapshot
        self._root = os.fsencode(str(target.absolute()))
        self._paths = tuple(path.strip(b"/") for path in paths)
        self._known = known
        self._on_progress = on_progress
        self._on_usable = on_usable
        self._workers = workers or max(4, (os.cpu_count() or 1) + 2)
        self._report = Report(snapshot.id)
        self._lock = threading.Lock()
        self._folders: dict[bytes, Entry | None] = {b"": None}
        self._made: set[bytes] = set()
        """Folders that were not there before."""
        self._mark = b"/.dumont-" + secrets.token_hex(6).encode() + b"-"
        self._count = 0
        self._owns = os.geteuid() == 0
        self._told = 0.0
        self._table_is_damaged = False
        self._small_only = small_only
        self._beside: Beside | None = None
        if keep_changed:
            self._beside = Beside(
                self._root, snapshot.id, owns=self._owns, dress=self._dress, on_kept=self._kept
            )

    def run(self) -> Report:
        """Restore; the report names what could not be.

        Raises:
            Damaged: The table of files cannot be read.
            StoreError, OSError: The store, or the disk, does not do its part: full, for example. What is
                there already is not fetched again.
        """
        began = time.monotonic()
        os.makedirs(self._root, exist_ok=True)
        if self._beside is not None:
            self._beside.begin()
        known = self._known if self._known is not None else self._repository.index()
        missing = [path for path in self._paths if path]
        large: list[Entry] = []
        links: list[Entry] = []
        seen: set[bytes] = set()
        with Fetcher(self._repository, known, workers=self._workers) as fetcher:
            under_way = _UnderWay(fetcher, self._settle)
            for batch in _batches(self._small_first(known, large, links, seen)):
                under_way.add(*self._begin(fetcher, batch))
            small = under_way.count
            large.sort(key=lambda entry: entry.mtime_ns, reverse=True)
            for number, batch in enumerate(_batches(iter(large))):
                under_way.add(*self._begin(fetcher, batch))
                if not number:
                    # One is looked up ahead, so that nobody waits for work at the seam.
                    self._say_usable(under_way, small, began)
            self._say_usable(under_way, small, began)
            under_way.finish()
            under_way.add(*self._begin(fetcher, self._hard_links(known, links, seen)))
            under_way.finish()
        for path in missing:
            if not any(name == path or name.startswith(path + b"/") for name in seen):
                self._cannot(path, "it is not in the snapshot")
        self._finish_folders()
        self._report.seconds = round(time.monotonic() - began, 3)
        self._on_progress(self._report)
        return self._report

    # What there is ----------------------------------------------------------------------------

    def _small_first(
        self, known: Index, large: list[Entry], links: list[Entry], seen: set[bytes]
    ) -> Iterator[Entry]:
        """Make folders and symbolic links; yield small files, keep the others for later."""
        symbolic: list[Entry] = []
        for entry in self._repository.entries(self._snapshot, known, on_damage=self._lost_part):
            if not self._is_wanted(entry):
                continue
            if self._paths or entry.kind == "d":
                seen.add(entry.path)
            parent = entry.path.rpartition(b"/")[0]
            if self._beside is not None and self._beside.is_shut(entry):
                continue
            if parent not in self._folders and self._table_is_damaged:
                self._make_parents(parent)
            if parent not in self._folders:
                self._cannot(entry.path, "the folder that it is in is not in the snapshot")
            elif entry.kind == "d":
                self._make_folder(entry)
            elif entry.kind == "l":
                symbolic.append(entry)
            elif self._small_only and entry.size > SMALL:
                self._report.later += 1
                self._report.later_bytes += entry.size if entry.link is None else 0
            elif entry.link is not None:
                links.append(entry)
            elif entry.size <= SMALL:
                yield entry
            else:
                large.append(entry)
        for entry in symbolic:
            self._make_symbolic(entry)

    def _is_wanted(self, entry: Entry) -> bool:
        if not self._paths:
            return True
        path = entry.path
        return any(
            path == wanted
            or path.startswith(wanted + b"/")
            or not wanted
            or (entry.kind == "d" and wanted.startswith(path + b"/"))
            for wanted in self._paths
        )

    def _hard_links(self, known: Index, links: list[Entry], seen: set[bytes]) -> list[Entry]:
        """Make hard links; returns those whose first name is not restored, as files of their own."""
        orphans: dict[bytes, list[Entry]] = collections.defaultdict(list)
        for entry in links:
            assert entry.link is not None
            source, final = self._full(entry.link), self._full(entry.path)
            if self._paths and not self._is_wanted(entry._replace(path=entry.link)):
                orphans[entry.link].append(entry)
                continue
            try:
                if self._beside is not None:
                    partial = self._partial(entry.path)
                    outcome = self._beside.hard_link(entry, source, final, partial)
                    if outcome is Outcome.ALONE:
                        orphans[entry.link].append(entry)
                    if outcome in (Outcome.ALONE, Outcome.THEIRS):
                        continue
                else:
                    make_way(final)
                    os.link(source, final, follow_symlinks=False)
            except OSError as error:
                self._cannot(entry.path, f"hard link to {tree.shown(entry.link)}: {error.strerror}")
            else:
                self._report.files += 1
        if not orphans:
            return []
        found = []
        for entry in self._repository.entries(self._snapshot, known, on_damage=lambda words: None):
            for name in orphans.pop(entry.path, ()):
                found.append(entry._replace(path=name.path, link=None))
        return found

    # Files ------------------------------------------------------------------------------------

    def _say_usable(self, under_way: _UnderWay, small: int, began: float) -> None:
        """Once the first so many batches are done, all small files are back."""
        if self._report.usable_s is None:
            under_way.finish(until=small)
            self._report.usable_s = round(time.monotonic() - began, 3)
            self._on_usable(self._report)

    def _begin(self, fetcher: Fetcher, entries: list[Entry]) -> tuple[Batch, list[_File]]:
        """Begin to restore some files: fetch each chunk once, write it wherever it belongs."""
        files: list[_File] = []
        for entry in entries:
            final = self._full(entry.path)
            parent = entry.path.rpartition(b"/")[0]
            partial = self._partial(entry.path)
            file = _File(entry, final, partial=partial, is_new=parent in self._made)
            if self._beside is not None and self._is_settled(self._beside, file):
                continue
            if not file.is_new and self._is_right_already(file):
                self._in_place(file, fetched=False)
            elif not entry.pieces:
                self._guarded(file, self._complete)
            else:
                files.append(file)
        wants = [Want(piece.chunk, file, piece) for file in files for piece in file.entry.pieces]
        return fetcher.begin(wants, write=self._write, fail=self._fail), files

    def _settle(self, files: list[_File], fetched: int) -> None:
        """A batch is done."""
        self._report.fetched = fetched
        for file in files:
            if file.problem:
                self._cannot(file.entry.path, file.problem)
                _unlink(file.partial)

    def _write(self, want: Want, data: memoryview) -> None:
        """A verified chunk has come: put a piece of it where it belongs."""
        file, piece = want.file, want.piece
        assert isinstance(file, _File)
        if file.problem:
            return
        part = data[piece.start : piece.start + piece.length]
        if len(part) != piece.length or piece.at + piece.length > max(file.entry.size, piece.at):
            part = part[: max(0, file.entry.size - piece.at)]
        self._guarded(file, lambda one: self._put(one, piece.at, part))

    def _put(self, file: _File, at: int, part: memoryview) -> None:
        with file.lock:
            flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            flags |= 0 if file.is_begun else os.O_CREAT | os.O_EXCL
            descriptor = os.open(file.partial, flags, 0o600)
            file.is_begun = True
        try:
            for start in range(0, len(part), _WRITE):
                piece = part[start : start + _WRITE]
                done = 0
                while done < len(piece):
                    done += os.pwrite(descriptor, piece[done:], at + start + done)
            with file.lock:
                file.left -= 1
                complete = file.left == 0
            if complete:
                self._finish(file, descriptor)
        finally:
            os.close(descriptor)
        if complete:
            self._name(file)

    def _complete(self, file: _File) -> None:
        """A file of which nothing has to be fetched."""
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
        descriptor = os.open(file.partial, flags, 0o600)
        try:
            self._finish(file, descriptor)
        finally:
            os.close(descriptor)
        self._name(file)

    def _finish(self, file: _File, descriptor: int) -> None:
        """All of it is there: its length and metadata."""
        entry = file.entry
        last = entry.pieces[-1] if entry.pieces else None
        if last is None or last.at + last.length != entry.size:
            os.ftruncate(descriptor, entry.size)
        self._dress(descriptor, entry)

    def _name(self, file: _File) -> None:
        """It takes its place."""
        if self._beside is not None:
            path = file.entry.path
            if not self._beside.take_place(path, file.partial, file.final, file.there):
                return
        else:
            if not file.is_new:
                make_way(file.final, but_files=True)
            os.rename(file.partial, file.final)
        self._in_place(file, fetched=True)

    def _dress(self, where: int | bytes, entry: Entry) -> None:
        """Owner, attributes, mode and time, in the order in which none undoes another."""
        if self._owns:
            os.chown(where, entry.uid, entry.gid)
        for name, value in (entry.xattrs or {}).items():
            try:
                os.setxattr(where, name, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                    raise
        os.chmod(where, entry.mode)
        os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns))

    def _is_right_already(self, file: _File) -> bool:
        """Whether what is there is, byte for byte, what should be: by hash, whatever its time says."""
        entry = file.entry
        try:
            state = os.lstat(file.final)
            if not stat.S_ISREG(state.st_mode) or state.st_size != entry.size:
                return False
            if not self._is_equal(file):
                return False
            self._dress(file.final, entry)
        except OSError:
            return False
        return True

    def _is_equal(self, file: _File) -> bool:
        """Compare by hash. Chunks that hold several files are known only as wholes: not comparable."""
        covered = 0
        with open(file.final, "rb", buffering=0) as source:
            for piece in file.entry.pieces:
                place = None if self._known is None else self._known.get(piece.chunk)
                if piece.start or piece.at != covered or (place and place.raw != piece.length):
                    return False
                if self._repository.keys.chunk_id(_read(source.fileno(), piece)) != piece.chunk:
                    return False
                covered = piece.at + piece.length
        return covered == file.entry.size

    def _fail(self, want: Want, why: str) -> None:
        file = want.file
        assert isinstance(file, _File)
        file.problem = file.problem or why

    def _guarded(self, file: _File, act: Callable[[_File], None]) -> None:
        """Do it; what only this file is to blame for becomes its problem."""
        try:
            act(file)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
                _unlink(file.partial)
                raise SnapshotError(
                    f"{tree.shown(file.entry.path)} cannot be written: {error.strerror}",
                    hint="make room and restore again: what is there is not fetched again",
                ) from error
            file.problem = error.strerror or str(error)
            if not file.entry.pieces:
                _unlink(file.partial)
                self._cannot(file.entry.path, file.problem)

    def _in_place(self, file: _File, *, fetched: bool) -> None:
        with self._lock:
            self._report.files += 1
            self._report.bytes += file.entry.size
            self._report.unchanged += not fetched
            now = time.monotonic()
            tell = now - self._told > 0.2
            self._told = now if tell else self._told
        if tell:
            self._on_progress(self._report)

    # Folders and symbolic links ---------------------------------------------------------------

    def _make_folder(self, entry: Entry, *, known: bool = True) -> None:
        full = self._full(entry.path)
        try:
            if self._beside is not None:
                outcome = self._beside.folder(entry, full, known=known)
                if outcome is Outcome.MADE:
                    self._made.add(entry.path)
                if outcome is not Outcome.THEIRS:
                    self._folders[entry.path] = None if outcome is Outcome.LEFT else entry
                self._report.directories += outcome is Outcome.LEFT
                return
            try:
                os.mkdir(full, 0o700)
                self._made.add(entry.path)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(full).st_mode):
                    os.unlink(full)  # a link may lead anywhere
                    os.mkdir(full, 0o700)
            self._folders[entry.path] = entry
        except OSError as error:
            self._cannot(entry.path, error.strerror or str(error))

    def _make_parents(self, path: bytes) -> None:
        """A folder whose own line is lost: it is there, with what it would be made with today."""
        parts = path.split(b"/")
        for count in range(1, len(parts) + 1):
            folder = b"/".join(parts[:count])
            if folder not in self._folders:
                made_up = Entry("d", folder, 0o755, os.geteuid(), os.getegid(), 0)
                self._make_folder(made_up, known=False)
                if folder in self._folders:
                    self._folders[folder] = None

    def _make_symbolic(self, entry: Entry) -> None:
        full = self._full(entry.path)
        try:
            if self._beside is not None:
                outcome = self._beside.symbolic(entry, full, self._partial(entry.path))
                self._report.links += outcome is not Outcome.THEIRS
                return
            if not (os.path.islink(full) and os.readlink(full) == entry.target):
                make_way(full)
                os.symlink(entry.target or b"", full)
            if self._owns:
                os.lchown(full, entry.uid, entry.gid)
            os.utime(full, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        except OSError as error:
            self._cannot(entry.path, error.strerror or str(error))
        else:
            self._report.links += 1

    def _finish_folders(self) -> None:
        """Their times last: everything that is put in a folder changes them."""
        for path, entry in reversed(self._folders.items()):
            if entry is None:
                continue
            try:
                if self._beside is not None:
                    self._beside.finish_folder(entry, self._full(path))
                else:
                    self._dress(self._full(path), entry)
                self._report.directories += 1
            except OSError as error:
                self._cannot(path, error.strerror or str(error))

    # Where people are at work -----------------------------------------------------------------

    def _is_settled(self, beside: Beside, file: _File) -> bool:
        """Whether nothing has to be brought: it came back before, or what is there is somebody's."""
        try:
            verdict, file.there = beside.look(file.final, file.entry)
        except OSError as error:
            self._cannot(file.entry.path, error.strerror or str(error))
            return True
        if verdict is Verdict.RIGHT:
            self._in_place(file, fetched=False)
        file.is_new = verdict is Verdict.FREE
        return verdict in (Verdict.RIGHT, Verdict.THEIRS)

    def _partial(self, path: bytes) -> bytes:
        self._count += 1
        return self._full(path.rpartition(b"/")[0]) + self._mark + b"%d" % self._count

    def _kept(self, path: bytes) -> None:
        with self._lock:
            self._report.kept_count += 1
            if len(self._report.kept) < _NAMED:
                self._report.kept.append(tree.shown(path))

    def _lost_part(self, why: str) -> None:
        self._table_is_damaged = True
        self._report.problems.append(Problem(TABLE, why))

    def _full(self, path: bytes) -> bytes:
        return self._root + b"/" + path

    def _cannot(self, path: bytes, why: str) -> None:
        with self._lock:
            self._report.problems.append(Problem(tree.shown(path), why))


class _UnderWay:
    """Batches that are fetched, in order.

    Args:
        fetcher: Fetches them.
        settle: Called with the files of each that is done, and how much was fetched until then.
    """

    def __init__(self, fetcher: Fetcher, settle: Callable[[list[_File], int], None]) -> None:
        self._fetcher = fetcher
        self._settle = settle
        self._batches: collections.deque[tuple[Batch, list[_File]]] = collections.deque()
        self.count = 0
        """How many there have been."""

    def add(self, batch: Batch, files: list[_File]) -> None:
        """One more; waits while there are too many."""
        self._batches.append((batch, files))
        self.count += 1
        self.finish(until=self.count - _UNDER_WAY)

    def finish(self, until: int | None = None) -> None:
        """Wait for the first so many, or for all."""
        done = self.count - len(self._batches)
        while self._batches and (until is None or done < until):
            batch, files = self._batches.popleft()
            self._fetcher.wait(batch)
            self._settle(files, self._fetcher.fetched)
            done += 1


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(descriptor: int, piece: tree.Piece) -> bytes:
    parts, at, left = [], piece.at, piece.length
    while left:
        part = os.pread(descriptor, min(left, _COMPARE), at)
        if not part:
            break
        parts.append(part)
        at, left = at + len(part), left - len(part)
    return b"".join(parts)


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
