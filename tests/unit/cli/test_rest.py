"""`dumont hibernate` and `wake`: what a person reads while it happens, and when it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.unit.cli.fake_api import FakeApi
from tests.unit.cli.test_protect import STANDBY

Dumont = Callable[..., Any]


def sleeps(fake: FakeApi, machine: dict[str, Any], wish: str) -> None:
    fake.event(machine, "machine.hibernating", "the owner asked for it", at_s=10)
    fake.event(machine, "instance.ended", "instance 24 ended and verified gone", at_s=40)
    machine.update(phase="hibernated", reason="nothing is rented; 3 files are in snapshot S")
    fake.event(machine, "machine.hibernated", machine["reason"], at_s=41)


def stays_up(fake: FakeApi, machine: dict[str, Any], wish: str) -> None:
    fake.event(machine, "machine.hibernating", "the owner asked for it", at_s=10)
    machine.update(phase="running", reason="not hibernated: somebody is writing")
    fake.event(machine, "alert", machine["reason"], at_s=12)


def wakes(fake: FakeApi, machine: dict[str, Any], wish: str) -> None:
    fake.event(machine, "machine.waking", "the owner woke it", at_s=50)
    machine.update(phase="running", reason="ready: 3 files are back from S")
    fake.event(machine, "machine.ready", machine["reason"], at_s=60)


def gets_stuck(fake: FakeApi, machine: dict[str, Any], wish: str) -> None:
    fake.event(machine, "machine.waking", "the owner woke it", at_s=50)
    machine.update(phase="stuck", reason="no offer fits")
    fake.event(machine, "machine.stuck", machine["reason"], at_s=60)


def test_it_says_what_is_kept_and_how_to_come_back(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    user.on_rest = sleeps
    result = dumont("hibernate", "my-box")
    assert result.exit_code == 0, result.output
    assert "my-box hibernates: nothing is rented; 3 files are in snapshot S" in result.stdout
    assert "dumont wake my-box" in result.stdout
    assert "instance 24 ended and verified gone" in result.stderr


def test_a_machine_that_stays_up_is_an_error_with_its_reason(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    user.on_rest = stays_up
    result = dumont("hibernate", "my-box")
    assert result.exit_code == 5
    assert "somebody is writing" in result.stderr
    assert "dumont events my-box" in result.stderr


def test_it_wakes_and_says_what_it_costs(user: FakeApi, dumont: Dumont):
    machine = user.add_running("my-box")
    machine.update(phase="hibernated", reason="nothing is rented")
    user.on_rest = wakes
    result = dumont("wake", "my-box")
    assert result.exit_code == 0, result.output
    assert "my-box is awake" in result.stdout
    assert "3 files are back" in result.stdout
    assert "/h" in result.stdout


def test_a_wake_without_an_offer_is_an_error(user: FakeApi, dumont: Dumont):
    user.add_running("my-box").update(phase="hibernated", reason="nothing is rented")
    user.on_rest = gets_stuck
    result = dumont("wake", "my-box")
    assert result.exit_code == 5
    assert "no offer fits" in result.stderr


def test_not_waiting(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    result = dumont("hibernate", "my-box", "--no-wait", "--json")
    assert result.exit_code == 0
    assert '"phase": "running"' in result.stdout


def test_no_such_machine(user: FakeApi, dumont: Dumont):
    assert dumont("hibernate", "nobody").exit_code == 3
    assert dumont("wake", "nobody").exit_code == 3


def test_the_price_comes_before_the_wake(user: FakeApi, dumont: Dumont):
    user.add_running("my-box").update(phase="hibernated", reason="nothing is rented")
    user.on_rest = wakes
    result = dumont("wake", "my-box")
    assert result.exit_code == 0, result.output
    assert "RTX 4090 in Texas, US at $0.310/h, the best of 4 offers; about 42.0 s" in result.stderr
    assert "estimate" in result.stderr


def test_only_the_price(user: FakeApi, dumont: Dumont):
    user.add_running("my-box").update(phase="hibernated", reason="nothing is rented")
    user.wake_quote = {"usd_per_hour": None, "seconds": None, "fitting": 0, "basis": "unknown"}
    result = dumont("wake", "my-box", "--quote")
    assert result.exit_code == 0, result.output
    assert "no offer of RTX 4090 fits now" in result.stdout
    assert "time unknown" in result.stdout
    assert not [each for each in user.requests if each[0] == "POST" and "wake" in each[1]]
    assert '"usd_per_hour": null' in dumont("wake", "my-box", "--quote", "--json").stdout


def test_the_standby_may_stay(user: FakeApi, dumont: Dumont):
    machine = user.add_running("my-box")
    machine["standby"] = STANDBY
    user.on_rest = sleeps
    result = dumont("hibernate", "my-box", "--standby", "keep")
    assert result.exit_code == 0, result.output
    sent = [each for each in user.requests if each[1].endswith("/hibernate")]
    assert sent[0][2]["standby"] == "keep"
    assert "dumont ssh my-box" in result.stdout
    wrong = dumont("hibernate", "my-box", "--standby", "maybe")
    assert wrong.exit_code == 2
    assert "say keep or end" in wrong.stderr
