"""Short look-ups for the API.

The API never calls a provider itself: every call of an account passes through the one rate-limit
gateway in its provider worker, and these carry the question there.
"""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.accounts import AccountActivities, AccountStatus
    from activities.instances import InstanceActivities
    from activities.market import Browse, Browsed, MarketActivities
    from activities.mirroring import FlushAsk, MirrorActivities
    from dumont.domain.protection import Barrier
    from dumont.temporal.queues import PROVIDER_VAST
    from workflows.options import LOOKUP, ONCE


@workflow.defn
class BrowseOffers:
    """What the market rents now."""

    @workflow.run
    async def run(self, ask: Browse) -> Browsed:
        """Ask the market once, or twice when it stumbles."""
        return await workflow.execute_activity_method(
            MarketActivities.browse_offers, ask, task_queue=PROVIDER_VAST, **LOOKUP
        )


@workflow.defn
class FetchLogs:
    """The output of one instance."""

    @workflow.run
    async def run(self, instance_id: str) -> str:
        """Ask the provider for it."""
        return await workflow.execute_activity_method(
            InstanceActivities.fetch_logs, instance_id, task_queue=PROVIDER_VAST, **LOOKUP
        )


@workflow.defn
class ProviderAccounts:
    """Whether the provider accepts our key, and how much money is left."""

    @workflow.run
    async def run(self) -> list[AccountStatus]:
        """Ask each provider that is configured."""
        return await workflow.execute_activity_method(
            AccountActivities.account_status, task_queue=PROVIDER_VAST, **LOOKUP
        )


@workflow.defn
class Flush:
    """The barrier of a machine, for somebody who waits for it."""

    @workflow.run
    async def run(self, ask: FlushAsk) -> Barrier:
        """Return once everything written before is on the standby."""
        return await workflow.execute_activity_method(
            MirrorActivities.flush, ask, summary=f"flush {ask.machine_id}", **ONCE
        )
