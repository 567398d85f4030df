"""The S3 client against a store that misbehaves: what arrives is whole, what went wrong is said."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.storage.directory import DirectoryStore
from dumont.storage.errors import AlreadyThere, Missing, Refused, Short, StoreError
from dumont.storage.s3 import Credentials, S3Store
from dumont.storage.store import Store
from dumont.storage.url import from_url
from tests.support.object_server import Fault, ObjectServer

CREDENTIALS = Credentials("key-id", "very-secret")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ObjectServer]:
    with ObjectServer.running(tmp_path / "objects") as running:
        yield running


@pytest.fixture
def store(server: ObjectServer) -> S3Store:
    return made(server)


def made(server: ObjectServer, **how: object) -> S3Store:
    return S3Store(
        endpoint=server.endpoint,
        bucket="bucket",
        prefix="some/prefix",
        credentials=CREDENTIALS,
        pause=lambda seconds: None,
        **how,  # type: ignore[arg-type]
    )


@pytest.fixture(params=["s3", "directory"])
def any_store(request: pytest.FixtureRequest, server: ObjectServer, tmp_path: Path) -> Store:
    return made(server) if request.param == "s3" else DirectoryStore(tmp_path / "folder")


def test_every_store_keeps_its_word(any_store: Store) -> None:
    data = os.urandom(3_000_000)
    any_store.put("packs/ab/one", memoryview(data))
    assert any_store.get("packs/ab/one") == data
    assert any_store.size("packs/ab/one") == len(data)
    part = bytearray(1000)
    any_store.read_into("packs/ab/one", 2_000_000, memoryview(part))
    assert part == data[2_000_000:2_001_000]
    with pytest.raises(Short):
        any_store.read_into("packs/ab/one", len(data) - 10, memoryview(bytearray(20)))
    with pytest.raises(Short):
        any_store.read_into("packs/ab/one", len(data) + 10, memoryview(bytearray(20)))
    any_store.put("packs/ab/one", b"other")
    assert any_store.get("packs/ab/one") == b"other"
    any_store.put("format.json", b"{}", new=True)
    with pytest.raises(AlreadyThere):
        any_store.put("format.json", b"[]", new=True)
    assert any_store.get("format.json") == b"{}"
    any_store.put("odd/with space & <angle> ünï+%41", b"")
    assert [(found.key, found.size) for found in any_store.list("")] == [
        ("format.json", 2), ("odd/with space & <angle> ünï+%41", 0), ("packs/ab/one", 5),
    ]  # fmt: skip
    assert [found.key for found in any_store.list("packs/")] == ["packs/ab/one"]
    assert all(abs(found.modified - any_store.now()) < 60 for found in any_store.list(""))
    any_store.delete("packs/ab/one")
    any_store.delete("packs/ab/one")
    assert any_store.size("packs/ab/one") is None
    for act in (any_store.get, lambda key: any_store.read_into(key, 0, memoryview(bytearray(1)))):
        with pytest.raises(Missing):
            act("packs/ab/one")


def test_a_listing_of_many_pages_is_whole(store: S3Store, server: ObjectServer) -> None:
    for number in range(2_345):
        (server.folder / "bucket/some/prefix/many").mkdir(parents=True, exist_ok=True)
        (server.folder / f"bucket/some/prefix/many/{number:05}").write_bytes(b"x")
    assert [found.key for found in store.list("many/")] == [f"many/{n:05}" for n in range(2_345)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500), Fault(status=503, code="SlowDown", times=4), Fault(cut_after=0),
        Fault(cut_after=100_000, times=3), Fault(status=429, times=2),
    ],
    ids=["500", "slow down", "no body", "truncated", "429"],
)  # fmt: skip
def test_what_passes_is_retried(store: S3Store, server: ObjectServer, fault: Fault) -> None:
    data = os.urandom(1_000_000)
    store.put("one", data)
    server.faults.append(Fault(**{**fault.__dict__, "times": fault.times}))
    assert store.get("one") == data
    server.faults[:] = [Fault(**{**fault.__dict__, "method": "PUT", "cut_after": None})]
    store.put("one", data[::-1])
    assert store.get("one") == data[::-1]


def test_what_does_not_pass_is_an_error_that_says_what(
    store: S3Store, server: ObjectServer
) -> None:
    server.faults.append(Fault(method="PUT", status=503, code="SlowDown", times=1000))
    with pytest.raises(StoreError, match="503 SlowDown") as caught:
        store.put("one", b"x")
    assert caught.value.retryable
    server.faults[:] = [Fault(status=403, code="AccessDenied", times=1000)]
    with pytest.raises(Refused, match="AccessDenied") as refused:
        store.get("one")
    assert "very-secret" not in str(refused.value) + repr(store) + repr(CREDENTIALS)


def test_a_create_whose_answer_was_lost_is_known_again(
    store: S3Store, server: ObjectServer
) -> None:
    server.faults.append(Fault(method="PUT", lose_answer=True))
    store.put("lease", b"mine", new=True)
    server.faults.append(Fault(method="PUT", key="nothing"))
    with pytest.raises(AlreadyThere):
        store.put("lease", b"another's", new=True)
    assert store.get("lease") == b"mine"


def test_a_store_that_cannot_create_conditionally(store: S3Store, server: ObjectServer) -> None:
    refusal = Fault(method="PUT", status=501, code="NotImplemented")
    server.faults.append(refusal)
    store.put("format.json", b"mine", new=True)
    assert store.get("format.json") == b"mine"
    refusal.times = 1
    with pytest.raises(AlreadyThere):
        store.put("format.json", b"another's", new=True)
    assert store.get("format.json") == b"mine"


def test_whether_an_unanswered_create_was_ours_is_not_guessed(
    store: S3Store, server: ObjectServer
) -> None:
    server.faults += [
        Fault(method="PUT", lose_answer=True),
        Fault(method="GET", status=403, code="AccessDenied", times=100),
    ]
    with pytest.raises(Refused):
        store.put("lease", b"mine", new=True)


@pytest.mark.parametrize(
    "page",
    [
        b"<html><body>Please log in</body></html>",
        b"<ListBucketResult></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>other/key</Key>"
        b"<Size>1</Size><LastModified>2026-11-26T00:00:00Z</LastModified></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated>",
    ],
    ids=["a login page", "nothing", "no token", "what was not asked for", "half"],
)
def test_a_page_that_is_no_listing_is_never_an_empty_one(page: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(page)}\r\n\r\n".encode()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    while connection.recv(4000):
                        connection.sendall(head + page)

    threading.Thread(target=serve, daemon=True).start()
    lying = S3Store(
        endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", bucket="b", prefix="some",
        credentials=CREDENTIALS, pause=lambda seconds: None,
    )  # fmt: skip
    with listener, pytest.raises(StoreError, match="listing"):
        list(lying.list(""))


def test_a_clock_that_is_off_by_a_day(tmp_path: Path) -> None:
    with ObjectServer.running(tmp_path, clock_ahead_s=86_400, checks_clock=True) as server:
        store = made(server)
        store.put("one", b"data")
        assert store.get("one") == b"data"
        assert store.now() > time.time() + 80_000
        refused = [request for request in server.requests if request[0] == "PUT"]
        assert len(refused) == 2


def test_a_server_that_closes_idle_connections(store: S3Store, server: ObjectServer) -> None:
    store.put("one", b"data")
    for connection in store._pool._idle:
        connection._socket.shutdown(2)
    assert store.get("one") == b"data"


def test_many_threads_share_a_store(store: S3Store) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = bytes([number]) * 200_000
            for turn in range(10):
                store.put(f"{number}/{turn}", data)
                assert store.get(f"{number}/{turn}") == data
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_nobody_there() -> None:
    store = S3Store(
        endpoint="http://127.0.0.1:1", bucket="b", credentials=CREDENTIALS, pause=lambda s: None
    )
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1"):
        store.get("one")


def test_addresses(tmp_path: Path) -> None:
    env = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    assert isinstance(from_url(f"file://{tmp_path}", {}), DirectoryStore)
    assert "s3://bucket/a/b" in repr(from_url("s3://bucket/a/b?endpoint=https://host", env))
    for url, words in {
        "bucket/a": "not the address", "s3://": "not the address", "ftp://x/y": "not the address",
        "s3://b?endpiont=x": "no such option", "s3://b?endpoint=host:9000": "not the address",
    }.items():  # fmt: skip
        with pytest.raises(StoreError, match=words):
            from_url(url, env)
    with pytest.raises(StoreError, match="no credentials"):
        from_url("s3://b", {})
