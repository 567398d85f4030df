"""A store in a folder: an external disk, a network share, a test."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from dumont.storage.errors import AlreadyThere, Missing, Short, StoreError
from dumont.storage.store import Listed

_PARTIAL = ".partial"
"""A folder of its own, at the top, for what is being written."""
_ABANDONED_S = 86_400.0
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class DirectoryStore:
    """Objects are files; a write shows whole, after it is on the disk.

    Args:
        folder: Where; made when it is missing.
        durable: Whether each write is synced. A test may do without.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        self._is_clean = False

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self._folder)!r})"

    def put(self, key: str, body: bytes | memoryview, *, new: bool = False) -> None:
        """See `Store.put`."""
        target = self._path(key)
        partial = self._folder / _PARTIAL / secrets.token_hex(8)
        try:
            self._clean()
            self._make(partial.parent)
            self._make(target.parent)
            with partial.open("wb") as file:
                file.write(body)
                file.flush()
                if self._durable:
                    os.fsync(file.fileno())
            if new:
                _create(partial, target)
            else:
                partial.replace(target)
            if self._durable:
                _sync(target.parent)
        except FileExistsError:
            raise AlreadyThere(f"{key} exists already") from None
        except OSError as error:
            raise StoreError(f"{key} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{key} is missing") from None
        except OSError as error:
            raise StoreError(f"{key} cannot be read: {error.strerror}") from error

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """See `Store.read_into`."""
        try:
            with self._path(key).open("rb", buffering=0) as file:
                done = 0
                while done < len(buffer):
                    read = os.preadv(file.fileno(), [buffer[done:]], offset + done)
                    if not read:
                        raise Short(f"{key} ends after {offset + done} bytes")
                    done += read
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{key} is missing") from None
        except OSError as error:
            raise StoreError(f"{key} cannot be read: {error.strerror}") from error

    def size(self, key: str) -> int | None:
        """See `Store.size`."""
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{key} cannot be looked at: {error.strerror}") from error

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Store.list`."""
        top = prefix.rpartition("/")[0]
        folders = [f"{top}/" if top else ""]
        found = []
        try:
            if not self._folder.is_dir():
                raise StoreError(f"{self._folder} is missing", hint="is the disk attached?")
            while folders:
                for key, entry in _entries(self._folder, folders.pop()):
                    if entry.is_dir(follow_symlinks=False):
                        if key != _PARTIAL:
                            folders.append(f"{key}/")
                    elif key.startswith(prefix):
                        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                            state = entry.stat()
                            found.append(Listed(key, state.st_size, state.st_mtime))
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be listed: {error.strerror}") from error
        return iter(sorted(found))

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise StoreError(f"{key} cannot be deleted: {error.strerror}") from error

    def now(self) -> float:
        """See `Store.now`."""
        return time.time()

    def _path(self, key: str) -> Path:
        if (
            not key
            or key.startswith("/")
            or any(part in ("", ".", "..", _PARTIAL) for part in key.split("/"))
        ):
            raise StoreError(f"not a key: {key!r}", retryable=False)
        return self._folder / key

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, on the disk as well."""
        if folder.is_dir():
            return
        if folder != self._folder:
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
        if self._durable:
            _sync(folder.parent)

    def _clean(self) -> None:
        """Delete what others left when they died while writing."""
        if self._is_clean:
            return
        self._is_clean = True
        for path in (self._folder / _PARTIAL).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED_S:
                    path.unlink()


def _create(partial: Path, target: Path) -> None:
    """Give a file its name. Raises FileExistsError."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: whoever makes the empty file may fill it.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        partial.replace(target)


def _entries(top: Path, base: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What is in a folder, by key; nothing when it is gone."""
    try:
        with os.scandir(top / base) as entries:
            for entry in entries:
                yield base + entry.name, entry
    except (FileNotFoundError, NotADirectoryError):
        return


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
