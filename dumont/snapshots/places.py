"""What is in the place of something that comes back, and whose it is.

People may work in a folder while it is being filled. What they changed since the first run of that restore
began is theirs: nothing takes its place. That moment is noted in the folder itself before anything there is
changed, so that it outlives the run, the engine and the machine's own reboot; change times are compared
with it, which nobody sets by hand, by the same file system's clock.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.tree import Entry

OWN = b".dumont"
MARKS = ".dumont/restore/"
"""Where the moments are noted, in the folder that is filled. A snapshot leaves it out."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TICK_S = 3.0
"""No file system's clock is coarser."""
_NOREPLACE = 1
_AT_FDCWD = -100
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)
"""What a file system says that does not know how; another way is tried."""
_PRECISIONS_NS = (100, 1_000, 1_000_000, 1_000_000_000)
"""What some file systems cut times to."""


class Verdict(enum.Enum):
    """What to do about a place."""

    FREE = "free"
    """Nothing is there."""
    RIGHT = "right"
    """It came back since this restore began, and nobody has changed it."""
    THEIRS = "theirs"
    """Somebody changed it since this restore began."""
    OLD = "old"
    """It was there before; it gives way unless it is right."""


class Moment:
    """When the first run of a restore into a folder began, and what that says about what is there.

    Args:
        root: The folder that is filled; it is there.
        snapshot_id: What it is filled from; each snapshot has a moment of its own.
        owns: Whether owners are restored too.
    """

    def __init__(self, root: bytes, snapshot_id: str, *, owns: bool) -> None:
        self._root = root
        self._folder = os.path.join(root, os.fsencode(MARKS).rstrip(b"/"))
        self._mark = os.path.join(self._folder, snapshot_id.encode())
        self._snapshot_id = snapshot_id
        self._owns = owns
        self._began_ns = 0
        self._lasts = False
        """The kernel that wrote what is there still runs: nothing written was lost by its death."""
        self._shared: dict[tuple[int, int], tuple[int, ...]] = {}
        """What was there before under several names: when one of them is taken away, its time changes.
        Of this run alone: what an earlier one took a name from looks changed, and is kept."""

    def begin(self) -> None:
        """Find out when the first run began; this moment, when it is this one.

        Raises:
            SnapshotError: That cannot be read, or noted down: nothing may be changed then.
        """
        try:
            if not self._read():
                self._note(None)
        except OSError as error:
            raise SnapshotError(
                f"when this restore began cannot be noted in {MARKS}: {error.strerror}",
                hint="make room, and let the engine write there",
            ) from error

    def _read(self) -> bool:
        """Whether it was noted. What cannot be understood was so long ago that everything is theirs."""
        try:
            with open(self._mark, "rb") as file:
                content = file.read(10_000)
        except FileNotFoundError:
            return False
        try:
            found = json.loads(content)
            self._began_ns, boot = int(found["began_ns"]), str(found["boot"])
        except (ValueError, TypeError, KeyError):
            return True
        self._lasts = bool(boot) and boot == _boot()
        os.utime(self._mark)
        if os.lstat(self._mark).st_ctime_ns < self._began_ns:
            # The clock was set back. When something was changed is no longer known, nor will it be.
            self._note(0)
        return True

    def _note(self, began_ns: int | None) -> None:
        """Write a moment down, for good. None: now."""
        os.makedirs(self._folder, mode=0o755, exist_ok=True)
        partial = self._mark + b".part"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            self._began_ns = _next_tick(descriptor) if began_ns is None else began_ns
            self._lasts = True
            content = {
                "snapshot": self._snapshot_id,
                "began_ns": self._began_ns,
                "boot": _boot(),
            }
            os.write(descriptor, json.dumps(content).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(partial, self._mark)
        for folder in (self._folder, os.path.dirname(self._folder), self._root):
            _sync(folder)

    # Whose it is ------------------------------------------------------------------------------

    def is_since(self, state: os.stat_result) -> bool:
        """Whether it was changed since the first run began, by whomever."""
        if state.st_ctime_ns < self._began_ns:
            return False
        return self._shared.get((state.st_dev, state.st_ino)) != _content(state)

    def look(self, full: bytes, entry: Entry) -> tuple[Verdict, os.stat_result | None]:
        """Whose a file's or a link's place is, and what is there. One or two system calls.

        Raises:
            OSError: It cannot be looked at.
        """
        try:
            state = os.lstat(full)
        except FileNotFoundError:
            return Verdict.FREE, None
        if not self.is_since(state):
            if state.st_nlink > 1:
                self._shared.setdefault((state.st_dev, state.st_ino), _content(state))
            return Verdict.OLD, state
        if entry.kind == "l":
            same = stat.S_ISLNK(state.st_mode) and os.readlink(full) == entry.target
            return (Verdict.RIGHT if same else Verdict.THEIRS), state
        if not stat.S_ISREG(state.st_mode) or not _same_time(state.st_mtime_ns, entry.mtime_ns):
            return Verdict.THEIRS, state
        if state.st_size == entry.size and self.is_dressed(state, entry):
            # All of it was verified before it got its name and its time. After a reboot it is read again.
            return (Verdict.RIGHT if self._lasts else Verdict.OLD), state
        if state.st_size < entry.size and not self._lasts:
            # A machine that died may have lost the end of what it had not written to its disk yet.
            return Verdict.OLD, state
        return Verdict.THEIRS, state

    def is_dressed(self, state: os.stat_result, entry: Entry) -> bool:
        """Whether owner and mode are the snapshot's, as far as they could be restored."""
        if self._owns and (state.st_uid, state.st_gid) != (entry.uid, entry.gid):
            return False
        # Some bits above these are dropped for who is not root.
        wanted, found = entry.mode & 0o777, state.st_mode & 0o777
        if stat.S_ISDIR(state.st_mode) and not self._owns:
            return found in (wanted, self.folder_mode(entry) & 0o777)
        return found == wanted

    def folder_mode(self, entry: Entry) -> int:
        """A folder's mode while it is filled: its own, but that we may write there."""
        return entry.mode if self._owns else entry.mode | 0o700

    def is_untouched(self, state: os.stat_result, entry: Entry) -> bool:
        """Whether a folder is as it was left: nothing came into it or went since."""
        return _same_time(state.st_mtime_ns, entry.mtime_ns)

    def take_place(self, partial: bytes, final: bytes, there: os.stat_result | None) -> None:
        """Something that is complete gets its name.

        Where nothing was, this loses nothing, whatever happens at the same moment. What was there before
        is looked at once more: between that look and the rename, some microseconds, a change is lost.

        Args:
            partial: What gets it.
            final: The name.
            there: What was there when it was decided that it gives way; None: nothing.

        Raises:
            FileExistsError: Somebody has put or changed something there since.
            OSError: It cannot be done; a folder is not empty, for example.
        """
        if there is not None:
            try:
                now = os.lstat(final)
            except FileNotFoundError:
                put_new(partial, final)
                return
            same = (now.st_dev, now.st_ino) == (there.st_dev, there.st_ino)
            same = same and _content(now) == _content(there)
            if not same or (now.st_ctime_ns != there.st_ctime_ns and self.is_since(now)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final)
            if stat.S_ISREG(now.st_mode):
                os.rename(partial, final)
                return
            make_way(final)
        put_new(partial, final)


def put_new(partial: bytes, final: bytes) -> None:
    """Rename, but never onto something.

    A file system that has no such rename may have hard links; where it has neither, there are some
    microseconds in which something new is overwritten.

    Raises:
        FileExistsError: Something has that name.
    """
    if _renameat2 is not None:
        if _renameat2(_AT_FDCWD, partial, _AT_FDCWD, final, _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _CANNOT:
            raise OSError(code, os.strerror(code), final)
    try:
        os.link(partial, final, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final) from None
        os.rename(partial, final)
    else:
        os.unlink(partial)


def make_way(full: bytes, *, but_files: bool = False) -> None:
    """Remove what is in the way; a folder only when it is empty."""
    try:
        mode = os.lstat(full).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        os.rmdir(full)
    elif not (but_files and stat.S_ISREG(mode)):
        os.unlink(full)


def _found_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    found.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    ]  # fmt: skip
    found.restype = ctypes.c_int
    made: Callable[[int, bytes, int, bytes, int], int] = found
    return made


_renameat2 = _found_renameat2()


def _content(state: os.stat_result) -> tuple[int, ...]:
    """What no rename or removal of another name changes."""
    return (state.st_mode, state.st_uid, state.st_gid, state.st_size, state.st_mtime_ns)


def _same_time(found_ns: int, wanted_ns: int) -> bool:
    if found_ns == wanted_ns:
        return True
    return any(found_ns == wanted_ns // unit * unit for unit in _PRECISIONS_NS)


def _next_tick(descriptor: int) -> int:
    """A moment by the file system's clock that is later than everything before, and not later than what comes.

    Clocks of file systems go in steps of some milliseconds: what was changed in the same step, before or
    after, would look the same.
    """
    first = os.fstat(descriptor).st_ctime_ns
    deadline = time.monotonic() + _TICK_S
    while time.monotonic() < deadline:
        os.utime(descriptor)
        now = os.fstat(descriptor).st_ctime_ns
        if now > first:
            return now
        time.sleep(0.001)
    return first


def _sync(folder: bytes) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:  # some file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def _boot() -> str:
    """Names this run of the kernel; empty where that is not told."""
    try:
        return _BOOT.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
