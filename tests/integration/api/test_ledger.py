"""The ledger through the API: the owner's lines and sums, as JSON and as CSV, and nobody else's."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.ledger import Entry, Rewrite
from tests.integration.api.conftest import Running, Session
from tests.integration.db.conftest import record, spec

T0 = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
BOX, LAB = spec(1).machine_id, spec(2).machine_id


def line(owner_id: str, **changed: Any) -> Entry:
    given = {
        "provider": "vast", "resource_id": "24", "item": "gpu", "day": T0.date(), "machine_id": BOX,
        "owner_id": owner_id, "label": f"dmt-test-{BOX}-g1-a1", "basis": "metered", "start": T0,
        "end": T0 + timedelta(hours=1), "seconds": 3600.0, "usd": 0.4, "gpu": "RTX 4090", "gpu_count": 1,
        "rental": "spot", "source": "seen", "metered_seconds": 3600.0, "metered_usd": 0.4,
    }  # fmt: skip
    return Entry.model_validate(given | changed)


@pytest.fixture
async def kept(api: Running, owner: Session) -> Session:
    """An owner with two machines and a ledger of two days; somebody else has one as well."""
    me = (await owner.get("/auth/me")).json()["user_id"]
    store = PostgresMachineStore(api.services.database)
    await store.record(record(spec(1, name="my-box", owner=me)))
    await store.record(record(spec(2, name="my-lab", owner=me)))
    await store.record(record(spec(3, name="theirs", owner="u-other")))
    ledger = api.services.ledger
    tomorrow = T0.date() + timedelta(days=1)
    billed = {
        "basis": "billed", "seconds": 3590.0, "usd": 0.39, "billed_seconds": 3590.0, "billed_usd": 0.39,
        "billed_at": T0, "source": "bill", "metered_seconds": 3600.0, "metered_usd": 0.4,
    }  # fmt: skip
    since = date(2026, 1, 1)
    mine = [line(me), line(me, day=tomorrow, **billed)]
    standby = {"provider": "gcp", "resource_id": "7", "gpu": None, "gpu_count": None}
    standbys = [
        line(me, **standby, item="vm", basis="listed", usd=0.01, machine_id=LAB),
        line(me, **standby, item="vm_disk", basis="listed", usd=None, machine_id=LAB),
    ]
    theirs = line("u-other", resource_id="99", machine_id=spec(3).machine_id, usd=1000.0)
    await ledger.put(
        [
            Rewrite("vast", "24", mine, since),
            Rewrite("gcp", "7", standbys, since),
            Rewrite("vast", "99", [theirs], since),
        ]
    )
    return owner


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


async def test_lines_come_newest_first_in_pages_and_only_mine(kept: Session):
    found, cursor = [], None
    for _ in range(9):
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await kept.get("/ledger", params=query)).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [(e["day"], e["machine"], e["item"], e["usd"]) for e in found] == [
        ("2026-11-21", "my-box", "gpu", 0.39),
        ("2026-11-20", "my-box", "gpu", 0.4),
        ("2026-11-20", "my-lab", "vm_disk", None),
        ("2026-11-20", "my-lab", "vm", 0.01),
    ]
    assert found[0]["basis"] == "billed"


async def test_filters(kept: Session):
    async def days(**query: Any) -> list[str]:
        answer = await kept.get("/ledger", params=query)
        assert answer.status_code == 200, answer.text
        return [f"{e['day']} {e['item']}" for e in answer.json()["items"]]

    assert await days(machine="my-lab") == ["2026-11-20 vm_disk", "2026-11-20 vm"]
    assert await days(machine=BOX, to="2026-11-20") == ["2026-11-20 gpu"]
    assert await days(**{"from": "2026-11-21"}) == ["2026-11-21 gpu"]
    assert await days(item=["vm", "vm_disk"]) == ["2026-11-20 vm_disk", "2026-11-20 vm"]
    assert await days(to="2026-11-01") == []
    page = (await kept.get("/machines/my-lab/ledger", params={"item": "vm"})).json()
    assert [e["usd"] for e in page["items"]] == [0.01]


async def test_sums_keep_apart_how_they_are_known(kept: Session):
    found = (await kept.get("/ledger/summary", params={"by": "machine"})).json()
    box, lab = found["items"]
    assert (box["key"], box["machine"], box["at_least"]) == (BOX, "my-box", False)
    assert box["usd"] == pytest.approx(0.79)
    assert (box["billed_usd"], box["metered_usd"], box["listed_usd"]) == (0.39, 0.4, 0)
    assert (lab["usd"], lab["unknown_lines"], lab["at_least"]) == (0.01, 1, True)
    assert found["total"]["usd"] == pytest.approx(0.8)
    assert found["not_measured"] == ["egress"], "what nobody measures is said, not counted as free"
    by_day = (await kept.get("/ledger/summary", params={"by": "day"})).json()["items"]
    assert [each["key"] for each in by_day] == ["2026-11-20", "2026-11-21"]
    by_gpu = (await kept.get("/ledger/summary", params={"by": "gpu"})).json()["items"]
    assert [(each["key"], each["gpu_seconds"]) for each in by_gpu] == [
        ("RTX 4090", 7190),
        (None, 0),
    ]


async def test_the_sum_of_all_lines_is_the_total_to_the_cent(kept: Session):
    lines = (await kept.get("/ledger", params={"limit": 200})).json()["items"]
    for by in ("machine", "day", "gpu", "item"):
        found = (await kept.get("/ledger/summary", params={"by": by})).json()
        told = sum(each["usd"] or 0 for each in lines)
        assert sum(each["usd"] for each in found["items"]) == pytest.approx(told, abs=1e-9)
        assert found["total"]["usd"] == pytest.approx(told, abs=1e-9)


async def test_an_audit_is_bills_beside_what_was_seen(kept: Session):
    [found] = (await kept.get("/ledger/audit")).json()["items"]
    assert (found["machine"], found["item"], found["day"]) == ("my-box", "gpu", "2026-11-21")
    assert (found["billed_seconds"], found["metered_seconds"], found["seconds"]) == (
        3590,
        3600,
        -10,
    )
    assert found["usd"] == pytest.approx(-0.01)


async def test_csv_by_parameter_or_by_accept_has_every_line(kept: Session):
    for how in (
        {"params": {"format": "csv", "limit": 1}},
        {"headers": {"Accept": "text/csv, */*;q=0.1"}},
    ):
        answer = await kept.get("/ledger", **how)
        assert answer.headers["content-type"].startswith("text/csv"), how
        assert "attachment" in answer.headers["content-disposition"]
        rows = table(answer.text)
        assert len(rows) == 4
        assert rows[0]["usd"] == "0.39"
        [unknown] = [row for row in rows if row["item"] == "vm_disk"]
        assert unknown["usd"] == "", "unknown is empty, not zero"
    sums = table((await kept.get("/ledger/summary", params={"by": "item", "format": "csv"})).text)
    assert {row["key"]: row["unknown_lines"] for row in sums} == {
        "gpu": "0", "vm": "0", "vm_disk": "1",
    }  # fmt: skip
    audit = table((await kept.get("/ledger/audit", params={"format": "csv"})).text)
    assert [row["seconds"] for row in audit] == ["-10.0"]
    machine = (await kept.get("/machines/my-lab/ledger", params={"format": "csv"})).text
    assert {row["item"] for row in table(machine)} == {"vm", "vm_disk"}
    browser = await kept.get("/ledger", headers={"Accept": "text/html, text/csv"})
    assert browser.headers["content-type"] == "application/json"


async def test_a_text_is_no_formula_in_a_spreadsheet(api: Running, owner: Session):
    me = (await owner.get("/auth/me")).json()["user_id"]
    entry = line(me, machine_id=None, gpu="=HYPERLINK(1)")
    await api.services.ledger.put([Rewrite("vast", "24", [entry], T0.date())])
    [row] = table((await owner.get("/ledger", params={"format": "csv"})).text)
    assert row["gpu"] == "'=HYPERLINK(1)"


async def test_nobody_sees_anothers(kept: Session, api: Running):
    stranger = await api.somebody_else()
    assert (await stranger.get("/ledger")).json() == {"items": [], "next_cursor": None}
    summary = (await stranger.get("/ledger/summary")).json()
    assert (summary["items"], summary["total"]["usd"]) == ([], 0)
    assert (await stranger.get("/ledger/audit")).json() == {"items": []}
    for path in ("/machines/my-box/ledger", f"/ledger?machine={BOX}", "/ledger/summary?machine=x"):
        answer = await stranger.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    key = await kept.api_key("offers:read")
    assert (await key.get("/ledger")).status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("from=yesterday", "from"),
        ("item=gold", "item.0"),
        ("cursor=x", "cursor"),
        ("by=mood", "by"),
        ("format=pdf", "format"),
        ("limit=0", "limit"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(kept: Session, query: str, field: str):
    path = "/ledger/summary" if query.startswith("by") else "/ledger"
    answer = await kept.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["field"] in (field, field.partition(".")[0])
