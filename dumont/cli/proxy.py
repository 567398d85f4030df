"""How `ssh` finds a machine: the first of its addresses that answers. A program of its own.

The command line copies this file beside its other files and names it as `ProxyCommand`. It stands on
nothing but Python's standard library, starts in a few milliseconds, and works with the server of
Dumont dead: the addresses are in a small file that is read here, and made anew behind the back of a
connection when it is old, or at once when no address answers.

    python -I -S -E proxy.py ADDRESSES.json

The stable address comes first. Another one is taken only when every one before it has failed, or has
been silent for a second: a GPU that is back from the dead must not win over the standby that has the
newest files.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

STAGGER_S = 0.25
"""Each further address is tried so much later."""
PATIENCE_S = 1.0
"""So long is one address waited for while a later one has answered already."""
CONNECT_S = 8.0
"""An address that has not shown itself as an SSH server after this long is given up."""
OLD_S = 60.0
"""Addresses that were learnt longer ago are looked up again."""
REFRESH_S = 12.0
"""How long a look-up may take when nothing else is left to try."""
CHUNK = 1 << 17

_BANNER = b"SSH-"


class Candidate:
    """One address and how it went with it."""

    def __init__(self, *, host: str, port: int, what: str) -> None:
        self.host = host
        self.port = port
        self.what = what
        self.started = False
        self.failure = ""
        self.connection: socket.socket | None = None
        self.banner = b""

    def connect(self, done: SimpleQueue[None], given_up: threading.Event) -> None:
        """Connect and wait for the banner; run in a thread of its own."""
        try:
            connection = socket.create_connection((self.host, self.port), timeout=CONNECT_S)
        except (OSError, UnicodeError) as error:
            self.failure = _why(error)
            done.put(None)
            return
        try:
            banner = connection.recv(CHUNK)
            if not banner:
                self.failure = "it closes the connection at once"
            elif not banner.startswith(_BANNER[: len(banner)]):
                self.failure = "something that is no SSH server answers"
            else:
                self.banner = banner
                self.connection = connection
        except OSError as error:
            self.failure = f"it accepts connections and says nothing: {_why(error)}"
        if given_up.is_set() or self.connection is None:
            connection.close()
        done.put(None)


def main(arguments: list[str]) -> int:
    """Connect and pass bytes to and fro until one side ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    path = arguments[0]
    try:
        book, age = read(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _say(f"{path} cannot be read ({error})", "`dumont ssh-config` makes it again")
    tried = candidates(book)
    found = race(tried)
    if found is None:
        asked = refresh_and_wait(path, book)
        again, _ = _read_or(path, book)
        moved = candidates(again)
        if [(c.host, c.port) for c in moved] != [(c.host, c.port) for c in tried]:
            tried = moved
            found = race(tried)
        if found is None:
            return _unreachable(book, tried, asked)
    elif age > OLD_S:
        refresh(path, book)
    assert found.connection is not None
    splice(found.connection, found.banner)
    return 0


def read(path: str) -> tuple[dict[str, Any], float]:
    """The addresses, and how many seconds ago they were learnt."""
    with open(path, encoding="utf-8") as file:
        book = json.load(file)
        age = time.time() - os.fstat(file.fileno()).st_mtime
    if not book["candidates"]:
        raise ValueError("it names no address")
    return book, age


def candidates(book: dict[str, Any]) -> list[Candidate]:
    """The addresses to try, the best one first."""
    return [
        Candidate(host=str(c["host"]), port=int(c["port"]), what=str(c["what"]))
        for c in book["candidates"]
    ]


def race(tried: list[Candidate]) -> Candidate | None:
    """The first that answers as an SSH server, or None when none does."""
    done: SimpleQueue[None] = SimpleQueue()
    given_up = threading.Event()
    start = time.monotonic()
    while True:
        elapsed = time.monotonic() - start
        for place, candidate in enumerate(tried):
            hopeless = all(before.failure for before in tried[:place])
            if not candidate.started and (hopeless or elapsed >= place * STAGGER_S):
                candidate.started = True
                threading.Thread(
                    target=candidate.connect, args=(done, given_up), daemon=True
                ).start()
        chosen = _choice(tried, patient=elapsed < PATIENCE_S)
        if chosen is not None:
            given_up.set()
            for other in tried:
                if other is not chosen and other.connection is not None:
                    other.connection.close()
            return chosen
        if all(candidate.failure for candidate in tried):
            return None
        waits = [place * STAGGER_S for place, c in enumerate(tried) if not c.started]
        if any(c.connection is not None for c in tried):
            waits.append(PATIENCE_S)
        try:
            done.get(timeout=max(min(waits) - elapsed, 0.001) if waits else None)
        except Empty:
            continue


def _choice(tried: list[Candidate], *, patient: bool) -> Candidate | None:
    for candidate in tried:
        if candidate.connection is not None:
            return candidate
        if patient and not candidate.failure:
            return None
    return None


def splice(connection: socket.socket, first: bytes) -> None:
    """Pass everything between the connection and standard input and output."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _write(first)
    sources: list[int] = [0, connection.fileno()]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if connection.fileno() in ready:
            data = _received(connection)
            if not data or not _write(data):
                return
        if 0 in ready:
            data = os.read(0, CHUNK)
            try:
                if data:
                    connection.sendall(data)
                else:
                    # The client says no more, and may still want to hear.
                    sources.remove(0)
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                return


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(CHUNK)
    except OSError:
        return b""


def _write(data: bytes) -> bool:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError:
        return False
    return True


def refresh(path: str, book: dict[str, Any]) -> int | None:
    """Let the command line look the addresses up, beside us; None when somebody does already."""
    lock = path + ".refreshing"
    try:
        if time.time() - os.stat(lock).st_mtime < REFRESH_S:
            return None
    except OSError:
        pass
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        environment = dict(os.environ)
        environment.update(book["refresh"]["environment"])
        command = [str(word) for word in book["refresh"]["command"]]
        null = os.open(os.devnull, os.O_RDWR)
        streams = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
        return os.posix_spawn(command[0], command, environment, file_actions=streams, setsid=True)
    except (OSError, KeyError, TypeError, ValueError, NotImplementedError):
        return None


def refresh_and_wait(path: str, book: dict[str, Any]) -> bool | None:
    """The same, until it is done: whether the server answered; None when nobody was asked."""
    started = time.monotonic()
    before = _changed(path)
    child = refresh(path, book)
    while time.monotonic() - started < REFRESH_S:
        if child is not None:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    os.unlink(path + ".refreshing")
                return os.waitstatus_to_exitcode(status) == 0
        elif _changed(path) != before:
            return True
        elif not os.path.exists(path + ".refreshing"):
            return None
        time.sleep(0.02)
    return None


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _read_or(path: str, book: dict[str, Any]) -> tuple[dict[str, Any], float]:
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError):
        return book, 0.0


def _unreachable(book: dict[str, Any], tried: list[Candidate], asked: bool | None) -> int:
    name, server = book.get("name", "the machine"), book.get("server", "its server")
    if asked:
        news = f"{server} knows no other address for it now"
    elif asked is None:
        news = f"{server} did not say in time whether it has moved"
    else:
        news = f"{server} could not be asked whether it has moved"
    lines = [f"{c.what}, {c.host} port {c.port}: {c.failure}" for c in tried]
    return _say(f"{name} cannot be reached", *lines, news, f"`dumont show {name}` tells how it is")


def _say(head: str, *lines: str) -> int:
    sys.stderr.write("\n  ".join([f"dumont: {head}", *lines]) + "\n")
    sys.stderr.flush()
    return 1


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _exit(code: int) -> NoReturn:
    """At once: threads that still try to connect are of no use to anybody."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _exit(main(sys.argv[1:]))
