"""Vast.ai's bill, read without trusting it: time, quantities, whose it is, and pages that go wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dumont.domain.errors import ProviderUnavailable
from dumont.domain.instances import Charge
from dumont.providers.vast.mapping import charges_from
from dumont.providers.vast.rows import ChargeRow
from tests.unit.providers.vast_fake import Vast

ROUTE = "GET /api/v0/charges/"
AT = 1795460000
SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)


def row(number: int = 9001, *items: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "type": "instance", "source": f"instance-{number}", "amount": 0.5, "start": AT,
        "end": AT + 3600, "items": list(items),
        "metadata": {"label": "dmt-test-m0123456789ab-g1-a1", "gpu_name": "RTX_4090", "num_gpus": 2},
        **changed,
    }  # fmt: skip


def item(kind: str = "gpu", **changed: Any) -> dict[str, Any]:
    return {"type": kind, "amount": 0.4, "start": AT, "end": AT + 3600, **changed}


def only(kind: str = "gpu", **changed: Any) -> Charge:
    [charge] = charges_from(ChargeRow.model_validate(row(9001, item(kind, **changed))))
    return charge


@pytest.mark.parametrize(
    ("told", "hours"),
    [
        ({"description": "96.000 hours at $0.389/hour"}, 96.0),
        ({"description": "1.235 hours at $0.389/hour", "quantity": 1.234568}, 1.234568),
        ({"description": "1,234.500 Hours at $0.1/hour"}, 1234.5),
        ({"description": "0.5 hr at $1/hr"}, 0.5),
        ({"description": "3.000 GB up", "quantity": 3.0}, None),
        ({"description": "GPU"}, None),
        ({"description": None}, None),
        ({"description": "2.000 hours at $1/hour", "quantity": 7200}, 2.0),
        ({"description": ["odd"], "quantity": "odd"}, None),
    ],
)
def test_how_long_was_paid_for(told: dict[str, Any], hours: float | None):
    assert only(**told).hours == hours


@pytest.mark.parametrize(
    ("told", "quantity"),
    [
        ({"quantity": 12.5, "description": "12.500 GB down"}, 12.5),
        ({"description": "12.500 GB down"}, 12.5),
        ({"quantity": -1, "description": "x"}, None),
        ({}, None),
    ],
)
def test_how_much_was_paid_for(told: dict[str, Any], quantity: float | None):
    assert only("bwd", **told).quantity == quantity


def test_whose_it_is():
    charge = only()
    assert (charge.label, charge.gpu, charge.gpu_count) == (
        "dmt-test-m0123456789ab-g1-a1",
        "RTX 4090",
        2,
    )
    [bare] = charges_from(ChargeRow.model_validate(row(9001, item(), metadata="odd")))
    assert (bare.label, bare.gpu, bare.gpu_count) == (None, None, None)


def test_an_amount_that_cannot_be_read_is_unknown_and_the_line_is_not_lost():
    assert only(amount="much").usd is None


def charges(vast: Vast) -> list[Charge]:
    return vast.run(lambda provider: provider.charges(since=SINCE, until=UNTIL))


def test_a_row_that_two_pages_show_is_one():
    vast = Vast().on(
        ROUTE,
        {"results": [row(1), row(2)], "next_token": "a"},
        {"results": [row(2), row(3)], "next_token": None},
    )
    assert [c.instance_id for c in charges(vast)] == ["1", "2", "3"]
    assert vast.calls[0].url.params["limit"] == "500"


@pytest.mark.parametrize(
    "pages",
    [
        [{"results": [row(1)], "next_token": "a"}, {"results": [row(2)], "next_token": "a"}],
        [{"results": "none"}],
        [{"results": ["not a row"], "next_token": None}],
    ],
)
def test_a_bill_is_whole_or_an_error(pages: list[dict[str, Any]]):
    with pytest.raises(ProviderUnavailable):
        charges(Vast().on(ROUTE, *pages))
