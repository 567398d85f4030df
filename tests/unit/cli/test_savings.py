"""`dumont savings` and `savings-scenario`: what a person reads, and what is never left out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dumont.domain.ledger import Basis, Entry, Item
from dumont.domain.machine import MachinePhase
from dumont.domain.reference_prices import DATED
from dumont.domain.savings import savings_report
from dumont.domain.savings_lines import Assumptions
from dumont.domain.savings_resources import (
    RULE,
    ReferencePriceList,
    reference_price_view,
    savings_view,
)
from dumont.domain.scenario import ScenarioInputs, scenario
from dumont.domain.spans import PhaseSpan
from tests.support.receipts import receipt
from tests.unit.cli.fake_api import FakeApi, Serving, problem

Dumont = Callable[..., Any]
DAY = date(2026, 11, 20)
M = "m0123456789ab"


@dataclass
class SavingsApi(FakeApi):
    """The fake API with what this page asks of it; answers are each test's own."""

    queries: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        made = super().app()
        for method, path in (
            ("GET", "/savings"),
            ("GET", "/savings/reference-prices"),
            ("POST", "/savings/scenario"),
        ):
            guarded = self._guarded(self._unexpected, path)
            made.router.routes.append(
                Route(f"/api/v1{path}", self._noting(guarded), methods=[method])
            )
        return made

    def _noting(self, endpoint: Any) -> Any:
        async def note(request: Request) -> Response:
            self.queries.append(dict(request.query_params))
            answered: Response = await endpoint(request)
            return answered

        return note

    async def _unexpected(self, request: Request, body: Any) -> Response:
        return problem(500, "internal", "this test has no answer to that")


@pytest.fixture
def fake(home: Any) -> Iterator[FakeApi]:
    api = SavingsApi()
    serving = Serving(api)
    yield api
    serving.close()


def at(hour: int) -> datetime:
    return datetime(2026, 11, 20, hour, tzinfo=UTC)


def entry(**changes: Any) -> Entry:
    whole: dict[str, Any] = {
        "provider": "vast", "resource_id": "7", "item": Item.GPU, "day": DAY, "machine_id": M,
        "owner_id": "u1", "basis": Basis.BILLED, "start": at(2), "end": at(12), "usd": 4.0,
        "seconds": 36_000, "gpu": "RTX 4090", "gpu_count": 1, "rental": "spot", "source": "bill",
    }  # fmt: skip
    return Entry.model_validate(whole | changes)


def answer(*entries: Entry, hour_value: float | None = None) -> JSONResponse:
    """A report as the API gives it: ten hours, one failover, twelve hours asleep."""
    spans = [
        PhaseSpan(machine_id=M, phase=MachinePhase.RUNNING, start=at(2), end=at(12)),
        PhaseSpan(machine_id=M, phase=MachinePhase.HIBERNATED, start=at(12)),
    ]
    report = savings_report(
        entries, spans if entries else [], [receipt(detected_at=at(5))] if entries else [],
        since=DAY, until=DAY, now=datetime(2026, 11, 21, tzinfo=UTC),
        assumptions=Assumptions(usd_per_hour_of_work=hour_value),
    )  # fmt: skip
    view = savings_view(report, by="machine", names={M: "my-box"}, with_lines=False)
    return JSONResponse(view.model_dump(mode="json"))


def standby(**changes: Any) -> Entry:
    return entry(
        provider="gcp", resource_id="9", item=Item.VM, gpu=None, gpu_count=None,
        basis=Basis.LISTED, **{"usd": 0.12} | changes,
    )  # fmt: skip


def test_it_says_what_was_saved_and_how_that_is_known(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/savings", answer(entry(), standby()))
    result = dumont("savings")
    assert result.exit_code == 0, result.output
    rows = {line.split("  ")[0].strip(): line for line in result.stdout.splitlines()}
    assert "$2.07" in rows["spot instead of on demand"]
    assert "listed" in rows["spot instead of on demand"]
    assert "$4.80" in rows["hours asleep, not paid for"]
    assert "estimate" in rows["hours asleep, not paid for"]
    assert "-$0.12" in rows["standby: VM, disk, address, egress"]
    assert "$6.75" in rows["net"]
    assert "0.7 minutes; give --hour-value" in rows["downtime avoided"]
    assert "$6.75" in rows["my-box"]
    assert "return on the standby alone: unknown (what a standby saves is time" in result.stdout
    assert "no bills" in result.stderr


def test_an_unknown_price_is_no_zero(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/savings", answer(entry(gpu="RTX 3060"), standby(usd=None)))
    result = dumont("savings")
    assert "1 of 1 unknown: no reference price is known for RTX 3060" in result.stdout
    assert "of what is known $4.80" in result.stdout
    user.answer_once("GET", "/savings", answer(entry(), standby(usd=None)))
    assert "at most $6.87" in dumont("savings").stdout


def test_a_loss_is_shown_as_one(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/savings", answer(entry(usd=70.0)))
    result = dumont("savings")
    assert "-$63.93" in result.stdout


def test_options_reach_the_server(user: SavingsApi, dumont: Dumont):
    user.answer_once("GET", "/savings", answer(entry(), hour_value=60))
    asked = dumont(
        "savings", "--since", "2026-11-01", "--until", "2026-11-20", "--by", "machine",
        "--hour-value", "60", "--minutes-without", "15", "--json", "--lines",
    )  # fmt: skip
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["assumptions"]["usd_per_hour_of_work"] == 60
    assert user.queries == [
        {
            "from": "2026-11-01", "to": "2026-11-20", "by": "machine", "hour_value": "60.0",
            "minutes_without": "15.0", "lines": "true",
        }
    ]  # fmt: skip


def test_csv_is_printed_as_it_came(user: SavingsApi, dumont: Dumont):
    user.answer_once("GET", "/savings", Response("day,net_usd\ntotal,1.5\n", media_type="text/csv"))
    result = dumont("savings", "--by", "day", "--csv")
    assert result.stdout == "day,net_usd\ntotal,1.5\n"
    assert user.queries == [{"by": "day", "format": "csv"}]


def test_an_empty_ledger_is_said_to_be_empty(user: FakeApi, dumont: Dumont):
    user.answer_once("GET", "/savings", answer())
    assert "nothing of this time" in dumont("savings").stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--csv", "--json"], "--csv or --json"),
        (["--csv", "--prices"], "as a table or with --json"),
        (["--lines"], "lines are for programs"),
        (["--by", "moon"], "not machine, day or gpu"),
        (["--since", "yesterday"], "not a day such as"),
    ],
)
def test_what_makes_no_sense_is_refused_here(
    user: FakeApi, dumont: Dumont, options: list[str], words: str
):
    result = dumont("savings", *options)
    assert result.exit_code != 0
    assert words in result.stderr
    assert not user.called("GET", "/savings")


def test_what_the_server_refuses_is_said(user: FakeApi, dumont: Dumont):
    refusal = problem(422, "invalid_input", "at most 400 days at once", field="from")
    user.answer_once("GET", "/savings", refusal)
    result = dumont("savings", "--since", "2024-01-01")
    assert result.exit_code != 0
    assert "at most 400 days" in result.stderr


def test_prices_come_with_their_date_and_source(user: FakeApi, dumont: Dumont):
    found = ReferencePriceList(
        items=[reference_price_view(price) for price in DATED], unknown=["RTX 3060"], rule=RULE
    )
    path = "/savings/reference-prices"
    user.answer_once("GET", path, JSONResponse(found.model_dump(mode="json")))
    result = dumont("savings", "--prices")
    [line] = [each for each in result.stdout.splitlines() if "RTX 4090" in each]
    assert "$0.607" in line
    assert "2026-06-14" in line
    assert "median of on-demand offers" in line
    assert "Another provider's price" in result.stderr


def test_the_claim_is_shown_as_a_scenario_with_what_it_leaves_out(user: FakeApi, dumont: Dumont):
    body = scenario().model_dump(mode="json")
    user.answer_once("POST", "/savings/scenario", JSONResponse(body))
    result = dumont("savings-scenario")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == (
        "The first description's claim, as a scenario: nothing of it is measured"
    )
    for words in ("$30,246.00", "1,650 %", "1.7 days", "unexplained", "$297.00", "no input gives",
                  "What it leaves out:", "$26,682", "costs not taken off"):  # fmt: skip
        assert words in result.stdout, words
    assert user.called("POST", "/savings/scenario")[0][0] == {}


def test_own_inputs_are_sent_and_only_those(user: FakeApi, dumont: Dumont):
    body = scenario(ScenarioInputs(machines=2, standby_usd_per_hour=0)).model_dump(mode="json")
    user.answer_once("POST", "/savings/scenario", JSONResponse(body))
    result = dumont("savings-scenario", "--machines", "2", "--standby", "0")
    assert user.called("POST", "/savings/scenario")[0][0] == {
        "machines": 2,
        "standby_usd_per_hour": 0,
    }
    assert "unknown, for it costs nothing" in result.stdout
    assert "297" not in result.stdout
