"""Loans from a Security Token Service: Amazon's, MinIO's, SeaweedFS's, Ceph's."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timezone
from urllib.parse import urlencode
from xml.etree import ElementTree

from dumont.storage.calls import ask
from dumont.storage.credentials import Loan, Scope, policy
from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials
from dumont.storage.signature import sign

_SECONDS = (900, 43_200)
"""What `AssumeRole` takes."""


class StsBroker:
    """Assumes a role, narrowed by a policy for the scope: what is allowed is what both allow.

    Args:
        endpoint: Of the service: `https://sts.REGION.amazonaws.com`, or the store's own elsewhere.
        account: Who may assume the role.
        role: Its ARN; None where a store lends an account's own rights (MinIO, SeaweedFS).
        region: Stores outside Amazon take any.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        account: Credentials,
        role: str | None = None,
        region: str = "us-east-1",
    ) -> None:
        self._url = endpoint.rstrip("/") + "/"
        self._account = account
        self._role = role
        self._region = region

    def lend(self, scope: Scope, *, holder: str, seconds: int) -> Loan:
        """See `Broker.lend`."""
        form = {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleSessionName": re.sub(r"[^\w+=,.@-]", "-", f"dumont-{holder}", flags=re.ASCII)[:64],
            "DurationSeconds": str(max(_SECONDS[0], min(_SECONDS[1], seconds))),
            "Policy": json.dumps(policy(scope), separators=(",", ":")),
        }
        if self._role is not None:
            form["RoleArn"] = self._role
        body = urlencode(form).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if self._account.session_token is not None:
            headers["x-amz-security-token"] = self._account.session_token
        signed = sign(
            method="POST",
            url=self._url,
            access_key_id=self._account.access_key_id,
            secret_access_key=self._account.secret_access_key,
            region=self._region,
            service="sts",
            payload_sha256=hashlib.sha256(body).hexdigest(),
            headers=headers,
        )
        return _loan(ask("POST", self._url, signed, body))


def _loan(answer: bytes) -> Loan:
    try:
        if b"<!DOCTYPE" in answer:
            raise ValueError
        found = {
            each.tag.rpartition("}")[2]: each.text or ""
            for each in ElementTree.fromstring(answer).iter()  # noqa: S314 - without a DTD
        }
        expires = datetime.fromisoformat(found["Expiration"][:19]).replace(tzinfo=timezone.utc)
        credentials = Credentials(
            found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
        )
    except (ElementTree.ParseError, ValueError, KeyError):
        raise StoreError(
            "the token service answered with no credentials", retryable=False
        ) from None
    return Loan(credentials, expires)
