"""Asking providers who we are there. Costs nothing, changes nothing."""

from __future__ import annotations

from temporalio import activity

from dumont.domain.errors import ProviderError
from dumont.domain.instances import Message, ProviderAccount
from dumont.ports import GpuProvider


class AccountStatus(Message):
    """How one provider account answered."""

    provider: str
    account: ProviderAccount | None
    """None when it did not answer."""
    error_code: str | None = None
    error: str | None = None


class AccountActivities:
    """Reads of provider accounts."""

    def __init__(self, *, provider: GpuProvider) -> None:
        self._provider = provider

    @activity.defn
    async def account_status(self) -> list[AccountStatus]:
        """Each account's state; an error is an answer here, not a failure."""
        try:
            account = await self._provider.account_status()
        except ProviderError as error:
            return [
                AccountStatus(
                    provider=self._provider.name,
                    account=None,
                    error_code=error.code,
                    error=error.message,
                )
            ]
        return [AccountStatus(provider=self._provider.name, account=account)]
