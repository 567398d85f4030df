"""The adapter against a scripted Vast.ai: renting safely, listing wholly, ending for certain."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    OfferGone,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
)
from dumont.domain.instances import Instance, InstanceState, Rental
from dumont.domain.offers import GpuRequirement
from dumont.providers.vast.adapter import VastProvider
from tests.unit.providers.vast_fake import (
    HTML,
    LABEL,
    Vast,
    error,
    instance_row,
    offer_row,
    order,
)

CREATE = "PUT /api/v0/asks/20442365/"
SHOW = "GET /api/v0/instances/9001/"
DESTROY = "DELETE /api/v0/instances/9001/"
UPDATE = "PUT /api/v0/instances/9001/"
REBOOT = "PUT /api/v0/instances/reboot/9001/"
LIST = "GET /api/v1/instances/"
SEARCH = "POST /api/v0/bundles/"

RENTED = {"success": True, "new_contract": 9001, "instance_api_key": "x"}
PREFIX = "dmt-test-"


def page(*rows: Any, token: str | None = None, total: int | None = None) -> dict[str, Any]:
    return {
        "success": True,
        "instances": list(rows),
        "next_token": token,
        "instances_found": len(rows),
        "total_instances": len(rows) if total is None else total,
        "label_counts": {},
    }


def create(vast: Vast, **changes: Any) -> str:
    return vast.run(lambda provider: provider.create(order(**changes)))


def listed(vast: Vast) -> list[Instance]:
    return vast.run(lambda provider: provider.list_instances(label_prefix=PREFIX))


# Renting


def test_a_bid_that_became_a_bid() -> None:
    vast = Vast().on(CREATE, RENTED).on(SHOW, {"instances": instance_row(is_bid=True)})
    assert create(vast) == "9001"
    sent = json.loads(vast.asked(CREATE)[0].content)
    assert sent["label"] == LABEL
    assert sent["price"] == 0.22


def test_an_on_demand_order_asks_no_further() -> None:
    vast = Vast().on(CREATE, RENTED)
    assert create(vast, bid_usd_per_hour=None) == "9001"
    assert json.loads(vast.asked(CREATE)[0].content)["price"] is None


def test_a_bid_that_became_on_demand_is_ended_at_once() -> None:
    vast = Vast().on(CREATE, RENTED).on(SHOW, {"instances": instance_row(is_bid=False)})
    vast.on(DESTROY, {"success": True})
    with pytest.raises(RequestRefused, match="on demand") as refusal:
        create(vast)
    assert len(vast.asked(DESTROY)) == 1
    assert refusal.value.instance_id is None


def test_if_even_ending_it_fails_the_error_names_the_instance() -> None:
    vast = Vast().on(CREATE, RENTED).on(SHOW, {"instances": instance_row(is_bid=False)})
    vast.on(DESTROY, HTML)
    with pytest.raises(RequestRefused) as refusal:
        create(vast)
    assert refusal.value.instance_id == "9001"


def test_a_new_instance_may_take_a_moment_to_show_how_it_is_paid() -> None:
    vast = Vast().on(CREATE, RENTED)
    vast.on(SHOW, {"instances": None}, HTML, {"instances": instance_row(is_bid=True)})
    assert create(vast) == "9001"


def test_an_unknown_rental_is_not_taken_for_on_demand() -> None:
    vast = Vast().on(CREATE, RENTED).on(SHOW, {"instances": instance_row(is_bid=None)})
    with pytest.raises(OutcomeUnknown) as unknown:
        create(vast)
    assert unknown.value.instance_id == "9001"
    assert not vast.asked(DESTROY)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
        httpx.WriteError("broken pipe"),
        HTML,
        httpx.Response(500, text="oops"),
        httpx.Response(200, text="<html>ok?</html>"),
        {"success": True},
    ],
)
def test_a_lost_answer_to_a_create_is_unknown_and_not_repeated(answer: Any) -> None:
    vast = Vast().on(CREATE, answer)
    with pytest.raises(OutcomeUnknown):
        create(vast)
    assert len(vast.asked(CREATE)) == 1


@pytest.mark.parametrize("cause", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_create_that_never_left_is_only_unavailable(cause: Exception) -> None:
    with pytest.raises(ProviderUnavailable):
        create(Vast().on(CREATE, cause))


def test_a_refused_create_is_repeated_because_it_did_not_happen() -> None:
    vast = Vast().on(CREATE, httpx.Response(429, text="API requests too frequent"), RENTED)
    vast.on(SHOW, {"instances": instance_row()})
    assert create(vast) == "9001"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(410, "no_such_ask", new_contract=9001), OfferGone),
        (error(200, "no_such_ask", new_contract=9001), OfferGone),
        (error(404, "not_found", new_contract=9001), OfferGone),
        (error(400, "invalid_args", new_contract=9001), RequestRefused),
        (httpx.Response(502, json={"new_contract": 9001}), OutcomeUnknown),
    ],
)
def test_a_refusal_that_still_rented_names_the_instance(
    answer: httpx.Response, kind: type[ProviderError]
) -> None:
    with pytest.raises(kind) as refusal:
        create(Vast().on(CREATE, answer))
    assert refusal.value.instance_id == "9001"


def test_an_offer_id_cannot_become_a_path() -> None:
    with pytest.raises(RequestRefused):
        create(Vast(), offer_id="../users")


# Reading


def test_get_and_the_two_ways_of_absence() -> None:
    gone = error(404, "no_such_instance")
    vast = Vast().on(SHOW, {"instances": instance_row()}, {"instances": None}, gone)

    async def use(provider: VastProvider) -> list[Instance | None]:
        return [await provider.get("9001") for _ in range(3)]

    present, *absent = vast.run(use)
    assert present is not None
    assert present.state is InstanceState.RUNNING
    assert absent == [None, None]


def test_a_wrong_address_is_not_an_empty_account() -> None:
    vast = Vast().on(LIST, error(404, "not_found", "no such route"))
    with pytest.raises(ProviderUnavailable):
        listed(vast)


@pytest.mark.parametrize(
    "answer",
    [
        HTML,
        httpx.Response(404, text="<h1>404</h1>"),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"instances": []}),
        httpx.Response(200, json={"instances": {}}),
        httpx.Response(200, json={"instances": {"id": "?"}}),
        httpx.ReadTimeout("slow"),
    ],
)
def test_a_broken_answer_is_no_evidence_of_absence(answer: Any) -> None:
    with pytest.raises(ProviderUnavailable):
        Vast().on(SHOW, answer).run(lambda provider: provider.get("9001"))


def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    vast = Vast().on(SHOW, {"instances": None})
    vast.run(lambda provider: provider.get("9001"))
    (request,) = vast.calls
    assert request.headers["authorization"] == "Bearer secret-key"
    assert "secret" not in str(request.url)


@pytest.mark.parametrize("key", ["", "  ", "a b", "clé", "a\n"])
def test_an_impossible_key_is_named_at_once(key: str) -> None:
    with pytest.raises(AuthFailed) as refusal:
        VastProvider(url="http://vast.test", api_key=key)
    assert refusal.value.field == "VAST_API_KEY"


def test_a_list_walks_all_pages_and_keeps_ours() -> None:
    rows = [instance_row(id=n, label=f"dmt-test-m{n:012x}-g1-a1") for n in range(1, 61)]
    foreign = instance_row(id=99, label="somebody else's")
    unlabelled = instance_row(id=100, label=None)
    everything = [*rows, foreign, unlabelled]
    vast = Vast().on(
        LIST,
        page(*everything[:25], token="t1", total=62),
        page(*everything[25:50], token="t2", total=62),
        page(*everything[50:], total=62),
    )
    found = listed(vast)
    assert [i.instance_id for i in found] == [str(n) for n in range(1, 61)]
    tokens = [call.url.params.get("after_token") for call in vast.asked(LIST)]
    assert tokens == [None, "t1", "t2"]
    assert all(call.url.params["limit"] == "25" for call in vast.asked(LIST))


@pytest.mark.parametrize(
    "pages",
    [
        [page(instance_row(id=1), total=2)],
        [page(instance_row(id=1), token="t"), page(instance_row(id=1))],
        [page(instance_row(id=1), token="t"), page(instance_row(id=2), token="t")],
        [page(token="t", total=0)],
        [{"success": True, "instances": None}],
        [{"success": True}],
        [{**page(instance_row(id=1)), "instances_found": 9, "total_instances": None}],
    ],
    ids=["short", "twice", "loop", "empty page", "null", "absent", "found"],
)
def test_pages_that_contradict_each_other_are_no_list(pages: list[dict[str, Any]]) -> None:
    vast = Vast().on(LIST, *pages, *pages)
    with pytest.raises(ProviderUnavailable, match="does not add up"):
        listed(vast)


def test_an_instance_that_came_between_two_pages_is_read_again() -> None:
    vast = Vast().on(
        LIST,
        page(instance_row(id=1), token="t", total=2),
        page(total=3),
        page(instance_row(id=1), instance_row(id=2), token="t", total=3),
        page(instance_row(id=3), total=3),
    )
    assert len(listed(vast)) == 3


def test_a_page_that_fails_fails_the_list() -> None:
    vast = Vast().on(LIST, page(instance_row(id=1), token="t", total=2), HTML)
    with pytest.raises(ProviderUnavailable):
        listed(vast)


def test_a_damaged_row_of_ours_is_listed_with_what_is_known() -> None:
    (found,) = listed(
        Vast().on(LIST, page({"id": 7, "label": LABEL, "ports": "?", "dph_total": "x"}))
    )
    assert found.instance_id == "7"
    assert found.state is InstanceState.UNKNOWN


@pytest.mark.parametrize("row", [{"id": None, "label": LABEL}, {"id": "x"}, "garbage", None])
def test_a_row_that_may_be_ours_is_never_dropped(row: Any) -> None:
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        listed(Vast().on(LIST, page(instance_row(), row)))


def test_a_damaged_row_of_somebody_else_does_not_matter() -> None:
    assert len(listed(Vast().on(LIST, page(instance_row(), {"id": None, "label": "other"})))) == 1


# Ending and changing


@pytest.mark.parametrize(
    "answer",
    [
        {"success": True},
        error(404, "no_such_instance"),
        error(404, "not_found"),
        error(200, "no_such_instance"),
    ],
)
def test_destroyed_is_destroyed(answer: Any) -> None:
    vast = Vast().on(DESTROY, answer)
    vast.run(lambda provider: provider.destroy("9001"))
    assert vast.asked(DESTROY)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="<h1>nothing here</h1>"),
        httpx.Response(404, json={"detail": "Not Found"}),
        error(404, "auth_error", "Invalid user key"),
        error(401, "auth_error"),
        HTML,
        httpx.Response(200, text=""),
        httpx.ReadTimeout("slow"),
    ],
)
def test_only_vasts_own_word_ends_billing(answer: Any) -> None:
    with pytest.raises(ProviderError):
        Vast().on(DESTROY, answer).run(lambda provider: provider.destroy("9001"))


def test_start_and_stop() -> None:
    vast = Vast().on(
        SHOW, {"instances": instance_row(cur_state="stopped", intended_status="stopped")}
    )
    vast.on(UPDATE, {"success": True})

    async def use(provider: VastProvider) -> None:
        await provider.start("9001")
        await provider.stop("9001")

    vast.run(use)
    assert [json.loads(c.content) for c in vast.calls if c.method == "PUT"] == [
        {"state": "running"},
        {"state": "stopped"},
    ]
    with pytest.raises(InstanceGone):
        Vast().on(SHOW, error(404, "no_such_instance")).run(lambda p: p.start("9001"))


def test_a_container_that_exited_on_its_gpu_is_rebooted() -> None:
    """It is meant to run already: `state: running` would change nothing."""
    exited = instance_row(cur_state="running", intended_status="running", actual_status="exited")
    vast = Vast().on(SHOW, {"instances": exited}).on(REBOOT, {"success": True})
    vast.run(lambda provider: provider.start("9001"))
    assert [f"{c.method} {c.url.path}" for c in vast.calls] == [SHOW, REBOOT]


def test_a_bid_is_never_left_to_vast() -> None:
    route = "PUT /api/v0/instances/bid_price/9001/"
    vast = Vast().on(route, {"success": True})
    _bid(vast, 0.3)
    assert json.loads(vast.calls[0].content) == {"client_id": "me", "price": 0.3}
    for bid in (0.0, -1.0, float("nan")):
        with pytest.raises(RequestRefused):
            _bid(vast, bid)


def _bid(vast: Vast, usd: float) -> None:
    vast.run(lambda provider: provider.change_bid("9001", usd_per_hour=usd))


# Searching


NEED = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.5)


def test_a_search_is_sorted_and_within_the_price() -> None:
    rows = [
        offer_row(id=1, min_bid=0.3),
        offer_row(id=2, min_bid=0.1),
        offer_row(id=3, min_bid=0.9),
        "garbage",
        {"id": "x"},
    ]
    vast = Vast().on(SEARCH, {"offers": rows})
    found = vast.run(lambda provider: provider.search_offers(NEED))
    assert [o.offer_id for o in found] == ["2", "1"]
    assert all(o.rental is Rental.SPOT for o in found)


def test_a_search_is_not_repeated_within_seconds_and_forgets_what_is_gone() -> None:
    vast = Vast().on(SEARCH, {"offers": [offer_row(id=1), offer_row(id=20442365)]})
    vast.on(CREATE, error(410, "no_such_ask"))

    async def use(provider: VastProvider) -> list[str]:
        await provider.search_offers(NEED)
        with pytest.raises(OfferGone):
            await provider.create(order())
        return [o.offer_id for o in await provider.search_offers(NEED)]

    assert vast.run(use) == ["1"]
    assert len(vast.asked(SEARCH)) == 1


def test_an_answer_without_offers_is_not_an_empty_market() -> None:
    with pytest.raises(ProviderUnavailable):
        Vast().on(SEARCH, {"success": True}).run(lambda provider: provider.search_offers(NEED))
    empty = Vast().on(SEARCH, {"offers": []}).run(lambda provider: provider.search_offers(NEED))
    assert empty == []


# The rest


def test_logs_are_fetched_without_the_key_once_they_are_there() -> None:
    vast = Vast().on(
        "PUT /api/v0/instances/request_logs/9001/",
        {"success": True, "result_url": "http://store.test/log"},
    )
    vast.on("GET /log", httpx.Response(404), httpx.Response(403), httpx.Response(200, text="hello"))
    assert vast.run(lambda provider: provider.logs("9001", tail=5)) == "hello"
    assert "authorization" not in vast.asked("GET /log")[0].headers


def test_logs_that_never_come_are_an_error() -> None:
    vast = Vast().on(
        "PUT /api/v0/instances/request_logs/9001/", {"result_url": "http://store.test/log"}
    )
    vast.on("GET /log", httpx.Response(404))
    with pytest.raises(ProviderUnavailable, match="log"):
        vast.run(lambda provider: provider.logs("9001"))


def test_the_account_and_its_credit() -> None:
    route = "GET /api/v0/users/current"
    vast = Vast().on(route, {"id": 7, "credit": -1.25, "email": "x"}, {"id": 7, "credit": None})

    async def use(provider: VastProvider) -> list[float | None]:
        return [(await provider.account_status()).credit_usd for _ in range(2)]

    assert vast.run(use) == [-1.25, None]


def test_a_bill_walks_its_pages() -> None:
    def line(n: int) -> dict[str, Any]:
        return {"type": "instance", "source": f"instance-{n}", "amount": n, "start": 1795460000}

    vast = Vast().on(
        "GET /api/v0/charges/",
        {"results": [line(1), line(2)], "next_token": "t"},
        {"results": [line(3)], "next_token": None},
    )
    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    found = vast.run(lambda provider: provider.charges(since=since, until=until))
    assert [c.instance_id for c in found] == ["1", "2", "3"]
    sent = json.loads(vast.calls[0].url.params["select_filters"])
    assert sent == {"day": {"gte": int(since.timestamp()), "lte": int(until.timestamp())}}
