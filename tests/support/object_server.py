"""A light object store for tests and benchmarks: S3's words, objects in a folder, faults on request.

It costs little processor time, so that a client's speed can be seen, and it checks no signature unless it
is asked to. For faithfulness the tests use SeaweedFS.
"""

from __future__ import annotations

import contextlib
import email.utils
import io
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_BUFFER = 1 << 20
_NEXT = ("NextContinuationToken", "NextMarker")
_OPERATIONS = ("GET", "PUT", "HEAD", "DELETE", "POST")


@dataclass
class Fault:
    """Something that goes wrong, for the next `times` requests that it fits."""

    method: str = "GET"
    key: str = ""
    """Part of the key."""
    status: int = 0
    """Answer this, with `code`."""
    code: str = "InternalError"
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    lose_answer: bool = False
    """Do it, and close the connection without an answer."""
    delay_s: float = 0.0
    times: int = 1


@dataclass
class _Upload:
    """An object on its way in parts. They are written where they belong, so that nothing is copied later."""

    path: Path
    slot: int = 0
    """Length of the first part that came: part `n` begins at `(n - 1) * slot` when it is no longer."""
    parts: dict[int, tuple[Path, int, int]] = field(default_factory=dict)
    """By number: file, offset, length."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def place(self, number: int, length: int) -> tuple[Path, int]:
        """Where to write a part."""
        with self.lock:
            self.slot = self.slot or length
            if length <= self.slot:
                found = self.path, (number - 1) * self.slot
            else:
                found = self.path.with_name(f"{self.path.name}-{number}"), 0
            self.parts[number] = (*found, length)
            return found

    def join(self) -> Path:
        """The whole object."""
        parts = [self.parts[number] for number in sorted(self.parts)]
        ends = [offset + length for _, offset, length in parts]
        starts = [offset for _, offset, _ in parts]
        if all(path == self.path for path, *_ in parts) and starts == [0, *ends[:-1]]:
            return self.path
        whole = self.path.with_name(f"{self.path.name}-whole")
        with whole.open("wb") as out:
            for path, offset, length in parts:
                with path.open("rb") as source:
                    source.seek(offset)
                    while length:
                        data = source.read(min(_BUFFER, length))
                        out.write(data)
                        length -= len(data)
        for path in {path for path, *_ in parts}:
            path.unlink()
        return whole


@dataclass
class ObjectServer:
    """A server on a port of this machine.

    Args:
        folder: Where objects are kept; on a memory file system for speed.
        clock_ahead_s: How wrong its clock is.
        checks_clock: Whether it refuses requests whose time is more than 15 minutes off.
    """

    folder: Path
    clock_ahead_s: float = 0.0
    checks_clock: bool = False
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, **how: object) -> Iterator[ObjectServer]:
        """One that serves until the end of the block."""
        server = cls(folder, **how)  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server._listener.close()

    def serve(self) -> None:
        """Serve until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), connection.makefile("rb") as stream:
            try:
                while True:
                    method, target, _ = _line(stream).split(" ", 2)
                    headers = {}
                    while line := _line(stream):
                        name, _, value = line.partition(":")
                        headers[name.strip().lower()] = value.strip()
                    self._request(connection, stream, method, target, headers)
            except (OSError, _Closed):
                return

    def _request(
        self,
        connection: socket.socket,
        stream: io.BufferedReader,
        method: str,
        target: str,
        headers: dict[str, str],
    ) -> None:
        parts = urlsplit(target)
        path = unquote(parts.path).lstrip("/")
        query = {name: v[-1] for name, v in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, key = path.partition("/")
        self.requests.append((method, key))
        fault = self._fault(method, key)
        if fault is not None and fault.delay_s:
            time.sleep(fault.delay_s)
        if headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        received = self._receive(stream, headers, query)
        try:
            if fault is not None and fault.status:
                self._say(connection, method, fault.status, fault.code)
            elif self.checks_clock and self._is_skewed(headers):
                self._say(connection, method, 403, "RequestTimeTooSkewed")
            else:
                self._act(connection, method, bucket, key, query, headers, received, fault)
        finally:
            if "partNumber" not in query:
                received.unlink(missing_ok=True)

    def _fault(self, method: str, key: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.key in key:
                    fault.times -= 1
                    return fault
        return None

    def _is_skewed(self, headers: dict[str, str]) -> bool:
        said = time.strptime(headers.get("x-amz-date", "19700101T000000Z"), "%Y%m%dT%H%M%SZ")
        moment = email.utils.mktime_tz((*said[:6], 0, 0, 0, 0))
        return abs(moment - self._now()) > 900

    def _now(self) -> float:
        return time.time() + self.clock_ahead_s

    def _receive(
        self, stream: io.BufferedReader, headers: dict[str, str], query: dict[str, str]
    ) -> Path:
        """Put a request's body into a file, or where it belongs in one."""
        if "chunked" in headers.get("transfer-encoding", "").replace("aws-chunked", ""):
            raise _Closed
        is_framed = headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
        length = headers.get("x-amz-decoded-content-length" if is_framed else "content-length", "0")
        partial, at = self.folder / ".partial" / secrets.token_hex(8), 0
        partial.parent.mkdir(parents=True, exist_ok=True)
        if "partNumber" in query:
            upload = self._uploads[query["uploadId"]]
            partial, at = upload.place(int(query["partNumber"]), int(length))
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600), "wb", buffering=0) as out:
            out.seek(at)
            try:
                if is_framed:
                    _unframe(stream, out)
                else:
                    _copy(stream, out, int(length))
            except _Closed:
                if "partNumber" not in query:
                    partial.unlink(missing_ok=True)
                raise
        return partial

    def _act(
        self,
        connection: socket.socket,
        method: str,
        bucket: str,
        key: str,
        query: dict[str, str],
        headers: dict[str, str],
        received: Path,
        fault: Fault | None,
    ) -> None:
        path = self.folder / bucket / key
        if not key:
            self._bucket(connection, method, bucket, query)
        elif method == "POST" and "uploads" in query:
            upload = secrets.token_hex(8)
            self._uploads[upload] = _Upload(self.folder / ".partial" / upload)
            self._xml(
                connection,
                "InitiateMultipartUploadResult",
                f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>",
            )
        elif method == "PUT" and "partNumber" in query:
            self._plain(connection, 200, etag=True)
        elif method == "POST" and "uploadId" in query:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._uploads.pop(query["uploadId"]).join().rename(path)
            self._xml(connection, "CompleteMultipartUploadResult", f"<Key>{escape(key)}</Key>")
        elif method == "PUT":
            path.parent.mkdir(parents=True, exist_ok=True)
            if headers.get("if-none-match") == "*":
                try:
                    os.link(received, path)
                except FileExistsError:
                    self._say(connection, method, 412, "PreconditionFailed")
                    return
            else:
                received.rename(path)
            if fault is not None and fault.lose_answer:
                raise _Closed
            self._plain(connection, 200, etag=True)
        elif method in ("GET", "HEAD"):
            self._send(connection, method, path, headers, fault)
        elif method == "DELETE":
            path.unlink(missing_ok=True)
            self._plain(connection, 204)
        else:
            self._say(connection, method, 400, "NotImplemented")

    def _bucket(
        self, connection: socket.socket, method: str, bucket: str, query: dict[str, str]
    ) -> None:
        if method == "GET" and "location" in query:
            self._xml(connection, "LocationConstraint", "")
        elif method == "GET" and bucket:
            self._list(connection, bucket, query)
        elif method == "GET":
            self._xml(connection, "ListAllMyBucketsResult", "<Buckets></Buckets>")
        else:
            self._plain(connection, 200)

    def _list(self, connection: socket.socket, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = next(
            (query[n] for n in ("continuation-token", "start-after", "marker") if n in query), ""
        )
        most = int(query.get("max-keys", "1000"))
        top = self.folder / bucket
        rows: list[str] = []
        folders: dict[str, None] = {}
        last, more = "", False
        for key in _keys(top, "", prefix, after):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders[prefix + rest.partition(delimiter)[0] + delimiter] = None
                continue
            if len(rows) >= most:
                more = True
                break
            try:
                state = (top / key).stat()
            except FileNotFoundError:
                continue
            moment = time.strftime(
                "%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(state.st_mtime + self.clock_ahead_s)
            )
            name = quote(key) if query.get("encoding-type") == "url" else escape(key)
            rows.append(
                f"<Contents><Key>{name}</Key><LastModified>{moment}</LastModified>"
                f'<ETag>"0"</ETag><Size>{state.st_size}</Size>'
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
            last = key
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders
        )
        token = "".join(f"<{n}>{escape(last)}</{n}>" for n in _NEXT) if more else ""
        self._xml(
            connection,
            "ListBucketResult",
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(rows)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{''.join(rows)}{common}",
        )

    def _send(
        self,
        connection: socket.socket,
        method: str,
        path: Path,
        headers: dict[str, str],
        fault: Fault | None,
    ) -> None:
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            self._say(connection, method, 404, "NoSuchKey")
            return
        with file:
            state = os.fstat(file.fileno())
            start, end, status = 0, state.st_size, 200
            wanted = headers.get("range", "")
            if wanted.startswith("bytes="):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start = int(first) if first else max(0, state.st_size - int(last))
                end = min(int(last) + 1, state.st_size) if first and last else state.st_size
                status = 206
                if start >= state.st_size:
                    self._say(connection, method, 416, "InvalidRange")
                    return
            extra = f"content-range: bytes {start}-{end - 1}/{state.st_size}\r\n"
            modified = email.utils.formatdate(state.st_mtime + self.clock_ahead_s, usegmt=True)
            self._head(
                connection,
                status,
                end - start,
                f'accept-ranges: bytes\r\nlast-modified: {modified}\r\netag: "0"\r\n'
                + (extra if status == 206 else ""),
            )
            if method == "HEAD":
                return
            stop = end
            if fault is not None and fault.cut_after is not None:
                stop = min(end, start + fault.cut_after)
            while start < stop:
                start += os.sendfile(connection.fileno(), file.fileno(), start, stop - start)
            if stop != end:
                raise _Closed

    def _plain(self, connection: socket.socket, status: int, *, etag: bool = False) -> None:
        self._head(connection, status, 0, 'etag: "0"\r\n' if etag else "")

    def _xml(self, connection: socket.socket, name: str, inside: str) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inside}</{name}>'.encode()
        self._head(connection, 200, len(body), "content-type: application/xml\r\n", body)

    def _say(self, connection: socket.socket, method: str, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>on request</Message></Error>".encode()
        self._head(connection, status, len(body), "", b"" if method == "HEAD" else body)

    def _head(
        self,
        connection: socket.socket,
        status: int,
        length: int,
        headers: str,
        body: bytes = b"",
    ) -> None:
        date = email.utils.formatdate(self._now(), usegmt=True)
        size = "" if status == 204 else f"content-length: {length}\r\n"
        head = f"HTTP/1.1 {status} -\r\ndate: {date}\r\n{size}{headers}\r\n".encode()
        connection.sendall(head + body)


class _Closed(Exception):
    """The connection ends here."""


def _keys(folder: Path, base: str, prefix: str, after: str) -> Iterator[str]:
    """The keys below a folder that begin with `prefix` and come after `after`, in order.

    What cannot hold one is not looked into: a page costs what is on it.
    """
    try:
        found = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in found:
        key = base + name
        if not name.endswith("/"):
            if key.startswith(prefix) and key > after:
                yield key
        elif (key > after or after.startswith(key)) and (
            key.startswith(prefix) or prefix.startswith(key)
        ):
            yield from _keys(folder / name, key, prefix, after)


def _copy(stream: io.BufferedReader, out: io.FileIO, length: int) -> None:
    buffer = memoryview(bytearray(min(_BUFFER, max(length, 1))))
    while length:
        count = stream.readinto1(buffer[: min(length, len(buffer))])
        if not count:
            raise _Closed
        out.write(buffer[:count])
        length -= count


def _unframe(stream: io.BufferedReader, out: io.FileIO) -> None:
    """A body in signed pieces (`aws-chunked`), each after a line with its length."""
    while length := int(_line(stream).partition(";")[0], 16):
        _copy(stream, out, length)
        _line(stream)
    while _line(stream):
        pass


def _line(stream: io.BufferedReader) -> str:
    line = stream.readline().decode("latin-1")
    if not line.endswith("\n"):
        raise _Closed
    return line.rstrip("\r\n")
