"""The ledger against simcloud's own billing of Vast.ai: the same seconds, the same cents, once."""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from activities.ledger import (
    METER_FOR_S,
    BillActivities,
    ImportBills,
    LedgerActivities,
    StoragePrice,
)
from activities.rentals import NoteRentals, RentalActivities, listed_prices
from dumont.db.engine import Database
from dumont.db.ledger import LinesWanted, PostgresLedger
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.rentals import PostgresRentals
from dumont.domain.errors import ProviderUnavailable
from dumont.domain.instances import Charge, InstanceState
from dumont.domain.ledger import Basis, Entry, Item, audit
from dumont.domain.metering import RentalRecord, Role, Seen
from tests.integration.db.conftest import record, spec
from tests.integration.ledger.vast_world import PREFIX, VastWorld
from tests.support.ledger import MemoryLedger, MemoryRentals

MACHINES = [f"m{n:012x}" for n in range(1, 4)]
STRANGERS = ("somebody's run", "dmt-prod-m000000000001-g1-a1", "dmt-test-mffffffffffff-g1-a1", None)


@dataclass
class Keeping:
    """A world, and the ledger kept of it."""

    world: VastWorld = field(default_factory=VastWorld)
    rentals: Any = None
    ledger: Any = None

    def __post_init__(self) -> None:
        self.rentals = self.rentals or MemoryRentals(machines=dict.fromkeys(MACHINES, "u1"))
        self.ledger = self.ledger or MemoryLedger(rentals=self.rentals)
        provider = self.world.provider
        self.noting = RentalActivities(
            provider=provider, listing=self.world, store=self.rentals, role=Role.GPU,  # type: ignore[arg-type]
            price=listed_prices,
        )  # fmt: skip
        self.bills = BillActivities(bills=provider, rentals=self.rentals, ledger=self.ledger)
        self.metering = LedgerActivities(
            rentals=self.rentals, ledger=self.ledger, storage=StoragePrice(None, "none")
        )

    async def look(self) -> None:
        await ActivityEnvironment().run(self.noting.note_rentals, NoteRentals(env="test"))

    async def read(self) -> None:
        ask = ImportBills(env="test", at_once=True, now=self.world.at)
        await ActivityEnvironment().run(self.bills.import_bills, ask)

    async def write(self) -> None:
        await ActivityEnvironment().run(self.metering.meter_lines)


def label(number: int, attempt: int) -> str:
    return f"{PREFIX}{MACHINES[number]}-g1-a{attempt}"


def agrees(world: VastWorld, entries: list[Entry], instances: dict[int, str]) -> None:
    """Per instance: seconds within one, dollars within a cent of simcloud's own."""
    assert {e.resource_id for e in entries} <= {str(number) for number in instances}
    for number in instances:
        bill = world.bill(number)
        for item, seconds, usd in (
            (Item.GPU, "gpu_seconds", bill["gpu"]),
            (Item.DISK, "disk_seconds", bill["disk"]),
            (Item.TRAFFIC, None, bill["up"] + bill["down"]),
        ):
            mine = [e for e in entries if e.resource_id == str(number) and e.item is item]
            assert math.fsum(e.usd or 0 for e in mine) == pytest.approx(usd, abs=0.01), (
                number,
                item,
            )
            if seconds is not None:
                told = math.fsum(e.seconds for e in mine)
                assert told == pytest.approx(bill[seconds], abs=1), (number, item)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["create", "run", "stop", "outbid", "start", "bid", "offline", "online", "traffic",
             "reboot", "destroy", "stranger", "read"]
        ),
        st.integers(0, 2),
        st.floats(31, 50_000),
        st.floats(0.05, 3.0),
    ),
    min_size=3,
    max_size=25,
)  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTS)
def test_whatever_happens_the_ledger_has_the_seconds_and_cents_of_the_bill(
    acts: list[tuple[str, int, float, float]],
):
    asyncio.run(_whatever_happens(acts))


async def _whatever_happens(acts: list[tuple[str, int, float, float]]) -> None:
    keeping, instances = Keeping(), {}
    world = keeping.world
    for count, (act, number, span, price) in enumerate([*acts, ("read", 0, 31, 1.0)], start=1):
        alive = sorted(set(world.instances) & set(instances))
        which = alive[number % len(alive)] if alive else None
        if act == "create":
            name = label(number, count)
            instances[world.create(name, price=price, disk_gb=10 + 100 * price)] = name
        elif act == "stranger":
            stranger = world.create(STRANGERS[count % len(STRANGERS)], price=9.0)
            world.becomes(stranger, "running")
        elif act == "read":
            await keeping.read()
            await keeping.write()
        elif which is not None:
            _act(world, act, which, price)
        await keeping.look()
        world.advance(span)
        await keeping.look()
    await keeping.read()
    billed = list(keeping.ledger.lines.values())
    agrees(world, billed, instances)
    await keeping.read()
    assert list(keeping.ledger.lines.values()) == billed, "read twice is read once"
    await keeping.write()
    shown = list(keeping.ledger.lines.values())
    agrees(world, shown, instances)
    for difference in audit(shown):
        if difference.item in (Item.GPU, Item.DISK) and difference.billed_seconds:
            assert difference.seconds == pytest.approx(0, abs=1), (
                "we saw every change as it happened"
            )
            assert difference.usd == pytest.approx(0, abs=0.01)


def _act(world: VastWorld, act: str, which: int, price: float) -> None:
    if act in ("run", "start"):
        world.becomes(which, "running")
    elif act in ("stop", "outbid"):
        world.becomes(which, "exited")
    elif act == "reboot":
        world.becomes(which, "rebooting")
    elif act == "bid":
        world.bid(which, price)
    elif act in ("offline", "online"):
        world.host(which, online=act == "online")
    elif act == "traffic":
        world.traffic(which, up_gb=price, down_gb=3 * price)
    elif act == "destroy":
        world.destroy(which)


# The same in PostgreSQL, day by day -------------------------------------------------------------


@pytest.fixture
async def database(database_url: str) -> Any:
    opened = Database(database_url)
    store = PostgresMachineStore(opened)
    for number in range(1, 4):
        await store.record(record(spec(number, name=f"box-{number}")))
    yield opened
    await opened.close()


@pytest.fixture
def keeping(database: Database) -> Keeping:
    return Keeping(rentals=PostgresRentals(database), ledger=PostgresLedger(database))


async def every(keeping: Keeping) -> list[Entry]:
    return [entry async for entry in keeping.ledger.every(LinesWanted("u1"))]


async def test_a_week_with_strangers_beside_it(keeping: Keeping):
    world = keeping.world
    world.page = 2  # a bill of several pages
    mine = world.create(label(0, 1), price=0.5)
    others = [world.create(name, price=5.0) for name in STRANGERS]
    await keeping.look()
    world.advance(120)
    for number in (mine, *others):
        world.becomes(number, "running")
    await keeping.look()
    for _ in range(7):
        world.advance(86_400)
        await keeping.look()
        await keeping.read()
        await keeping.write()
    world.traffic(mine, 2, 30)
    world.destroy(mine)
    await keeping.look()
    world.advance(40)
    await keeping.look()
    await keeping.read()
    await keeping.write()
    found = await every(keeping)
    agrees(world, found, {mine: label(0, 1)})
    assert {e.basis for e in found} == {Basis.BILLED}
    assert {e.resource_id for e in found} == {str(mine)}
    assert len({e.day for e in found}) == 8
    before = [e.model_copy(update={"billed_at": None}) for e in found]
    world.advance(3600)
    await keeping.read()
    await keeping.write()
    again = [e.model_copy(update={"billed_at": None}) for e in await every(keeping)]
    assert again == before
    charges = [r for r in world.asked if r.url.path.endswith("/charges/")]
    assert {r.url.params["limit"] for r in charges} == {"500"}


async def test_one_that_no_listing_ever_showed_is_on_the_bill_all_the_same(keeping: Keeping):
    world = keeping.world
    number = world.create(label(1, 7))
    world.advance(25)
    world.destroy(number)
    world.advance(5)
    await keeping.look()
    await keeping.read()
    await keeping.write()
    [disk] = [e for e in await every(keeping) if e.item is Item.DISK]
    assert (disk.resource_id, disk.machine_id, disk.label) == (
        str(number),
        MACHINES[1],
        label(1, 7),
    )
    assert disk.seconds == pytest.approx(25, abs=0.1)


async def test_a_bill_is_not_read_at_every_turn(keeping: Keeping):
    world = keeping.world
    world.create(label(0, 1))
    await keeping.look()
    ask = ImportBills(env="test", every_s=600, now=world.at)
    first = await ActivityEnvironment().run(keeping.bills.import_bills, ask)
    assert first.days == 1
    world.advance(60)
    again = ask.model_copy(update={"now": world.at})
    assert (await ActivityEnvironment().run(keeping.bills.import_bills, again)).days == 0
    world.advance(600)
    later = ask.model_copy(update={"now": world.at})
    assert (await ActivityEnvironment().run(keeping.bills.import_bills, later)).days == 1


async def test_days_that_nobody_read_are_read_later(keeping: Keeping):
    world = keeping.world
    mine = world.create(label(0, 1))
    world.becomes(mine, "running")
    await keeping.look()
    world.advance(5 * 86_400)
    await keeping.read()
    agrees(world, await every(keeping), {mine: label(0, 1)})


async def test_between_two_bills_the_time_is_metered(keeping: Keeping):
    world = keeping.world
    mine = world.create(label(0, 1), price=3.6)
    world.becomes(mine, "running")
    await keeping.look()
    world.advance(600)
    await keeping.look()
    await keeping.read()
    world.advance(300)
    await keeping.look()
    await keeping.write()
    [gpu] = [e for e in await every(keeping) if e.item is Item.GPU]
    assert gpu.basis is Basis.METERED
    assert (gpu.seconds, gpu.billed_seconds) == pytest.approx((900, 600), abs=0.01)
    assert gpu.usd == pytest.approx(0.9, abs=1e-5)


async def test_a_bill_that_lags_and_is_read_again_keeps_what_we_saw_of_an_ended_rental(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
):
    world = keeping.world
    mine = world.create(label(0, 1), price=3.6)
    world.becomes(mine, "running")
    await keeping.look()
    world.advance(600)
    await keeping.look()
    start = world.at.replace(hour=0, minute=0, second=0)
    lagging = await world.provider.charges(since=start, until=world.at)

    async def charges(*, since: datetime, until: datetime) -> list[Charge]:
        return lagging

    monkeypatch.setattr(world.provider, "charges", charges)
    world.advance(300)
    world.destroy(mine)
    for _ in range(2):
        await keeping.look()
        world.advance(40)
    await keeping.look()
    for _ in range(3):
        await keeping.read()
        await keeping.write()
        [gpu] = [e for e in await every(keeping) if e.item is Item.GPU]
        assert (gpu.seconds, gpu.billed_seconds) == pytest.approx((900, 600), abs=1)
        assert gpu.usd == pytest.approx(0.9, abs=1e-3)
        world.advance(900)


async def test_a_day_that_cannot_be_read_keeps_no_other_from_being_read(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
):
    world = keeping.world
    mine = world.create(label(0, 1))
    world.becomes(mine, "running")
    await keeping.look()
    days = [world.at.date()]
    for _ in range(39):
        world.advance(86_400)
        days.append(world.at.date())
    await keeping.look()
    whole = world.provider.charges
    asked: list[date] = []

    async def charges(*, since: datetime, until: datetime) -> list[Charge]:
        asked.append(since.date())
        if since.date() == days[1]:
            raise ProviderUnavailable("this day has no lines", provider="vast")
        return await whole(since=since, until=until)

    with monkeypatch.context() as patched:
        patched.setattr(world.provider, "charges", charges)
        for _ in range(2):  # the second time as a try that is repeated at once
            with pytest.raises(
                ProviderUnavailable, match=f"of {days[1]} is not read: this day has"
            ):
                await keeping.read()
    assert asked[:3] == days[-3:], "what is waited for comes first"
    found = {e.day for e in await every(keeping)}
    assert days[1] not in found
    assert found >= {*days[2:31], *days[-3:]}
    mark = await keeping.rentals.bill_mark("vast/test")
    assert mark == (days[0], None), "neither settled nor read: it is asked for again"
    await keeping.read()
    await keeping.read()
    agrees(world, await every(keeping), {mine: label(0, 1)})
    mark = await keeping.rentals.bill_mark("vast/test")
    assert mark == (days[-2], world.at)


async def test_a_provider_that_is_away_is_not_asked_for_every_day(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
):
    world = keeping.world
    world.create(label(0, 1))
    await keeping.look()
    world.advance(20 * 86_400)
    asked = []

    async def charges(*, since: datetime, until: datetime) -> list[Charge]:
        asked.append(since)
        raise ProviderUnavailable("no answer", provider="vast")

    monkeypatch.setattr(world.provider, "charges", charges)
    with pytest.raises(ProviderUnavailable):
        await keeping.read()
    assert len(asked) == 3


async def test_metering_stops_in_time_and_the_next_round_takes_the_rest(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
):
    world = keeping.world
    for attempt in range(3):
        world.becomes(world.create(label(0, attempt + 1)), "running")
    await keeping.look()
    world.advance(60)
    await keeping.look()
    monkeypatch.setattr("activities.ledger._AT_ONCE", 1)
    clock = itertools.count(step=METER_FOR_S / 2)
    slow = LedgerActivities(
        rentals=keeping.rentals,
        ledger=keeping.ledger,
        storage=StoragePrice(None, "none"),
        clock=lambda: next(clock),
    )
    found = await ActivityEnvironment().run(slow.meter_lines)
    assert (found.rentals, found.unfinished) == (1, True)
    await keeping.look()  # which shows all of them again
    for number in (2, 3):
        await ActivityEnvironment().run(slow.meter_lines)
        await keeping.look()
        seen = {e.resource_id for e in await every(keeping)}
        assert len(seen) == number, "those that wait longest come first"


async def test_many_rentals_take_few_transactions(
    keeping: Keeping, database: Database, monkeypatch: pytest.MonkeyPatch
):
    at = keeping.world.at
    many = [
        RentalRecord(
            provider="vast", resource_id=str(n), machine_id=MACHINES[0], owner_id="u1", label="l",
            role=Role.GPU, created_at=at, first_seen_at=at, last_seen_at=at + timedelta(hours=1),
        )
        for n in range(700)
    ]  # fmt: skip
    price = Seen(at=at, state=InstanceState.RUNNING, usd_per_hour=0.4, disk_usd_per_hour=0.01)
    await keeping.rentals.see([(each, [price]) for each in many])
    begun, really = [], database.transaction
    monkeypatch.setattr(database, "transaction", lambda: begun.append(1) or really())
    metered = await ActivityEnvironment().run(keeping.metering.meter_lines)
    assert (metered.rentals, metered.unfinished) == (700, False)
    assert len(begun) < 10
    assert math.fsum(e.usd or 0 for e in await every(keeping)) == pytest.approx(700 * 0.4)
    assert await keeping.rentals.unmetered(limit=1) == []


async def test_a_listing_that_fails_ends_nothing(keeping: Keeping, monkeypatch: pytest.MonkeyPatch):
    world = keeping.world
    mine = world.create(label(0, 1))
    await keeping.look()

    async def broken(*, label_prefix: str) -> Any:
        raise ProviderUnavailable("no answer", provider="vast")

    world.advance(600)
    with monkeypatch.context() as patched:
        patched.setattr(world.provider, "list_instances", broken)
        with pytest.raises(ProviderUnavailable):
            await keeping.look()
    [rental] = await keeping.rentals.unended("vast")
    assert (rental.missing_since, rental.ended_at) == (None, None)
    # A list that has lost it, while its own page still shows it, ends nothing either.
    hidden = world.instances.pop(mine)
    await keeping.look()
    world.advance(60)
    world.instances[mine] = hidden

    async def nothing(*, label_prefix: str) -> Any:
        return []

    with monkeypatch.context() as patched:
        patched.setattr(world.provider, "list_instances", nothing)
        await keeping.look()
    [rental] = await keeping.rentals.unended("vast")
    assert rental.missing_since is None
