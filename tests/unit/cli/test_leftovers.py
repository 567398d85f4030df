"""`dumont leftovers`: what a person reads about what is left, and what they are not told as if known."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.cli.fake_api import FakeApi

Dumont = Callable[..., Any]


def hour_ago() -> str:
    return (datetime.now(UTC) - timedelta(hours=1, seconds=5)).isoformat()


def left(kind: str = "detached_disk", **changes: Any) -> dict[str, Any]:
    return {
        "kind": kind, "provider": "gcp", "resource_id": "77",
        "label": "dmt-demo-m00000000000a-g1-a1", "machine_id": "m00000000000a",
        "machine_name": "old-box", "place": "us-central1-a", "size_gb": 20.0,
        "usd_per_hour": 0.00274, "price_note": "estimate", "detail": "pd-balanced",
        "seen_since": hour_ago(), "fate": "watched", "why": "owner ended", **changes,
    }  # fmt: skip


def answer(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    prices = [each["usd_per_hour"] for each in items if each["usd_per_hour"] is not None]
    return {
        "items": list(items), "usd_per_hour": sum(prices),
        "unknown_prices": len(items) - len(prices),
        "surveys": [{"source": "gcp", "surveyed_at": hour_ago(), "blocked": None}], **changes,
    }  # fmt: skip


def test_what_it_is_what_it_costs_and_what_happens(user: FakeApi, dumont: Dumont):
    user.leftovers = answer(
        left(),
        left("stopped_instance", provider="vast", fate="kept", usd_per_hour=None, size_gb=None),
        left("schedule", label="", detail="", resource_id="machine/m1/snapshot", usd_per_hour=0.0),
    )
    result = dumont("leftovers")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for word in ("detached disk", "old-box", "$0.0027/h", "20.0", "watched: owner", "1 h 00 min"):
        assert word in text
    assert "$0.0000" not in text
    assert "3 left, $0.0027/h together, and 1 at a price that is not known" in result.stderr
    assert "gcp 1 h 00 min ago" in result.stderr


def test_nothing_left_is_not_the_same_as_nobody_looked(user: FakeApi, dumont: Dumont):
    user.leftovers = answer()
    assert "Nothing is left." in dumont("leftovers").stderr
    user.leftovers = answer(surveys=[])
    unseen = dumont("leftovers")
    assert "No sweep has looked yet" in unseen.stderr
    assert "Nothing is left" not in unseen.stderr


def test_a_sweep_that_stopped_itself_says_so(user: FakeApi, dumont: Dumont):
    survey = {"source": "gcp", "surveyed_at": hour_ago(), "blocked": "9 of 9 leftovers look odd"}
    user.leftovers = answer(left(fate="held"), surveys=[survey])
    assert "gcp: 9 of 9 leftovers look odd" in dumont("leftovers").stderr


def test_json_is_the_resource(user: FakeApi, dumont: Dumont):
    user.leftovers = answer(left(usd_per_hour=None))
    shown = json.loads(dumont("leftovers", "--json").stdout)
    assert shown["items"][0]["usd_per_hour"] is None
    assert shown["unknown_prices"] == 1
