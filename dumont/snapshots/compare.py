"""What changed between two snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dumont.snapshots import tree
from dumont.snapshots.index import Index
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.repository import Repository
from dumont.snapshots.tree import Entry


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

    Equal chunks of both tables are not even read: what did not change costs nothing.
    """
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
            if before != after:
                yield Change(_kind(before, after), after.path, before.size, after.size)
            before, after = next(left, None), next(right, None)


def _kind(before: Entry, after: Entry) -> str:
    content = ("kind", "size", "link", "pieces", "target")
    return "changed" if any(getattr(before, n) != getattr(after, n) for n in content) else "touched"
