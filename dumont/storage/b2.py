"""Loans from Backblaze B2: application keys bound to a prefix, which expire by themselves.

A key whose answer was lost on the way is known to nobody and dies with its term.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timezone
from typing import Any

from dumont.storage.calls import ask
from dumont.storage.credentials import Loan, Scope
from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials

_LONGEST_S = 86_400 * 999
_READS = ("listFiles", "readFiles")
_WRITES = ("writeFiles", "deleteFiles")


class B2Broker:
    """Creates application keys.

    Args:
        account: A key of the account with the capabilities `writeKeys` and `listBuckets`.
        endpoint: Of Backblaze's API.
    """

    def __init__(
        self, *, account: Credentials, endpoint: str = "https://api.backblazeb2.com"
    ) -> None:
        self._account = account
        self._endpoint = endpoint.rstrip("/")

    def lend(self, scope: Scope, *, holder: str, seconds: int) -> Loan:
        """See `Broker.lend`."""
        who = f"{self._account.access_key_id}:{self._account.secret_access_key}".encode()
        session = _object(
            ask(
                "GET",
                f"{self._endpoint}/b2api/v3/b2_authorize_account",
                {"authorization": f"Basic {base64.b64encode(who).decode()}"},
            )
        )
        try:
            account_id = session["accountId"]
            url = f"{session['apiInfo']['storageApi']['apiUrl']}/b2api/v3"
            headers = {
                "authorization": str(session["authorizationToken"]),
                "content-type": "application/json",
            }
            asked = json.dumps({"accountId": account_id, "bucketName": scope.bucket}).encode()
            buckets = _object(ask("POST", f"{url}/b2_list_buckets", headers, asked))["buckets"]
            ids = [each["bucketId"] for each in buckets if each["bucketName"] == scope.bucket]
            if not ids:
                raise StoreError(
                    f"{scope.bucket}: there is no such bucket", retryable=False, hint="create it"
                )
            wanted = {
                "accountId": account_id,
                "capabilities": [*_READS, *(_WRITES if scope.writes else ())],
                "keyName": re.sub(r"[^A-Za-z0-9-]", "-", holder)[:100] or "-",
                "bucketId": ids[0],
                "namePrefix": f"{scope.prefix}/",
                "validDurationInSeconds": max(1, min(_LONGEST_S, seconds)),
            }
            body = json.dumps(wanted).encode()
            made = _object(ask("POST", f"{url}/b2_create_key", headers, body))
            credentials = Credentials(made["applicationKeyId"], made["applicationKey"])
            expires = datetime.fromtimestamp(made["expirationTimestamp"] / 1000, timezone.utc)
        except (KeyError, TypeError) as error:
            raise StoreError(f"Backblaze did not say its {error}", retryable=False) from None
        return Loan(credentials, expires)


def _object(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError("Backblaze answered with what is not JSON")
    return found
