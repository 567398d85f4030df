"""The S3 client and lent credentials against SeaweedFS, which checks signatures and policies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from dumont.storage.credentials import CredentialsFile, Loan, Scope
from dumont.storage.errors import AlreadyThere, Missing, Refused, Short, StoreError
from dumont.storage.s3 import Credentials, S3Store
from dumont.storage.sts import StsBroker
from tests.support.seaweed import KEY, seaweed, store_at

SIGNING_KEY = os.urandom(32)
SCOPE = Scope("snapshots", "owners/mine")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("s3"), signing_key=SIGNING_KEY) as running:
        yield running


@pytest.fixture(scope="module")
def loan(endpoint: str) -> Loan:
    return lent(endpoint, SCOPE)


def lent(endpoint: str, scope: Scope) -> Loan:
    broker = StsBroker(endpoint=endpoint, account=KEY)
    return broker.lend(scope, holder="machine/my box", seconds=900)


def acts(store: S3Store) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: store.get("there"),
        "read a part": lambda: store.read_into("there", 0, memoryview(bytearray(1))),
        "look": lambda: store.size("there"),
        "list": lambda: list(store.list("")),
        "write": lambda: store.put("new", b"x"),
        "overwrite": lambda: store.put("there", b"x"),
        "create": lambda: store.put(f"{time.monotonic_ns()}", b"x", new=True),
        "delete": lambda: store.delete("there"),
    }


def test_the_store_keeps_its_word(endpoint: str) -> None:
    store = store_at(endpoint, prefix="odd prefix/with +&%41 ünï")
    data = os.urandom(9_000_000)
    store.put("packs/ab/one", memoryview(data))
    assert store.get("packs/ab/one") == data
    assert store.size("packs/ab/one") == len(data)
    part = memoryview(bytearray(5_000_000))
    store.read_into("packs/ab/one", 3_999_999, part)
    assert part == data[3_999_999:8_999_999]
    for offset, length in ((len(data) - 10, 20), (len(data) + 10, 20)):
        with pytest.raises(Short):
            store.read_into("packs/ab/one", offset, memoryview(bytearray(length)))
    store.put("format.json", b"{}", new=True)
    with pytest.raises(AlreadyThere):
        store.put("format.json", b"[]", new=True)
    assert store.get("format.json") == b"{}"
    assert [(found.key, found.size) for found in store.list("")] == [
        ("format.json", 2), ("packs/ab/one", len(data)),
    ]  # fmt: skip
    assert all(abs(found.modified - store.now()) < 60 for found in store.list(""))
    for _ in range(2):
        store.delete("packs/ab/one")
    assert store.size("packs/ab/one") is None
    with pytest.raises(Missing):
        store.get("packs/ab/one")


def test_listings_of_many_pages_are_whole_and_in_order(endpoint: str) -> None:
    store = store_at(endpoint, prefix="many")
    keys = [f"packs/{number % 256:02x}/{number:05}" for number in range(1_200)]
    for key in keys:
        store.put(key, b"")
    found = [listed.key for listed in store.list("packs/")]
    assert found == sorted(keys)
    assert [listed.key for listed in store.list("packs/0a/")] == [
        key for key in sorted(keys) if key.startswith("packs/0a/")
    ]


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (Credentials(KEY.access_key_id, "not the secret"), "SignatureDoesNotMatch"),
        (Credentials("nobody", "x"), "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_are_refused_at_once(
    endpoint: str, credentials: Credentials, words: str
) -> None:
    with pytest.raises(Refused, match=words) as caught:
        store_at(endpoint, prefix="x", credentials=credentials).put("one", b"x")
    assert "credentials" in caught.value.hint
    assert KEY.secret_access_key not in str(caught.value)


def test_a_bucket_that_is_missing_is_not_an_empty_one(endpoint: str) -> None:
    store = S3Store(endpoint=endpoint, bucket="nowhere", credentials=KEY)
    with pytest.raises(StoreError, match="no such bucket"):
        list(store.list(""))


def test_a_loan_opens_its_prefix(endpoint: str, loan: Loan) -> None:
    assert timedelta(minutes=14) < loan.expires - datetime.now(UTC) <= timedelta(minutes=15)
    mine = store_at(endpoint, prefix=SCOPE.prefix, credentials=loan.credentials)
    mine.put("there", b"x")
    for act in acts(mine).values():
        act()
    assert mine.size("there") is None
    assert abs(mine.now() - time.time()) < 60


@pytest.mark.parametrize("prefix", ["owners/other", "owners", "", "owners/mine-too", "owners/min"])
def test_a_loan_opens_nothing_else(endpoint: str, loan: Loan, prefix: str) -> None:
    store_at(endpoint, prefix=prefix).put("there", b"another's")
    for name, act in acts(store_at(endpoint, prefix=prefix, credentials=loan.credentials)).items():
        with pytest.raises(Refused):
            pytest.fail(f"it may {name}: {act()}")
    assert store_at(endpoint, prefix=prefix).get("there") == b"another's"


def test_a_loan_for_a_restore_writes_nothing(endpoint: str) -> None:
    account = store_at(endpoint, prefix=SCOPE.prefix)
    account.put("there", b"kept")
    loan = lent(endpoint, Scope(SCOPE.bucket, SCOPE.prefix, writes=False))
    for name, act in acts(
        store_at(endpoint, prefix=SCOPE.prefix, credentials=loan.credentials)
    ).items():
        if name in ("read", "read a part", "look", "list"):
            act()
            continue
        with pytest.raises(Refused):
            pytest.fail(f"it may {name}: {act()}")
    assert account.get("there") == b"kept"


def test_a_loan_ends(endpoint: str, loan: Loan) -> None:
    """No store lends for less than a quarter of an hour. What ends it is the time in its token: the same
    token is signed again with the store's own key, once as it is, once with a second ago as its end.
    """
    token = loan.credentials.session_token
    assert token is not None
    claims = jwt.decode(token, SIGNING_KEY, algorithms=["HS256"])
    assert claims["exp"] == loan.expires.timestamp()

    def ending(moment: float) -> S3Store:
        made = jwt.encode({**claims, "exp": int(moment)}, SIGNING_KEY, algorithm="HS256")
        who = loan.credentials
        again = Credentials(who.access_key_id, who.secret_access_key, made)
        return store_at(endpoint, prefix=SCOPE.prefix, credentials=again)

    ending(claims["exp"]).put("one", b"x")
    for act in acts(ending(time.time() - 1)).values():
        with pytest.raises(Refused):
            act()


def test_a_loan_that_is_replaced_meanwhile(endpoint: str, loan: Loan, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(loan.document())
    store = S3Store(
        endpoint=endpoint, bucket=SCOPE.bucket, prefix=SCOPE.prefix,
        credentials=CredentialsFile(path),
    )  # fmt: skip
    store.put("one", b"x")
    fresh = tmp_path / "fresh"
    fresh.write_text(lent(endpoint, Scope(SCOPE.bucket, "elsewhere")).document())
    fresh.replace(path)
    with pytest.raises(Refused):
        store.put("one", b"x")


def test_who_may_not_lend(endpoint: str) -> None:
    broker = StsBroker(endpoint=endpoint, account=Credentials(KEY.access_key_id, "wrong"))
    with pytest.raises(Refused, match="403"):
        broker.lend(SCOPE, holder="box", seconds=900)
