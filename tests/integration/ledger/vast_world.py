"""simcloud's own billing of Vast.ai under a clock that tests move, behind the real adapter.

Only the processes are left out: an instance's states are set, its meters are simcloud's own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from activities.listing import Listing
from dumont.providers.gateway import Gateway
from dumont.providers.vast.adapter import VastProvider
from simcloud.store import Store
from simcloud.vast.billing import Billing, charge_rows
from simcloud.vast.host import Host, HostFactory
from simcloud.vast.instance import Instance
from simcloud.vast.instance_row import UNKNOWN_METRICS, instance_row

START = datetime(2026, 3, 28, 20, 0, tzinfo=UTC).timestamp()
PREFIX = "dmt-test-"

Status = Literal["loading", "running", "exited", "frozen", "rebooting"]


@dataclass
class VastWorld:
    """An account with a market of one host for each instance."""

    now: float = START
    page: int = 500
    """Lines of a bill at once."""
    instances: dict[int, Instance] = field(default_factory=dict)
    hosts: dict[int, Host] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.billing = Billing(Store(":memory:"), now=self.now)
        self._factory = HostFactory(random.Random(7))
        self.provider = VastProvider(
            url="http://vast.test",
            api_key="k",
            account="test",
            transport=httpx.MockTransport(self._answer),
            gateway=Gateway(provider="vast", account="test", limits={}),
        )

    # The owner's and the market's acts -----------------------------------------------------------

    def create(self, label: str | None, *, price: float = 0.4, disk_gb: float = 50) -> int:
        number = 24_000_001 + len(self.hosts)
        host = self._factory.make(
            gpu="RTX 4090", sizes=[1], machine_id=number, ask_ids=[number], address="127.1.2.3",
            now=self.now,
        )  # fmt: skip
        self.hosts[number] = host
        self.instances[number] = Instance(
            id=number, machine_id=number, slot=0, ask_id=number, label=label, image="i", env=[],
            onstart=None, runtype="ssh_direc ssh_proxy", disk_gb=disk_gb, is_bid=True, price=price,
            storage_cost=host.storage_cost, inet_up_cost=0.01, inet_down_cost=0.005,
            created_at=self.now, end_date=self.now + 1e8, address="127.1.2.3",
            host_ports={"22/tcp": 40000}, ssh_port=10000, api_key="k", jupyter_token="t", keys=[],
            billed_until=self.now, actual_status="loading",
        )  # fmt: skip
        return number

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self._meter()

    def becomes(self, number: int, status: Status) -> None:
        """Stop, start, outbid and the like, as the contract and the container show them."""
        self._meter()
        instance = self.instances[number]
        state = "stopped" if status == "exited" else "running"
        instance.cur_state = instance.next_state = instance.intended_status = state
        instance.actual_status = status
        instance.running_since = self.now if status == "running" else None

    def bid(self, number: int, price: float) -> None:
        self._meter()
        self.instances[number].price = price

    def host(self, number: int, *, online: bool) -> None:
        self._meter()
        self.hosts[number].online = online

    def traffic(self, number: int, up_gb: float, down_gb: float) -> None:
        self._meter()
        self.billing.traffic(
            self.instances[number], now=self.now, up_gb=up_gb, down_gb=down_gb, gpu_name="RTX 4090",
            num_gpus=1,
        )  # fmt: skip

    def destroy(self, number: int) -> None:
        self._meter()
        del self.instances[number]
        self.billing.forget(number)

    def bill(self, number: int) -> dict[str, float]:
        """simcloud's own total of one instance."""
        rows = [c for c in self.billing.charges(first=0, last=1e12) if c.instance == number]
        names = ("gpu_seconds", "gpu", "disk_seconds", "disk", "up", "down")
        return {name: sum(getattr(row, name) for row in rows) for name in names}

    # What clients see ------------------------------------------------------------------------------

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def taken_within(self, max_age_s: float) -> Listing:
        """As a `SharedListing`, by the world's own clock."""
        self._meter()
        found = await self.provider.list_instances(label_prefix=PREFIX)
        return Listing(instances=tuple(found), asked_at=self.at)

    def _meter(self) -> None:
        save: Callable[[Instance], None] = lambda instance: None  # noqa: E731
        for number, instance in self.instances.items():
            self.billing.meter(
                instance, now=self.now, online=self.hosts[number].online, gpu_name="RTX 4090",
                num_gpus=1, save=save,
            )  # fmt: skip

    def _row(self, number: int) -> dict[str, Any] | None:
        instance = self.instances.get(number)
        if instance is None:
            return None
        host = self.hosts[number]
        row = instance_row(
            instance, host, now=self.now, min_bid=0.1, metrics=UNKNOWN_METRICS,
            proxy_address="127.0.0.1", ports_hidden=False,
        )  # fmt: skip
        return row if host.online else row | {"actual_status": "offline"}

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path, query = request.url.path, request.url.params
        if path == "/api/v0/charges/":
            day = json.loads(query["select_filters"])["day"]
            rows = charge_rows(self.billing.charges(first=day["gte"], last=day["lte"]))
            return self._page(rows, query)
        if one := re.fullmatch(r"/api/v0/instances/(\d+)/", path):
            return httpx.Response(200, json={"instances": self._row(int(one[1]))})
        assert path == "/api/v1/instances/", path
        found = [self._row(number) for number in sorted(self.instances)]
        return httpx.Response(
            200, json={"instances": found, "next_token": None, "total_instances": len(found)}
        )

    def _page(self, rows: list[Any], query: httpx.QueryParams) -> httpx.Response:
        start = int(query.get("after_token", "0"))
        end = start + min(self.page, int(query["limit"]))
        token = str(end) if end < len(rows) else None
        return httpx.Response(200, json={"results": rows[start:end], "next_token": token})
