"""A restore beside people who work in the same folder: what they changed stays, and is named.

What remains of the race with them: something that was there before the restore and is changed in the
microseconds between the last look at it and the rename; a program that holds such a file open and writes
into it afterwards; owner, mode and time of a folder, or of a file that was right before, that somebody
changes while the restore sets them.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from collections.abc import Callable

from dumont.snapshots.places import OWN, Moment, Verdict
from dumont.snapshots.tree import Entry


class Outcome(enum.Enum):
    """What became of a folder or a hard link."""

    MADE = "made"
    """It was not there before."""
    THERE = "there"
    """It was there, and is right or will be."""
    LEFT = "left"
    """It is there; its time, and perhaps its mode, are left as somebody made them."""
    THEIRS = "theirs"
    """Something of somebody's is in its place."""
    ALONE = "alone"
    """What it would be a second name of is somebody's: it must be a file of its own."""


class Beside:
    """What is done otherwise where people are at work.

    Args:
        root: The folder that is filled; it is there.
        snapshot_id: What it is filled from.
        owns: Whether owners are restored too.
        dress: Gives what is at a path the owner, the mode and the time of its entry.
        on_kept: Told once of each that stays although the snapshot has another.
    """

    def __init__(
        self,
        root: bytes,
        snapshot_id: str,
        *,
        owns: bool,
        dress: Callable[[bytes, Entry], None],
        on_kept: Callable[[bytes], None],
    ) -> None:
        self._moment = Moment(root, snapshot_id, owns=owns)
        self._owns = owns
        self._dress = dress
        self._on_kept = on_kept
        self._theirs: set[bytes] = set()
        self._shut: set[bytes] = set()
        """Folders in whose place there is something of theirs, and all below."""
        self._stirred: set[bytes] = set()
        """Folders that something was put in."""

    def begin(self) -> None:
        """Before anything is changed. Raises SnapshotError: nothing may be changed."""
        self._moment.begin()

    def keep(self, path: bytes) -> None:
        """What is there is somebody's."""
        if path not in self._theirs:
            self._theirs.add(path)
            self._on_kept(path)

    def is_shut(self, entry: Entry) -> bool:
        """Whether there is no folder for it, because something of theirs is in that one's place."""
        if _parent(entry.path) not in self._shut:
            return False
        if entry.kind == "d":
            self._shut.add(entry.path)
        return True

    def look(self, full: bytes, entry: Entry) -> tuple[Verdict, os.stat_result | None]:
        """Whose a place is, and what is there. Raises OSError."""
        verdict, there = self._moment.look(full, entry)
        if verdict is Verdict.THEIRS:
            self.keep(entry.path)
        elif verdict is not Verdict.RIGHT:
            self._stirred.add(_parent(entry.path))
        return verdict, there

    def take_place(
        self, path: bytes, partial: bytes, full: bytes, there: os.stat_result | None
    ) -> bool:
        """Whether something that is complete got its name; otherwise it is gone, and theirs stays.

        Raises:
            OSError: It cannot have it; `partial` is left then.
        """
        try:
            self._moment.take_place(partial, full, there)
        except FileExistsError:
            os.unlink(partial)
            self.keep(path)
            return False
        return True

    def hard_link(self, entry: Entry, source: bytes, full: bytes, partial: bytes) -> Outcome:
        """Make one, by way of `partial`. Raises OSError."""
        assert entry.link is not None
        verdict, there = self.look(full, entry)
        if verdict is Verdict.THEIRS:
            return Outcome.THEIRS
        if verdict is Verdict.RIGHT:
            return Outcome.THERE
        if entry.link in self._theirs or _parent(entry.link) in self._shut:
            return Outcome.ALONE
        if there is not None and os.path.samestat(there, os.lstat(source)):
            return Outcome.THERE
        os.link(source, partial, follow_symlinks=False)
        return self._named(entry.path, partial, full, there)

    def symbolic(self, entry: Entry, full: bytes, partial: bytes) -> Outcome:
        """Make a symbolic link, by way of `partial`. Raises OSError."""
        verdict, there = self.look(full, entry)
        if verdict is Verdict.THEIRS:
            return Outcome.THEIRS
        if verdict is Verdict.RIGHT:
            return Outcome.THERE
        os.symlink(entry.target or b"", partial)
        if self._owns:
            os.lchown(partial, entry.uid, entry.gid)
        os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        return self._named(entry.path, partial, full, there)

    def _named(
        self, path: bytes, partial: bytes, full: bytes, there: os.stat_result | None
    ) -> Outcome:
        try:
            took = self.take_place(path, partial, full, there)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        return Outcome.MADE if took else Outcome.THEIRS

    def folder(self, entry: Entry, full: bytes, *, known: bool = True) -> Outcome:
        """Make a folder, or find it.

        It gets owner and mode at once: a later run could not tell an unfinished one from one that
        somebody wanted so.

        Args:
            entry: What the snapshot says of it.
            full: Where.
            known: False: the entry is made up, its own is lost.

        Raises:
            OSError: It cannot be made.
        """
        path, outcome = entry.path, Outcome.THERE
        try:
            os.mkdir(full, 0o700)
            outcome = Outcome.MADE
        except FileExistsError:
            state = os.lstat(full)
            if not stat.S_ISDIR(state.st_mode):
                if self._moment.is_since(state) or not _instead(full):
                    self.keep(path)
                    self._shut.add(path)
                    return Outcome.THEIRS
                outcome = Outcome.MADE
            elif not known:
                return Outcome.THERE
            elif self._moment.is_since(state) and path != OWN:
                return self._found_again(entry, full, state)
        self._stirred.update((path, _parent(path)))
        if known:
            self._dress(full, entry._replace(mode=self._moment.folder_mode(entry)))
        return outcome

    def _found_again(self, entry: Entry, full: bytes, state: os.stat_result) -> Outcome:
        """A folder that an earlier run has made."""
        if not self._moment.is_dressed(state, entry):
            self.keep(entry.path)
            return Outcome.LEFT
        if not self._moment.is_untouched(state, entry):
            return Outcome.LEFT  # somebody was here, or a run that was killed
        if self._moment.folder_mode(entry) != entry.mode:
            os.chmod(full, self._moment.folder_mode(entry))
            self._stirred.add(entry.path)
        return Outcome.THERE

    def finish_folder(self, entry: Entry, full: bytes) -> None:
        """Its time, if something was put in it; nothing over what somebody made of it meanwhile."""
        if entry.path not in self._stirred:
            return
        try:
            state = os.lstat(full)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(state.st_mode) and self._moment.is_dressed(state, entry):
            self._dress(full, entry)
        else:
            self.keep(entry.path)


def _instead(full: bytes) -> bool:
    """Make a folder instead of a file or a link, which may lead anywhere; whether nobody was faster."""
    os.unlink(full)
    try:
        os.mkdir(full, 0o700)
    except FileExistsError:
        return False
    return True


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
