"""Durable documents: small named collections of JSON values in one SQLite file.

Everything simcloud must still know after a SIGKILL goes through here. Writes are committed before
`put` returns (WAL journal: safe against the death of the process). It holds no business rules.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Collection:
    """One named set of documents, each under a text key, listed in order of first insertion."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    def put(self, key: str, document: Any) -> None:
        """Store `document` (anything JSON can hold) under `key`, replacing what was there."""
        self._store.execute(
            "INSERT INTO documents (collection, key, body) VALUES (?, ?, ?)"
            " ON CONFLICT (collection, key) DO UPDATE SET body = excluded.body",
            (self._name, key, json.dumps(document, separators=(",", ":"))),
        )

    def get(self, key: str) -> Any | None:
        """Return the document under `key`, or None."""
        row = self._store.execute(
            "SELECT body FROM documents WHERE collection = ? AND key = ?", (self._name, key)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def delete(self, key: str) -> bool:
        """Remove the document under `key`; return whether there was one."""
        cursor = self._store.execute(
            "DELETE FROM documents WHERE collection = ? AND key = ?", (self._name, key)
        )
        return cursor.rowcount > 0

    def items(self) -> list[tuple[str, Any]]:
        """Return every (key, document) in order of first insertion."""
        rows = self._store.execute(
            "SELECT key, body FROM documents WHERE collection = ? ORDER BY serial", (self._name,)
        ).fetchall()
        return [(key, json.loads(body)) for key, body in rows]

    def list(self) -> list[Any]:
        """Return every document in order of first insertion."""
        return [document for _, document in self.items()]


class Store:
    """A SQLite file (or `:memory:`) of collections. Use it from one thread only."""

    def __init__(self, path: Path | str) -> None:
        # autocommit: each statement is its own transaction unless `transaction` groups them
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents ("
            " serial INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL,"
            " body TEXT NOT NULL, UNIQUE (collection, key))"
        )
        self._depth = 0

    def collection(self, name: str) -> Collection:
        """Return the collection called `name`; it needs no creation."""
        return Collection(self, name)

    def next_id(self, name: str, *, start: int) -> int:
        """Return a number never returned before for `name`, counting up from `start`."""
        with self.transaction():
            counters = self.collection("_counters")
            last = counters.get(name)
            value = start if last is None else int(last) + 1
            counters.put(name, value)
        return value

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group writes: all of them survive, or none. Must not contain an `await`."""
        if self._depth == 0:
            self._connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._connection.execute("COMMIT")

    def execute(self, sql: str, parameters: tuple[Any, ...]) -> sqlite3.Cursor:
        """Run one statement; for this module's own use."""
        return self._connection.execute(sql, parameters)

    def close(self) -> None:
        """Close the file; the store is unusable afterwards."""
        self._connection.close()
