"""Drill, flush, failback, receipts, and how safe the work is: what a person reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dumont.domain.receipts import Receipt, Unreplicated
from tests.support.receipts import receipt
from tests.unit.cli.fake_api import T0, FakeApi, problem

Dumont = Callable[..., Any]
ENDPOINT = {"host": "127.9.8.6", "port": 2222, "user": "root"}
STANDBY = {
    "provider": "gcp",
    "zone": "europe-west3-a",
    "label": "dmt-demo-m000000000001-s1",
    "instance_id": "991",
    "usd_per_hour": 0.0123,
    "rtt_ms": 3.94,
    "endpoint": ENDPOINT,
    "ready_at": None,
}


def protected(fake: FakeApi, **protection: Any) -> dict[str, Any]:
    machine = fake.add_running("my-box")
    machine.update(
        direct=machine["ssh"],
        ssh=ENDPOINT,
        standby=STANDBY,
        failovers=0,
        protection={
            "status": "protected",
            "lag_s": 0.12,
            "replicated_at": T0.isoformat(),
            "policy": {"failback": "when_idle", "excludes": ["*.pyc"]},
        }
        | protection,
    )
    return machine


def filed(fake: FakeApi, **changes: Any) -> Receipt:
    made = receipt(**changes)
    fake.receipts.append({"digest": made.digest, "receipt": made.model_dump(mode="json")})
    return made


def fails_over(fake: FakeApi, machine: dict[str, Any]) -> None:
    """What a server tells while a drill goes well."""
    fake.event(machine, "machine.drill", "a drill of owner@example.com", at_s=10)
    fake.event(machine, "failover.step", "renting another RTX 4090", at_s=11, step="replacing")
    fake.event(machine, "failover.step", "1200 files are back", at_s=40, step="restored")
    fake.event(machine, "machine.failed_back", "back on a GPU: 1x RTX 4090", at_s=51.2)
    machine.update(phase="running", failovers=1)
    filed(fake, drill=True)


def test_a_drill_shows_each_step_and_ends_with_the_receipt(user: FakeApi, dumont: Dumont):
    protected(user)
    user.on_drill = fails_over
    result = dumont("drill", "my-box", "--yes")
    assert result.exit_code == 0, result.output
    (body, headers) = user.called("POST", "/machines/m000000000001/drill")[0]
    assert body == {"flush": True, "redirect_only": False}
    assert len(headers["idempotency-key"]) == 36
    assert "+1.0 s  renting another RTX 4090" in result.stderr
    assert "+41.2 s  back on a GPU" in result.stderr
    for said in (
        "Failover 1 of my-box (a drill)",
        "the address led to the standby",
        "41 ms",
        "41.2 s",
        "1 file, 4.1 kB",
        "run/out.log",
        "1,200 files, 2.0 GB",
        "new GPU $0.0014, standby - (estimate)",
        receipt(drill=True).digest,
    ):
        assert said in result.stdout, said


def test_a_drill_as_json_is_the_receipt_alone(user: FakeApi, dumont: Dumont):
    protected(user)
    user.on_drill = fails_over
    result = dumont("drill", "my-box", "--yes", "--redirect-only", "--no-flush", "--json")
    assert json.loads(result.stdout)["receipt"]["machine_name"] == "my-box"
    body, _ = user.called("POST", "/machines/m000000000001/drill")[0]
    assert body == {"flush": False, "redirect_only": True}


def test_a_drill_needs_the_owners_word(user: FakeApi, dumont: Dumont):
    protected(user)
    result = dumont("drill", "my-box")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert user.called("POST", "/machines/m000000000001/drill") == []


def test_a_drill_without_a_standby_says_why(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    result = dumont("drill", "my-box", "--yes")
    assert result.exit_code == 5
    assert "it has no standby" in result.stderr


def test_a_drill_that_does_not_begin_says_what_stopped_it(user: FakeApi, dumont: Dumont):
    def refuses(fake: FakeApi, machine: dict[str, Any]) -> None:
        fake.event(machine, "alert", "the drill did not begin: the barrier was not reached")
        machine.update(failovers=1)

    protected(user)
    user.on_drill = refuses
    result = dumont("drill", "my-box", "--yes")
    assert result.exit_code == 5
    assert "the barrier was not reached" in result.stderr


def test_a_machine_that_gets_stuck_ends_the_watching(user: FakeApi, dumont: Dumont):
    def sticks(fake: FakeApi, machine: dict[str, Any]) -> None:
        machine.update(phase="stuck", failovers=1, reason="both bodies are lost")

    protected(user)
    user.on_drill = sticks
    result = dumont("drill", "my-box", "--yes")
    assert result.exit_code == 6
    assert "both bodies are lost" in result.stderr


def test_flush_tells_the_point_before_which_nothing_is_lost(user: FakeApi, dumont: Dumont):
    protected(user)
    result = dumont("flush", "my-box")
    assert result.exit_code == 0, result.output
    assert "is on its standby" in result.stdout
    assert "12 files (4.2 MB) passed, 3 compared by hash, in 0.6 s" in result.stdout
    assert json.loads(dumont("flush", "my-box", "--json").stdout)["hashed"] == 3


def test_flush_that_cannot_promise_fails(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    result = dumont("flush", "my-box")
    assert result.exit_code == 5
    assert result.stdout == ""
    user.answer_once(
        "POST", "/machines/other/flush", problem(409, "agent_refused", "the mirror is paused")
    )
    assert dumont("flush", "other").exit_code == 6


def test_failback(user: FakeApi, dumont: Dumont):
    machine = protected(user)
    assert dumont("failback", "my-box").exit_code == 5
    machine["phase"] = "replacing"
    result = dumont("failback", "my-box")
    assert result.exit_code == 0
    assert "returns to a GPU" in result.stdout


def test_receipts_newest_first_and_one_in_full(user: FakeApi, dumont: Dumont):
    protected(user)
    assert "never had to fail over" in dumont("receipts", "my-box").stderr
    filed(user)
    filed(user, number=2, outcome="healed", unreplicated=Unreplicated(why_unknown="nobody saw"))
    listed = dumont("receipts", "my-box").stdout.splitlines()
    rows = [line for line in listed if line.strip()[:1] in ("1", "2")]
    assert [row.split()[0] for row in rows] == ["2", "1"]
    assert "unknown" in rows[0]
    assert "1 file, 4.1 kB" in rows[1]
    shown = dumont("receipts", "my-box", "2").stdout
    assert "unknown: nobody saw" in shown
    assert "a false alarm" in shown
    one = json.loads(dumont("receipts", "my-box", "1", "--json").stdout)
    assert Receipt.model_validate(one["receipt"]).digest == one["digest"]
    assert [
        item["receipt"]["number"]
        for item in json.loads(dumont("receipts", "my-box", "--json").stdout)["items"]
    ] == [2, 1]
    assert dumont("receipts", "my-box", "7").exit_code == 3


@pytest.mark.parametrize(
    ("phase", "protection", "said"),
    [
        ("running", {}, "protected 0.1 s"),
        ("running", {"lag_s": None}, "protected lag unknown"),
        ("running", {"status": "mirroring"}, "mirroring"),
        ("running", {"status": "degraded", "reason": "disk full"}, "degraded"),
        ("on_standby", {}, "on the standby alone"),
    ],
)
def test_ls_and_show_say_how_safe_the_work_is(
    user: FakeApi, dumont: Dumont, phase: str, protection: dict[str, Any], said: str
):
    machine = protected(user, **protection)
    machine["phase"] = phase
    listed, shown = dumont("ls").stdout, dumont("show", "my-box").stdout
    assert said in listed
    assert said in shown
    for word in protection.get("reason", "").split():
        assert word in listed
    assert "gcp europe-west3-a" in shown
    assert "$0.0123/h (estimate), round trip 3.9 ms" in shown
    assert "root@127.9.8.6 port 2222" in shown
    assert "not mirrored: *.pyc" in shown


def test_up_leaves_protection_to_the_server_unless_told(
    user: FakeApi, ssh_key: Path, dumont: Dumont
):
    up = ("--gpu", "4090", "--max-price", "0.6", "--no-wait")
    dumont("up", "one", *up)
    dumont("up", "two", *up, "--no-protection")
    dumont(
        "up", "three", *up, "--failback", "at-once", "--standby-type", "e2-medium", "--standby-on-demand",
        "--exclude", "*.pyc", "--exclude", "cache/",
    )  # fmt: skip
    sent = [body.get("protection") for body, _ in user.called("POST", "/machines")]
    assert sent == [
        {},
        {"enabled": False},
        {
            "failback": "at_once",
            "standby_type": "e2-medium",
            "standby_spot": False,
            "excludes": ["*.pyc", "cache/"],
        },
    ]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--failback", "sometimes"), "--failback"),
        (("--standby-type", "Big Iron"), "--standby-type"),
        (("--exclude", ""), "--exclude"),
        (("--no-protection", "--failback", "at-once"), "--no-protection"),
    ],
)
def test_protection_that_makes_no_sense_is_refused_by_option(
    user: FakeApi, dumont: Dumont, options: tuple[str, ...], names: str
):
    result = dumont("up", "my-box", "--gpu", "4090", "--max-price", "0.6", *options)
    assert result.exit_code == 2
    assert names in result.stderr
    assert user.called("POST", "/machines") == []
