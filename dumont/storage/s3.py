"""Any S3-compatible store, at the speed of the connection.

Bodies travel from and into the caller's memory. Over TLS and to this machine itself they are not signed
(`UNSIGNED-PAYLOAD`): TLS guards them there, and what the snapshot engine stores authenticates itself.
Over plain HTTP they are.
"""

from __future__ import annotations

import email.utils
import hashlib
import ipaddress
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

from dumont.storage.errors import AlreadyThere, Missing, Refused, Short, StoreError
from dumont.storage.http import Answer, Pool
from dumont.storage.signature import EMPTY_SHA256, sign
from dumont.storage.store import Listed
from dumont.storage.tls import context

T = TypeVar("T")

_TRIES = 8
_PAUSE_S = (0.1, 10.0)
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_SMALL = 16 << 20
"""Longest answer to anything but a read: a page of a listing, an error."""
_LARGEST = 1 << 30
_SKEWED = "RequestTimeTooSkewed"
_PASSING = frozenset(
    {"SlowDown", "InternalError", "RequestTimeout", "IncompleteBody", "XAmzContentSHA256Mismatch"}
)
_EXPIRED = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_ELSEWHERE = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"})


@dataclass(frozen=True)
class Credentials:
    """Who asks. Never shown.

    Attributes:
        access_key_id: The public half.
        secret_access_key: The secret half.
        session_token: What temporary credentials come with.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class _Again(Exception):
    """It may work when asked again."""


class S3Store:
    """A bucket, or the part of one below a prefix.

    Args:
        endpoint: The store's URL.
        bucket: Its name.
        prefix: Put before every key; without a slash at its ends.
        credentials: Who asks; a function is asked each time, for those that expire.
        region: Stores outside Amazon take any.
        path_style: The bucket in the path; otherwise in the host's name.
        ca_file: Whose certificates to trust, in PEM; None: the system's choice.
        pause: Waits between tries, seconds; for tests.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        prefix: str = "",
        credentials: Credentials | Callable[[], Credentials],
        region: str = "us-east-1",
        path_style: bool = True,
        ca_file: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise StoreError(
                f"not the address of a store: {endpoint}", retryable=False,
                hint="https://HOST or http://HOST:PORT",
            )  # fmt: skip
        tls = context(ca_file) if parts.scheme == "https" else None
        host = parts.hostname if path_style else f"{bucket}.{parts.hostname}"
        self._pool = Pool(host, parts.port or (443 if tls else 80), tls=tls)
        name = f"[{host}]" if ":" in host else host
        self._origin = f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")
        self._base = f"/{quote(bucket)}" if path_style else ""
        self._prefix = f"{prefix}/" if prefix else ""
        self._credentials = credentials
        self._region = region
        self._signs_bodies = tls is None and not _is_here(parts.hostname)
        self._pause = pause
        self._offset = timedelta()
        """How much the store's clock is ahead of ours."""
        self._lock = threading.Lock()
        self._name = f"s3://{bucket}/{prefix}"

    def __repr__(self) -> str:
        return f"S3Store({self._name!r} at {self._origin!r})"

    def put(self, key: str, body: bytes | memoryview, *, new: bool = False) -> None:
        """See `Store.put`.

        A store that cannot create conditionally (Backblaze B2) is asked before whether there is one: of two
        that create it at the same moment, there both succeed.
        """

        def done(answer: Answer) -> None:
            self._judge(answer, key, 200)

        def created(answer: Answer) -> bool:
            if answer.status == 501:
                return False
            if answer.status in (409, 412):
                if answer.was_sent_twice and self._is(key, body):
                    return True  # an earlier try had arrived; its answer was lost
                if answer.status == 412:
                    raise AlreadyThere(f"{key} exists already")
            self._judge(answer, key, 200)
            return True

        if new:
            if self._call("PUT", key, created, headers={"if-none-match": "*"}, body=body):
                return
            if self.size(key) is not None:
                raise AlreadyThere(f"{key} exists already")
        self._call("PUT", key, done, body=body)

    def get(self, key: str) -> bytes:
        """See `Store.get`."""

        def done(answer: Answer) -> bytes:
            self._judge(answer, key, 200)
            return answer.read(limit=_LARGEST)

        return self._call("GET", key, done)

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """See `Store.read_into`."""
        if not len(buffer):
            return

        def done(answer: Answer) -> None:
            if answer.status == 416:
                raise Short(f"{key} ends before {offset + len(buffer)} bytes")
            self._judge(answer, key, 200, 206)
            skip = offset if answer.status == 200 else 0
            if answer.length is None:
                raise _Again("an answer without a length")
            if answer.length < skip + len(buffer):
                raise Short(f"{key} ends before {offset + len(buffer)} bytes")
            while skip:
                waste = bytearray(min(skip, _SMALL))
                answer.read_into(memoryview(waste))
                skip -= len(waste)
            answer.read_into(buffer)

        span = f"bytes={offset}-{offset + len(buffer) - 1}"
        self._call("GET", key, done, headers={"range": span})

    def size(self, key: str) -> int | None:
        """See `Store.size`."""

        def done(answer: Answer) -> int | None:
            if answer.status == 404:
                return None
            self._judge(answer, key, 200)
            if answer.length is None:
                raise _Again("an answer without a length")
            return answer.length

        return self._call("HEAD", key, done)

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Store.list`."""
        token: str | None = None
        while True:
            # No `encoding-type`: stores do not agree on whether a space comes as `+`.
            query = {"list-type": "2", "max-keys": "1000", "prefix": self._prefix + prefix}
            if token is not None:
                query["continuation-token"] = token
            page, token = self._call("GET", "", self._page, query=query)
            yield from page
            if token is None:
                return

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._call("DELETE", key, lambda answer: self._judge(answer, key, 200, 204, 404))

    def now(self) -> float:
        """See `Store.now`."""

        def done(answer: Answer) -> float:
            if answer.status >= 500:
                raise _Again(f"status {answer.status}")
            moment = _date(answer)
            if moment is None:
                raise StoreError("the store does not say what time it is", retryable=False)
            return moment.timestamp()

        return self._call("HEAD", "", done)

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    # One call ---------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        key: str,
        done: Callable[[Answer], T],
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | memoryview = b"",
    ) -> T:
        path = f"{self._base}/" + (quote(self._prefix + key, safe="/-_.~") if key else "")
        target = path + ("?" + urlencode(sorted(query.items()), quote_via=quote) if query else "")
        problem = ""
        for number in range(_TRIES):
            if number:
                most = min(_PAUSE_S[1], _PAUSE_S[0] * 2**number)
                self._pause(random.uniform(most / 2, most))  # noqa: S311 - to spread retries
            try:
                signed = self._signed(method, target, headers or {}, body)
                with self._pool.request(method, target, signed, body) as answer:
                    answer.was_sent_twice |= number > 0
                    return done(answer)
            except ssl.SSLCertVerificationError as error:
                raise StoreError(
                    f"{self._origin} is not who it says: {error.verify_message}", retryable=False,
                    hint="AWS_CA_BUNDLE=FILE names the certificates to trust",
                ) from error  # fmt: skip
            except (OSError, _Again) as error:
                problem = str(error) or type(error).__name__
        raise StoreError(
            f"the store at {self._origin} does not do {method} {key or self._name}: {problem}",
            hint="is it up, and is its address right?",
        )

    def _signed(
        self, method: str, target: str, headers: dict[str, str], body: bytes | memoryview
    ) -> dict[str, str]:
        found = self._credentials
        who = found() if callable(found) else found
        if not body:
            digest = EMPTY_SHA256
        else:
            digest = hashlib.sha256(body).hexdigest() if self._signs_bodies else "UNSIGNED-PAYLOAD"
        if who.session_token is not None:
            headers = {**headers, "x-amz-security-token": who.session_token}
        return sign(
            method=method,
            url=self._origin + target,
            access_key_id=who.access_key_id,
            secret_access_key=who.secret_access_key,
            region=self._region,
            payload_sha256=digest,
            at=datetime.now(timezone.utc) + self._offset,
            headers=headers,
        )

    def _judge(self, answer: Answer, key: str, *good: int) -> None:
        """Pass a good answer; raise what a bad one means."""
        if answer.status in good:
            return
        code, words = _error(answer)
        if code == _SKEWED or (answer.status == 403 and self._is_skewed(answer)):
            self._learn_clock(answer)
            raise _Again("our clock is wrong")
        if answer.status in _AGAIN or code in _PASSING:
            raise _Again(f"{answer.status} {code}".strip())
        said = f"{answer.status} {code}: {words}".strip(": ")
        if code == "NoSuchBucket":
            raise StoreError(
                f"{self._name}: there is no such bucket", retryable=False, hint="create it"
            )
        if answer.status == 404:
            raise Missing(f"{key} is missing")
        if code in _ELSEWHERE or answer.status in (301, 307):
            there = answer.headers.get("x-amz-bucket-region")
            raise StoreError(
                f"{self._name} is not here: {said}", retryable=False,
                hint=f"set region={there}" if there else "set the region or endpoint of the bucket",
            )  # fmt: skip
        if answer.status in (401, 403) or code in _EXPIRED:
            raise Refused(
                f"the store does not let us use {key or self._name}: {said}",
                hint="are the credentials right, not expired, and allowed to do this?",
            )
        raise StoreError(f"the store answered to {key}: {said}", retryable=False)

    def _is_skewed(self, answer: Answer) -> bool:
        moment = _date(answer)
        ours = datetime.now(timezone.utc) + self._offset
        return moment is not None and abs(moment - ours) > timedelta(minutes=10)

    def _learn_clock(self, answer: Answer) -> None:
        moment = _date(answer)
        if moment is not None:
            with self._lock:
                self._offset = moment - datetime.now(timezone.utc)

    def _is(self, key: str, body: bytes | memoryview) -> bool:
        try:
            return self.get(key) == bytes(body)
        except Missing:
            return False

    def _page(self, answer: Answer) -> tuple[tuple[Listed, ...], str | None]:
        self._judge(answer, "", 200)
        try:
            root = _xml(answer.read(limit=_SMALL))
            if _local(root) != "ListBucketResult":
                raise ValueError(f"it is a {_local(root)}")
            found = tuple(self._listed(each) for each in root.iter() if _local(each) == "Contents")
            facts = {_local(each): each.text or "" for each in root}
            more = {"true": True, "false": False}[facts["IsTruncated"]]
        except (ElementTree.ParseError, ValueError, KeyError) as error:
            raise _Again(f"a listing that cannot be read: {error}") from None
        if more and not facts.get("NextContinuationToken"):
            raise StoreError("the store's listing breaks off", retryable=False)
        return found, facts["NextContinuationToken"] if more else None

    def _listed(self, element: ElementTree.Element) -> Listed:
        facts = {_local(each): each.text or "" for each in element}
        if not facts["Key"].startswith(self._prefix):
            raise ValueError(f"{facts['Key']} was not asked for")
        # Without the fraction of a second, of which stores give any number of digits.
        modified = datetime.fromisoformat(facts["LastModified"][:19]).replace(tzinfo=timezone.utc)
        return Listed(facts["Key"][len(self._prefix) :], int(facts["Size"]), modified.timestamp())


def _xml(data: bytes) -> ElementTree.Element:
    """A document without a DTD: nothing in it can stand for more than it says. Raises ValueError."""
    if b"<!DOCTYPE" in data:
        raise ValueError("a document with a DTD")
    return ElementTree.fromstring(data)  # noqa: S314 - see above


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _date(answer: Answer) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _error(answer: Answer) -> tuple[str, str]:
    """Code and message of an answer that says no."""
    try:
        root = _xml(answer.read(limit=_SMALL)) if not answer.is_over else None
    except (ElementTree.ParseError, ValueError, OSError):
        return "", ""
    if root is None:
        return "", ""
    facts = {_local(each): each.text or "" for each in root}
    return facts.get("Code", ""), facts.get("Message", "")[:300]


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
