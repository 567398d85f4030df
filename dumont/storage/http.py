"""HTTP/1.1 for large bodies: straight from and into the caller's memory, over connections that are kept.

Python's own client copies bodies and costs several times the processor time of the transfer itself. This
one does what an object store needs: a body of known length up, a body of known length down.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping

_CONNECT_S = 10.0
_IDLE_S = 60.0
"""Longest wait for the other side to take or give something."""
_HEAD_LIMIT = 64 << 10
_RECEIVE = 1 << 20
_JOINED = 256 << 10
"""A body up to this size is sent together with its head."""
_IDLE_CONNECTIONS = 64
_FRESH_S = 15.0
"""A connection idle for longer is not used again: servers and what is between close them, some silently."""


class ConnectionBroken(OSError):
    """The connection ended, or said what no HTTP server says."""


class Answer:
    """A response whose body is still to be read.

    Args:
        connection: Where the body comes from.
        status: Its status.
        headers: By lower-case name.
        has_body: Whether one follows.
    """

    def __init__(
        self, connection: _Connection, status: int, headers: Mapping[str, str], *, has_body: bool
    ) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self._chunked = has_body and "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if has_body and not self._chunked and (length is None or not length.isdigit()):
            raise ConnectionBroken("an answer without a length")
        self.length = int(length) if length is not None and length.isdigit() else None
        """Of its body, or of the one that was not asked for; None when it does not say."""
        self._left = (self.length or 0) if has_body else 0
        self.is_over = not has_body or (not self._chunked and not self._left)
        self.was_sent_twice = False
        """The server may have seen the request before: its first answer was lost."""

    def read(self, *, limit: int) -> bytes:
        """The whole body. Raises ConnectionBroken when it breaks off, or is longer than `limit`."""
        if self._chunked:
            return self._read_chunks(limit)
        if self._left > limit:
            raise ConnectionBroken(f"an answer of {self._left} bytes")
        body = bytearray(self._left)
        self.read_into(memoryview(body))
        return bytes(body)

    def read_into(self, buffer: memoryview) -> None:
        """The next `len(buffer)` bytes. Raises ConnectionBroken when the body breaks off."""
        if self._chunked or len(buffer) > self._left:
            raise ConnectionBroken("a shorter answer than was asked for")
        self._connection.fill(buffer)
        self._left -= len(buffer)
        self.is_over = not self._left

    def _read_chunks(self, limit: int) -> bytes:
        body = bytearray()
        while True:
            line = self._connection.line().partition(b";")[0].strip()
            try:
                length = int(line, 16)
            except ValueError:
                raise ConnectionBroken("a chunk without a length") from None
            if length < 0 or len(body) + length > limit:
                raise ConnectionBroken("a longer answer than was expected")
            part = bytearray(length)
            self._connection.fill(memoryview(part))
            body += part
            if not length:
                while self._connection.line().strip():
                    pass
                self.is_over = True
                return bytes(body)
            self._connection.line()


class Pool:
    """Connections to one server. Safe for many threads.

    Args:
        host: Name or address.
        port: TCP port.
        tls: How to speak TLS; None speaks plainly.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | memoryview = b"",
    ) -> Iterator[Answer]:
        """Send a request; the answer is to be read inside the block.

        Raises:
            OSError: It could not be sent, or the answer broke off: the server may have acted on it.
        """
        head = "".join(
            (
                f"{method} {target} HTTP/1.1\r\n",
                *(f"{name}: {value}\r\n" for name, value in headers.items()),
                f"content-length: {len(body)}\r\n\r\n",
            )
        ).encode("latin-1")
        connection = self._take()
        try:
            answer = connection.exchange(method, head, body)
        except OSError:
            connection.close()
            if not connection.was_used:
                raise
            # The server may have closed it while it was idle: once more, on a new one.
            connection = _Connection(self._host, self._port, self._tls)
            try:
                answer = connection.exchange(method, head, body)
                answer.was_sent_twice = True
            except OSError:
                connection.close()
                raise
        try:
            yield answer
        except BaseException:
            connection.close()
            raise
        if answer.is_over and answer.headers.get("connection", "").lower() != "close":
            self._give_back(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> _Connection:
        stale: list[_Connection] = []
        try:
            with self._lock:
                if self._idle:
                    found = self._idle.pop()
                    if found.idle_since + _FRESH_S >= time.monotonic():
                        return found
                    stale = [found, *self._idle]  # those below it are idle for longer
                    self._idle = []
        finally:
            for connection in stale:
                connection.close()
        return _Connection(self._host, self._port, self._tls)

    def _give_back(self, connection: _Connection) -> None:
        connection.was_used = True
        connection.idle_since = time.monotonic()
        with self._lock:
            if len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()


class _Connection:
    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        plain = socket.create_connection((host, port), timeout=_CONNECT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(_IDLE_S)
        try:
            self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        self._rest = bytearray()
        """What was received beyond the head of an answer."""
        self.was_used = False
        self.idle_since = 0.0

    def exchange(self, method: str, head: bytes, body: bytes | memoryview) -> Answer:
        try:
            if len(body) <= _JOINED:
                self._send(head + body)
            else:
                self._send(head)
                self._send(body)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body early may have said why.
            if not body:
                raise
        status, headers = self._head()
        while 100 <= status < 200:
            status, headers = self._head()
        has_body = method != "HEAD" and status not in (204, 304)
        return Answer(self, status, headers, has_body=has_body)

    def _send(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:  # `sendall` would give a slow link _IDLE_S for all of it, not for each step
            left = left[self._socket.send(left) :]

    def fill(self, buffer: memoryview) -> None:
        done = min(len(self._rest), len(buffer))
        buffer[:done] = self._rest[:done]
        del self._rest[:done]
        while done < len(buffer):
            received = self._socket.recv_into(buffer[done : done + _RECEIVE])
            if not received:
                raise ConnectionBroken(f"the answer broke off after {done} bytes")
            done += received

    def line(self) -> bytes:
        while (end := self._rest.find(b"\n")) < 0:
            self._more()
        line = bytes(self._rest[: end + 1])
        del self._rest[: end + 1]
        return line

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._more()
        text = bytes(self._rest[:end]).decode("latin-1")
        del self._rest[: end + 4]
        first, *lines = text.split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise ConnectionBroken("not an HTTP server")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(parts[1]), headers

    def _more(self) -> None:
        if len(self._rest) > _HEAD_LIMIT:
            raise ConnectionBroken("a head without an end")
        received = self._socket.recv(_HEAD_LIMIT)
        if not received:
            raise ConnectionBroken("the server closed the connection")
        self._rest += received
