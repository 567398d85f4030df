"""Who is at work: leases of snapshots, which no prune may disturb, and the lock of the one prune."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
from types import TracebackType

from dumont.snapshots.errors import Busy, LeaseLost
from dumont.storage.errors import AlreadyThere, Missing, StoreError
from dumont.storage.store import Store

PREFIX = "leases/"
RENEW_S = 600.0
DEAD_AFTER_S = 48 * 3600.0
"""By the store's clock, without renewal."""
_PRUNE_RENEW_S = 60.0
_PRUNE_DEAD_AFTER_S = 600.0
_TRIES = 3


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


class PruneLock:
    """Held by one prune at a time: two could write each other's deletions back into the index.

    A prune that died holds it for some minutes at most; on the same computer it is known to be dead.

    Args:
        store: Of the repository.
    """

    KEY = "locks/prune"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._body = json.dumps(
            {"host": socket.gethostname(), "pid": os.getpid(), "id": secrets.token_hex(8)}
        ).encode()
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="prune-lock", daemon=True)

    def __enter__(self) -> PruneLock:
        for _ in range(_TRIES):
            try:
                self._store.put(self.KEY, self._body, new=True)
            except AlreadyThere:
                self._take_from_the_dead()
            else:
                self._renewer.start()
                return self
        raise Busy("another prune is under way", hint="wait for it, or some minutes if it has died")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._renewer.join()
        with contextlib.suppress(StoreError):
            if self._store.get(self.KEY) == self._body:
                self._store.delete(self.KEY)

    def check(self) -> None:
        """Raises LeaseLost when another prune took this one for dead."""
        try:
            held = self._store.get(self.KEY) == self._body
        except Missing:
            held = False
        if not held:
            raise LeaseLost("another prune took this one for dead; it frees what is left")

    def _take_from_the_dead(self) -> None:
        """Remove the lock of a prune that is dead. Raises Busy when it may be alive."""
        try:
            found = json.loads(self._store.get(self.KEY))
            ages = [self._store.now() - each.modified for each in self._store.list(self.KEY)]
            here = found["host"] == socket.gethostname()
            dead = here and not _is_alive(int(found["pid"]))
        except Missing:
            return
        except (ValueError, KeyError, TypeError):
            dead, ages = False, [_PRUNE_DEAD_AFTER_S + 1]
        if dead or any(age > _PRUNE_DEAD_AFTER_S for age in ages):
            self._store.delete(self.KEY)
        else:
            raise Busy(
                f"another prune is under way on {found['host']}",
                hint="wait for it, or some minutes if it has died",
            )

    def _renew(self) -> None:
        while not self._over.wait(_PRUNE_RENEW_S):
            with contextlib.suppress(StoreError, LeaseLost):
                self.check()
                self._store.put(self.KEY, self._body)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
