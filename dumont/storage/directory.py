"""A store in a folder: an external disk, a network share, a test."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from dumont.storage.errors import AlreadyThere, Missing, Short, StoreError
from dumont.storage.store import Listed

_PARTIAL = ".partial-"


class DirectoryStore:
    """Objects are files; a write shows whole, after it is on the disk.

    Args:
        folder: Where; made when it is missing.
        durable: Whether each write is synced. A test may do without.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self._folder)!r})"

    def put(self, key: str, body: bytes | memoryview, *, new: bool = False) -> None:
        """See `Store.put`."""
        target = self._path(key)
        partial = target.with_name(_PARTIAL + secrets.token_hex(8))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(body)
                file.flush()
                if self._durable:
                    os.fsync(file.fileno())
            if new:
                os.link(partial, target)
            else:
                partial.replace(target)
            if self._durable:
                _sync(target.parent)
        except FileExistsError:
            raise AlreadyThere(f"{key} exists already") from None
        except OSError as error:
            raise StoreError(f"{key} cannot be written: {error.strerror}") from error
        finally:
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
        folder = self._folder / prefix.rpartition("/")[0]
        found = []
        for path in folder.rglob("*"):
            key = path.relative_to(self._folder).as_posix()
            if not key.startswith(prefix) or path.name.startswith(_PARTIAL):
                continue
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                found.append(Listed(key, state.st_size, state.st_mtime))
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
            or any(part in ("", ".", "..") for part in key.split("/"))
        ):
            raise StoreError(f"not a key: {key!r}", retryable=False)
        return self._folder / key


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
