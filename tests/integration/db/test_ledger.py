"""Rentals and lines in PostgreSQL: written twice is written once, and nobody sees another's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from dumont.db.engine import Database
from dumont.db.ledger import LedgerCursor, LinesWanted, PostgresLedger
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.rentals import PostgresRentals
from dumont.db.snapshots import PostgresSnapshots
from dumont.db.tables import ledger as ledger_table
from dumont.domain.bills import BillMark
from dumont.domain.errors import InvalidInput
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import InstanceState
from dumont.domain.ledger import Basis, Entry, Item, Rewrite
from dumont.domain.metering import RentalRecord, Role, Seen
from dumont.domain.protection import AgentRole
from dumont.domain.snapshots import SnapshotRecord
from dumont.ports import Intent
from tests.integration.db.conftest import T0, record, spec

M = spec().machine_id
LABEL = f"dmt-test-{M}-g1-a1"
KEY = ("vast", "24")
DAY = timedelta(days=1)


@pytest.fixture
def rentals(database: Database) -> PostgresRentals:
    return PostgresRentals(database)


@pytest.fixture
def lines(database: Database) -> PostgresLedger:
    return PostgresLedger(database)


def rental(resource_id: str = "24", at: datetime = T0, **changed: Any) -> RentalRecord:
    given = {
        "provider": "vast", "resource_id": resource_id, "machine_id": M, "owner_id": "u1",
        "label": LABEL, "role": Role.GPU, "gpu": "RTX 4090", "first_seen_at": at, "last_seen_at": at,
    }  # fmt: skip
    return RentalRecord.model_validate(given | changed)


def change(
    at: datetime = T0, state: InstanceState = InstanceState.RUNNING, usd: float = 0.4
) -> Seen:
    return Seen(at=at, state=state, usd_per_hour=usd, disk_usd_per_hour=0.01)


def line(**changed: Any) -> Entry:
    given = {
        "provider": "vast", "resource_id": "24", "item": "gpu", "day": T0.date(), "machine_id": M,
        "owner_id": "u1", "basis": "metered", "start": T0, "end": T0, "seconds": 60.0, "usd": 0.1,
        "source": "seen", "metered_seconds": 60.0, "metered_usd": 0.1,
    }  # fmt: skip
    return Entry.model_validate(given | changed)


def bill(**changed: Any) -> Entry:
    given = {
        "basis": "billed", "seconds": 58.0, "usd": 0.097, "billed_seconds": 58.0, "billed_usd": 0.097,
        "billed_until": T0, "billed_at": T0, "metered_seconds": None, "metered_usd": None,
        "source": "bill",
    }  # fmt: skip
    return line(**(given | changed))


async def rewrite(
    lines: PostgresLedger, entries: list[Entry], *, since: date, of: str = "24"
) -> int:
    return await lines.put([Rewrite("vast", of, entries, since)])


async def all_lines(lines: PostgresLedger, owner: str = "u1") -> list[Entry]:
    return [entry async for entry in lines.every(LinesWanted(owner))]


# Rentals --------------------------------------------------------------------------------------


async def test_seen_twice_is_one_and_keeps_its_beginning(rentals: PostgresRentals):
    await rentals.see([(rental(created_at=T0 - DAY), [change()])])
    later = T0 + timedelta(minutes=1)
    await rentals.see([(rental(at=later, gpu=None), [])])
    await rentals.see([(rental(at=later), [change()])])
    [found] = await rentals.unended("vast")
    assert (found.first_seen_at, found.last_seen_at) == (T0, later)
    assert (found.created_at, found.gpu) == (T0 - DAY, "RTX 4090"), "no answer undoes none"
    assert (await rentals.timelines([KEY]))[KEY] == [change()]
    assert await rentals.newest_changes("vast", ["24", "25"]) == {"24": change()}
    assert await rentals.first_day("vast") == (T0 - DAY).date()


async def test_missing_is_no_end_and_an_end_is_dated_to_when_it_was_missed(
    rentals: PostgresRentals,
):
    await rentals.see([(rental(), [change()])])
    missed = T0 + timedelta(minutes=1)
    for minute in (1, 2):
        await rentals.miss("vast", ["24"], at=T0 + timedelta(minutes=minute))
    [found] = await rentals.unended("vast")
    assert (found.missing_since, found.ended_at) == (missed, None)
    await rentals.end("vast", "24", at=T0 + timedelta(minutes=5), by="event")
    await rentals.end("vast", "24", at=T0 + timedelta(minutes=9), by="missing")
    ended = (await rentals.known("vast", ["24"]))["24"]
    assert (ended.ended_at, ended.ended_by) == (missed, "event")
    assert await rentals.unended("vast") == []
    exact = T0 + timedelta(seconds=30)
    [waiting] = await rentals.ended_by_us("vast", since=T0)
    await rentals.end("vast", waiting.resource_id, at=exact, by="provider")
    assert (await rentals.known("vast", ["24"]))["24"].ended_at == exact
    assert await rentals.ended_by_us("vast", since=T0) == []


async def test_what_is_listed_again_has_not_ended(rentals: PostgresRentals):
    await rentals.see([(rental(), [])])
    await rentals.end("vast", "24", at=T0 + timedelta(minutes=5), by="missing")
    await rentals.see([(rental(at=T0 + timedelta(minutes=4)), [])])
    assert await rentals.unended("vast") == [], "that listing was older than the end"
    await rentals.see([(rental(at=T0 + timedelta(minutes=6)), [])])
    assert len(await rentals.unended("vast")) == 1


async def test_only_what_changed_is_metered_again(rentals: PostgresRentals):
    await rentals.see([(rental("1"), []), (rental("2"), [])])
    found = await rentals.unmetered(limit=9)
    assert [r.resource_id for r in found] == ["1", "2"]
    await rentals.see([(rental("2", at=T0 + timedelta(minutes=1)), [])])
    await rentals.metered(found)
    left = await rentals.unmetered(limit=9)
    assert [r.resource_id for r in left] == ["2"], "it changed after it was read"


async def test_what_waits_longest_is_metered_first_and_what_is_new_before_it(
    rentals: PostgresRentals,
):
    for number in ("2", "1"):
        await rentals.see([(rental(number), [])])
        await rentals.metered(await rentals.unmetered(limit=9))
    # What listings show every minute must not keep the newest, which has the last id, from a turn.
    await rentals.see([(rental("9"), [])])
    await rentals.see([(rental(number, at=T0 + timedelta(minutes=2)), []) for number in "12"])
    assert [r.resource_id for r in await rentals.unmetered(limit=9)] == ["9", "2", "1"]
    assert [r.resource_id for r in await rentals.unmetered(limit=1)] == ["9"]


async def test_the_event_log_is_followed_once(
    rentals: PostgresRentals, store: PostgresMachineStore
):
    await store.record(record(spec()))
    intent = Intent(
        label=LABEL, machine_id=M, generation=1, attempt=1, provider="vast", offer_id="1",
        host_id=None, usd_per_hour=0.4, at=T0,
    )  # fmt: skip
    await store.record_intent(intent)
    event = MachineEvent(
        key="end/x/24", machine_id=M, kind=EventKind.INSTANCE_ENDED, at=T0, summary="gone",
        data={"instance_id": "24", "label": LABEL},
    )  # fmt: skip
    other = event.model_copy(update={"key": "x", "kind": EventKind.READY})
    strange = event.model_copy(update={"machine_id": "m00000000000f"})
    await store.record_events([other, event, strange])
    [found] = await rentals.new_events(limit=10)
    assert (found.machine_id, found.owner_id, found.env) == (M, "u1", "test")
    assert (found.is_end, found.resource_id, found.intent) == (True, "24", LABEL)
    assert await rentals.intended([LABEL, "dmt-x"]) == {LABEL: ("vast", T0)}
    await rentals.followed(found.seq)
    assert await rentals.new_events(limit=10) == []


async def test_marks_of_bills(rentals: PostgresRentals):
    assert await rentals.bill_mark("vast/a") == BillMark(None, None)
    await rentals.mark_bill("vast/a", BillMark(T0.date(), T0))
    await rentals.mark_bill("vast/b", BillMark(None, T0))
    assert await rentals.bill_mark("vast/a") == BillMark(T0.date(), T0)
    assert await rentals.bill_mark("vast/b") == BillMark(None, T0)


# Lines ----------------------------------------------------------------------------------------


async def test_a_line_is_written_once_however_often(lines: PostgresLedger):
    for _ in range(2):
        changed = await rewrite(lines, [line()], since=T0.date())
    assert changed == 0
    assert await all_lines(lines) == [line()]


async def test_lines_that_turn_out_not_to_be_go_unless_a_bill_has_them(lines: PostgresLedger):
    tomorrow = T0.date() + DAY
    await rewrite(lines, [line(), line(day=tomorrow), line(item="disk")], since=T0.date())
    await rewrite(lines, [line(resource_id="25", day=tomorrow)], since=T0.date(), of="25")
    await lines.put_bills([bill(item="traffic")])
    await rewrite(lines, [line()], since=T0.date())
    assert {(e.resource_id, e.item, e.day) for e in await all_lines(lines)} == {
        ("24", Item.GPU, T0.date()),
        ("24", Item.TRAFFIC, T0.date()),
        ("25", Item.GPU, tomorrow),
    }
    await rewrite(lines, [], since=tomorrow)
    assert len(await all_lines(lines)) == 3, "what is older stays"


async def test_a_bill_replaces_what_we_saw_and_keeps_it_beside(lines: PostgresLedger):
    await rewrite(lines, [line(region="Texas, US")], since=T0.date())
    for _ in range(2):
        await lines.put_bills([bill()])
    [found] = await all_lines(lines)
    assert (found.basis, found.seconds, found.usd) == (Basis.BILLED, 58, 0.097)
    assert (found.metered_seconds, found.metered_usd, found.region) == (60, 0.1, "Texas, US")
    assert (await lines.bills([KEY, ("vast", "25")], since=T0.date())) == {
        KEY: [found],
        ("vast", "25"): [],
    }


async def test_a_bill_that_lags_has_an_ended_rental_metered_again(
    lines: PostgresLedger, rentals: PostgresRentals
):
    await rentals.see([(rental(), [change()]), (rental("25"), [])])
    await rentals.end("vast", "24", at=T0 + DAY, by="event")
    await rentals.metered(await rentals.unmetered(limit=9))
    assert await rentals.unmetered(limit=9) == []
    await rewrite(lines, [line(usd=0.9, billed_usd=0.4, billed_at=T0)], since=T0.date())
    await lines.put_bills([bill()])
    assert (await all_lines(lines))[0].usd == 0.097, "what we saw beyond the bill is gone from it"
    assert [r.resource_id for r in await rentals.unmetered(limit=9)] == ["24"]


async def test_many_resources_at_once_keep_their_own_days_and_lines(lines: PostgresLedger):
    older = T0.date() - DAY
    of = {key: [line(resource_id=key, day=day) for day in (older, T0.date())] for key in ("1", "2")}
    first = [Rewrite("vast", key, entries, older) for key, entries in of.items()]
    assert await lines.put(first) == 4
    # The same id at another provider is another resource.
    await lines.put([Rewrite("gcp", "1", [line(provider="gcp", resource_id="1")], older)])
    assert await lines.put(first) == 0
    dearer = of["2"][1].model_copy(update={"usd": 0.7})
    again = [Rewrite("vast", "1", [], T0.date()), Rewrite("vast", "2", [of["2"][0], dearer], older)]
    assert await lines.put(again) == 2
    found = {(e.provider, e.resource_id, e.day): e.usd for e in await all_lines(lines)}
    assert found == {
        ("vast", "1", older): 0.1,
        ("vast", "2", older): 0.1,
        ("vast", "2", T0.date()): 0.7,
        ("gcp", "1", T0.date()): 0.1,
    }


async def test_pages_and_filters_and_nothing_of_others(lines: PostgresLedger):
    mine = [
        line(day=T0.date() + n * DAY, item=item, resource_id=str(r), machine_id=f"m{r}")
        for n in range(3)
        for item in ("gpu", "disk")
        for r in range(2)
    ]
    for resource_id in ("0", "1"):
        of = [e for e in mine if e.resource_id == resource_id]
        await rewrite(lines, of, since=date(2000, 1, 1), of=resource_id)
    theirs = line(owner_id="u2", resource_id="7")
    await rewrite(lines, [theirs], since=T0.date(), of="7")
    pages, after = [], None
    while True:
        page, after = await lines.page(LinesWanted("u1"), after=after, limit=5)
        pages += page
        if after is None:
            break
        after = LedgerCursor.decode(after.encode())
    assert len(pages) == len(mine)
    assert {e.key for e in pages} == {e.key for e in mine}
    assert pages[0].day > pages[-1].day
    wanted = LinesWanted(
        "u1", machine_id="m1", since=T0.date() + DAY, until=T0.date() + DAY, items=(Item.GPU,)
    )
    assert [e.key async for e in lines.every(wanted)] == [("vast", "1", Item.GPU, T0.date() + DAY)]
    assert await all_lines(lines, "u2") == [theirs]
    assert await all_lines(lines, "nobody") == []


@pytest.mark.parametrize("text", ["", "x", "///", "AAAA", "MjAyNi0xMy0wMQo"])
def test_a_strange_cursor_is_refused(text: str):
    with pytest.raises(InvalidInput):
        LedgerCursor.decode(text)


async def test_stored_bytes_by_owner(
    lines: PostgresLedger, database: Database, store: PostgresMachineStore
):
    await store.record(record(spec()))
    kept = PostgresSnapshots(database)
    for number in (1, 2):
        await kept.record(
            SnapshotRecord(
                machine_id=M,
                snapshot_id=f"s{number}",
                taken_at=T0,
                source=AgentRole.STANDBY,
                files=1,
                bytes=1,
                new_bytes=1,
                stored_bytes=3_000_000_000,
                seconds=1,
            )
        )
    await kept.forgotten(M, ["s1"])
    found = await lines.kept_snapshots(since=T0)
    assert [(k.stored_bytes, k.taken_at) for k in found["u1"]] == [(3_000_000_000, T0)] * 2
    later = await lines.kept_snapshots(since=datetime.now(UTC) + DAY)
    assert [k.forgotten_at for k in later["u1"]] == [None]


async def test_many_lines_at_once(lines: PostgresLedger, database: Database):
    year = [line(day=T0.date() + n * DAY) for n in range(400)]
    await rewrite(lines, year, since=T0.date())
    assert len(await all_lines(lines)) == 400
    async with database.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(ledger_table)) == 400
