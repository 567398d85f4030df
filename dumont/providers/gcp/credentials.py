"""How we prove to Google who we are. Imports Google's libraries: import it only when building a client.

Given a service account, Google's client would sign its own tokens for Google's own address, whatever
`token_uri` the account names, and ask `iamcredentials.googleapis.com` in the background which regions
the account may use, token in hand, whatever endpoint the client was given. `_TokenCredentials` does
neither: it fetches tokens where the account says and adds nothing to requests but the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.auth import credentials as base
from google.oauth2.service_account import Credentials as ServiceAccount

from dumont.domain.errors import AuthFailed
from dumont.providers.gcp.errors import PROVIDER

SCOPE = "https://www.googleapis.com/auth/compute"

_Base: Any = base.Credentials
_Anonymous: Any = base.AnonymousCredentials
_ServiceAccount: Any = ServiceAccount


class _TokenCredentials(_Base):  # type: ignore[misc]
    """Access tokens of a service account."""

    def __init__(self, account: Any) -> None:
        super().__init__()
        self._account = account

    def refresh(self, request: Any) -> None:
        """Fetch a new token. Called by Google's transport."""
        self._account.refresh(request)
        self.token = self._account.token
        self.expiry = self._account.expiry


def service_account(info: Mapping[str, Any]) -> Any:
    """Credentials of a service account, from the JSON that Google made for its key.

    Raises:
        AuthFailed: It is not such a JSON.
    """
    try:
        account = _ServiceAccount.from_service_account_info(dict(info), scopes=[SCOPE])
    except (ValueError, TypeError, AttributeError) as error:
        raise AuthFailed(
            f"the Google service account cannot be used: {error}",
            provider=PROVIDER,
            field="GCP_CREDENTIALS",
            hint="it must be the whole JSON file that Google made for the account's key",
        ) from None
    return _TokenCredentials(account)


def anonymous() -> Any:
    """No credentials at all."""
    return _Anonymous()
