"""How a user sees a failure: connections and logins through the stable address, again and again."""

from __future__ import annotations

import selectors
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CONNECT_EVERY_S = 0.02
LOGIN_EVERY_S = 0.05
_LOGINS_AT_ONCE = 8
"""More of them would only measure how many logins this computer can serve."""


class Canary:
    """Tells when the primary really failed: its datagrams carry the time, and stop.

    The clock is the same on every body of this computer. A busy computer makes the last datagram older
    than the failure, and so every figure larger, never smaller.
    """

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.2)
        self.address: tuple[str, int] = self._socket.getsockname()
        self.last: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Canary:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._socket.recv(64)
            except TimeoutError:
                continue
            self.last = struct.unpack("d", data)[0]


class Probes:
    """Connections and logins from the moment of the failure on; both end with their first success.

    Args:
        address: The stable address.
        login: Command line of a login that prints the host's name.
        is_new: Whether a banner that answered a connection opened at that time is the new body's.
        former: Name of the host that failed; its answers do not count.
        seconds: How long to try.
    """

    def __init__(
        self,
        *,
        address: tuple[str, int],
        login: Sequence[str],
        is_new: Callable[[float, bytes], bool],
        former: str,
        seconds: float,
    ) -> None:
        self._address = address
        self._login = list(login)
        self._is_new = is_new
        self._former = former
        self._seconds = seconds
        self.banner_at: float | None = None
        self.login_at: float | None = None
        self._threads = [threading.Thread(target=work) for work in (self._connect, self._log_in)]

    def start(self) -> None:
        """Begin."""
        self._deadline = time.monotonic() + self._seconds
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Give up."""
        self._deadline = 0.0

    def wait(self) -> None:
        """Until both have succeeded or given up."""
        for thread in self._threads:
            thread.join()

    def _connect(self) -> None:
        next_at = time.monotonic()
        with selectors.DefaultSelector() as waiting:
            while self.banner_at is None and (now := time.monotonic()) < self._deadline:
                if now >= next_at:
                    self._open(waiting, now)
                    next_at = max(next_at + CONNECT_EVERY_S, now)
                for key, _ in waiting.select(max(0.0, next_at - time.monotonic())):
                    self._read(waiting, key)
            for key in list(waiting.get_map().values()):
                _close(waiting, key)

    def _open(self, waiting: selectors.BaseSelector, now: float) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(self._address)
        waiting.register(connection, selectors.EVENT_READ, now)

    def _read(self, waiting: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        assert isinstance(key.fileobj, socket.socket)
        try:
            said = key.fileobj.recv(256)
        except OSError:
            said = b""
        if said.startswith(b"SSH-2.0") and self._is_new(key.data, said):
            self.banner_at = time.monotonic()
        _close(waiting, key)

    def _log_in(self) -> None:
        running: list[subprocess.Popen[bytes]] = []
        next_at = time.monotonic()
        while self.login_at is None and (now := time.monotonic()) < self._deadline:
            if now >= next_at and len(running) < _LOGINS_AT_ONCE:
                running.append(self._attempt())
                next_at = max(next_at + LOGIN_EVERY_S, now)
            for each in [each for each in running if each.poll() is not None]:
                running.remove(each)
                assert each.stdout is not None
                host = each.stdout.read().decode(errors="replace").strip()
                if each.returncode == 0 and host not in ("", self._former):
                    self.login_at = time.monotonic()
            time.sleep(0.002)
        for each in running:
            each.kill()
            each.wait()

    def _attempt(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._login,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def _close(waiting: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    assert isinstance(key.fileobj, socket.socket)
    waiting.unregister(key.fileobj)
    key.fileobj.close()


WRITER = """\
import os, socket, struct, sys, threading, time
root, every, canary = sys.argv[1], 0.05, (sys.argv[2], int(sys.argv[3]))
os.makedirs(root)
def sing():
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        try:
            sender.sendto(struct.pack("d", time.monotonic()), canary)
        except OSError:
            pass
        time.sleep(0.005)
threading.Thread(target=sing, daemon=True).start()
log = open(root + "/log", "ab", buffering=0)
small, big = os.urandom(4096), os.urandom(1 << 20)
number, due = 0, time.monotonic()
while not os.path.exists(root + "/stop"):
    at = time.monotonic()
    with open("%s/%06d" % (root, number), "wb") as file:
        file.write(b"%d %.6f\\n" % (number, at))
        file.write(big if number % 40 == 39 else small)
    log.write(b"%d %.6f\\n" % (number, at))
    number, due = number + 1, max(due + every, at)
    time.sleep(max(0.0, due - time.monotonic()))
"""
"""Every 50 ms a line of a log and a new file of 4 KB, every two seconds one of 1 MB, until there is
a file `stop`; and every 5 ms a datagram, see `Canary`."""


def written(folder: Path) -> list[float]:
    """When the writer wrote what is in its log; the clock is the same on both bodies."""
    try:
        text = (folder / "log").read_text()
    except OSError:
        return []
    return [float(line.split()[1]) for line in text[: text.rfind("\n") + 1].splitlines()]


def lost_since(primary: Path, standby: Path, *, until: float) -> tuple[float | None, int]:
    """What of the writer's work was on the primary and is not on the standby.

    Returns:
        When the oldest lost write was made (None: nothing is lost), and the bytes that are lost.
    """
    times = [at for at in written(primary) if at <= until]
    there = len(written(standby))
    oldest = times[there] if there < len(times) else None
    lost = 0
    for number, at in enumerate(times):
        name = f"{number:06d}"
        content = (primary / name).read_bytes()
        try:
            same = (standby / name).read_bytes() == content
        except OSError:
            same = False
        if not same:
            lost += len(content)
            oldest = at if oldest is None else min(oldest, at)
    return oldest, lost
