"""The bucket that holds owners' repositories, and loans for parts of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from dumont.config import Settings
from dumont.domain.errors import PreconditionFailed
from dumont.storage.b2 import B2Broker
from dumont.storage.credentials import Broker, Loan, Scope
from dumont.storage.r2 import R2Broker
from dumont.storage.s3 import Credentials, S3Store
from dumont.storage.store import Store
from dumont.storage.sts import StsBroker

LOAN_S: Final = 4 * 3_600
"""How long a machine's credentials are good; a longer transfer gets newer ones meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One bucket of an S3 store, with the account's credentials. They never leave this process."""

    endpoint: str
    machines_endpoint: str
    """The same store as rented machines reach it."""
    name: str
    region: str
    account: Credentials = field(repr=False)
    broker: Broker

    def store(self, owner_id: str) -> Store:
        """An owner's part of it, with the account's rights."""
        return S3Store(
            endpoint=self.endpoint,
            bucket=self.name,
            prefix=_prefix(owner_id),
            credentials=self.account,
            region=self.region,
        )

    def url(self, owner_id: str) -> str:
        """An owner's part of it, as machines reach it."""
        options = urlencode({"endpoint": self.machines_endpoint, "region": self.region})
        return f"s3://{self.name}/{_prefix(owner_id)}?{options}"

    def lend(self, owner_id: str, *, holder: str, writes: bool) -> tuple[Loan, float]:
        """Credentials for an owner's part alone, and how many seconds they are good.

        Raises:
            StoreError: They cannot be had.
        """
        scope = Scope(self.name, _prefix(owner_id), writes=writes)
        loan = self.broker.lend(scope, holder=holder, seconds=LOAN_S)
        return loan, (loan.expires - datetime.now(UTC)).total_seconds()


def bucket_of(settings: Settings) -> Bucket | None:
    """The bucket of a deployment; None when it has no store.

    Raises:
        PreconditionFailed: What is set does not make one; says what is missing.
    """
    if settings.s3_url is None:
        return None
    secret = settings.s3_secret_access_key
    if not settings.s3_access_key_id or secret is None:
        raise PreconditionFailed(
            "the object store has no credentials",
            field="AWS_ACCESS_KEY_ID",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or leave S3_ENDPOINT_URL out",
        )
    account = Credentials(settings.s3_access_key_id, secret.get_secret_value())
    return Bucket(
        endpoint=settings.s3_url,
        machines_endpoint=settings.s3_machines_url or settings.s3_url,
        name=settings.s3_bucket,
        region=settings.s3_region,
        account=account,
        broker=_broker(settings, account),
    )


def _broker(settings: Settings, account: Credentials) -> Broker:
    if settings.s3_lending == "b2":
        return B2Broker(account=account)
    if settings.s3_lending == "r2":
        token = settings.r2_api_token
        if settings.r2_account_id is None or token is None:
            raise PreconditionFailed(
                "R2 lends credentials through Cloudflare's API, which needs an account and a token",
                field="R2_API_TOKEN",
                hint="set R2_ACCOUNT_ID and R2_API_TOKEN (a token that may edit R2)",
            )
        return R2Broker(
            account_id=settings.r2_account_id,
            token=token.get_secret_value(),
            parent_key_id=account.access_key_id,
        )
    assert settings.s3_url is not None
    return StsBroker(
        endpoint=settings.sts_url or settings.s3_url,
        account=account,
        role=settings.s3_role_arn,
        region=settings.s3_region,
    )


def _prefix(owner_id: str) -> str:
    return f"owners/{owner_id}"
