"""`KeepLedger`: what it writes down by itself, and what it does when a provider or a worker is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.ledger import BillActivities, LedgerActivities, Metered, StoragePrice
from activities.listing import SharedListing
from activities.rentals import RentalActivities, RentalEventActivities, listed_prices
from dumont.domain.errors import ProviderUnavailable
from dumont.domain.events import EventKind
from dumont.domain.instances import Charge, InstanceOrder, InstanceState
from dumont.domain.ledger import Basis, Item
from dumont.domain.metering import Role
from dumont.domain.rental_events import RentalEvent
from dumont.temporal.client import data_converter
from dumont.temporal.failures import ErrorInterceptor
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from tests.support.binaries import binary
from tests.support.fakes import FakeCloud
from tests.support.ledger import MemoryLedger, MemoryRentals
from tests.workflows.conftest import KEYS
from worker.roles import sandbox
from workflows.ledger import KeepLedger, KeepLedgerInput

MACHINE = "m000000000001"
LABEL = f"dmt-test-{MACHINE}-g1-a1"
EAGER = KeepLedgerInput(env="test", confirm_s=0, bills_every_s=0)


@dataclass
class Billing(FakeCloud):
    """A cloud that bills."""

    bill: list[Charge] = field(default_factory=list)
    read: int = 0
    on_bill: Any = None

    async def charges(self, *, since: datetime, until: datetime) -> list[Charge]:
        self.read += 1
        if self.on_bill is not None:
            raise self.on_bill
        return self.bill


@dataclass
class Books:
    """A Temporal server, the workers that keep a ledger, and the world they look at."""

    env: WorkflowEnvironment
    cloud: Billing = field(default_factory=Billing)
    rentals: MemoryRentals = field(default_factory=lambda: MemoryRentals({MACHINE: "u1"}))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    turns: int = 0

    async def turn(self, input: KeepLedgerInput = EAGER) -> Metered:
        self.turns += 1
        return await self.env.client.execute_workflow(
            KeepLedger.run, input, id=f"ledger-{self.turns}", task_queue=CONTROL
        )

    async def rent(self, label: str = LABEL) -> str:
        order = InstanceOrder(offer_id="1001", label=label, image="i", disk_gb=1, onstart="true")
        return await self.cloud.create(order)

    def charge(self, instance_id: str, usd: float = 0.25, label: str | None = None) -> None:
        start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.cloud.bill.append(
            Charge(
                instance_id=instance_id,
                kind="gpu",
                usd=usd,
                start=start,
                label=label,
                hours=0.001,
                end=start + timedelta(seconds=3.6),
            )
        )

    def workers(self) -> list[Worker]:
        clock = count(step=100.0)  # no listing is so new that it will do again
        listing = SharedListing(self.cloud, label_prefix="dmt-test-", monotonic=lambda: next(clock))
        noting = RentalActivities(
            provider=self.cloud, listing=listing, store=self.rentals, role=Role.GPU,
            price=listed_prices,
        )  # fmt: skip
        bills = BillActivities(bills=self.cloud, rentals=self.rentals, ledger=self.ledger)
        metering = LedgerActivities(
            rentals=self.rentals, ledger=self.ledger, storage=StoragePrice(None, "none")
        )
        events = RentalEventActivities(store=self.rentals)
        control = Worker(
            self.env.client, task_queue=CONTROL, workflows=[KeepLedger], workflow_runner=sandbox(),
            activities=[metering.meter_lines, events.follow_events], interceptors=[ErrorInterceptor()],
        )  # fmt: skip
        vast = Worker(
            self.env.client, task_queue=PROVIDER_VAST, interceptors=[ErrorInterceptor()],
            activities=[noting.note_rentals, bills.import_bills],
        )  # fmt: skip
        return [control, vast]


@asynccontextmanager
async def _open() -> AsyncIterator[Books]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"),
        data_converter=data_converter(KEYS),
    ) as env:
        books = Books(env)
        control, vast = books.workers()
        async with control, vast:
            yield books


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with _open() as made:
        yield made


async def test_what_is_rented_is_metered_and_then_billed(books: Books):
    mine = await books.rent()
    await books.rent("somebody's own")
    await books.turn()
    [rental] = books.rentals.rentals.values()
    assert (rental.resource_id, rental.machine_id, rental.owner_id) == (mine, MACHINE, "u1")
    books.charge(mine)
    books.charge("99", usd=1000.0, label="somebody's own")
    await books.turn()
    [gpu] = books.ledger.of(mine, Item.GPU)
    assert (gpu.billed_usd, gpu.owner_id) == (0.25, "u1")
    assert {entry.resource_id for entry in books.ledger.lines.values()} == {mine}


async def test_an_end_is_seen_and_the_bill_read_at_once(books: Books):
    mine = await books.rent()
    slow = EAGER.model_copy(update={"bills_every_s": 3600.0})
    await books.turn(slow)
    assert books.cloud.read == 1
    await books.turn(slow)
    assert books.cloud.read == 1, "not at every turn"
    await books.cloud.destroy(mine)
    await books.turn(slow)
    [rental] = books.rentals.rentals.values()
    assert (rental.ended_at, books.cloud.read) == (None, 1), "one listing is no proof"
    await books.turn(slow)
    [rental] = books.rentals.rentals.values()
    assert (rental.ended_by, rental.ended_at) == ("missing", rental.missing_since)
    assert books.cloud.read == 2


async def test_a_provider_that_is_away_keeps_nothing_else_from_being_written(books: Books):
    mine = await books.rent()
    await books.turn()
    books.cloud.on_list = _fail
    books.rentals.events.append(_ended(mine))
    await books.turn()
    assert books.rentals.rentals[("vast", mine)].ended_by == "event"
    assert books.cloud.read == 1, "no bill is asked for either"
    assert books.ledger.of(mine, Item.DISK)


async def test_a_bill_that_cannot_be_had_leaves_what_we_saw(books: Books):
    mine = await books.rent()
    books.cloud.on_bill = ProviderUnavailable("no bill", provider="vast")
    await books.turn()
    assert books.cloud.read == 1, "the next round asks again, not this one"
    assert books.rentals.marks == {}, "it is not read"
    books.cloud.set_state(mine, InstanceState.RUNNING)
    await books.turn()
    assert {e.basis for e in books.ledger.lines.values()} <= {Basis.METERED}
    assert books.rentals.rentals


async def test_a_queue_that_nobody_serves_costs_a_moment_and_no_line(books: Books):
    mine = await books.rent()
    input = EAGER.model_copy(update={"queues": (PROVIDER_VAST, PROVIDER_GCP), "unserved_s": 1.0})
    await books.turn(input)
    assert ("vast", mine) in books.rentals.rentals


async def test_one_that_came_and_went_between_two_listings_is_known_from_the_event_log(
    books: Books,
):
    at = datetime.now(UTC) - timedelta(minutes=2)
    books.rentals.intents[LABEL] = ("vast", at)
    rented = RentalEvent(
        seq=1, key="rung/g1/a1/rented", kind=EventKind.RUNG, at=at, machine_id=MACHINE, owner_id="u1",
        env="test", generation=1, data={"rung": "rented", "attempt": 1, "detail": "77"},
    )  # fmt: skip
    other = rented.model_copy(update={"seq": 2, "data": {"rung": "running", "attempt": 1}})
    ended = _ended("77", seq=3, at=at + timedelta(seconds=20))
    books.rentals.events += [rented, other, ended]
    await books.turn()
    rental = books.rentals.rentals[("vast", "77")]
    assert (rental.label, rental.ended_at) == (LABEL, at + timedelta(seconds=20))
    [disk] = books.ledger.of("77", Item.DISK)
    assert (disk.seconds, disk.usd) == (20, None), "its price was never seen"


def _ended(instance_id: str, *, seq: int = 1, at: datetime | None = None) -> RentalEvent:
    return RentalEvent(
        seq=seq, key=f"end/{LABEL}/{instance_id}", kind=EventKind.INSTANCE_ENDED,
        at=at or datetime.now(UTC), machine_id=MACHINE, owner_id="u1", env="test", generation=0,
        data={"instance_id": instance_id, "label": LABEL},
    )  # fmt: skip


def _fail() -> None:
    raise ProviderUnavailable("no listing", provider="vast")
