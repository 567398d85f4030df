"""Budgets in PostgreSQL: nobody gets past a cap by being quick."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text

from dumont.db.budgets import PostgresBudgets, spent_of_ledger
from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.tables import ledger
from dumont.domain.budget_watch import Due
from dumont.domain.budgets import Allowed, Budget, Cap, Refused, Scope, Spent, Step, Whose
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineState
from dumont.domain.protection import ActiveStandby
from tests.integration.db.conftest import T0, record, spec

NOW = datetime.now(UTC)
ANA = Budget(scope=Scope.OWNER, scope_id="u1", usd_per_hour=1.0)
ALL = Budget(scope=Scope.TOTAL, usd_per_hour=1.0)


@pytest.fixture
def budgets(database: Database) -> PostgresBudgets:
    return PostgresBudgets(database, spent=spent_of_ledger(database))


async def put(budgets: PostgresBudgets, budget: Budget) -> None:
    owner_id = budget.scope_id if budget.scope is Scope.OWNER else None
    await budgets.set(budget, owner_id=owner_id, by="ana", at=NOW)


async def reserve(
    budgets: PostgresBudgets,
    number: int,
    *,
    usd: float = 0.3,
    owner: str = "u1",
    generation: int = 1,
    attempt: int = 1,
) -> Allowed | Refused:
    return await budgets.reserve(
        label_of(number, generation, attempt),
        machine_id=f"m{number:012x}",
        owner_id=owner,
        generation=generation,
        usd_per_hour=usd,
        at=NOW,
    )


def label_of(number: int, generation: int = 1, attempt: int = 1) -> str:
    return f"dmt-test-m{number:012x}-g{generation}-a{attempt}"


async def reserved(budgets: PostgresBudgets) -> float:
    return (await budgets.standing([ANA], at=NOW))[ANA.key].reserved


def running(
    number: int,
    *,
    owner: str = "u1",
    usd: float | None = 0.3,
    phase: MachinePhase = MachinePhase.RUNNING,
    version: int = 2,
    **more: Any,
) -> Any:
    machine = spec(number, name=f"box-{number}", owner=owner)
    live = ActiveInstance(
        provider="vast",
        instance_id=str(number),
        label=label_of(number),
        generation=1,
        ssh=SshAddress(host="127.0.0.1", port=22),
        usd_per_hour=usd,
        gpu="RTX 4090",
        gpu_count=1,
    )
    given = {"phase": phase, "generation": 1, "version": version, "instance": live} | more
    state = MachineState.model_validate(given)
    return record(machine).model_copy(update={"state": state})


async def test_twenty_at_once_never_pass_the_owners_cap(budgets: PostgresBudgets):
    await put(budgets, ANA)
    verdicts = await asyncio.gather(*(reserve(budgets, n) for n in range(1, 21)))
    assert sum(isinstance(each, Allowed) for each in verdicts) == 3
    refused = next(each for each in verdicts if isinstance(each, Refused))
    assert refused.cap is Cap.HOUR
    assert (await budgets.standing([ANA], at=NOW))[ANA.key].reserved == pytest.approx(0.9)


async def test_nor_the_deployments_by_being_of_different_owners(budgets: PostgresBudgets):
    await put(budgets, ALL)
    verdicts = await asyncio.gather(*(reserve(budgets, n, owner=f"u{n}") for n in range(1, 21)))
    assert sum(isinstance(each, Allowed) for each in verdicts) == 3


async def test_machines_that_run_count_once(budgets: PostgresBudgets, store: PostgresMachineStore):
    """From the reservation to the record: the same instance is never counted twice, nor not at all."""
    await put(budgets, ANA)
    assert isinstance(await reserve(budgets, 1, usd=0.6), Allowed)
    assert isinstance(await reserve(budgets, 2, usd=0.6), Refused)
    await store.record(running(1, usd=0.6))
    seen = (await budgets.standing([ANA], at=NOW))[ANA.key]
    assert (seen.spending.usd_per_hour, seen.reserved) == (0.6, 0)
    assert isinstance(await reserve(budgets, 2, usd=0.6), Refused)
    assert isinstance(await reserve(budgets, 3, usd=0.4), Allowed)
    await store.record(running(9, owner="somebody else", usd=50))
    assert isinstance(await reserve(budgets, 3, usd=0.4), Allowed), "the same label again"


async def test_what_is_released_or_ended_makes_room(
    budgets: PostgresBudgets, store: PostgresMachineStore, database: Database
):
    await put(budgets, ANA)
    await reserve(budgets, 1, usd=0.9)
    assert isinstance(await reserve(budgets, 2, usd=0.9), Refused)
    await budgets.release(label_of(1))
    await budgets.release(label_of(1))
    assert isinstance(await reserve(budgets, 2, usd=0.9, attempt=2), Allowed)
    await store.record(running(2, usd=0.9, phase=MachinePhase.DESTROYED))
    assert isinstance(await reserve(budgets, 3, usd=0.9), Allowed)


async def test_a_replacement_that_is_lost_again_does_not_block_the_next_one(
    budgets: PostgresBudgets, store: PostgresMachineStore
):
    """Its failover ends it without a word to the budgets, and goes on to the next generation."""
    await put(budgets, ANA)
    await store.record(running(1, phase=MachinePhase.REPLACING))
    assert isinstance(await reserve(budgets, 1, usd=0.9, generation=2), Allowed)
    assert isinstance(await reserve(budgets, 1, usd=0.9, generation=3), Allowed)
    assert await reserved(budgets) == 0.9
    refused = await reserve(budgets, 2, usd=0.2)
    assert isinstance(refused, Refused), "what is being rented now counts"
    assert isinstance(await reserve(budgets, 1, usd=1.1, generation=4), Refused)
    assert await reserved(budgets) == 0, "and the one before it is lost, whatever comes next"


async def test_another_machines_room_is_not_given_back(budgets: PostgresBudgets):
    await put(budgets, ANA)
    await reserve(budgets, 1, usd=0.5)
    assert isinstance(await reserve(budgets, 2, usd=0.4, generation=7), Allowed)
    assert await reserved(budgets) == pytest.approx(0.9)


async def test_a_label_that_is_refused_holds_no_room_even_if_it_had_some(budgets: PostgresBudgets):
    """The answer was lost, and meanwhile the cap was lowered: nobody would ever give it back."""
    await put(budgets, ANA)
    assert isinstance(await reserve(budgets, 1, usd=0.9), Allowed)
    await put(budgets, ANA.model_copy(update={"usd_per_hour": 0.5}))
    assert isinstance(await reserve(budgets, 1, usd=0.9), Refused)
    assert await reserved(budgets) == 0
    await put(budgets, ANA)
    again = await reserve(budgets, 1, usd=0.9)
    assert isinstance(again, Refused), "what was answered stays answered"
    assert "given back before" in again.why
    assert await reserved(budgets) == 0
    assert isinstance(await reserve(budgets, 1, usd=0.9, attempt=2), Allowed)


async def test_what_was_cancelled_takes_no_room_however_late_it_comes(
    budgets: PostgresBudgets, database: Database
):
    await put(budgets, ANA)
    async with database.transaction() as connection:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:half, hashtext('u1'))"), {"half": 0x62756467}
        )
        late = asyncio.create_task(reserve(budgets, 1, usd=0.9))
        waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        async with asyncio.timeout(10):
            while not await connection.scalar(waits):
                await asyncio.sleep(0.01)
        await budgets.release(label_of(1))
    assert isinstance(await late, Refused)
    assert await reserved(budgets) == 0
    assert isinstance(await reserve(budgets, 1, usd=0.9, attempt=2), Allowed)
    await budgets.release(label_of(1, attempt=2))
    assert await reserved(budgets) == 0


async def test_without_a_budget_nothing_is_written_when_room_is_given_back(
    budgets: PostgresBudgets, database: Database
):
    await budgets.release(label_of(1))
    assert await _reservations(database) == 0
    await put(budgets, ANA)
    await reserve(budgets, 1)
    await budgets.clear(ANA.key)
    await budgets.release(label_of(1))
    await put(budgets, ANA)
    assert await reserved(budgets) == 0, "taken while there was one"


async def _reservations(database: Database) -> int:
    async with database.reading() as connection:
        count: int = await connection.scalar(text("SELECT count(*) FROM budget_reservations"))
    return count


@pytest.mark.parametrize("number", range(2))
async def test_what_is_added_up_by_the_database_is_what_machines_cost(
    budgets: PostgresBudgets, store: PostgresMachineStore, number: int
):
    """Room is looked for with sums, the sweep goes through machines: both must see the same."""
    bodies: Sequence[dict[str, Any]] = [
        {}, {"usd": None}, {"instance": None}, {"standby": _standby(None)},
        {"standby": _standby(0.02)}, {"instance": None, "standby": _standby(0.02)},
        {"usd": None, "standby": _standby(None), "retiring": ["one", "two"]},
    ]  # fmt: skip
    each = 0
    for phase in MachinePhase:
        for body in bodies:
            each += 1
            await store.record(running(each, **({"usd": each / 100, "phase": phase} | body)))
    await store.record(running(900, owner="somebody else", usd=50))
    cap = [ANA, ALL][number].model_copy(update={"usd_per_hour": 1e6})
    await put(budgets, cap)
    await reserve(budgets, 950, usd=0.7)
    seen = (await budgets.standing([cap], at=NOW))[cap.key]
    allowed = await budgets.room(owner_id="u1", machine_id=None, at=NOW)
    assert isinstance(allowed, Allowed)
    if cap.scope is Scope.OWNER:
        things = f"{seen.spending.unknown} things run"
        assert allowed.remarks == (f"the owner's budget: {things} at an unknown price",)
    await put(budgets, cap.model_copy(update={"usd_per_hour": 0.5}))
    refused = await budgets.room(owner_id="u1", machine_id=None, at=NOW)
    assert isinstance(refused, Refused)
    burn = seen.spending.usd_per_hour + seen.reserved
    assert seen.reserved == 0.7
    assert refused.over_usd == pytest.approx(burn + 0.01 - 0.5)


def _standby(usd: float | None) -> ActiveStandby:
    there = SshAddress(host="127.0.0.1", port=22)
    return ActiveStandby(
        provider="gcp", instance_id="7", label="s", zone="z", number=1, ssh=there, endpoint=there,
        usd_per_hour=usd,
    )  # fmt: skip


async def test_a_budget_of_a_machine_that_is_no_more_is_not_looked_at(
    budgets: PostgresBudgets, store: PostgresMachineStore
):
    for number, phase in ((1, MachinePhase.RUNNING), (2, MachinePhase.DESTROYED)):
        own = Budget(scope=Scope.MACHINE, scope_id=f"m{number:012x}", usd_per_hour=0.5)
        await budgets.set(own, owner_id="u1", by="ana", at=NOW)
        await store.record(running(number, phase=phase))
    not_yet = Budget(scope=Scope.MACHINE, scope_id=f"m{3:012x}", usd_per_hour=0.5)
    for budget in (not_yet, ANA, ALL):
        await put(budgets, budget)
    kept = {f"machine/m{1:012x}", not_yet.key, ANA.key, ALL.key}
    assert {each.budget.key for each in await budgets.every()} == kept


@pytest.mark.parametrize(
    ("phase", "hours", "counts"),
    [
        (MachinePhase.PROVISIONING, 0.9, True),
        (MachinePhase.PROVISIONING, 1.1, False),
        (MachinePhase.REPLACING, 5, True),
        (MachinePhase.REPLACING, 25, False),
        (MachinePhase.HIBERNATED, 0.1, False),
    ],
)
async def test_how_long_a_reservation_lives(
    budgets: PostgresBudgets,
    store: PostgresMachineStore,
    database: Database,
    phase: MachinePhase,
    hours: float,
    counts: bool,
):
    await put(budgets, ANA)
    await store.record(record(spec(1), phase))
    await reserve(budgets, 1, usd=0.9, generation=2)
    await _age(database, timedelta(hours=hours))
    assert (await budgets.standing([ANA], at=NOW))[ANA.key].reserved == (0.9 if counts else 0)


async def _age(database: Database, by: timedelta) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE budget_reservations SET reserved_at = now() - CAST(:by AS interval)"),
            {"by": by},
        )


async def test_an_unknown_price_is_counted_beside_the_sum(
    budgets: PostgresBudgets, store: PostgresMachineStore
):
    await put(budgets, ANA)
    await store.record(running(1, usd=None))
    verdict = await reserve(budgets, 2, usd=0.9)
    assert isinstance(verdict, Allowed)
    assert verdict.remarks == ("the owner's budget: 1 thing runs at an unknown price",)


async def test_a_machines_own_budget_counts_that_machine_alone(
    budgets: PostgresBudgets, store: PostgresMachineStore
):
    own = Budget(scope=Scope.MACHINE, scope_id=f"m{1:012x}", usd_per_hour=0.5)
    await budgets.set(own, owner_id="u1", by="ana", at=NOW)
    await store.record(running(2, usd=50))
    assert isinstance(await reserve(budgets, 1, usd=0.6), Refused)
    assert isinstance(await reserve(budgets, 1, usd=0.4, attempt=2), Allowed)
    assert isinstance(await reserve(budgets, 3, usd=40), Allowed)


async def test_without_a_budget_it_is_one_query_and_nothing_is_written(
    budgets: PostgresBudgets, database: Database
):
    asked: list[str] = []
    await budgets.over(owner_id="u1", machine_id=None)  # the first connection asks for more
    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *seen: asked.append(seen[2]))
    assert await reserve(budgets, 1) == Allowed()
    assert len(asked) == 1, asked
    assert isinstance(await budgets.room(owner_id="u1", machine_id=None, at=NOW), Allowed)
    assert len(asked) == 2, asked


async def test_the_ledgers_day_and_month(
    budgets: PostgresBudgets, database: Database, store: PostgresMachineStore
):
    at = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    lines = [
        ("1", date(2026, 5, 4), "u1", 3.0), ("2", date(2026, 5, 1), "u1", 10.0),
        ("3", date(2026, 4, 30), "u1", 99.0), ("4", date(2026, 5, 4), "u1", None),
        ("5", date(2026, 5, 4), "u2", 50.0),
    ]  # fmt: skip
    async with database.transaction() as connection:
        for resource, day, owner, usd in lines:
            began = datetime(day.year, day.month, day.day, tzinfo=UTC)
            await connection.execute(
                insert(ledger).values(
                    provider="vast", resource_id=resource, item="gpu", day=day, owner_id=owner,
                    machine_id=f"m{1:012x}" if resource == "1" else None, label="",
                    basis="metered", start=began, end=began + timedelta(hours=12), seconds=43_200,
                    usd=usd, source="a test",
                )
            )  # fmt: skip
    me, box = (
        Whose(scope=Scope.OWNER, scope_id="u1"),
        Whose(scope=Scope.MACHINE, scope_id=f"m{1:012x}"),
    )
    everything = Whose(scope=Scope.TOTAL)
    seen = await budgets.standing([me, box, everything], at=at)
    mine = seen[me.key].spending
    assert (mine.today_usd, mine.month_usd, mine.unknown_lines) == (3, 13, 1)
    assert seen[box.key].spending.today_usd == 3
    assert seen[everything.key].spending.month_usd == 63

    await put(budgets, Budget(scope=Scope.OWNER, scope_id="u1", usd_per_day=3.5))
    refused = await budgets.reserve(
        "a-label", machine_id="m1", owner_id="u1", generation=1, usd_per_hour=0.6, at=at
    )
    assert isinstance(refused, Refused)
    assert refused.cap is Cap.DAY


async def test_what_is_known_of_a_line_counts_and_storage_tells_no_time(
    budgets: PostgresBudgets, database: Database
):
    """A bill has a part of the day, and the price of the rest is unknown: that part was paid."""
    at = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    began = at.replace(hour=0)
    lines: list[dict[str, Any]] = [
        {"item": "gpu", "usd": None, "billed_usd": 3.0, "end": at - timedelta(hours=6)},
        {"item": "disk", "usd": None, "known_usd": 2.0, "billed_usd": 1.0, "end": began},
        {"item": "traffic", "usd": None, "end": began},
        {"item": "storage", "usd": 0.5, "end": at},
    ]
    async with database.transaction() as connection:
        for line in lines:
            common = {
                "provider": "vast", "resource_id": "1", "day": at.date(), "owner_id": "u1",
                "label": "", "basis": "metered", "start": began, "seconds": 60, "source": "a test",
            }  # fmt: skip
            await connection.execute(insert(ledger).values(common | line))
    seen = await spent_of_ledger(database)("u1", None, at.date())
    assert seen == Spent(usd=5.5, unknown=3, until=at - timedelta(hours=6))


async def test_the_sum_of_a_month_of_everybody_needs_no_look_at_every_line(database: Database):
    async with database.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await connection.execute(
            text("EXPLAIN SELECT sum(usd) FROM ledger WHERE day >= '2026-05-01'")
        )
        assert "ix_ledger_day" in "\n".join(row[0] for row in plan)


async def test_budgets_are_set_replaced_and_taken_away(budgets: PostgresBudgets):
    await put(budgets, ANA)
    await put(budgets, ALL)
    await budgets.note_above(ANA.key, T0)
    (mine,) = await budgets.of_owner("u1", with_total=False)
    assert (mine.budget, mine.set_by, mine.above_since) == (ANA, "ana", T0)
    assert len(await budgets.of_owner("u1", with_total=True)) == 2
    assert await budgets.of_owner("u2", with_total=False) == []
    await put(budgets, ANA.model_copy(update={"usd_per_hour": 2.0}))
    (mine,) = await budgets.of_owner("u1", with_total=False)
    assert (mine.budget.usd_per_hour, mine.above_since) == (2.0, None)
    assert await budgets.clear(ANA.key)
    assert not await budgets.clear(ANA.key)


async def test_a_receipt_is_filed_once_and_never_changed(
    budgets: PostgresBudgets, store: PostgresMachineStore, database: Database
):
    due = Due(
        budget=ANA, cap=Cap.HOUR, step=Step.NOTIFY, at=NOW, period="2026-05-04", cause="too much",
        figures=(), owner_id="u1", machines=(),
    )  # fmt: skip
    act = due.act(None, done="the owner was told", result="told")
    told = MachineEvent(
        key="budget/1", machine_id="m1", kind=EventKind.BUDGET, at=NOW, summary="too much: told"
    )
    assert await budgets.record(act, [told])
    assert not await budgets.record(act.model_copy(update={"result": "another"}), [told])
    assert await budgets.acts_of(ANA.key, ["2026-05-04"]) == [act]
    assert await budgets.acts_of(ANA.key, ["2026-05-05"]) == []
    assert await budgets.acts(owner_id="u1", with_all=False, limit=10) == [act]
    assert await budgets.acts(owner_id="u2", with_all=False, limit=10) == []
    async with database.reading() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM events")) == 1


async def test_a_day_that_nobody_can_add_up_refuses_nothing(database: Database):
    async def no_ledger(*_: object) -> Spent | None:
        return None

    blind = PostgresBudgets(database, spent=no_ledger)
    await put(blind, Budget(scope=Scope.OWNER, scope_id="u1", usd_per_day=0.1))
    verdict = await reserve(blind, 1, usd=5)
    assert isinstance(verdict, Allowed)
    assert verdict.remarks == ("the owner's budget: what was spent is not known",)
