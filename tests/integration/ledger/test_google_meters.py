"""The ledger against simcloud's own meters of Google: a minute at least, to the second, to the cent."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from activities.ledger import LedgerActivities, StoragePrice
from activities.listing import Listing, SharedListing
from activities.rentals import NoteRentals, RentalActivities
from dumont.domain.instances import Instance
from dumont.domain.ledger import Basis, Entry, Item
from dumont.domain.metering import Prices, RentalRecord, Role
from dumont.ports import VmOrder
from dumont.providers.gcp.adapter import GcpProvider
from dumont.providers.gcp.fleet import VmFleet
from dumont.providers.gcp.mapping import instance_from
from dumont.providers.gcp.price_list import PriceList
from dumont.security.ssh import new_machine_secrets
from simcloud.gcp import prices, wire
from simcloud.gcp.ledger import Ledger
from simcloud.gcp.machine_types import find_machine_type
from simcloud.store import Store
from tests.support.cloud import SimCloud
from tests.support.ledger import MemoryLedger, MemoryRentals
from worker.compose_ledger import standby_prices

ZONE, REGION = "us-central1-a", "us-central1"
MACHINE = "m000000000001"
NAME = f"dmt-test-{MACHINE}-g1-a1"
START = datetime(2026, 3, 28, 20, 0, tzinfo=UTC).timestamp()


def agrees(meters: list[dict[str, Any]], lines: list[Entry]) -> None:
    """Seconds within one of the meters' own, dollars within a cent."""

    def metered(what: str, *skus: str) -> float:
        return math.fsum(m[what] for m in meters if m["sku"] in skus)

    def mine(item: Item) -> tuple[float, float]:
        of = [line for line in lines if line.item is item]
        assert all(line.usd is not None for line in of)
        return math.fsum(line.seconds for line in of), math.fsum(line.usd or 0 for line in of)

    for item, sku, paid in (
        (Item.VM, "core", ("core", "ram")),
        (Item.VM_DISK, "disk", ("disk",)),
        (Item.ADDRESS, "address", ("address",)),
    ):
        seconds, usd = mine(item)
        assert seconds == pytest.approx(metered("seconds", sku), abs=1), item
        assert usd == pytest.approx(metered("dollars", *paid), abs=0.01), item
    assert {line.basis for line in lines} <= {Basis.LISTED}


# Under a clock that the test moves --------------------------------------------------------------


@dataclass
class GoogleWorld:
    """simcloud's meters and what Google would show of one VM. Also the clock of both."""

    at: float = START
    running: bool = False
    exists: bool = True
    last_start: float | None = None
    last_stop: float | None = None
    name: str = "gcp"

    def __post_init__(self) -> None:
        self.ledger = Ledger(store=Store(":memory:"), clock=self)  # type: ignore[arg-type]
        self.deleted: float | None = None
        self._open(
            "disk", "disk-1", 20.0, prices.disk_price(disk_type="pd-balanced", region=REGION)
        )

    def now(self) -> float:
        return self.at

    def start(self) -> None:
        if self.running or not self.exists:
            return
        self.running, self.last_start = True, self.at
        kind = find_machine_type("e2-small")
        assert kind is not None
        unit = prices.compute_price(family="e2", region=REGION, spot=True)
        self._open("core", "vm-1", kind.billed_cores, unit.core)
        self._open("ram", "vm-1", kind.memory_mb / 1024, unit.ram_gb)
        self._open("address", "vm-1", 1.0, prices.address_price(spot=True))

    def stop(self) -> None:
        if self.running:
            self.running, self.last_stop = False, self.at
            self.ledger.close(resource_id="vm-1")

    def delete(self) -> None:
        self.stop()
        if self.exists:
            self.exists, self.deleted = False, self.at
            self.ledger.close(resource_id="disk-1")

    def _open(self, sku: str, resource: str, quantity: float, price: float) -> None:
        self.ledger.open(
            resource="x", resource_id=resource, region=REGION, sku=sku, model="SPOT",
            quantity=quantity, unit_price=price,
        )  # fmt: skip

    def shown(self) -> Instance:
        from google.cloud import compute_v1

        def text(moment: float | None) -> str | None:
            return None if moment is None else wire.timestamp(moment)

        return instance_from(
            compute_v1.Instance(
                id=7,
                name=NAME,
                status="RUNNING" if self.running else "TERMINATED",
                zone=f"https://x/zones/{ZONE}",
                machine_type=f"https://x/zones/{ZONE}/machineTypes/e2-small",
                scheduling=compute_v1.Scheduling(provisioning_model="SPOT"),
                disks=[compute_v1.AttachedDisk(disk_size_gb=20, boot=True)],
                creation_timestamp=wire.timestamp(START),
                last_start_timestamp=text(self.last_start),
                last_stop_timestamp=text(self.last_stop),
            )
        )

    # As a provider, its listing, its price list and its record of deletions.

    async def taken_within(self, max_age_s: float) -> Listing:
        asked_at = datetime.fromtimestamp(self.at, UTC)
        return Listing(instances=(self.shown(),) if self.exists else (), asked_at=asked_at)

    async def get(self, instance_id: str) -> Instance | None:
        return self.shown() if self.exists else None

    async def price(self, vm: Instance) -> Prices:
        unit = prices.compute_price(family="e2", region=REGION, spot=True)
        kind = find_machine_type(vm.machine_type or "")
        assert kind is not None
        disk = prices.disk_price(disk_type="pd-balanced", region=REGION) * (vm.disk_gb or 0)
        return Prices(unit.of(kind), disk, prices.address_price(spot=True), "simcloud")

    async def ended(self, rental: RentalRecord) -> datetime | None:
        return None if self.deleted is None else datetime.fromtimestamp(self.deleted, UTC)


@dataclass
class Keeping:
    """The ledger that is kept of it."""

    noting: RentalActivities
    rentals: MemoryRentals
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    async def turn(self) -> None:
        ask = NoteRentals(env="test", max_age_s=0)
        await ActivityEnvironment().run(self.noting.note_rentals, ask)
        metering = LedgerActivities(
            rentals=self.rentals, ledger=self.ledger, storage=StoragePrice(None, "none")
        )
        await ActivityEnvironment().run(metering.meter_lines)


ACTS = st.lists(
    st.tuples(st.sampled_from(["start", "stop", "wait"]), st.floats(1, 40_000), st.booleans()),
    min_size=1,
    max_size=16,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTS)
def test_whatever_a_vm_does_its_lines_are_the_meters(acts: list[tuple[str, float, bool]]):
    async def run() -> None:
        world = GoogleWorld()
        rentals = MemoryRentals(machines={MACHINE: "u1"})
        noting = RentalActivities(
            provider=world, listing=world, store=rentals, role=Role.STANDBY,  # type: ignore[arg-type]
            price=world.price, end=world.ended,
        )  # fmt: skip
        keeping = Keeping(noting, rentals)
        await keeping.turn()
        for act, span, late in acts:
            if act == "start":
                world.start()
            elif act == "stop":
                world.stop()
            if late:
                world.at += min(span, 59)  # up to a minute passes before we look
            await keeping.turn()
            world.at += span
        await keeping.turn()
        agrees(world.ledger.report()["meters"], list(keeping.ledger.lines.values()))
        world.delete()
        for _ in range(3):
            world.at += 40
            await keeping.turn()
        lines = list(keeping.ledger.lines.values())
        agrees(world.ledger.report()["meters"], lines)
        [rental] = rentals.rentals.values()
        assert rental.ended_by == "provider"

    asyncio.run(run())


async def test_an_end_that_google_does_not_date_is_asked_for_less_and_less_often():
    world = GoogleWorld()
    rentals = MemoryRentals(machines={MACHINE: "u1"})
    asked: list[float] = []
    told: list[datetime] = []

    async def end(rental: RentalRecord) -> datetime | None:
        asked.append(world.at)
        return told[0] if told else None

    noting = RentalActivities(
        provider=world, listing=world, store=rentals, role=Role.STANDBY, price=world.price,  # type: ignore[arg-type]
        end=end,
    )  # fmt: skip

    async def minutes(count: int) -> None:
        for _ in range(count):
            world.at += 60
            await ActivityEnvironment().run(noting.note_rentals, NoteRentals(env="test"))

    await minutes(1)
    world.delete()
    await minutes(12)
    assert len(asked) >= 3, "soon, at first"
    await minutes(23 * 60)
    assert len(asked) < 24
    assert max(b - a for a, b in itertools.pairwise(asked)) <= 2 * 3600 + 60
    told.append(datetime.fromtimestamp(world.deleted or 0, UTC))
    [rental] = rentals.rentals.values()
    # Another process knows nothing of what was asked, and asks at once.
    noting = RentalActivities(
        provider=world, listing=world, store=rentals, role=Role.STANDBY, price=world.price,  # type: ignore[arg-type]
        end=end,
    )  # fmt: skip
    await minutes(1)
    [rental] = rentals.rentals.values()
    assert (rental.ended_by, rental.ended_at) == ("provider", told[0])


# Over the wire ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.1,0.2") as running:
        yield running


@pytest.fixture
async def provider(cloud: SimCloud) -> AsyncIterator[GcpProvider]:
    credentials = json.loads(Path(cloud.summary["gcp_credentials"]).read_text())
    found = GcpProvider(credentials=credentials, url=cloud.gcp_url)
    yield found
    found.close()


async def test_a_standbys_life_costs_what_the_cloud_says(cloud: SimCloud, provider: GcpProvider):
    catalogue = PriceList(url=cloud.gcp_url)
    fleet = VmFleet(provider, account="p")
    rentals = MemoryRentals(machines={MACHINE: "u1"})

    async def price(vm: Instance) -> Prices:
        return await standby_prices(catalogue, vm)

    async def end(rental: RentalRecord) -> datetime | None:
        return await provider.deletions.ended_at(
            zone=rental.region or "", instance_id=rental.resource_id
        )

    noting = RentalActivities(
        provider=fleet,
        listing=SharedListing(fleet, label_prefix="dmt-test-"),
        store=rentals,
        role=Role.STANDBY,
        price=price,
        end=end,
    )
    keeping = Keeping(noting, rentals)
    key = new_machine_secrets(MACHINE).access_key_public

    await provider.insert(VmOrder(name=NAME, zone=ZONE, ssh_keys=(key,)))
    await provider.insert(VmOrder(name="somebody-elses", zone=ZONE, ssh_keys=(key,)))
    await keeping.turn()
    await provider.stop(zone=ZONE, name=NAME)  # after seconds: a minute is paid
    await keeping.turn()
    cloud.control.advance(600)
    await provider.start(zone=ZONE, name=NAME)
    await keeping.turn()
    cloud.control.advance(30 * 3600)
    await provider.delete(zone=ZONE, name=NAME)
    ask = NoteRentals(env="test", confirm_s=0, max_age_s=0)
    for _ in range(2):
        await ActivityEnvironment().run(noting.note_rentals, ask)
    await keeping.turn()

    ours = {rental.resource_id for rental in rentals.rentals.values()}
    assert len(ours) == 1, "nothing of anybody else's is noted"
    meters = cloud.control.get("/gcp/ledger")["meters"]
    vms = [m for m in meters if m["resource"] == f"instances/{ZONE}/{NAME}"]
    disks = [m for m in meters if m["resource"] == f"disks/{ZONE}/{NAME}"]
    lines = list(keeping.ledger.lines.values())
    agrees([*vms, *disks], lines)
    assert len({line.day for line in lines}) >= 2
    assert all("Cloud Billing Catalog" in line.source for line in lines)
