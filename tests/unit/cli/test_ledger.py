"""`dumont ledger`: what a person reads, and what a program gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from dumont.domain.ledger import By, Entry, audit, summarize, total
from dumont.domain.ledger_resources import audit_view, line_view, summary_view
from tests.unit.cli.fake_api import FakeApi

Dumont = Callable[..., Any]
T0 = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
NAMES = {"m000000000001": "my-box"}


def entry(**changed: Any) -> Entry:
    given = {
        "provider": "vast", "resource_id": "24", "item": "gpu", "day": date(2026, 11, 20),
        "machine_id": "m000000000001", "owner_id": "u1", "basis": "billed", "start": T0, "end": T0,
        "seconds": 5400.0, "usd": 0.6, "gpu": "RTX 4090", "gpu_count": 2, "source": "the provider's bill",
        "billed_seconds": 5400.0, "billed_usd": 0.6, "metered_seconds": 5430.0, "metered_usd": 0.604,
    }  # fmt: skip
    return Entry.model_validate(given | changed)


ENTRIES = [
    entry(),
    entry(item="vm_disk", provider="gcp", usd=None, seconds=60, basis="listed", gpu=None,
          billed_usd=None, billed_seconds=None, quantity=20.0),
]  # fmt: skip


def lines(entries: list[Entry], cursor: str | None = None) -> JSONResponse:
    items = [line_view(each, NAMES).model_dump(mode="json") for each in entries]
    return JSONResponse({"items": items, "next_cursor": cursor})


def asked(fake: FakeApi, path: str) -> int:
    return len(fake.called("GET", path))


def test_lines_say_what_for_how_long_how_much_and_how_it_is_known(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/ledger", lines(ENTRIES))
    result = dumont("ledger")
    assert result.exit_code == 0, result.output
    first = next(row for row in result.stdout.splitlines() if " gpu " in row)
    for word in ("2026-11-20", "my-box", "2x RTX 4090", "1 h 30 min", "$0.6000", "billed", "bill"):
        assert word in first, word
    second = next(row for row in result.stdout.splitlines() if "vm_disk" in row)
    assert "unknown" in second
    assert "$0" not in second, "what is unknown is not free"


def test_a_line_that_is_known_in_part_says_so(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/ledger", lines([entry(usd=None, known_usd=0.25)]))
    result = dumont("ledger")
    assert "at least" in result.stdout
    assert "$0.2500" in result.stdout


def test_pages_are_put_together_and_what_is_left_out_is_said(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/ledger", lines(ENTRIES, cursor="next"))
    user.answer_once("GET", "/ledger", lines(ENTRIES))
    result = dumont("ledger", "--json", "--limit", "3")
    found = json.loads(result.stdout)["items"]
    assert len(found) == 3
    assert found[1]["usd"] is None
    assert "the newest 3 are shown" in result.stderr


def test_sums_are_at_least_where_a_price_is_unknown(user: FakeApi, dumont: Dumont):
    view = summary_view(summarize(ENTRIES, By.MACHINE), total(ENTRIES), by=By.MACHINE, names=NAMES)
    user.answer_once("GET", "/ledger/summary", JSONResponse(view.model_dump(mode="json")))
    result = dumont("ledger", "my-box", "--by", "machine", "--since", "2026-11-01")
    assert result.exit_code == 0, result.output
    assert "at least $0.6000" in result.stdout
    assert "1 line" in result.stdout
    assert "egress" in result.stderr
    assert "estimates" in result.stderr


def test_an_audit_shows_both_and_the_difference(user: FakeApi, dumont: Dumont):
    view = audit_view(audit(ENTRIES), NAMES)
    user.answer_once("GET", "/ledger/audit", JSONResponse(view.model_dump(mode="json")))
    result = dumont("ledger", "--audit")
    assert result.exit_code == 0, result.output
    for word in ("5,400 s", "5,430 s", "-30 s", "-0.0040"):
        assert word in result.stdout, word


def test_csv_is_the_servers_own(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/ledger", PlainTextResponse("day,usd\r\n2026-11-20,0.6\r\n"))
    result = dumont("ledger", "--csv")
    assert result.stdout == "day,usd\n2026-11-20,0.6\n"


def test_an_empty_ledger_is_no_table(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/ledger", lines([]))
    result = dumont("ledger")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such line" in result.stderr


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--since", "yesterday"], "--since"),
        (["--until", "2026-13-01"], "--until"),
        (["--by", "mood"], "--by"),
        (["--audit", "--by", "day"], "--by"),
        (["--csv", "--json"], "--csv"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(
    user: FakeApi, dumont: Dumont, words: list[str], field: str
):
    result = dumont("ledger", *words)
    assert result.exit_code == 2
    assert field in result.stderr
    assert asked(user, "/ledger") == 0
