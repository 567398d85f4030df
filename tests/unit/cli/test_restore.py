"""`dumont restore`: what is asked for, what is asked back, and what is said at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dumont.cli import run_progress
from tests.unit.cli.fake_api import FakeApi
from tests.unit.cli.fake_snapshots import NEW, OLD, failed, record, restored, under_way, view
from tests.unit.cli.test_snapshots import on_terminal

Dumont = Callable[..., Any]
PLACE = "/machines/my-box/restore"


@pytest.fixture(autouse=True)
def _ready(user: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_progress, "POLL_S", 0.01)
    user.snapshots.records = [record(NEW), record(OLD)]
    user.snapshots.run = [view("restore", restored=restored())]


def test_a_restore_goes_beside_the_work_and_says_where(user: FakeApi, dumont: Dumont) -> None:
    fetching = under_way("restore", "small files first", files=5, bytes=2_000, sent_bytes=1_500)
    user.snapshots.run.insert(0, fetching)
    result = dumont("restore", "my-box")
    assert result.exit_code == 0, result.output
    ((body, headers),) = user.called("POST", PLACE)
    assert body == {"snapshot": "latest", "of": None, "paths": [], "into": None, "in_place": False}
    assert len(headers["idempotency-key"]) == 36
    assert "small files first  2.0 kB, 5 files, fetched 1.5 kB" in result.stderr
    first, second = result.stdout.splitlines()
    assert first == (
        f"Restored 1,200 files (4.0 GB) of {NEW} into /workspace/restored/{NEW} of my-box "
        "(on the GPU) in 21.0 s"
    )
    assert second == "  300 were right already; fetched 2.0 GB; usable after 3.1 s"


def test_every_option_reaches_the_server(user: FakeApi, dumont: Dumont) -> None:
    dumont("restore", "my-box", OLD[:10], "--path", "/workspace/src/", "--path", "data",
           "--of", "other", "--into", "from-other")  # fmt: skip
    ((body, _),) = user.called("POST", PLACE)
    assert body == {
        "snapshot": OLD,
        "of": "other",
        "paths": ["src", "data"],
        "into": "from-other",
        "in_place": False,
    }
    assert len(user.called("GET", f"/machines/other/snapshots/{OLD[:10]}")) == 1


def test_problems_are_all_named_and_fail_the_command(user: FakeApi, dumont: Dumont) -> None:
    problems = tuple(f"file-{n}: its pack is damaged" for n in range(30))
    done = restored(problems=problems, usable_s=None, before=OLD, folder="")
    user.snapshots.run = [view("restore", restored=done)]
    result = dumont("restore", "my-box")
    assert result.exit_code == 1
    assert "into /workspace of my-box" in result.stdout
    assert "usable" not in result.stdout
    assert f"what was there before is in snapshot {OLD}" in result.stdout
    assert "30 could not be brought back" in result.stderr
    for problem in problems:
        assert problem in result.stderr
    as_json = dumont("restore", "my-box", "--json")
    assert as_json.exit_code == 1
    assert len(json.loads(as_json.stdout)["problems"]) == 30


def test_a_restore_that_failed(user: FakeApi, dumont: Dumont) -> None:
    user.snapshots.run = [failed("restore", "not_found", "the snapshot was forgotten")]
    result = dumont("restore", "my-box", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stderr)["error"]["message"] == "the snapshot was forgotten"


def test_in_place_needs_the_owners_word(user: FakeApi, dumont: Dumont) -> None:
    refused = dumont("restore", "my-box", "--in-place")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert user.called("POST", PLACE) == []
    assert dumont("restore", "my-box", "--in-place", "--yes").exit_code == 0
    ((body, _),) = user.called("POST", PLACE)
    assert (body["in_place"], body["snapshot"]) == (True, "latest")


@pytest.mark.parametrize(("typed", "code"), [("y", 0), ("n", 1)])
def test_in_place_asks_on_a_terminal_and_restores_what_it_named(
    user: FakeApi, typed: str, code: int
) -> None:
    exit_code, output = on_terminal(typed, "restore", "my-box", "--in-place", "--of", "other")
    assert exit_code == code, output
    assert f"replaced by those of {NEW} of other" in output
    assert [body["snapshot"] for body, _ in user.called("POST", PLACE)] == [NEW] * (1 - code)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--in-place", "--into", "x", "--yes"), "--in-place"),
        (("--path", "../x"), "--path"),
        (("--path", ""), "--path"),
        (("--into", "/workspace"), "--into"),
        (("--into", "x" * 201), "--into"),
        (("--of", "a/b"), "--of"),
    ],
)
def test_what_makes_no_sense_is_refused_by_option(
    user: FakeApi, dumont: Dumont, options: tuple[str, ...], names: str
) -> None:
    result = dumont("restore", "my-box", *options)
    assert result.exit_code == 2
    assert f"({names})" in result.stderr
    assert user.requests == []
