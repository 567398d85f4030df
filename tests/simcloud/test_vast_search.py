"""Searching offers: the query language, the market's promises, the row's fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.vast_api import VastApi

READ_BY_CLIENTS = """
    id ask_contract_id bundle_id machine_id host_id num_gpus gpu_name gpu_ram compute_cap
    cuda_max_good driver_version driver_vers dlperf dlperf_per_dphtotal score pcie_bw cpu_cores
    cpu_cores_effective cpu_ghz cpu_ram disk_space disk_bw inet_up inet_down inet_up_cost
    inet_down_cost direct_port_count static_ip public_ipaddr geolocation hosting_type dph_base
    dph_total min_bid is_bid storage_cost storage_total_cost discounted_dph_total reliability
    reliability2 verification rentable rented external start_date end_date duration
"""


def test_a_newcomer_finds_several_cheap_verified_4090s(vast: VastApi) -> None:
    found = vast.search(
        gpu_name={"eq": "RTX 4090"},
        num_gpus={"eq": 1},
        dph_total={"lte": 0.6},
        rentable={"eq": True},
    )
    assert len(found) >= 4
    assert {row["verification"] for row in found} == {"verified"}
    assert all(row["min_bid"] < row["dph_base"] for row in found)


def test_rows_hold_every_field_that_clients_read(vast: VastApi) -> None:
    for row in vast.search(limit=200):
        assert not [name for name in READ_BY_CLIENTS.split() if name not in row]
        assert row["dph_total"] == pytest.approx(row["dph_base"] + row["storage_total_cost"])
        assert row["storage_total_cost"] == pytest.approx(row["storage_cost"] * 5 / 720, abs=1e-5)


def test_the_market_is_varied(vast: VastApi) -> None:
    rows = vast.search(limit=1000, verified={"in": [True, False]})
    assert {"RTX 4090", "RTX 3090", "A100 SXM4", "H100 SXM", "L40S"} <= {
        r["gpu_name"] for r in rows
    }
    places = {row["geolocation"] for row in rows}
    assert ", US" in places
    assert any(not place.isascii() for place in places)
    assert {1, 2, 4, 8} <= {row["num_gpus"] for row in rows}
    assert len({row["id"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("filters", "check"),
    [
        ({"num_gpus": {"eq": "2"}}, lambda r: r["num_gpus"] == 2),
        ({"reliability": {"gt": "0.99"}}, lambda r: r["reliability2"] > 0.99),
        ({"reliability2": {"gte": 0.99}}, lambda r: r["reliability2"] >= 0.99),
        ({"geolocation": {"in": ["US", "IS"]}}, lambda r: r["geolocation"][-2:] in ("US", "IS")),
        ({"geolocation": {"notin": ["US"]}}, lambda r: not r["geolocation"].endswith("US")),
        ({"gpu_name": {"in": ["L40S", "RTX 3090"]}}, lambda r: r["gpu_name"] in ("L40S", "RTX 3090")),
        ({"gpu_name": {"neq": "RTX 4090"}}, lambda r: r["gpu_name"] != "RTX 4090"),
        ({"datacenter": {"eq": True}}, lambda r: r["hosting_type"] == 1),
        ({"verified": {"eq": "false"}}, lambda r: r["verification"] != "verified"),
        ({"driver_version": {"gte": "570.00.00"}}, lambda r: r["driver_vers"] >= 570_000_000),
        ({"cuda_vers": {"lt": "12.8"}}, lambda r: r["cuda_max_good"] < 12.8),
        ({"external": {"eq": False}, "static_ip": {"eq": True}}, lambda r: r["static_ip"] is True),
        ({"gpu_ram": {"gte": 40000.0}, "dph": {"lt": "1"}}, lambda r: r["gpu_ram"] >= 40000),
    ],
)  # fmt: skip
def test_filters_compare_as_what_the_field_holds(
    vast: VastApi, filters: dict[str, Any], check: Any
) -> None:
    everything = vast.search(limit=1000)
    found = vast.search(limit=1000, **filters)
    assert found
    assert all(check(row) for row in found)
    if "verified" not in filters:
        assert len(found) == sum(
            check(row) and (row["dph_total"] < 1 if "dph" in filters else True)
            for row in everything
        )


def test_unknown_fields_are_ignored_and_unknown_operators_are_not(vast: VastApi) -> None:
    assert vast.search(no_such_field={"eq": 1})
    answer = vast.raw("POST", "/api/v0/bundles/", {"num_gpus": 0})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert "0 is not a valid search op" in answer.json()["msg"]
    assert vast.raw("POST", "/api/v0/bundles/", {"num_gpus": {"about": 1}}).status_code == 400


def test_order_limit_and_default_limit(vast: VastApi) -> None:
    prices = [row["dph_total"] for row in vast.search(order=[["dph_total", "desc"]], limit=20)]
    assert prices == sorted(prices, reverse=True)
    assert len(prices) == 20
    vast.control.knobs(search_default_limit=7)
    assert len(vast.search()) == 7


def test_bid_search_shows_minimum_bids_as_prices(vast: VastApi) -> None:
    bids = {row["id"]: row for row in vast.search(type="bid", limit=500)}
    for row in vast.search(type="ondemand", limit=500):
        bid = bids[row["id"]]
        assert bid["is_bid"] is True
        assert row["is_bid"] is False
        assert bid["dph_base"] == bid["min_bid"] == row["min_bid"]


def test_allocated_storage_is_in_the_price(vast: VastApi) -> None:
    [small] = vast.search(limit=1, order=[["id", "asc"]], allocated_storage=0)
    [large] = vast.search(limit=1, order=[["id", "asc"]], allocated_storage="1000")
    assert large["id"] == small["id"]
    assert large["dph_total"] - small["dph_total"] == pytest.approx(
        small["storage_cost"] * 1000 / 720, abs=1e-4
    )


def test_older_ways_to_search(vast: VastApi) -> None:
    query = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}, "order": [["id", "asc"]]}
    modern = [row["id"] for row in vast.search(**query)]
    legacy = vast.put("/api/v0/search/asks/", select_cols=["*"], q=query)["offers"]
    assert [row["id"] for row in legacy] == modern
    columns = vast.put("/api/v0/search/asks", select_cols=["id"], q=query)["offers"]
    assert columns[0] == {"id": modern[0]}
    by_get = vast.get("/api/v0/bundles", q=json.dumps(query))["offers"]
    assert [row["id"] for row in by_get] == modern


def test_a_slow_moving_market_moves(vast: VastApi) -> None:
    vast.control.knobs(rivals=True)
    before = {row["id"]: (row["dph_base"], row["min_bid"]) for row in vast.search(limit=500)}
    vast.control.post("/vast/market/tick", count=30)
    after = {row["id"]: (row["dph_base"], row["min_bid"]) for row in vast.search(limit=500)}
    shared = before.keys() & after.keys()
    assert shared
    assert sum(before[each] != after[each] for each in shared) > len(shared) * 0.8
    newcomers = vast.search(gpu_name={"eq": "RTX 4090"}, num_gpus={"eq": 1}, dph_total={"lt": 0.6})
    assert len(newcomers) >= 4


def test_an_offer_that_another_customer_took_is_stale_then_gone(vast: VastApi) -> None:
    vast.control.knobs(stale_offer_probability=1.0, stale_offer_seconds=1000.0)
    offer = vast.cheapest()
    vast.control.post(f"/vast/market/asks/{offer['id']}/take")
    assert offer["id"] in [row["id"] for row in vast.search(limit=500)]
    answer = vast.raw("PUT", f"/api/v0/asks/{offer['id']}/", {"image": "ubuntu"})
    assert answer.status_code == 404
    assert answer.json()["error"] == "invalid_args"
    assert "no_such_ask" in answer.json()["msg"]
    vast.control.knobs(stale_offer_seconds=0.0)
    assert offer["id"] not in [row["id"] for row in vast.search(limit=500)]
