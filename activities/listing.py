"""One listing of a provider account for everybody who wants to know.

Vast.ai lists a whole account in one call but answers single look-ups only every two seconds. So
nobody asks about one instance: all activities of a worker share one listing, taken when the newest
is too old for somebody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from dumont.domain.instances import Instance
from dumont.ports import InstanceProvider


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Every instance of ours at one moment."""

    instances: tuple[Instance, ...]
    asked_at: datetime
    """When the request left: everything that happened before is in it."""

    def labelled(self, label: str) -> list[Instance]:
        """Those with exactly this label, oldest first."""
        found = [i for i in self.instances if i.label == label]
        return sorted(found, key=_age)


def _age(instance: Instance) -> tuple[float, str]:
    created = instance.created_at
    return (created.timestamp() if created else float("inf"), instance.instance_id)


class SharedListing:
    """Coalesces listings of one provider account.

    Args:
        provider: Whom to ask.
        label_prefix: Only instances of this deployment.
        monotonic: A clock, seconds.
    """

    def __init__(
        self,
        provider: InstanceProvider,
        *,
        label_prefix: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._prefix = label_prefix
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._newest: tuple[float, Listing] | None = None

    async def taken_within(self, max_age_s: float) -> Listing:
        """A listing whose request left at most `max_age_s` ago; 0 asks anew.

        Whoever waited behind somebody else's request is served by it when that request left after
        the wait began.

        Raises:
            ProviderError: As `GpuProvider.list_instances`.
        """
        oldest = self._monotonic() - max_age_s
        async with self._lock:
            if self._newest is not None and self._newest[0] >= oldest:
                return self._newest[1]
            asked = self._monotonic()
            asked_at = datetime.now(UTC)
            found = await self._provider.list_instances(label_prefix=self._prefix)
            listing = Listing(instances=tuple(found), asked_at=asked_at)
            self._newest = (asked, listing)
            return listing
