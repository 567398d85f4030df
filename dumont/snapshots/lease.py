"""A lease says that a snapshot is being made, so that no prune deletes what it counts on."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from types import TracebackType

from dumont.snapshots.errors import LeaseLost
from dumont.storage.errors import StoreError
from dumont.storage.store import Store

PREFIX = "leases/"
RENEW_S = 600.0
DEAD_AFTER_S = 48 * 3600.0
"""By the store's clock, without renewal."""


class Lease:
    """Held from `__enter__` to `__exit__`, renewed meanwhile.

    Args:
        store: Of the repository.
        who: For people who look at it.
    """

    def __init__(self, store: Store, *, who: str) -> None:
        self._store = store
        self.key = PREFIX + secrets.token_hex(16)
        self._body = json.dumps({"who": who}).encode()
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._store.put(self.key, self._body, new=True)
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._renewer.join()
        with contextlib.suppress(StoreError):  # it dies by itself
            self._store.delete(self.key)

    def check(self) -> None:
        """Raises LeaseLost when a prune took this run for dead."""
        if self._store.size(self.key) is None:
            raise LeaseLost(
                "this run took so long that a prune took it for dead",
                hint="run it again: what was uploaded is not sent again",
            )

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                if self._store.size(self.key) is None:
                    return  # lost: `check` will say so
                self._store.put(self.key, self._body)
            except StoreError:
                continue  # the next renewal is early enough


def living(store: Store) -> list[str]:
    """Leases that somebody may still hold. Those of the dead are deleted."""
    now = store.now()
    found = []
    for listed in list(store.list(PREFIX)):
        if now - listed.modified > DEAD_AFTER_S:
            store.delete(listed.key)
        else:
            found.append(listed.key)
    return found
