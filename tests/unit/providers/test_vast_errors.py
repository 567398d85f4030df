"""Each answer Vast.ai is known to give, and the error it has to become."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    InsufficientCredit,
    OfferGone,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
)
from dumont.providers.gateway import Throttled
from dumont.providers.vast.client import _judge
from tests.unit.providers.vast_fake import error


def judged(response: httpx.Response) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        _judge(response)
    return caught.value


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (error(401, "auth_error", "Invalid user key"), AuthFailed),
        (httpx.Response(403, text="This action requires login."), AuthFailed),
        (error(403, None, "This action requires login."), AuthFailed),
        (error(404, "auth_error", "Invalid user key"), AuthFailed),
        (error(404, "no_such_instance", "Instance 1 not found."), InstanceGone),
        (error(404, "not_found"), InstanceGone),
        (error(404, "a_slug_of_tomorrow"), InstanceGone),
        (error(200, "no_such_instance"), InstanceGone),
        (
            error(404, "invalid_args", "error 404/3603: no_such_ask Instance type by id 1"),
            OfferGone,
        ),
        (error(410, "no_such_ask"), OfferGone),
        (error(400, "no_such_ask"), OfferGone),
        (error(400, "invalid_price", "Please set a bid price >= 0.001."), RequestRefused),
        (error(200, "invalid_args", "bad image"), RequestRefused),
        (httpx.Response(200, json={"error": "invalid_args"}), RequestRefused),
        (error(411, None, "Insufficient credit"), InsufficientCredit),
        (error(400, None, "Your account lacks credit"), InsufficientCredit),
        (error(403, "spend_rate_limit", "limit of new accounts"), InsufficientCredit),
        (error(429, "spend_rate_limit"), InsufficientCredit),
        (httpx.Response(429, text="API requests too frequent"), RateLimited),
        (httpx.Response(429, json={"detail": "API requests too frequent"}), RateLimited),
        (error(429, "search_quota_exceeded"), RateLimited),
        (httpx.Response(500, text="Internal Server Error"), ProviderUnavailable),
        (error(503, "busy"), ProviderUnavailable),
        (httpx.Response(502, text="<h1>load balancer: no credit for us</h1>"), ProviderUnavailable),
        (httpx.Response(200, text="<html>maintenance</html>"), ProviderUnavailable),
        (httpx.Response(200, text=""), ProviderUnavailable),
        (httpx.Response(200, json=[1, 2]), ProviderUnavailable),
        (httpx.Response(200, text='{"success": tru'), ProviderUnavailable),
        (httpx.Response(403, text="<html>blocked by a firewall</html>"), ProviderUnavailable),
        (httpx.Response(302, headers={"location": "https://login.test/"}), ProviderUnavailable),
        # A wrong address must never read as "your instance is gone".
        (httpx.Response(404, text="<html>404</html>"), ProviderUnavailable),
        (httpx.Response(404, text="Not Found"), ProviderUnavailable),
        (httpx.Response(404, json={"detail": "Not Found"}), ProviderUnavailable),
    ],
)
def test_an_answer_becomes_the_right_error(
    response: httpx.Response, expected: type[ProviderError]
) -> None:
    found = judged(response)
    assert isinstance(found, expected), repr(found)
    assert found.provider == "vast"
    assert "<" not in found.message


def test_a_success_is_no_error() -> None:
    assert _judge(httpx.Response(200, json={"success": True, "x": 1}))["x"] == 1
    assert _judge(httpx.Response(200, json={"offers": []})) == {"offers": []}
    assert _judge(httpx.Response(200, json={"success": True, "error": ""}))["success"]


def test_the_sentence_says_what_vast_said() -> None:
    found = judged(error(400, "invalid_args", "image not allowed"))
    assert "invalid_args" in found.message
    assert "image not allowed" in found.message


def test_auth_and_money_say_what_to_do() -> None:
    assert "VAST_API_KEY" in (judged(error(401, "auth_error")).hint or "")
    assert "credit" in (judged(error(411, None, "Insufficient credit")).hint or "")


def test_a_refusal_that_left_an_instance_behind_names_it() -> None:
    for response in (
        error(410, "no_such_ask", new_contract=77),
        error(200, "invalid_args", new_contract="77"),
        error(403, None, "no", new_contract=77),
        error(400, None, "out of credit", new_contract=77),
        httpx.Response(500, json={"new_contract": 77}),
    ):
        assert judged(response).instance_id == "77"
    for nothing in (None, 0, True, "", "x", -3, [1]):
        assert judged(error(410, "no_such_ask", new_contract=nothing)).instance_id is None


def test_how_long_to_wait() -> None:
    def wait(**headers: str) -> float | None:
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        return judged(httpx.Response(429, text="too frequent", headers=names)).retry_after

    assert wait(retry_after="7") == 7
    assert wait(retry_after="1.5") == 1.5
    assert wait() is None
    assert wait(retry_after="soon") is None
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60))
    assert wait(retry_after=in_a_minute) == pytest.approx(60, abs=3)
    assert wait(x_ratelimit_reset=str(int(time.time()) + 3600)) == pytest.approx(3600, abs=3)


def test_a_stated_threshold_is_learned() -> None:
    found = judged(
        httpx.Response(429, json={"detail": "API requests too frequent endpoint threshold=4.5"})
    )
    assert isinstance(found, Throttled)
    assert found.threshold_s == 4.5
