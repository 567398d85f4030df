"""`dumont up`: the real ladder, how to connect, and a clear word whenever it does not work out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dumont.cli.ssh_hosts import load_hosts
from dumont.domain.ladder import Rung
from tests.unit.cli.conftest import make_key
from tests.unit.cli.fake_api import FakeApi, problem

Dumont = Callable[..., Any]
UP = ("up", "my-box", "--gpu", "rtx4090", "--max-price", "0.60")


def smooth(fake: FakeApi, machine: dict[str, Any]) -> None:
    machine["phase"] = "provisioning"
    fake.event(machine, "machine.provisioning", "looking for RTX 4090")
    fake.event(machine, "provision.offer_chosen", "offer 11: 1x RTX 4090, BR, bid $0.400/h", at_s=1)
    fake.event(machine, "provision.attempt_failed", "attempt 1 failed: taken by another", at_s=3)
    fake.event(machine, "provision.offer_chosen", "offer 12: 1x RTX 4090, DE, bid $0.412/h", at_s=3)
    for second, rung in enumerate(Rung):
        fake.climb(machine, rung, at_s=5 + second)
    fake.run(machine)


def test_it_shows_the_climb_and_says_how_to_connect(
    user: FakeApi, ssh_key: Path, dumont: Dumont, home: Path
) -> None:
    user.on_create = smooth
    result = dumont(*UP, "--region", "br", "--region", "de", "--disk", "50", "--gpus", "2")
    assert result.exit_code == 0, result.output
    (body, headers) = user.called("POST", "/machines")[0]
    assert body["requirement"]["gpu"] == "RTX 4090"
    assert body["requirement"]["regions"] == ["BR", "DE"]
    assert (body["requirement"]["disk_gb"], body["requirement"]["gpu_count"]) == (50, 2)
    assert body["requirement"]["rental"] == "spot"
    assert len(headers["idempotency-key"]) == 36
    for line in (
        "offer 11",
        "attempt 1 failed: taken by another",
        "offer 12",
        *[r.sentence for r in Rung],
    ):
        assert result.stderr.count(line) == 1, f"{line!r} in\n{result.stderr}"
    assert "+5.0 s  rented" in result.stderr
    assert "my-box is ready after 42.0 s: RTX 4090 at $0.412/h, Sao Paulo, BR." in result.stdout
    assert "dumont ssh my-box" in result.stdout
    assert "ssh dumont-my-box" in result.stdout
    assert (home / ".ssh/config").read_text().startswith("Include ")
    assert load_hosts().hosts[0].identity == ssh_key


def test_the_computers_key_is_stored_once(user: FakeApi, ssh_key: Path, dumont: Dumont) -> None:
    user.on_create = smooth
    dumont(*UP)
    dumont("up", "other", "--gpu", "4090", "--max-price", "1")
    public = ssh_key.with_suffix(".pub").read_text().strip()
    assert [key["public_key"] for key in user.ssh_keys] == [public]
    assert [body["ssh_keys"] for body, _ in user.called("POST", "/machines")] == [[], []]


def test_an_api_key_that_may_not_store_keys_sends_the_key_along(
    user: FakeApi, ssh_key: Path, dumont: Dumont
) -> None:
    user.on_create = smooth
    user.answer_once("POST", "/ssh-keys", problem(403, "forbidden", "needs account:write"))
    assert dumont(*UP).exit_code == 0
    body, _ = user.called("POST", "/machines")[0]
    assert body["ssh_keys"] == [ssh_key.with_suffix(".pub").read_text().strip()]


def test_without_any_key_one_is_made_and_said(user: FakeApi, dumont: Dumont) -> None:
    user.on_create = smooth
    result = dumont(*UP)
    assert result.exit_code == 0
    assert "made one for Dumont alone" in result.stderr
    assert user.ssh_keys[0]["public_key"].startswith("ssh-ed25519 ")


def test_named_keys_are_the_only_ones(user: FakeApi, home: Path, dumont: Dumont) -> None:
    make_key(home / "work")
    user.on_create = smooth
    assert dumont(*UP, "--ssh-key", str(home / "work.pub")).exit_code == 0
    body, _ = user.called("POST", "/machines")[0]
    assert body["ssh_keys"] == [(home / "work.pub").read_text().strip()]
    assert user.ssh_keys == []
    assert load_hosts().hosts[0].identity == home / "work"


def test_the_users_ssh_config_is_left_alone_when_asked(
    user: FakeApi, ssh_key: Path, dumont: Dumont, home: Path
) -> None:
    user.on_create = smooth
    result = dumont(*UP, "--no-touch-ssh-config")
    assert result.exit_code == 0
    assert not (home / ".ssh/config").exists()
    assert "ssh dumont-my-box" not in result.stdout


def test_json_is_the_machine_and_nothing_else(user: FakeApi, ssh_key: Path, dumont: Dumont) -> None:
    user.on_create = smooth
    result = dumont(*UP, "--json")
    machine = json.loads(result.stdout)
    assert (machine["name"], machine["phase"]) == ("my-box", "running")
    assert "rented" not in result.stderr


def test_no_wait_returns_with_the_request(user: FakeApi, ssh_key: Path, dumont: Dumont) -> None:
    result = dumont(*UP, "--no-wait")
    assert result.exit_code == 0
    assert "is asked for" in result.stdout
    assert user.streams == []


def test_a_broken_stream_does_not_stop_the_show(
    user: FakeApi, ssh_key: Path, dumont: Dumont
) -> None:
    user.on_create = smooth
    user.stream_down = True
    result = dumont(*UP)
    assert result.exit_code == 0
    assert result.stderr.count("attempt 1 failed") == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"code": "no_capacity", "hint": None}, 6),
        ({"code": "insufficient_credit", "hint": "add credit at the provider"}, 6),
        ({"code": "provider_auth_failed"}, 6),
        ({"code": "a_newer_one"}, 6),
    ],
)
def test_stuck_ends_the_watch_with_the_reason_and_the_next_try(
    user: FakeApi, ssh_key: Path, dumont: Dumont, data: dict[str, Any], code: int
) -> None:
    def stuck(fake: FakeApi, machine: dict[str, Any]) -> None:
        machine.update(
            phase="stuck",
            reason="no RTX 4090 below $0.60/h",
            next_try_at="2026-11-23T12:05:00Z",
        )
        fake.event(machine, "machine.stuck", "no RTX 4090 below $0.60/h", **data)

    user.on_create = stuck
    result = dumont(*UP)
    assert result.exit_code == code
    assert "my-box is stuck: no RTX 4090 below $0.60/h" in result.stderr
    assert "It tries again at" in result.stderr
    assert "dumont destroy my-box" in result.stderr
    assert (data.get("hint") or "nothing is rented").lower() in result.stderr.lower()


def test_a_machine_destroyed_meanwhile_ends_the_watch(
    user: FakeApi, ssh_key: Path, dumont: Dumont
) -> None:
    user.on_create = lambda fake, machine: machine.update(phase="destroying")
    result = dumont(*UP)
    assert result.exit_code == 6
    assert "is being destroyed" in result.stderr


def test_a_second_machine_of_one_name_is_a_conflict(
    user: FakeApi, ssh_key: Path, dumont: Dumont
) -> None:
    user.add_running("my-box")
    result = dumont(*UP)
    assert result.exit_code == 5
    assert "(NAME)" in result.stderr
    assert "dumont ssh my-box" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        (("up", "my/box", "--gpu", "4090", "--max-price", "1"), "NAME", "lower-case letters"),
        (("up", "x", "--gpu", "RTX 4091", "--max-price", "1"), "--gpu", "did you mean RTX 409"),
        (("up", "x", "--gpu", "4090", "--max-price", "0"), "--max-price", "greater than 0"),
        (("up", "x", "--gpu", "4090", "--max-price", "nan"), "--max-price", "not possible"),
        (("up", "x", "--gpu", "4090", "--max-price", "inf"), "--max-price", "not possible"),
        (("up", "x", "--gpu", "4090", "--max-price", "1", "--gpus", "0"), "--gpus", "1"),
        (("up", "x", "--gpu", "4090", "--max-price", "1", "--disk", "-5"), "--disk", "1"),
        (("up", "x", "--gpu", "4090", "--max-price", "1", "--setup", "/no"), "--setup", "/no"),
        (("up", "x", "--gpu", "4090", "--max-price", "1", "--ssh-key", "/no"), "--ssh-key", "/no"),
    ],
)
def test_bad_input_is_refused_here_and_the_option_is_named(
    user: FakeApi, ssh_key: Path, dumont: Dumont, arguments: tuple[str, ...], field: str, words: str
) -> None:
    result = dumont(*arguments)
    assert result.exit_code == 2
    assert f"({field})" in result.stderr
    assert words in result.stderr
    assert result.stdout == ""
    assert user.called("POST", "/machines") == []


def test_a_setup_script_travels_and_a_long_one_is_refused(
    user: FakeApi, ssh_key: Path, dumont: Dumont, home: Path
) -> None:
    script = home / "setup.sh"
    script.write_text("pip install torch\n")
    assert dumont(*UP, "--setup", str(script), "--no-wait").exit_code == 0
    assert user.called("POST", "/machines")[0][0]["setup_script"] == "pip install torch\n"
    script.write_text("x" * 2001)
    result = dumont("up", "b", "--gpu", "4090", "--max-price", "1", "--setup", str(script))
    assert result.exit_code == 2
    assert "2000" in result.stderr


def test_errors_of_the_server_name_the_option_too(
    user: FakeApi, ssh_key: Path, dumont: Dumont
) -> None:
    answer = problem(422, "invalid_input", "too cheap", field="requirement.max_usd_per_hour")
    user.answer_once("POST", "/machines", answer)
    result = dumont(*UP, "--json")
    assert result.exit_code == 2
    error = json.loads(result.stderr.splitlines()[-1])["error"]
    assert (error["code"], error["field"], error["exit_code"]) == (
        "invalid_input",
        "--max-price",
        2,
    )


def test_ctrl_c_stops_watching_and_not_the_machine(user: FakeApi, ssh_key: Path) -> None:
    def climbing(fake: FakeApi, machine: dict[str, Any]) -> None:
        machine["phase"] = "provisioning"
        fake.event(machine, "provision.offer_chosen", "offer 11: chosen")

    user.on_create = climbing
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", *UP],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "offer 11" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(10) == 130
    assert "Stopped watching; my-box goes on starting" in rest
    assert "dumont destroy my-box" in rest
    assert "Traceback" not in rest
    assert user.called("DELETE", "/machines/my-box") == []
    assert user.machines["m000000000001"]["phase"] == "provisioning"
