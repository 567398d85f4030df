"""What can go wrong with a repository. Each error says what is wrong and what to do.

Errors of the store itself are those of `dumont.storage.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence


class SnapshotError(Exception):
    """Base of all errors of the engine.

    Args:
        message: What is wrong, for people.
        hint: What to do about it.
    """

    code = "snapshot_error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NoRepository(SnapshotError):
    """There is none at this place."""

    code = "no_repository"


class RepositoryExists(SnapshotError):
    """There is one already where one was to be made."""

    code = "repository_exists"


class WrongKey(SnapshotError):
    """No key of the repository opens with this secret."""

    code = "wrong_key"


class NewerFormat(SnapshotError):
    """It was written by a newer version: nothing is read, nothing is written."""

    code = "newer_format"


class NoSuchSnapshot(SnapshotError):
    """The repository has no such snapshot, or more than one that could be meant."""

    code = "no_such_snapshot"


class LeaseLost(SnapshotError):
    """A prune took this run for dead. What it uploaded is kept by its journal; run it again."""

    code = "lease_lost"


class Busy(SnapshotError):
    """Another prune is under way."""

    code = "busy"


class Damaged(SnapshotError):
    """Bytes are not what was written.

    Args:
        message: Which object, and what about it.
        files: Paths that cannot be restored because of it, as far as known.
    """

    code = "damaged"

    def __init__(self, message: str, *, files: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.files = tuple(files)
