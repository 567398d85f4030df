"""Loans from Cloudflare R2: temporary credentials bound to a prefix."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from dumont.storage.calls import ask
from dumont.storage.credentials import Loan, Scope
from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials

_SECONDS = (1, 604_800)


class R2Broker:
    """Asks Cloudflare's API.

    Args:
        account_id: Of Cloudflare.
        token: An API token that may edit R2.
        parent_key_id: The access key whose rights are lent.
        endpoint: Of Cloudflare's API.
    """

    def __init__(
        self,
        *,
        account_id: str,
        token: str,
        parent_key_id: str,
        endpoint: str = "https://api.cloudflare.com",
    ) -> None:
        account = quote(account_id, safe="")
        self._url = (
            f"{endpoint.rstrip('/')}/client/v4/accounts/{account}/r2/temp-access-credentials"
        )
        self._token = token
        self._parent = parent_key_id

    def lend(self, scope: Scope, *, holder: str, seconds: int) -> Loan:
        """See `Broker.lend`. R2 keeps no record of holders."""
        lasts = max(_SECONDS[0], min(_SECONDS[1], seconds))
        wanted = {
            "bucket": scope.bucket,
            "parentAccessKeyId": self._parent,
            "permission": "object-read-write" if scope.writes else "object-read-only",
            "prefixes": [f"{scope.prefix}/"],
            "ttlSeconds": lasts,
        }
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        # R2 does not say when they end: counted from before it was asked, they never end earlier.
        expires = datetime.now(timezone.utc) + timedelta(seconds=lasts)
        answer = ask("POST", self._url, headers, json.dumps(wanted).encode())
        try:
            made = json.loads(answer)["result"]
            credentials = Credentials(
                made["accessKeyId"], made["secretAccessKey"], made["sessionToken"]
            )
        except (ValueError, KeyError, TypeError):
            raise StoreError("Cloudflare answered with no credentials", retryable=False) from None
        return Loan(credentials, expires)
