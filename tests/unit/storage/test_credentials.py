"""Loans: bound to a prefix, written to a file, read from it; and the brokers that make them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from dumont.storage.b2 import B2Broker
from dumont.storage.credentials import Broker, CredentialsFile, Loan, Scope, policy
from dumont.storage.errors import Refused, StoreError
from dumont.storage.r2 import R2Broker
from dumont.storage.s3 import Credentials
from dumont.storage.sts import StsBroker
from dumont.storage.url import from_url

ACCOUNT = Credentials("account-key", "account-secret")
SCOPE = Scope("bucket", "owners/o-1/machines")


# Scopes and their policies --------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["", "/a", "a/", "a//b", "a*", "a?", "${aws:username}", "a b", "a\n", "ü"]
)
def test_a_prefix_that_could_mean_more_is_no_scope(prefix: str) -> None:
    with pytest.raises(StoreError, match="cannot be bound"):
        Scope("bucket", prefix)


def allowed(scope: Scope, action: str) -> list[str]:
    """The resources of an action."""
    statements = policy(scope)["Statement"]
    assert {each["Effect"] for each in statements} == {"Allow"}
    return [r for each in statements if action in each["Action"] for r in each["Resource"]]


def test_the_policy_of_a_scope_names_its_prefix_and_nothing_else() -> None:
    inside = ["arn:aws:s3:::bucket/owners/o-1/machines/*"]
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert allowed(SCOPE, action) == inside
    assert allowed(SCOPE, "s3:ListBucket") == ["arn:aws:s3:::bucket"]
    (listing,) = [each for each in policy(SCOPE)["Statement"] if "Condition" in each]
    assert listing["Action"] == ["s3:ListBucket"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["owners/o-1/machines/*"]}}
    every = {action for each in policy(SCOPE)["Statement"] for action in each["Action"]}
    assert not [action for action in every if "*" in action]
    assert len(json.dumps(policy(Scope("b" * 63, "p/" * 250 + "p")))) < 2048  # the most STS takes


def test_the_policy_of_a_restore_only_reads() -> None:
    reading = Scope("bucket", "a", writes=False)
    assert allowed(reading, "s3:GetObject")
    every = {action for each in policy(reading)["Statement"] for action in each["Action"]}
    assert every == {"s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"}


# The file -------------------------------------------------------------------------------------

LOAN = Loan(Credentials("id", "secret", "token"), datetime(2026, 11, 26, 12, tzinfo=UTC))


def test_a_loan_travels_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(LOAN.document())
    found = CredentialsFile(path)
    assert found() == LOAN.credentials
    fresh = tmp_path / "fresh"
    fresh.write_text(Loan(Credentials("id2", "secret2"), LOAN.expires).document())
    fresh.replace(path)
    assert found() == Credentials("id2", "secret2")
    assert json.loads(LOAN.document())["Expiration"] == "2026-11-26T12:00:00+00:00"
    assert "secret" not in repr(LOAN).replace("secret_access_key", "")
    assert "token" not in repr(LOAN)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"AccessKeyId": "a", "SecretAccessKey": null}'])
def test_a_file_that_holds_none_says_what_belongs_there(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    store = from_url(
        "s3://bucket/a?endpoint=http://127.0.0.1:1",
        {"DUMONT_SNAP_CREDENTIALS_FILE": str(path)},
    )
    with pytest.raises(StoreError, match="holds no credentials") as caught:
        store.get("one")
    assert "AccessKeyId" in caught.value.hint
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.get("one")


# Brokers, against services played at the wire -------------------------------------------------


@dataclass
class Service:
    """Answers what it is told to, and keeps what it was asked."""

    answers: dict[str, tuple[int, str]]
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(answers: Callable[[str], dict[str, tuple[int, str]]]) -> Iterator[Service]:
    service = Service({})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            service.asked.append((self.command, self.path, headers, body))
            status, said = service.answers.get(self.path, (404, "no such call"))
            self.send_response(status)
            self.send_header("content-length", str(len(said.encode())))
            self.end_headers()
            self.wfile.write(said.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    service.answers = answers(service.url)
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def backblaze(url: str) -> dict[str, tuple[int, str]]:
    return {
        "/b2api/v3/b2_authorize_account": (
            200,
            json.dumps(
                {
                    "accountId": "acc",
                    "authorizationToken": "session-token",
                    "apiInfo": {"storageApi": {"apiUrl": url, "s3ApiUrl": "https://s3"}},
                }
            ),
        ),
        "/b2api/v3/b2_list_buckets": (
            200,
            json.dumps({"buckets": [{"bucketId": "b-1", "bucketName": "bucket"}]}),
        ),
        "/b2api/v3/b2_create_key": (
            200,
            json.dumps(
                {
                    "applicationKeyId": "key",
                    "applicationKey": "key-secret",
                    "expirationTimestamp": 1_795_722_664_000,
                }
            ),
        ),
    }


def test_backblaze_makes_a_key_for_the_prefix() -> None:
    with serving(backblaze) as service:
        broker: Broker = B2Broker(account=ACCOUNT, endpoint=service.url)
        loan = broker.lend(SCOPE, holder="machine/my box", seconds=3600)
    assert loan.credentials == Credentials("key", "key-secret")
    assert loan.expires.timestamp() == 1_795_722_664
    authorize, buckets, create = service.asked
    assert authorize[2]["authorization"] == "Basic YWNjb3VudC1rZXk6YWNjb3VudC1zZWNyZXQ="
    assert json.loads(buckets[3]) == {"accountId": "acc", "bucketName": "bucket"}
    assert create[2]["authorization"] == "session-token"
    assert json.loads(create[3]) == {
        "accountId": "acc",
        "capabilities": ["listFiles", "readFiles", "writeFiles", "deleteFiles"],
        "keyName": "machine-my-box",
        "bucketId": "b-1",
        "namePrefix": "owners/o-1/machines/",
        "validDurationInSeconds": 3600,
    }


def test_backblaze_for_a_restore_only_reads() -> None:
    with serving(backblaze) as service:
        B2Broker(account=ACCOUNT, endpoint=service.url).lend(
            Scope("bucket", "a", writes=False), holder="box", seconds=60
        )
    assert json.loads(service.asked[-1][3])["capabilities"] == ["listFiles", "readFiles"]


def test_backblaze_without_the_bucket() -> None:
    with serving(backblaze) as service, pytest.raises(StoreError, match="no such bucket"):
        B2Broker(account=ACCOUNT, endpoint=service.url).lend(
            Scope("other", "a"), holder="box", seconds=60
        )
    assert len(service.asked) == 2  # no key was made


CLOUDFLARE = "/client/v4/accounts/acc/r2/temp-access-credentials"


def cloudflare(url: str) -> dict[str, tuple[int, str]]:
    result = {"accessKeyId": "key", "secretAccessKey": "key-secret", "sessionToken": "token"}
    document = {"success": True, "errors": [], "messages": [], "result": result}
    return {CLOUDFLARE: (200, json.dumps(document))}


def test_cloudflare_lends_for_the_prefix() -> None:
    began = datetime.now(UTC)
    with serving(cloudflare) as service:
        broker: Broker = R2Broker(
            account_id="acc", token="api-token", parent_key_id="parent", endpoint=service.url
        )
        loan = broker.lend(SCOPE, holder="box", seconds=10**9)
    assert loan.credentials == Credentials("key", "key-secret", "token")
    week = timedelta(days=7)  # the most that Cloudflare lends
    assert began + week <= loan.expires <= datetime.now(UTC) + week
    (asked,) = service.asked
    assert asked[2]["authorization"] == "Bearer api-token"
    assert json.loads(asked[3]) == {
        "bucket": "bucket",
        "parentAccessKeyId": "parent",
        "permission": "object-read-write",
        "prefixes": ["owners/o-1/machines/"],
        "ttlSeconds": 604_800,
    }


def test_amazon_assumes_a_role_with_the_policy() -> None:
    answer = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
        "<Credentials><AccessKeyId>key</AccessKeyId><SecretAccessKey>key-secret</SecretAccessKey>"
        "<SessionToken>token</SessionToken><Expiration>2026-11-26T19:51:04Z</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    with serving(lambda url: {"/": (200, answer)}) as service:
        role = "arn:aws:iam::123456789012:role/snapshots"
        broker: Broker = StsBroker(
            endpoint=service.url, account=ACCOUNT, role=role, region="eu-west-1"
        )
        loan = broker.lend(SCOPE, holder="machine/my box", seconds=60)
    assert loan == Loan(
        Credentials("key", "key-secret", "token"), datetime(2026, 11, 26, 19, 51, 4, tzinfo=UTC)
    )
    (asked,) = service.asked
    assert "/eu-west-1/sts/aws4_request" in asked[2]["authorization"]
    form = {name: value for name, (value,) in parse_qs(asked[3]).items()}
    assert json.loads(form.pop("Policy")) == policy(SCOPE)
    assert form == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": "dumont-machine-my-box",
        "DurationSeconds": "900",
    }


BROKERS: dict[str, Callable[[str], Broker]] = {
    "/": lambda url: StsBroker(endpoint=url, account=ACCOUNT),
    "/b2api/v3/b2_authorize_account": lambda url: B2Broker(account=ACCOUNT, endpoint=url),
    CLOUDFLARE: lambda url: R2Broker(
        account_id="acc", token="api-token", parent_key_id="parent", endpoint=url
    ),
}


@pytest.mark.parametrize("path", BROKERS)
@pytest.mark.parametrize(
    ("status", "said", "kind", "retryable"),
    [
        (401, "who are you?", Refused, False), (403, "not you", Refused, False),
        (400, "what?", StoreError, False), (429, "later", StoreError, True),
        (503, "later", StoreError, True), (200, "{}", StoreError, False),
        (200, "<a/>", StoreError, None), (200, "[]", StoreError, None),
    ],
)  # fmt: skip
def test_a_loan_that_cannot_be_had_says_why(
    path: str, status: int, said: str, kind: type[StoreError], retryable: bool | None
) -> None:
    with serving(lambda url: {path: (status, said)}) as service:
        with pytest.raises(kind) as caught:
            BROKERS[path](service.url).lend(SCOPE, holder="box", seconds=900)
        if status != 200:
            assert said in str(caught.value)
        if retryable is not None:
            assert caught.value.retryable is retryable
        shown = str(caught.value) + caught.value.hint
        assert "account-secret" not in shown
        assert "api-token" not in shown
    with pytest.raises(StoreError, match="does not answer") as gone:
        BROKERS[path](service.url).lend(SCOPE, holder="box", seconds=900)
    assert gone.value.retryable
