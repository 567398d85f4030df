"""What rows mean: states, addresses, prices, offers, bills; and what a hostile row cannot do."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.errors import RequestRefused
from dumont.domain.instances import InstanceState, Rental, SshAddress
from dumont.providers.vast.mapping import (
    charges_from,
    country_of,
    create_body,
    instance_from,
    offer_from,
    search_query,
    state_of,
)
from dumont.providers.vast.onstart import MAX_CHARS, fit_onstart
from dumont.providers.vast.rows import ChargeRow, InstanceRow, OfferRow
from tests.unit.providers.vast_fake import instance_row, offer_row, order


def row(**changes: Any) -> InstanceRow:
    return InstanceRow.model_validate(instance_row(**changes))


def axes(cur: str | None, nxt: str | None, intended: str | None, actual: str | None) -> InstanceRow:
    return row(cur_state=cur, next_state=nxt, intended_status=intended, actual_status=actual)


@pytest.mark.parametrize(
    ("cur", "nxt", "intended", "actual", "expected"),
    [
        ("running", "running", "running", None, InstanceState.STARTING),
        ("running", "running", "running", "created", InstanceState.STARTING),
        ("running", "running", "running", "loading", InstanceState.STARTING),
        ("running", "running", "running", "running", InstanceState.RUNNING),
        ("running", "running", "running", "rebooting", InstanceState.STARTING),
        ("running", "running", "running", "recycling", InstanceState.STARTING),
        # Outbid, stopped by the user and born stopped look alike.
        ("stopped", "stopped", "stopped", "exited", InstanceState.STOPPED),
        ("stopped", "stopped", "stopped", "stopped", InstanceState.STOPPED),
        ("stopped", "stopped", "stopped", None, InstanceState.STOPPED),
        # The daemon's report is half a minute late; the contract counts.
        ("stopped", "stopped", "stopped", "running", InstanceState.STOPPED),
        # Restart asked for, no GPU free yet.
        ("stopped", "running", "running", "exited", InstanceState.STARTING),
        ("running", "running", "running", "exited", InstanceState.STOPPED),
        ("running", "running", "running", "offline", InstanceState.OFFLINE),
        ("running", "running", "running", "unknown", InstanceState.OFFLINE),
        ("stopped", "stopped", "stopped", "offline", InstanceState.OFFLINE),
        ("running", "running", "running", "frozen", InstanceState.UNKNOWN),
        ("running", "running", "running", "a word of tomorrow", InstanceState.UNKNOWN),
        (None, None, None, None, InstanceState.UNKNOWN),
    ],
)
def test_four_axes_become_one_state(
    cur: str | None, nxt: str | None, intended: str | None, actual: str | None, expected: Any
) -> None:
    assert state_of(axes(cur, nxt, intended, actual)) is expected


def test_a_container_that_cannot_start_has_failed() -> None:
    broken = "Error response from daemon: failed to create task: OCI runtime create failed: x"
    assert state_of(row(actual_status="created", status_msg=broken)) is InstanceState.FAILED
    assert state_of(row(actual_status="loading", status_msg=broken)) is InstanceState.FAILED


def test_an_old_message_does_not_fail_what_runs() -> None:
    broken = "Error response from daemon: OCI runtime create failed"
    assert state_of(row(actual_status="running", status_msg=broken)) is InstanceState.RUNNING
    assert state_of(row(actual_status="rebooting", status_msg=broken)) is InstanceState.STARTING


def test_harmless_words_in_a_message_do_not_fail_a_start() -> None:
    noisy = "Pulling: layer 3 failed, retrying; error correction on"
    assert state_of(row(actual_status="loading", status_msg=noisy)) is InstanceState.STARTING


def test_ssh_is_the_hosts_own_port() -> None:
    assert instance_from(row()).ssh == SshAddress(host="127.31.0.14", port=41022)


@pytest.mark.parametrize("ports", [None, {}, [], {"22/tcp": None}, {"22/tcp": []}, "x"])
def test_ssh_is_unknown_until_the_port_is_mapped(ports: Any) -> None:
    assert instance_from(row(ports=ports)).ssh is None
    assert instance_from(row(ports={"22/tcp": [{"HostPort": "0"}]})).ssh is None
    assert instance_from(row(public_ipaddr=None)).ssh is None


def test_the_proxy_serves_where_there_is_no_port_to_wait_for() -> None:
    proxy = SshAddress(host="ssh4.vast.ai", port=19000)
    assert instance_from(row(ports=None, direct_port_count=0)).ssh == proxy
    assert instance_from(row(ports=None, image_runtype="ssh_proxy")).ssh == proxy
    jupyter = row(ports=None, image_runtype="jupyter_proxy ssh_proxy")
    assert instance_from(jupyter).ssh == SshAddress(host="ssh4.vast.ai", port=19001)
    loading = row(ports=None, image_runtype="ssh_proxy", actual_status="loading")
    assert instance_from(loading).ssh is None


def test_an_instance_says_what_it_costs_and_how() -> None:
    running = instance_from(row())
    assert running.usd_per_hour == 0.2044
    assert running.rental is Rental.SPOT
    assert instance_from(row(is_bid=False)).rental is Rental.ON_DEMAND
    assert instance_from(row(is_bid=None)).rental is None
    stopped = {"cur_state": "stopped", "next_state": "stopped", "intended_status": "stopped"}
    assert instance_from(row(**stopped)).usd_per_hour == 0.0044
    assert instance_from(row(**stopped, instance={"totalHour": 0.005})).usd_per_hour == 0.005
    assert instance_from(row(dph_total=None)).usd_per_hour is None


def test_nothing_is_known_of_an_empty_row() -> None:
    empty = instance_from(InstanceRow.model_validate({"id": 1}))
    assert empty.state is InstanceState.UNKNOWN
    assert (empty.label, empty.ssh, empty.rental, empty.usd_per_hour) == (None, None, None, None)


@given(
    st.fixed_dictionaries(
        {key: st.sampled_from([None, -1, "x", 1.5, True, [], {}, "Infinity", "NaN", 10**30])
         for key in instance_row() if key != "id"}
    )
)  # fmt: skip
def test_no_row_with_an_id_breaks_the_mapping(values: dict[str, Any]) -> None:
    found = instance_from(InstanceRow.model_validate({"id": 5, **values}))
    assert found.instance_id == "5"


def test_an_on_demand_offer() -> None:
    offer = offer_from(OfferRow.model_validate(offer_row()), rental=Rental.ON_DEMAND, disk_gb=20)
    assert offer is not None
    assert offer.offer_id == "20442365"
    assert offer.host_id == "36683"
    assert offer.usd_per_hour == pytest.approx(0.4064)
    assert offer.gpu_usd_per_hour == 0.402
    assert offer.on_demand_usd_per_hour == pytest.approx(0.4064)
    assert (offer.country, offer.region) == ("US", "Texas, US")
    assert offer.reliability == 0.9968
    assert offer.gpu_memory_gb == 24.0
    assert offer.memory_gb == pytest.approx(64.2, abs=0.1)
    assert offer.datacenter is False


def test_a_spot_offer_costs_the_lowest_winning_bid_and_the_disk() -> None:
    offer = offer_from(OfferRow.model_validate(offer_row()), rental=Rental.SPOT, disk_gb=20)
    assert offer is not None
    assert offer.gpu_usd_per_hour == 0.191
    assert offer.usd_per_hour == pytest.approx(0.1954)
    assert offer.on_demand_usd_per_hour == pytest.approx(0.4064)


def test_a_bid_row_does_not_claim_its_bid_as_the_on_demand_price() -> None:
    bid_row = offer_row(dph_base=0.191, dph_total=0.1954, is_bid=True)
    offer = offer_from(OfferRow.model_validate(bid_row), rental=Rental.SPOT, disk_gb=20)
    assert offer is not None
    assert offer.on_demand_usd_per_hour is None


def test_the_disk_price_is_worked_out_when_it_is_not_stated() -> None:
    plain = offer_row(storage_total_cost=None, storage_cost=0.15)
    offer = offer_from(OfferRow.model_validate(plain), rental=Rental.SPOT, disk_gb=100)
    assert offer is not None
    assert offer.usd_per_hour - offer.gpu_usd_per_hour == pytest.approx(0.15 * 100 / 720)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_name": None},
        {"num_gpus": 0},
        {"min_bid": None},
        {"min_bid": 0},
        {"min_bid": "NaN"},
        {"rented": True},
        {"rentable": False},
        {"storage_total_cost": None, "storage_cost": None},
    ],
)
def test_an_offer_that_cannot_be_priced_or_rented_is_none(changes: dict[str, Any]) -> None:
    offer = OfferRow.model_validate(offer_row(**changes))
    assert offer_from(offer, rental=Rental.SPOT, disk_gb=20) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Texas, US", "US"),
        ("Sweden, SE", "SE"),
        (", US", "US"),
        ("United States, US", "US"),
        ("Hafnarfjarðarkaupstaður, IS", "IS"),
        ("Somewhere", None),
        ("", None),
        (None, None),
        ("x, usa", None),
    ],
)
def test_country(text: str | None, code: str | None) -> None:
    assert country_of(text) == code


def test_a_search_prices_the_disk_that_will_be_rented() -> None:
    query = search_query(gpu="RTX 4090", gpu_count=2, rental=Rental.SPOT, disk_gb=80, limit=10)
    assert query["allocated_storage"] == 80
    assert query["type"] == "bid"
    assert query["gpu_name"] == {"eq": "RTX 4090"}
    assert query["num_gpus"] == {"eq": 2}
    demand = search_query(gpu=None, gpu_count=None, rental=Rental.ON_DEMAND, disk_gb=1, limit=1)
    assert demand["type"] == "on-demand"
    assert "gpu_name" not in demand


def test_a_create_says_everything_that_matters() -> None:
    body = create_body(order(env={"A": "1"}))
    assert body["price"] == 0.22
    assert body["cancel_unavail"] is True
    assert body["target_state"] == "running"
    assert body["env"] == {"A": "1"}
    assert "direc" in body["runtype"]
    assert create_body(order(bid_usd_per_hour=None))["price"] is None


def test_a_short_script_is_sent_as_it_is() -> None:
    assert fit_onstart("echo hi") == "echo hi"


@pytest.mark.parametrize(
    "script", ["echo 'grüß dich'\n", "# " + "filler " * 2000 + "\necho 'x y'; exit 3\n"]
)
def test_a_long_or_unusual_script_runs_packed(script: str) -> None:
    packed = fit_onstart(script)
    assert len(packed) <= MAX_CHARS
    assert packed.isascii()
    plain = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    unpacked = subprocess.run(["sh", "-c", packed], capture_output=True, check=False)
    assert (unpacked.stdout, unpacked.returncode) == (plain.stdout, plain.returncode)
    assert plain.stdout


def test_a_script_that_cannot_fit_is_refused_by_name() -> None:
    import random

    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
    with pytest.raises(RequestRefused) as refusal:
        fit_onstart(noise)
    assert refusal.value.field == "setup_script"


def test_a_bill_is_its_innermost_lines() -> None:
    bill = {
        "type": "instance",
        "source": "instance-9001",
        "amount": 0.5,
        "start": 1795460000,
        "end": 1795463600,
        "items": [
            {"type": "gpu", "amount": 0.4, "start": 1795460000, "end": 1795463600,
             "description": "1.000 hours at $0.4/hour"},
            {"type": "disk", "amount": 0.1, "start": None, "end": None},
        ],
    }  # fmt: skip
    lines = charges_from(ChargeRow.model_validate(bill))
    assert [(c.instance_id, c.kind, c.usd) for c in lines] == [
        ("9001", "gpu", 0.4),
        ("9001", "disk", 0.1),
    ]
    assert all((c.end - c.start).total_seconds() == 3600 for c in lines)
    assert charges_from(ChargeRow.model_validate({**bill, "source": "volume-1"})) == []
    flat = ChargeRow.model_validate({**bill, "items": []})
    assert [(c.kind, c.usd) for c in charges_from(flat)] == [("instance", 0.5)]
