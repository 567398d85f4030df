"""`dumont idle` and `keep-alive`: what is asked of the API, and what a person reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dumont.domain.idle import IdlePolicy, Judgement, Says
from dumont.domain.idle_watch import NO_STORE
from tests.unit.cli.fake_api import FakeApi, problem
from tests.unit.cli.fake_idle import REFUSAL, kept, signal, view

Dumont = Callable[..., Any]
BOX = "/machines/my-box"


def answers(fake: FakeApi, method: str, path: str, what: BaseModel) -> None:
    fake.answer_once(method, f"{BOX}/{path}", JSONResponse(what.model_dump(mode="json")))


def test_it_says_why_and_when_and_how_to_stop_it(user: FakeApi, dumont: Dumont):
    answers(user, "GET", "idle", view())
    result = dumont("idle", "explain", "my-box")
    assert result.exit_code == 0, result.output
    assert "idle  Nothing has worked for 6 min." in result.stdout
    assert "(in 5 min 00 s)" in result.stdout
    assert "dumont keep-alive my-box 2h" in result.stdout
    for word in ("sessions", "under 5 %", "6 d 6 h was observed", "7.9 (estimate)"):
        assert word in result.stdout
    [bare] = [line for line in result.stdout.splitlines() if "nothing else" in line]
    assert " 14 " in bare


def test_a_machine_in_use_and_what_is_not_known(user: FakeApi, dumont: Dumont):
    signals = (signal(says=Says.UNKNOWN, value="unknown"), signal("cpu", Says.ACTIVE, "3.2 cores"))
    judged = Judgement(idle=False, signals=signals, reason="In use. cpu: 3.2 cores.")
    answers(user, "GET", "idle", view(judgement=judged, warning=None))
    result = dumont("idle", "explain", "my-box")
    assert "not idle  In use. cpu: 3.2 cores." in result.stdout
    assert "unknown" in result.stdout
    assert "hibernates" not in result.stdout


def test_why_nothing_happens(user: FakeApi, dumont: Dumont):
    changes = {"acts": False, "why_not": NO_STORE, "judgement": None, "warning": None}
    answers(user, "GET", "idle", view(**changes, keep_alive=kept(), refusal=REFUSAL))
    result = dumont("idle", "explain", "my-box")
    assert NO_STORE in result.stdout
    assert "by ana@example.com: a long think" in result.stdout
    assert "a former instance is looked through" in result.stdout


def test_json_is_the_resource(user: FakeApi, dumont: Dumont):
    answers(user, "GET", "idle", view())
    result = dumont("idle", "explain", "my-box", "--json")
    assert json.loads(result.stdout) == view().model_dump(mode="json")


def test_a_policy_is_shown_without_options(user: FakeApi, dumont: Dumont):
    answers(user, "GET", "idle", view(policy=IdlePolicy(enabled=False, warn_s=900)))
    result = dumont("idle", "policy", "my-box")
    assert result.exit_code == 0, result.output
    assert "off" in result.stdout
    assert "15 min 00 s before it hibernates" in result.stdout
    assert user.called("PUT", f"{BOX}/idle-policy") == []


def test_only_what_is_said_changes(user: FakeApi, dumont: Dumont):
    answers(user, "PUT", "idle-policy", IdlePolicy(idle_for_s=5400, gpu_percent=2))
    result = dumont(
        "idle", "policy", "my-box", "--on", "--idle-for", "1h30m", "--gpu-percent", "2",
        "--session-quiet", "45", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [(body, _)] = user.called("PUT", f"{BOX}/idle-policy")
    assert body == {
        "enabled": True, "idle_for_s": 5400.0, "gpu_percent": 2.0, "session_quiet_s": 2700.0,
    }  # fmt: skip
    assert json.loads(result.stdout)["idle_for_s"] == 5400


def test_off(user: FakeApi, dumont: Dumont):
    answers(user, "PUT", "idle-policy", IdlePolicy(enabled=False))
    assert "off" in dumont("idle", "policy", "my-box", "--off").stdout
    assert user.called("PUT", f"{BOX}/idle-policy")[0][0] == {"enabled": False}


@pytest.mark.parametrize("text", ["", "soon", "2 weeks", "-5m", "1e9h", "2h,", "h"])
def test_a_time_that_is_none(user: FakeApi, dumont: Dumont, text: str):
    for words in (
        ("idle", "policy", "my-box", f"--warn={text}"),
        ("keep-alive", "my-box", "--", text),
    ):
        result = dumont(*words)
        assert result.exit_code == 2, (words, result.output)
        assert "is not a time" in result.stderr
    assert user.requests == []


@pytest.mark.parametrize(
    ("words", "seconds"),
    [((), 7200), (("90m",), 5400), (("1h 30 min",), 5400), (("1d",), 86_400), (("30",), 1800)],
)
def test_keeping_it_up(user: FakeApi, dumont: Dumont, words: tuple[str, ...], seconds: int):
    answers(user, "POST", "keep-alive", kept())
    result = dumont("keep-alive", "my-box", *words, "--reason", "a long think")
    assert result.exit_code == 0, result.output
    [(body, _)] = user.called("POST", f"{BOX}/keep-alive")
    assert body == {"seconds": float(seconds), "reason": "a long think"}
    assert "my-box stays up until 2026-11-23" in result.stdout
    assert "dumont keep-alive my-box --stop" in result.stdout


@pytest.mark.parametrize("text", ["8d", "5s"])
def test_not_for_ever_and_not_for_nothing(user: FakeApi, dumont: Dumont, text: str):
    result = dumont("keep-alive", "my-box", text)
    assert (result.exit_code, user.requests) == (2, [])
    assert "TIME" in result.stderr


def test_no_longer(user: FakeApi, dumont: Dumont):
    user.answer_once("DELETE", f"{BOX}/keep-alive", Response(status_code=204))
    result = dumont("keep-alive", "my-box", "--stop")
    assert result.exit_code == 0, result.output
    assert "no longer than it is used" in result.stdout
    assert len(user.called("DELETE", f"{BOX}/keep-alive")) == 1


def test_no_such_machine(user: FakeApi, dumont: Dumont):
    missing = problem(404, "not_found", "there is no machine 'my-box'")
    user.answer_once("GET", f"{BOX}/idle", missing)
    assert dumont("idle", "explain", "my-box").exit_code == 3
    assert dumont("idle", "explain", "../me").exit_code == 2
