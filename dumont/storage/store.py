"""What is asked of an object store, whoever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Listed(NamedTuple):
    """An object in a listing."""

    key: str
    size: int
    modified: float
    """Seconds since 1970, by the store's clock."""


class Store(Protocol):
    """Objects by key. Blocking, and safe for many threads; each call retries what may pass by itself.

    Every method may raise `StoreError`, and `Refused` where the credentials do not allow it.
    """

    def put(self, key: str, body: bytes | memoryview, *, new: bool = False) -> None:
        """Write an object, whole or not at all. With `new` raises AlreadyThere where there is one."""
        ...

    def get(self, key: str) -> bytes:
        """A whole object. Raises Missing."""
        ...

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill a buffer from an object. Raises Missing, and Short when it ends before."""
        ...

    def size(self, key: str) -> int | None:
        """How long an object is; None when there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
        """Every object whose key begins so, in the order of keys. Complete, or it raises."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object. One that is gone already is success."""
        ...

    def now(self) -> float:
        """The store's clock: seconds since 1970."""
        ...
