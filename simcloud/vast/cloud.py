"""Everything behind the Vast.ai API, wired: what the endpoints work on."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from simcloud.context import CloudContext
from simcloud.faults import FaultRule
from simcloud.machines import processes
from simcloud.vast.account import Account
from simcloud.vast.auth import ApiKeys
from simcloud.vast.billing import Billing
from simcloud.vast.catalog import CPUS
from simcloud.vast.fleet import Fleet
from simcloud.vast.instance import Instance
from simcloud.vast.instance_row import UNKNOWN_METRICS, Metrics, Row, instance_row, metrics_of
from simcloud.vast.knobs import KnobStore
from simcloud.vast.limits import RateLimits, SearchQuota
from simcloud.vast.market import Market
from simcloud.vast.outages import Outages
from simcloud.vast.price_increases import PriceIncreases
from simcloud.vast.roster import Roster
from simcloud.vast.tenancy import Tenancy
from simcloud.vast.webhooks import Webhooks

log = logging.getLogger(__name__)

_BILLING_SECONDS = 1.0
_SAMPLING_SECONDS = 1.0
_HISTORY_SECONDS = 300.0
_RESULT_READY_S = 0.2
_RESULT_KEPT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Text that a client fetches in a second step."""

    text: str
    made_at: float


class VastCloud:
    """One account on one marketplace."""

    def __init__(self, context: CloudContext) -> None:
        self.context = context
        now = context.clock.now()
        self.knobs = KnobStore(context.store)
        self.market = Market(
            store=context.store,
            clock=context.clock,
            addresses=context.addresses,
            rng=context.rng,
            knobs=self.knobs,
        )
        self.billing = Billing(context.store, now=now)
        self.account = Account(context.store, now=now)
        self.webhooks = Webhooks(context.store, user_id=self.account.user_id, knobs=self.knobs)
        self.roster = Roster(
            context,
            market=self.market,
            billing=self.billing,
            knobs=self.knobs,
            notify=self._notify,
        )
        self.tenancy = Tenancy(self.roster)
        self.outages = Outages(self.roster, self.tenancy)
        self.fleet = Fleet(self.roster, self.tenancy)
        self.price_increases = PriceIncreases(context.store, roster=self.roster)
        self.keys = ApiKeys(context.store, now=now)
        self.limits = RateLimits(self.knobs, strict=context.settings.strict)
        self.quota = SearchQuota(context.store, context.clock, self.knobs)
        self._metrics: dict[int, tuple[float, Metrics]] = {}
        self._results: dict[str, _Result] = {}

    def row(self, instance: Instance, *, fault: FaultRule | None = None) -> Row:
        """Return an instance's row, spoiled by a fault if one is given."""
        host = self.roster.host_of(instance)
        slot = host.slots[instance.slot]
        row = instance_row(
            instance,
            host,
            now=self.context.clock.now(),
            min_bid=self.market.min_bid(host, slot),
            metrics=self._metrics_of(instance),
            proxy_address=self.roster.containers.proxy_address,
            ports_hidden=self.roster.containers.ports_hidden(instance),
        )
        match fault.effect if fault is not None else None:
            case "metrics_null":
                row.update(dict.fromkeys(Metrics.model_fields))
            case "metrics_unknown":
                row.update(dict.fromkeys(Metrics.model_fields, -1))
            case "trailing_newline":
                row["public_ipaddr"] += "\n"
        return row

    def publish(self, text: str) -> str:
        """Keep a text for a while and return the URL where it can be fetched, without a key."""
        now = time.monotonic()
        self._results = {
            token: result
            for token, result in self._results.items()
            if now - result.made_at < _RESULT_KEPT_S
        }
        token = secrets.token_urlsafe(24)
        self._results[token] = _Result(text=text, made_at=now)
        return f"{self.context.vast_url}/api/v0/results/{token}.txt"

    def result(self, token: str) -> str | None:
        """Return a published text, or None while it is not ready or unknown."""
        found = self._results.get(token)
        if found is None or time.monotonic() - found.made_at < _RESULT_READY_S:
            return None
        return found.text

    async def run(self) -> None:
        """Let the market move and the meters count, for ever."""
        await asyncio.gather(
            self._every(self.context.settings.market_tick, self.market.tick),
            self._every(_BILLING_SECONDS, self.fleet.bill_all),
            self._every(_SAMPLING_SECONDS, self._sample),
            self._every(_HISTORY_SECONDS, self.market.record_history),
        )

    async def close(self) -> None:
        """Bill what ran, stop everything under way."""
        await self.webhooks.close()
        await self.roster.close()

    @staticmethod
    async def _every(seconds: float, act: object) -> None:
        assert callable(act)
        while True:
            await asyncio.sleep(seconds)
            try:
                act()
            except Exception:
                log.exception("%s failed", act)

    def _notify(self, slug: str, instance: Instance) -> None:
        self.webhooks.notify(slug, instance_id=instance.id, label=instance.label)

    def _metrics_of(self, instance: Instance) -> Metrics:
        if instance.fixed_metrics is not None:
            return Metrics.model_validate(instance.fixed_metrics)
        return self._metrics.get(instance.id, (0.0, UNKNOWN_METRICS))[1]

    def _sample(self) -> None:
        """Take the hosts' reports; what is published is as old as the real one may be."""
        table: dict[int, processes.ProcessStat] | None = None
        now, lag = time.monotonic(), self.knobs.values.metrics_lag_seconds
        for instance in self.roster.listed():
            if not instance.running:
                self._metrics.pop(instance.id, None)
                continue
            known = self._metrics.get(instance.id)
            if known is not None and now - known[0] < lag and known[1].gpu_util is not None:
                continue
            table = table or processes.snapshot()
            usage = self.context.machines.usage(instance.name, table=table)
            if usage is None:
                continue
            host = self.roster.host_of(instance)
            share = host.slots[instance.slot].num_gpus / host.num_gpus
            threads = CPUS[host.cpu][1] * share
            report = metrics_of(usage, disk_gb=instance.disk_gb, threads=threads)
            self._metrics[instance.id] = (now, report)
