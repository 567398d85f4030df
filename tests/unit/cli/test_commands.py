"""The other commands: what they print, what they change, and the exit code they end with."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dumont.cli import credentials
from dumont.cli.completion import gpu_names
from dumont.cli.ssh_hosts import load_hosts
from tests.unit.cli.fake_api import FakeApi, problem

Dumont = Callable[..., Any]


def test_login_by_password_lasts_until_logout(fake: FakeApi, dumont: Dumont) -> None:
    asked = dumont("login", "--server", fake.url, input="\ncorrect horse\n")
    assert asked.exit_code == 0, asked.output
    assert fake.called("POST", "/auth/login")[0][0]["email"] == "owner@dumont.local"
    assert "correct horse" not in asked.output
    who = dumont("whoami", "--json")
    assert json.loads(who.stdout)["email"] == "owner@dumont.local"
    assert fake.url in dumont("servers").stdout
    assert dumont("logout").exit_code == 0
    assert fake.refresh_tokens == set()
    assert dumont("whoami", "--server", fake.url).exit_code == 2, "an option of the wrong place"
    assert dumont("--server", fake.url, "whoami").exit_code == 4


def test_a_wrong_password_logs_nobody_in(fake: FakeApi, dumont: Dumont) -> None:
    result = dumont(
        "login", "--server", fake.url, "--email", "a@b.c", "--password-stdin", input="no\n"
    )
    assert result.exit_code == 4
    assert "wrong e-mail or password" in result.stderr.lower()
    assert credentials.load().servers == {}


def test_login_by_api_key_and_a_bad_one(fake: FakeApi, dumont: Dumont) -> None:
    login = ("login", "--server", fake.url, "--api-key-stdin")
    assert dumont(*login, input="nonsense\n").exit_code == 4
    assert dumont(*login, input="").exit_code == 2
    assert dumont(*login, input="key-1\n").exit_code == 0
    assert dumont("whoami").exit_code == 0


def test_switching_between_servers(fake: FakeApi, dumont: Dumont) -> None:
    credentials.save_server(server=credentials.Server(url="http://other:1", api_key="x"))
    credentials.save_server(server=credentials.Server(url=fake.url, api_key="key-1"))
    dumont("servers", "--use", "http://other:1")
    items = json.loads(dumont("servers", "--json").stdout)["items"]
    assert [i["url"] for i in items if i["default"]] == ["http://other:1"]
    assert dumont("--server", fake.url, "whoami").exit_code == 0
    assert dumont("servers", "--use", "http://third:1").exit_code == 2


def test_ls_shows_the_living_and_refreshes_ssh(user: FakeApi, dumont: Dumont) -> None:
    user.add_running("alpha")
    user.add_machine("beta", phase="stuck", reason="no credit")
    user.add_machine("gone", phase="destroyed")
    result = dumont("ls")
    assert "alpha" in result.stdout
    assert "$0.412/h" in result.stdout
    assert "no credit" in result.stdout
    assert "gone" not in result.stdout
    assert [h.name for h in load_hosts().hosts] == ["alpha"]
    names = [m["name"] for m in json.loads(dumont("ls", "--all", "--json").stdout)["items"]]
    assert names == ["alpha", "beta", "gone"]
    items = json.loads(dumont("ls", "--phase", "stuck", "--json").stdout)["items"]
    assert [m["name"] for m in items] == ["beta"]
    assert dumont("ls", "--phase", "sleeping").exit_code == 2


def test_a_price_is_shown_as_paid_only_while_it_is(user: FakeApi, dumont: Dumont) -> None:
    user.add_running("alpha", reason="outbid")["phase"] = "stuck"
    assert "$" not in dumont("ls").stdout.splitlines()[-1]
    assert "$0.412/h when it runs" in dumont("show", "alpha").stdout


def test_ls_of_nothing_says_how_to_begin(user: FakeApi, dumont: Dumont) -> None:
    result = dumont("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "dumont up my-box" in result.stderr
    assert json.loads(dumont("ls", "--json").stdout) == {"items": []}


def test_markup_in_server_text_is_only_text(user: FakeApi, dumont: Dumont) -> None:
    user.add_machine("alpha", phase="stuck", reason="[red]boom[/red] [/]")
    assert "[red]boom[/red] [/]" in dumont("ls").stdout
    assert "[red]boom[/red] [/]" in dumont("show", "alpha").stdout


def test_show_has_what_one_asks_for(user: FakeApi, dumont: Dumont) -> None:
    user.add_running("alpha")
    text = dumont("show", "alpha").stdout
    for part in (
        "running",
        "$0.412/h",
        "root@127.9.8.7 port 40022",
        "8841",
        "http://127.0.0.1:8233",
    ):
        assert part in text
    assert json.loads(dumont("show", "alpha", "--json").stdout)["machine_id"] == "m000000000001"
    missing = dumont("show", "nobody")
    assert missing.exit_code == 3
    assert "nobody" in missing.stderr


def test_destroy_waits_until_nothing_is_rented(user: FakeApi, dumont: Dumont) -> None:
    user.add_running("alpha")
    dumont("ls")

    def ended(fake: FakeApi, machine: dict[str, Any]) -> None:
        fake.event(machine, "instance.ended", "instance 77 is gone")
        machine.update(phase="destroyed", ssh=None)
        fake.event(machine, "machine.destroyed", "everything is ended")

    user.on_destroy = ended
    result = dumont("destroy", "alpha", "--yes")
    assert result.exit_code == 0, result.output
    assert "nothing is rented for it any more" in result.stdout
    assert result.stderr.count("instance 77 is gone") == 1
    assert "ready" not in result.stderr, "old events are not told again"
    assert load_hosts().hosts == []


def test_destroy_without_a_terminal_needs_the_word(user: FakeApi, dumont: Dumont) -> None:
    user.add_running("alpha")
    result = dumont("destroy", "alpha", input="alpha\n")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert user.called("DELETE", "/machines/m000000000001") == []


@pytest.mark.parametrize(("typed", "code", "calls"), [("alpha", 0, 1), ("alpah", 1, 0)])
def test_destroy_on_a_terminal_asks_for_the_name(
    user: FakeApi, typed: str, code: int, calls: int
) -> None:
    user.add_running("alpha")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", "destroy", "alpha", "--no-wait"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.write(ours, typed.encode() + b"\n")
    output, _ = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code, output
    assert len(user.called("DELETE", "/machines/m000000000001")) == calls


def test_events_come_oldest_first_and_as_lines_of_json(user: FakeApi, dumont: Dumont) -> None:
    machine = user.add_machine("alpha")
    for number in range(5):
        user.event(machine, "provision.rung", f"step {number}", at_s=number)
    lines = dumont("events", "alpha", "-n", "3").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["2", "3", "4"]
    parsed = [json.loads(x) for x in dumont("events", "alpha", "--json").stdout.splitlines()]
    assert [e["seq"] for e in parsed] == [1, 2, 3, 4, 5]
    assert dumont("events").exit_code == 2


def test_follow_goes_on_over_a_broken_stream(user: FakeApi) -> None:
    machine = user.add_machine("alpha")
    user.event(machine, "machine.requested", "first")
    user.stream_breaks_after = 1
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", "events", "alpha", "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["summary"] == "first"
    user.event(machine, "provision.rung", "second")
    assert json.loads(process.stdout.readline())["summary"] == "second"
    user.event(machine, "provision.rung", "third")
    assert json.loads(process.stdout.readline())["summary"] == "third"
    process.send_signal(2)
    assert process.wait(10) == 130


def test_follow_of_everything_loses_nothing_in_a_break_before_the_first_event(
    user: FakeApi,
) -> None:
    machine = user.add_machine("alpha")
    user.event(machine, "machine.requested", "long ago")
    user.stream_ends_at_once = 1
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", "events", "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while not user.streams:
        time.sleep(0.01)
    user.event(machine, "provision.rung", "in the gap")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["summary"] == "in the gap"
    process.send_signal(2)
    assert process.wait(10) == 130
    assert user.streams == [1, 1]


def test_offers_pass_the_filters_and_dashes_mean_unknown(user: FakeApi, dumont: Dumont) -> None:
    offer = dict.fromkeys(
        ("gpu_memory_gb", "on_demand_usd_per_hour", "reliability", "region", "download_mbps",
         "upload_mbps", "disk_gb", "cpu_cores", "memory_gb", "cuda")
    )  # fmt: skip
    offer |= {"offer_id": "11", "provider": "vast", "gpu": "RTX 4090", "gpu_count": 2}
    user.offers = [offer | {"rental": "spot", "usd_per_hour": 0.0873}]
    result = dumont("offers", "--gpu", "4090", "--gpus", "2", "--spot", "--max-price", "1")
    assert "$0.0873/h" in result.stdout
    assert "2x RTX 4090" in result.stdout
    assert " - " in result.stdout
    user.offers = []
    assert "no such offer" in dumont("offers").stderr
    assert dumont("offers", "--gpu", "RTX 9999").exit_code == 2


def test_logs(user: FakeApi, dumont: Dumont) -> None:
    user.add_running("alpha")
    assert dumont("logs", "alpha").stdout == "hello from the box\n"
    assert json.loads(dumont("logs", "alpha", "--json").stdout)["text"] == "hello from the box\n"


def test_keys_of_both_kinds(user: FakeApi, dumont: Dumont, ssh_key: Path) -> None:
    added = dumont("keys", "ssh", "add", str(ssh_key) + ".pub")
    assert "ann@laptop" in added.stdout
    assert "SHA256:abc" in dumont("keys", "ssh", "ls").stdout
    assert dumont("keys", "ssh", "add", str(ssh_key)).exit_code == 2, "a private key"
    assert dumont("keys", "ssh", "rm", "k1").exit_code == 0
    assert dumont("keys", "ssh", "rm", "k1").exit_code == 3

    made = dumont("keys", "api", "create", "ci", "--scope", "machines:write", "--days", "7")
    assert made.stdout == "dmk_secret\n"
    assert "not shown again" in made.stderr
    assert user.api_keys[0]["expires_at"] is not None
    wrong = dumont("keys", "api", "create", "ci", "--scope", "root")
    assert wrong.exit_code == 2
    assert "machines:write" in wrong.stderr
    assert "ci" in dumont("keys", "api", "ls").stdout
    assert dumont("keys", "api", "rm", "a1").exit_code == 0
    assert json.loads(dumont("keys", "api", "ls", "--json").stdout) == {"items": []}


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (422, "invalid_input", 2),
        (404, "not_found", 3),
        (401, "unauthenticated", 4),
        (403, "forbidden", 4),
        (409, "conflict", 5),
        (412, "precondition_failed", 5),
        (409, "no_capacity", 6),
        (402, "insufficient_credit", 6),
        (502, "provider_unavailable", 6),
        (502, "provider_auth_failed", 6),
        (502, "outcome_unknown", 6),
        (409, "quota_exceeded", 6),
        (500, "internal", 1),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    user: FakeApi, dumont: Dumont, status: int, code: str, exit_code: int
) -> None:
    user.answer_once("GET", "/machines/a", problem(status, code, "this is why", hint="do that"))
    result = dumont("show", "a")
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.strip() == "Error: this is why. Do that."


def test_no_server_is_exit_code_7(home: Path, dumont: Dumont) -> None:
    credentials.save_server(server=credentials.Server(url="http://127.0.0.1:9", api_key="k"))
    result = dumont("ls")
    assert result.exit_code == 7
    assert "nothing answers at http://127.0.0.1:9" in result.stderr
    assert "dumont demo" in result.stderr


def test_completion_offers_live_names_quickly_and_never_fails(
    user: FakeApi, dumont: Dumont, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.add_running("alpha")
    user.add_running("beta")
    user.add_machine("almost-gone", phase="destroyed")
    dumont("ls")

    def complete(words: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "dumont.cli"],
            env=os.environ
            | {"_DUMONT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout.split()

    assert complete("dumont ssh a") == (0, ["alpha"])
    monkeypatch.setenv("DUMONT_API_KEY", "wrong")
    assert complete("dumont ssh b") == (0, ["beta"])
    monkeypatch.setenv("DUMONT_API_URL", "not an address")
    assert complete("dumont ssh b")[1] == []
    assert gpu_names("4090")[0] == "RTX 4090"


def test_help_loads_nothing_slow() -> None:
    """What makes `dumont --help` wait is what it imports; time itself is no test's business."""
    script = (
        "import sys; sys.argv = ['dumont', '--help']\n"
        "from dumont.cli.app import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    loaded = set(done.stderr.split())
    slow = {"httpx", "temporalio", "sqlalchemy", "asyncssh", "google.auth", "uvicorn"}
    assert "typer" in loaded
    assert slow.isdisjoint(loaded)


def test_an_unexpected_failure_is_one_paragraph(
    user: FakeApi, dumont: Dumont, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dumont.cli.client import Api

    def broken(self: Api, **_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(Api, "machine", broken)
    result = dumont("show", "a")
    assert result.exit_code == 1
    assert "RuntimeError: boom" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_process_keeps_exit_codes_and_flushes(user: FakeApi) -> None:
    user.add_running("alpha")
    command = [sys.executable, "-m", "dumont.cli"]
    shown = subprocess.run([*command, "show", "alpha", "--json"], capture_output=True, check=False)
    assert (shown.returncode, json.loads(shown.stdout)["name"]) == (0, "alpha")
    assert subprocess.run([*command, "nonsense"], capture_output=True, check=False).returncode == 2
    missing = subprocess.run([*command, "show", "x"], capture_output=True, check=False)
    assert missing.returncode == 3
