"""What changed between two snapshots."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from dumont.snapshots import tree
from dumont.snapshots.errors import Damaged
from dumont.snapshots.index import Index
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.repository import Repository
from dumont.snapshots.tree import Entry, Piece

_CONTENT = ("kind", "size", "link", "target")
_REMEMBERED = 8
"""Chunks that are kept in memory: files of one folder share few."""


class Change(NamedTuple):
    """One difference."""

    what: str
    """`added`, `removed`, `changed` (its content or kind) or `touched` (only what is said about it)."""
    path: bytes
    before: int
    after: int
    """Sizes, bytes."""


def changes(repository: Repository, old: Snapshot, new: Snapshot, known: Index) -> Iterator[Change]:
    """Differences in path order. Raises Damaged.

    Equal chunks of both tables are not even read: what did not change costs nothing. Of small files,
    which share chunks with their neighbours, the content decides.
    """
    shared = _Shared(repository, known)
    same = set(old.tree) & set(new.tree)
    left = repository.entries(old, known, skip=same)
    right = repository.entries(new, known, skip=same)
    before, after = next(left, None), next(right, None)
    while before is not None or after is not None:
        a = None if before is None else tree.order(before.path)
        b = None if after is None else tree.order(after.path)
        if before is not None and (b is None or (a is not None and a < b)):
            yield Change("removed", before.path, before.size, 0)
            before = next(left, None)
        elif after is not None and (a is None or (b is not None and b < a)):
            yield Change("added", after.path, 0, after.size)
            after = next(right, None)
        else:
            assert before is not None
            assert after is not None
            if (what := shared.difference(before, after)) is not None:
                yield Change(what, after.path, before.size, after.size)
            before, after = next(left, None), next(right, None)


class _Shared:
    """Compares entries, and small files by what is in the chunks that they share.

    Args:
        repository: Where the chunks are.
        known: Where they lie in it.
    """

    def __init__(self, repository: Repository, known: Index) -> None:
        self._repository = repository
        self._known = known
        self._read: OrderedDict[bytes, bytes | None] = OrderedDict()

    def difference(self, before: Entry, after: Entry) -> str | None:
        """`changed`, `touched`, or None when both are the same."""
        if before == after:
            return None
        if any(getattr(before, name) != getattr(after, name) for name in _CONTENT):
            return "changed"
        if before.pieces == after.pieces:
            return "touched"
        if not self._is_the_same(before, after):
            return "changed"
        return None if before == after._replace(pieces=before.pieces) else "touched"

    def _is_the_same(self, before: Entry, after: Entry) -> bool:
        if len(before.pieces) != 1 or len(after.pieces) != 1:
            return False  # a big file is always cut at the same places
        if before.pieces[0].at != after.pieces[0].at:
            return False
        old, new = self._bytes(before.pieces[0]), self._bytes(after.pieces[0])
        return old is not None and old == new

    def _bytes(self, piece: Piece) -> bytes | None:
        """What is there; None when it cannot be read."""
        if piece.chunk not in self._read:
            try:
                content = self._repository.chunk(piece.chunk, self._known)
            except Damaged:
                content = None
            self._read[piece.chunk] = content
            if len(self._read) > _REMEMBERED:
                self._read.popitem(last=False)
        content = self._read[piece.chunk]
        return content[piece.start : piece.start + piece.length] if content is not None else None
