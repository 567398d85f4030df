"""Savings through the API: from the database's own records to the figures, and what is refused."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from dumont.db.events import append
from dumont.db.ledger import PostgresLedger
from dumont.db.receipts import PostgresReceipts
from dumont.db.tables import machines
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import Rental
from dumont.domain.ledger import Basis, Entry, Item
from dumont.domain.machine import MachineSpec
from dumont.domain.offers import GpuRequirement, Offer
from tests.integration.api.conftest import PUBLIC_KEY, Running, Session
from tests.support.receipts import receipt

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = MIDNIGHT - timedelta(days=3)
DAY = START.date()
MINE, ALSO_MINE, THEIRS = "m00000000000a", "m00000000000b", "m00000000000c"
LABEL = f"dmt-test-{MINE}-g1-a1"
PERIOD = f"from={DAY}&to={DAY + timedelta(days=1)}"


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


async def owner_id(session: Session) -> str:
    user: str = (await session.get("/auth/me")).json()["user_id"]
    return user


async def machine(session: Session, machine_id: str, name: str) -> str:
    owner = await owner_id(session)
    spec = MachineSpec(
        machine_id=machine_id,
        owner_id=owner,
        name=name,
        env="test",
        requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
        authorized_keys=(PUBLIC_KEY,),
    )
    await session.api.services.machines.request(spec, at=START)
    return owner


async def happened(api: Running, machine_id: str, *what: tuple[float, EventKind], **data: Any):
    events = [
        MachineEvent(
            key=f"{machine_id}/{kind.value}/{hours}", machine_id=machine_id, kind=kind,
            at=at(hours), generation=1, summary="", data=data,
        )
        for hours, kind in what
    ]  # fmt: skip
    async with api.services.database.transaction() as connection:
        await append(connection, events)


async def paid(api: Running, *entries: Entry) -> None:
    await PostgresLedger(api.services.database).put_bills(entries)


def line(owner: str, machine_id: str = MINE, **changes: Any) -> Entry:
    """Ten hours of an RTX 4090 on the first day, $4.00 by the bill."""
    whole: dict[str, Any] = {
        "provider": "vast", "resource_id": "7", "item": Item.GPU, "day": DAY,
        "machine_id": machine_id, "owner_id": owner, "basis": Basis.BILLED, "start": at(2),
        "end": at(12), "seconds": 36_000, "usd": 4.0, "gpu": "RTX 4090", "gpu_count": 1,
        "rental": "spot", "source": "Vast.ai's bill",
    }  # fmt: skip
    return Entry.model_validate(whole | changes)


@pytest.fixture
async def saver(owner: Session) -> Session:
    """The owner of a machine that ran for ten hours, failed over, and slept from noon on."""
    me = await machine(owner, MINE, "my-box")
    api = owner.api
    await happened(
        api, MINE, (1, EventKind.REQUESTED), (1, EventKind.PROVISIONING), (2, EventKind.READY),
        (5, EventKind.ON_STANDBY), (6, EventKind.FAILED_BACK), (12, EventKind.HIBERNATING),
        (12.01, EventKind.HIBERNATED),
    )  # fmt: skip
    standby = {"provider": "gcp", "resource_id": "9", "basis": Basis.LISTED, "gpu": None,
               "gpu_count": None, "rental": None}  # fmt: skip
    await paid(
        api,
        line(me, label=LABEL),
        line(me, item=Item.VM, usd=0.12, **standby),
        line(me, item=Item.VM_DISK, usd=0.02, seconds=0, **standby),
    )
    await PostgresReceipts(api.services.database).record(
        receipt(machine_id=MINE, detected_at=at(5), closed_at=at(6))
    )
    return owner


def part(report: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in report["figures"] if each["part"] == name)
    return found


async def test_a_report_from_what_the_database_has(saver: Session):
    report = (await saver.get(f"/savings?{PERIOD}&hour_value=60&minutes_without=10")).json()
    assert part(report, "spot")["usd"] == pytest.approx(2.07)
    assert part(report, "interruptions")["usd"] == pytest.approx(-0.607)
    asleep = 48 - 12.01
    assert part(report, "hibernation")["usd"] == pytest.approx(asleep * 0.4)
    assert part(report, "standby")["usd"] == pytest.approx(-0.14)
    assert part(report, "downtime")["usd"] == pytest.approx(10 - 0.041 / 60)
    total = 2.07 - 0.607 + asleep * 0.4 - 0.14 + 10 - 0.041 / 60
    assert report["net_usd"] == pytest.approx(total)
    assert report["bound"] == "exact"
    assert report["assumptions"] == {"usd_per_hour_of_work": 60, "minutes_without_standby": 10}
    [row] = report["rows"]
    assert (row["key"], row["name"]) == (MINE, "my-box")
    assert row["net_usd"] == report["net_usd"]
    assert report["lines"] == []


async def test_without_the_value_of_an_hour_time_stays_time(saver: Session):
    report = (await saver.get(f"/savings?{PERIOD}")).json()
    down = part(report, "downtime")
    assert down["usd"] is None
    assert down["minutes"] == pytest.approx((41.1 - 0.041) / 60)
    standby = next(each for each in report["returns"] if each["name"] == "standby")
    assert standby["percent"] is None
    assert "value of an hour" in standby["why_not"]


async def test_csv_adds_up_to_the_report(saver: Session):
    report = (await saver.get(f"/savings?{PERIOD}")).json()
    for by in ("machine", "day", "gpu"):
        answer = await saver.get(f"/savings?{PERIOD}&by={by}&format=csv")
        assert answer.headers["content-type"].startswith("text/csv")
        assert ".csv" in answer.headers["content-disposition"]
        *rows, total = csv.DictReader(io.StringIO(answer.text))
        assert sum(float(row["net_usd"]) for row in rows) == pytest.approx(report["net_usd"])
        assert float(total["net_usd"]) == pytest.approx(report["net_usd"])
    answer = await saver.get(f"/savings?{PERIOD}&lines=true&format=csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    whole = (await saver.get(f"/savings?{PERIOD}&lines=true")).json()
    assert len(lines) == len(whole["lines"]) > 4
    assert {each["machine"] for each in lines} == {"my-box"}
    summed = sum(float(each["usd"] or 0) for each in lines)
    assert summed == pytest.approx(report["net_usd"])


async def test_the_offer_that_was_rented_is_what_it_is_held_against(saver: Session):
    offer = Offer(
        provider="vast", offer_id="5", host_id=None, gpu="RTX 4090", gpu_count=1,
        rental=Rental.SPOT, usd_per_hour=0.45, gpu_usd_per_hour=0.4, on_demand_usd_per_hour=0.85,
    )  # fmt: skip
    await happened(saver.api, MINE, (1, EventKind.OFFER_CHOSEN), attempt=1,
                   offer=offer.model_dump(mode="json"))  # fmt: skip
    report = (await saver.get(f"/savings?{PERIOD}")).json()
    assert part(report, "spot")["usd"] == pytest.approx(10 * 0.8 - 4)
    assert part(report, "spot")["known"] == "metered"


async def test_an_older_event_without_the_offer_tells_nothing(saver: Session):
    await happened(saver.api, MINE, (1, EventKind.OFFER_CHOSEN), attempt=1, usd_per_hour=0.4)
    report = (await saver.get(f"/savings?{PERIOD}")).json()
    assert part(report, "spot")["known"] == "listed"


async def test_unknown_prices_are_counted_and_not_summed(saver: Session):
    me = await machine(saver, ALSO_MINE, "other")
    await happened(saver.api, ALSO_MINE, (1, EventKind.REQUESTED), (2, EventKind.READY))
    await paid(saver.api, line(me, ALSO_MINE, resource_id="8", gpu="RTX 3060", usd=1.0))
    report = (await saver.get(f"/savings?{PERIOD}")).json()
    spot = part(report, "spot")
    assert spot["usd"] == pytest.approx(2.07)
    assert (spot["unknown"], spot["whys"]) == (1, ["no reference price is known for RTX 3060"])
    assert report["bound"] == "at_least"
    assert report["coverage"] == pytest.approx(0.5)


async def test_a_sleep_that_began_before_the_period_knows_its_price(saver: Session):
    day = DAY + timedelta(days=1)
    report = (await saver.get(f"/savings?from={day}&to={day}")).json()
    assert part(report, "hibernation")["usd"] == pytest.approx(24 * 0.4)
    assert part(report, "spot")["lines"] == 0
    assert report["paid"] == []


async def test_a_machine_that_ended_before_the_period_is_not_in_it(saver: Session):
    await happened(saver.api, MINE, (30, EventKind.DESTROYING), (31, EventKind.DESTROYED))
    ended = {"phase": "destroyed", "updated_at": at(31)}
    async with saver.api.services.database.transaction() as connection:
        await connection.execute(update(machines).values(**ended))
    then, later = DAY + timedelta(days=1), DAY + timedelta(days=2)
    report = (await saver.get(f"/savings?from={then}&to={then}")).json()
    assert part(report, "hibernation")["usd"] == pytest.approx(6 * 0.4)
    assert (await saver.get(f"/savings?from={later}&to={later}")).json()["rows"] == []


async def test_nobody_sees_another_owner_s(saver: Session):
    stranger = await saver.api.somebody_else()
    them = await machine(stranger, THEIRS, "theirs")
    await happened(saver.api, THEIRS, (1, EventKind.REQUESTED), (2, EventKind.READY))
    await paid(saver.api, line(them, THEIRS, resource_id="77", usd=1.0))
    mine = (await saver.get(f"/savings?{PERIOD}")).json()
    theirs = (await stranger.get(f"/savings?{PERIOD}")).json()
    assert [row["key"] for row in mine["rows"]] == [MINE]
    assert [row["key"] for row in theirs["rows"]] == [THEIRS]


async def test_an_owner_without_records_has_an_empty_report(owner: Session):
    report = (await owner.get("/savings")).json()
    assert (report["net_usd"], report["bound"], report["rows"]) == (0, "exact", [])
    assert (DAY + timedelta(days=3)).isoformat() == report["until"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-11-03&to=2026-11-01", "from"),
        ("from=1066-10-14", "from"),
        ("to=9999-12-31", "to"),
        ("from=2024-01-01&to=2026-01-01", "from"),
        ("from=yesterday", "from"),
        ("by=moon", "by"),
        ("hour_value=-1", "hour_value"),
        ("hour_value=nan", "hour_value"),
        ("format=xml", "format"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(owner: Session, query: str, field: str):
    answer = await owner.get(f"/savings?{query}")
    assert answer.status_code == 422
    assert answer.json()["field"] == field


async def test_reference_prices_name_their_source_and_what_has_none(owner: Session):
    found = (await owner.get("/savings/reference-prices")).json()
    assert all(each["source"] and each["as_of"] for each in found["items"])
    assert all(each["usd_per_gpu_hour"] < 15 for each in found["items"])
    assert "RTX 3060" in found["unknown"]
    assert "RTX 4090" not in found["unknown"]
    one = (await owner.get("/savings/reference-prices?gpu=4090")).json()
    assert [each["gpu"] for each in one["items"]] == ["RTX 4090"]
    assert one["unknown"] == []
    assert (await owner.get("/savings/reference-prices?gpu=abacus")).status_code == 422


async def test_the_calculator(owner: Session):
    claim = (await owner.post("/savings/scenario")).json()
    assert round(claim["benefit_usd_per_year"], 2) == 30_246
    assert "nothing of it is measured" in claim["label"]
    own = (await owner.post("/savings/scenario", {"machines": 2})).json()
    assert own["benefit_usd_per_month"] == pytest.approx(2 * 0.3 * 720 + 63.5)
    for wrong, field in (({"machines": -1}, "machines"), ({"moons": 1}, "moons")):
        refused = await owner.post("/savings/scenario", wrong)
        assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_reading_is_enough_and_needed(saver: Session):
    reader = await saver.api_key("machines:read")
    assert (await reader.get("/savings")).status_code == 200
    assert (await reader.post("/savings/scenario")).status_code == 200
    other = await saver.api_key("offers:read")
    assert (await other.get("/savings")).status_code == 403
