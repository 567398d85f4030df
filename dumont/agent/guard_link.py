"""The guard's own look at the link to the primary: TCP, then the SSH banner.

HAProxy decides when to redirect; it stops looking once a server is in maintenance. This check goes
on then. It says whether the link is back, for healing, and is the `link` of the heartbeat. It never
redirects anything.
"""

from __future__ import annotations

import socket
import threading
import time

UP = "up"
DOWN = "down"
UNKNOWN = "unknown"

_BANNER = b"SSH-2.0"


def probe(host: str, port: int, *, timeout_s: float) -> str:
    """Empty when an SSH server answers with its banner in time, otherwise what is wrong."""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            heard = b""
            while len(heard) < len(_BANNER):
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                data = connection.recv(256)
                if not data:
                    return "it closes connections without a word"
                heard += data
    except socket.timeout:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return "" if heard.startswith(_BANNER) else "what answers is no SSH server"


class PrimaryLink:
    """Checks in a thread of its own.

    Attributes:
        problem: What the last check found wrong; empty when nothing.
    """

    def __init__(self) -> None:
        self._every_s = 1.0
        self._timeout_s = 1.0
        self._target: tuple[str, int] | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._state = UNKNOWN
        self._since_wall = time.time()
        self._since = time.monotonic()
        self.problem = ""

    def start(self) -> None:
        """Begin to check."""
        threading.Thread(target=self._run, name="link", daemon=True).start()

    def close(self) -> None:
        """Stop checking."""
        self._closed = True
        self._wake.set()

    def watch(self, target: tuple[str, int] | None, *, every_s: float, timeout_s: float) -> None:
        """Check `target` from now on; None: there is nothing to check."""
        with self._lock:
            self._every_s, self._timeout_s = every_s, timeout_s
            if target == self._target:
                return
            self._target = target
            self._set(UNKNOWN, "")
        self._wake.set()

    def state(self) -> tuple[str, float]:
        """`up`, `down` or `unknown`, and since when (seconds since 1970)."""
        with self._lock:
            return self._state, self._since_wall

    def up_for(self) -> float:
        """Seconds for which every check has passed; 0 when the link is not up."""
        with self._lock:
            return time.monotonic() - self._since if self._state == UP else 0.0

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                target, timeout_s, every_s = self._target, self._timeout_s, self._every_s
            if target is not None:
                problem = probe(target[0], target[1], timeout_s=timeout_s)
                with self._lock:
                    if target == self._target:
                        self._set(DOWN if problem else UP, problem)
            self._wake.wait(every_s)
            self._wake.clear()

    def _set(self, state: str, problem: str) -> None:
        self.problem = problem
        if state != self._state:
            self._state = state
            self._since_wall = time.time()
            self._since = time.monotonic()
