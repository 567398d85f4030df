"""The HTTP client against servers that are slow, rude, or not who they say."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dumont.storage import http
from dumont.storage.errors import Refused, StoreError
from dumont.storage.http import Pool
from dumont.storage.s3 import Credentials, S3Store
from tests.support.object_server import ObjectServer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
Conversation = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(*conversations: Conversation) -> Iterator[int]:
    """A server with something to say to each connection; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for conversation in conversations:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                conversation(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def read_all(connection: socket.socket, length: int, *, pause_s: float = 0.0) -> None:
    while length > 0:
        time.sleep(pause_s)
        length -= len(connection.recv(min(length, 256 << 10)) or b"x" * length)


def test_a_slow_link_may_take_longer_than_the_patience_for_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_IDLE_S", 1.0)
    length = 24 << 20

    def slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
        read_all(connection, length, pause_s=0.03)
        connection.sendall(OK)

    with serving(slowly) as port:
        began = time.monotonic()
        with Pool("127.0.0.1", port, tls=None).request(
            "PUT", "/x", {"host": "h"}, memoryview(bytes(length))
        ) as answer:
            assert answer.status == 200
        assert time.monotonic() - began > 2.0


def test_a_server_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_IDLE_S", 0.2)
    over = threading.Event()
    with (
        serving(lambda connection: over.wait(10) and None) as port,
        pytest.raises(TimeoutError),
        Pool("127.0.0.1", port, tls=None).request("GET", "/x", {"host": "h"}),
    ):
        pass
    over.set()


def test_a_body_that_was_refused_half_way_does_not_run_into_the_next_request() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_RD)
        with contextlib.suppress(OSError):
            read_all(connection, 64 << 20)

    def accept(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(OK)

    with serving(refuse, accept) as port:
        pool = Pool("127.0.0.1", port, tls=None)
        with (
            contextlib.suppress(OSError),
            pool.request("PUT", "/x", {"host": "h"}, bytes(32 << 20)) as answer,
        ):
            assert answer.status == 403
        with pool.request("GET", "/x", {"host": "h"}) as answer:
            assert answer.status == 200


def test_a_connection_that_was_idle_for_long_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice(connection: socket.socket) -> None:
        for _ in range(2):
            connection.recv(1000)
            connection.sendall(OK)

    with serving(twice, twice) as port:
        pool = Pool("127.0.0.1", port, tls=None)

        def ask() -> None:
            with pool.request("GET", "/x", {"host": "h"}) as answer:
                assert answer.status == 200

        ask()
        first = pool._idle[0]._socket
        monkeypatch.setattr(http, "_FRESH_S", -1.0)
        ask()
        assert pool._idle[0]._socket is not first
        assert first.fileno() == -1


# TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, with its key; signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@contextlib.contextmanager
def over_tls(server: ObjectServer, certificate: Path) -> Iterator[str]:
    """The same server behind TLS; yields its endpoint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 << 10):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                outer = context.wrap_socket(plain, server_side=True)
                inner = socket.create_connection(("127.0.0.1", server.port))
                for pair in ((outer, inner), (inner, outer)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_a_store_over_tls(certificate: Path, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    with (
        ObjectServer.running(tmp_path / "objects") as server,
        over_tls(server, certificate) as endpoint,
    ):
        store = S3Store(
            endpoint=endpoint, bucket="b", credentials=Credentials("k", "s"),
            ca_file=str(certificate),
        )  # fmt: skip
        store.put("one", memoryview(data))
        assert store.get("one") == data
        part = memoryview(bytearray(1_000_000))
        store.read_into("one", 3_000_000, part)
        assert part == data[3_000_000:4_000_000]


def test_a_store_that_nobody_vouches_for_is_told_nothing(certificate: Path, tmp_path: Path) -> None:
    with (
        ObjectServer.running(tmp_path / "objects") as server,
        over_tls(server, certificate) as endpoint,
    ):
        store = S3Store(endpoint=endpoint, bucket="b", credentials=Credentials("k", "s"))
        with pytest.raises(StoreError, match="not who it says") as caught:
            store.put("one", b"x")
        assert not caught.value.retryable
        assert "AWS_CA_BUNDLE" in caught.value.hint
        assert server.requests == []
    with pytest.raises(StoreError, match="holds no certificates"):
        S3Store(
            endpoint=endpoint, bucket="b", credentials=Credentials("k", "s"),
            ca_file=str(tmp_path / "nothing"),
        )  # fmt: skip


def test_an_error_in_the_body_of_a_refusal_is_said(tmp_path: Path) -> None:
    expired = b"<Error><Code>ExpiredToken</Code><Message>it ended</Message></Error>"

    def refuse(connection: socket.socket) -> None:
        connection.recv(4000)
        head = f"HTTP/1.1 400 Bad\r\ncontent-length: {len(expired)}\r\n\r\n".encode()
        connection.sendall(head + expired)

    with serving(refuse) as port, pytest.raises(Refused, match="ExpiredToken: it ended"):
        S3Store(
            endpoint=f"http://127.0.0.1:{port}", bucket="b", credentials=Credentials("k", "s")
        ).get("one")
