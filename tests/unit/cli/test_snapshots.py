"""Snapshots: making, listing, comparing, keeping and deleting them, as a person sees it."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from dumont.cli import run_progress
from dumont.cli.snapshot_views import snapshot_table
from dumont.domain.snapshots import ChangeTotals, FileChange, FileEntry, SnapshotPolicy
from tests.unit.cli.fake_api import FakeApi, problem
from tests.unit.cli.fake_snapshots import (
    NEW,
    OLD,
    T0,
    failed,
    pruned,
    record,
    under_way,
    view,
)

Dumont = Callable[..., Any]
PLACE = "/machines/my-box/snapshots"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_progress, "POLL_S", 0.01)


def test_a_snapshot_is_watched_and_summed_up_in_one_line(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.run = [
        view("snapshot", "running"),
        under_way("snapshot", "reading", files=10, bytes=1_000_000_000, total_bytes=4_000_000_000,
                  total_files=1200, new_bytes=5_000_000, sent_bytes=2_000_000),
        under_way("snapshot", "reading", tries=2, files=20, bytes=1_100_000_000),
        view("snapshot", snapshot=record()),
    ]  # fmt: skip
    result = dumont("snapshot", "my-box", "--pin", "--tag", "one", "--tag", "two")
    assert result.exit_code == 0, result.output
    ((body, headers),) = user.called("POST", PLACE)
    assert body == {"tags": ["one", "two"], "pinned": True, "flush": True}
    assert len(headers["idempotency-key"]) == 36
    assert result.stdout == (
        f"{NEW} of my-box: 1,200 files, 4.0 GB; new 120.0 MB, stored 40.0 MB, in 12.3 s\n"
    )
    assert "reading  1.0 GB of 4.0 GB, 10 of 1,200 files, new 5.0 MB, sent 2.0 MB" in result.stderr
    assert "reading (try 2: it goes on where the last one ended)" in result.stderr
    assert len(user.called("GET", "/machines/m000000000001/runs/run-1")) == 4


def test_a_snapshot_as_json_is_the_record_alone(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.run = [view("snapshot", snapshot=record())]
    result = dumont("snapshot", "my-box", "--no-flush", "--json")
    assert json.loads(result.stdout)["snapshot_id"] == NEW
    assert result.stderr == ""
    ((body, _),) = user.called("POST", PLACE)
    assert body == {"tags": [], "pinned": False, "flush": False}


def test_a_snapshot_that_is_not_whole_says_so_and_what_is_missing(
    user: FakeApi, dumont: Dumont
) -> None:
    lost = record(whole=False, unreadable=("a\x1b[31m: no such file",), changing=("log.txt",))
    user.snapshots.run = [view("snapshot", snapshot=lost)]
    result = dumont("snapshot", "my-box")
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert "NOT WHOLE" in first
    assert rest == [
        "  not in it: a\\x1b[31m: no such file",
        "  changed each time it was read: log.txt",
    ]
    user.snapshots.run = [view("snapshot", snapshot=record(whole=False))]
    assert "its name is not known" in dumont("snapshot", "my-box").stdout
    many = record(whole=False, unreadable=tuple(f"file {n}" for n in range(23)))
    user.snapshots.run = [view("snapshot", snapshot=many)]
    assert "not in it: 3 more" in dumont("snapshot", "my-box").stdout


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("agent_refused", 6), ("storage_error", 1), ("dependency_unavailable", 7), ("new_one", 1)],
)
def test_a_run_that_failed_ends_with_the_error_it_names(
    user: FakeApi, dumont: Dumont, code: str, exit_code: int
) -> None:
    user.snapshots.run = [failed("snapshot", code, "the disk is full", "make room")]
    result = dumont("snapshot", "my-box")
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert "Error: the disk is full. Make room." in result.stderr


def test_a_run_without_a_result_is_an_error(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.run = [view("snapshot")]
    assert dumont("snapshot", "my-box").exit_code == 1
    user.snapshots.run = [view("snapshot", "failed")]
    assert "does not say why" in dumont("snapshot", "my-box").stderr


def test_a_server_that_is_away_for_a_moment_ends_no_watching(user: FakeApi, dumont: Dumont) -> None:
    run = "/machines/m000000000001/runs/run-1"
    away = problem(502, "dependency_unavailable", "the database does not answer")
    user.answer_once("GET", run, away)
    user.snapshots.run = [view("snapshot", snapshot=record())]
    assert dumont("snapshot", "my-box").exit_code == 0
    assert len(user.called("GET", run)) == 2


def test_a_server_that_stays_away_does(
    user: FakeApi, dumont: Dumont, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_progress, "PATIENCE_S", 0)
    for _ in range(3):
        away = problem(502, "dependency_unavailable", "the database does not answer")
        user.answer_once("GET", "/machines/m000000000001/runs/run-1", away)
    assert dumont("snapshot", "my-box").exit_code == 7


@pytest.mark.parametrize(
    "command",
    [
        ("snapshot", "my-box"),
        ("restore", "my-box"),
        ("snapshot-prune", "my-box"),
    ],
)
def test_ctrl_c_stops_watching_and_not_the_run(user: FakeApi, command: tuple[str, ...]) -> None:
    kind = command[0].rpartition("-")[2]
    user.snapshots.run = [under_way(kind, "at work")]
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "at work" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(10) == 130
    assert f"Stopped watching; the {kind} goes on" in rest
    assert "Traceback" not in rest


def test_on_a_terminal_there_is_a_bar(user: FakeApi) -> None:
    going = under_way("snapshot", "reading", files=7, bytes=1_000_000_000,
                      total_bytes=4_000_000_000, seconds=10, eta_s=30.0)  # fmt: skip
    user.snapshots.run = [going, going, view("snapshot", snapshot=record())]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", "snapshot", "my-box"],
        stderr=theirs,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:
            break
    assert process.wait(10) == 0
    text = seen.decode()
    for part in ("25 %", "about 30.0 s left", "reading", "1.0 GB of 4.0 GB, 7 files"):
        assert part in text
    os.close(ours)
    assert process.stdout is not None
    assert NEW in process.stdout.read().decode()


def test_snapshots_are_listed_with_how_they_are_going(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.records = [
        record(NEW, pinned=True, tags=("v1", "[red]"), verified_at=T0),
        record(OLD, source="primary", whole=False),
    ]
    result = dumont("snapshots", "my-box")
    health, policy, _, heads, _, new, old = result.stdout.rstrip().splitlines()
    assert health == "newest 12 min 34 s old"
    assert policy.startswith("made every 30 minutes, the next at 2026-11-23")
    assert policy.endswith("keeps the last 4, 24 hourly, 7 daily, 4 weekly, 6 monthly")
    assert heads.split()[:4] == ["ID", "AGE", "SIZE", "NEW"]
    for part in (NEW, "4.0 GB", "120.0 MB", "40.0 MB", "standby", " ago", "pinned", "v1, [red]"):
        assert part in new
    for part in (OLD, "GPU", "not yet", "not whole"):
        assert part in old
    listed = json.loads(dumont("snapshots", "my-box", "--json").stdout)
    assert [item["snapshot_id"] for item in listed["items"]] == [NEW, OLD]


def test_a_list_says_what_goes_wrong(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.policy = SnapshotPolicy(every_minutes=None)
    user.snapshots.health = {"stale": True, "failures": 3, "error": "no credit"}
    result = dumont("snapshots", "my-box")
    assert "no whole snapshot yet  stale" in result.stdout
    assert "the last 3 tries failed: no credit" in result.stdout
    assert "made only when you ask" in result.stdout
    assert "`dumont snapshot my-box` makes one" in result.stderr
    user.snapshots.policy = None
    assert "has no store" in dumont("snapshots", "my-box").stdout


def entry(path: str, kind: str = "file", mode: int = 0o644) -> FileEntry:
    return FileEntry.model_validate(
        {"path": path, "kind": kind, "size": 4100, "mode": mode, "modified_at": T0}
    )


def test_one_snapshot_shows_what_is_in_it_page_by_page(user: FakeApi, dumont: Dumont) -> None:
    fake = user.snapshots
    fake.records, fake.totals = [record(NEW), record(OLD)], ChangeTotals(added=3, bytes=5000)
    fake.folders = {
        "": [entry("data", "folder", 0o755), entry("a.py"), entry("b\n.py"), entry("l", "link")],
        "data/sub": [entry("data/sub/x")],
    }
    text = dumont("snapshots", "my-box", "latest").stdout
    assert "3 added, 0 removed, 0 changed, 0 touched; 5.0 kB new or changed" in text
    assert OLD in text
    head, _, listed = text.partition("/workspace:\n")
    assert "1,200 files, 4.0 GB" in head
    lines = listed.splitlines()
    assert [line.split()[-1] for line in lines] == ["data/", "a.py", "b\\n.py", "l"]
    assert [line[:10] for line in lines[:2]] == ["drwxr-xr-x", "-rw-r--r--"]
    assert [query for _, query in fake.queries] == [
        {"path": "", "limit": "200"},
        {"path": "", "cursor": "2", "limit": "200"},
    ]
    assert {path for path, _ in fake.queries} == {f"{PLACE}/{NEW}/files"}
    for typed in ("data/sub", "/data/sub/", "/workspace/data/sub"):
        found = json.loads(dumont("snapshots", "my-box", OLD[:10], typed, "--json").stdout)
        assert (found["path"], found["before"]) == ("data/sub", None)
        assert [item["path"] for item in found["items"]] == ["data/sub/x"]
    assert dumont("snapshots", "my-box", "latest", "/workspace/").exit_code == 0
    assert dumont("snapshots", "my-box", "latest", "../etc").exit_code == 2


@pytest.mark.parametrize("bad", ["..", "policy", "prune", "a/b", "2026/x", "latest ", "", "20%2f"])
@pytest.mark.parametrize(
    "command",
    [
        ("snapshots", "my-box", "ID"),
        ("snapshot-diff", "my-box", "ID", NEW),
        ("snapshot-diff", "my-box", NEW, "ID"),
        ("snapshot-pin", "my-box", "ID"),
        ("snapshot-forget", "my-box", "ID", "--yes"),
        ("restore", "my-box", "ID"),
    ],
)
def test_a_bad_id_reaches_no_server(
    user: FakeApi, dumont: Dumont, command: tuple[str, ...], bad: str
) -> None:
    result = dumont(*(bad if word == "ID" else word for word in command))
    assert result.exit_code == 2
    assert "is not a snapshot's id (SNAPSHOT)" in result.stderr
    assert "`dumont snapshots NAME` lists" in result.stderr
    assert user.requests == []


def test_an_id_that_nobody_has_is_not_found(user: FakeApi, dumont: Dumont) -> None:
    for command in ("snapshots", "snapshot-pin", "snapshot-forget", "restore"):
        assert dumont(command, "my-box", "2031").exit_code == 3
    assert dumont("snapshots", "no such").exit_code == 2


def test_a_diff_reads_like_gits(user: FakeApi, dumont: Dumont) -> None:
    fake = user.snapshots
    fake.records = [record(NEW), record(OLD)]
    fake.totals = ChangeTotals(added=1, removed=1, changed=1, touched=1, bytes=9000)
    fake.changed = [
        FileChange(what="added", path="a[b]\x1b", before=0, after=4000),
        FileChange(what="changed", path="c", before=4000, after=5000),
        FileChange(what="removed", path="d", before=100, after=0),
        FileChange(what="touched", path="e", before=1, after=1),
    ]
    result = dumont("snapshot-diff", "my-box", OLD[:9], "latest")
    assert result.stdout.splitlines() == [
        "+ a[b]\\x1b  4.0 kB",
        "M c  4.0 kB -> 5.0 kB",
        "- d  100 B",
        "t e",
        "1 added, 1 removed, 1 changed, 1 touched; 9.0 kB new or changed",
    ]
    assert fake.queries == [(f"{PLACE}/latest/changes", {"since": OLD, "limit": "200"})]
    fake.more_changes = True
    assert "Only the first 4 are shown" in dumont("snapshot-diff", "my-box", OLD, NEW).stderr
    found = json.loads(dumont("snapshot-diff", "my-box", OLD, NEW, "--json").stdout)
    assert (found["old"], found["new"], found["more"]) == (OLD, NEW, True)


def test_pinning_and_letting_go(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.records = [record(NEW)]
    assert "is pinned" in dumont("snapshot-pin", "my-box", "latest").stdout
    assert "not pinned any more" in dumont("snapshot-pin", "my-box", NEW, "--off").stdout
    sent = [body for body, _ in user.called("PUT", f"{PLACE}/{NEW}/pin")]
    assert sent == [{"pinned": True}, {"pinned": False}]
    assert json.loads(dumont("snapshot-pin", "my-box", NEW, "--json").stdout)["pinned"] is True


def test_forgetting_needs_the_owners_word(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.records = [record(NEW), record(OLD)]
    refused = dumont("snapshot-forget", "my-box", OLD[:10])
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert len(user.snapshots.records) == 2
    done = dumont("snapshot-forget", "my-box", OLD[:10], "--yes")
    assert done.exit_code == 0
    assert f"{OLD} is forgotten" in done.stdout
    assert [one.snapshot_id for one in user.snapshots.records] == [NEW]


@pytest.mark.parametrize(("typed", "code", "left"), [("y", 0, 0), ("", 1, 1)])
def test_forgetting_asks_on_a_terminal(user: FakeApi, typed: str, code: int, left: int) -> None:
    user.snapshots.records = [record(NEW, pinned=True)]
    exit_code, output = on_terminal(typed, "snapshot-forget", "my-box", "latest")
    assert exit_code == code, output
    assert "It is pinned." in output
    assert len(user.snapshots.records) == left


def on_terminal(typed: str, *arguments: str) -> tuple[int, str]:
    """Run a command whose standard input is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dumont.cli", *arguments],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(ours, typed.encode() + b"\n")
    output, _ = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)
    return process.returncode, output


def test_a_prune_is_dry_unless_told(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.run = [view("prune", pruned=pruned(dry_run=True, doomed=7_000_000))]
    dry = dumont("snapshot-prune", "my-box")
    assert dry.stdout == "7.0 MB would be freed; 9.0 MB are needed\n"
    assert "Nothing was deleted" in dry.stderr
    left = pruned(freed=5_000_000, doomed=2_000_000, waits_for=1)
    user.snapshots.run = [view("prune", pruned=left)]
    done = dumont("snapshot-prune", "my-box", "--yes")
    assert done.stdout == (
        "5.0 MB freed; 9.0 MB are needed; 2.0 MB more once snapshots under way (1) have ended\n"
    )
    assert json.loads(dumont("snapshot-prune", "my-box", "--json").stdout)["freed"] == 5_000_000
    sent = user.called("POST", f"{PLACE}/prune")
    assert [body for body, _ in sent] == [{"dry_run": d} for d in (True, False, True)]
    assert all(len(headers["idempotency-key"]) == 36 for _, headers in sent)


def test_a_policy_is_shown_and_changed_only_as_told(user: FakeApi, dumont: Dumont) -> None:
    fake = user.snapshots
    fake.policy = SnapshotPolicy(every_minutes=15, excludes=("*.tmp",))
    shown = dumont("snapshot-policy", "my-box").stdout
    for part in ("every 15 minutes", "the last 4, 24 hourly", "*.tmp"):
        assert part in shown
    assert user.called("PUT", f"{PLACE}/policy") == []

    def change(*options: str) -> SnapshotPolicy:
        result = dumont("snapshot-policy", "my-box", *options, "--json")
        assert result.exit_code == 0, result.output
        return SnapshotPolicy.model_validate_json(result.stdout)

    kept = change("--keep-daily", "30", "--keep-hourly", "0")
    assert (kept.every_minutes, kept.excludes, kept.cron) == (15, ("*.tmp",), None)
    assert (kept.retention.daily, kept.retention.hourly, kept.retention.weekly) == (30, 0, 4)
    timed = change("--cron", "0 */6 * * *")
    assert (timed.every_minutes, timed.cron, timed.retention) == (
        None,
        "0 */6 * * *",
        kept.retention,
    )
    assert change("--every", "60").cron is None
    assert change("--exclude", "a", "--exclude", "b/").excludes == ("a", "b/")
    never = change("--never")
    assert not never.is_scheduled
    assert never.excludes == ("a", "b/")
    assert change("--no-exclude").excludes == ()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--every", "7"), "--every"),
        (("--every", "5", "--never"), "--every"),
        (("--cron", "0 0 * * *", "--never"), "--cron"),
        (("--cron", "sometimes"), "--cron"),
        (("--keep-last", "-1"), "--keep-last"),
        (("--keep-monthly", "99999"), "--keep-monthly"),
        (("--exclude", ""), "--exclude"),
        (("--exclude", "x", "--no-exclude"), "--exclude"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_option(
    user: FakeApi, dumont: Dumont, options: tuple[str, ...], names: str
) -> None:
    result = dumont("snapshot-policy", "my-box", *options)
    assert result.exit_code == 2
    assert f"({names})" in result.stderr
    assert user.called("PUT", f"{PLACE}/policy") == []


def test_a_policy_where_there_is_no_store(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.policy = None
    for options in ((), ("--never",)):
        result = dumont("snapshot-policy", "my-box", *options)
        assert result.exit_code == 5
        assert "has no store" in result.stderr


def test_a_tag_that_is_none_is_refused(user: FakeApi, dumont: Dumont) -> None:
    result = dumont("snapshot", "my-box", "--tag", "a,b")
    assert result.exit_code == 2
    assert "(--tag)" in result.stderr
    assert user.requests == []


def test_a_narrow_screen_gets_ids_that_still_tell_snapshots_apart() -> None:
    twins = [record(NEW), record(NEW[:17] + "1" + NEW[18:], tags=("v1",)), record(OLD)]
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(snapshot_table(snapshots=twins, width=80))
    rows = screen.export_text().splitlines()[2:]
    assert [row.split()[0] for row in rows] == [one.snapshot_id[:18] for one in twins]
