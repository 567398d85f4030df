"""`dumont hours`: what a person reads, what is asked for, and what makes no sense."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dumont.cli.commands import hours as command
from dumont.domain.working_hours import WorkingHours
from tests.unit.cli.fake_api import FakeApi

Dumont = Callable[..., Any]
HOURS = WorkingHours.model_validate(
    {"wake": "08:45", "hibernate": "19:00", "timezone": "Europe/Berlin", "holidays": ["2026-12-24"]}
)


@pytest.fixture
def box(user: FakeApi) -> FakeApi:
    user.add_running("my-box")
    user.hours.kept["my-box"] = HOURS
    return user


def test_a_machine_without_hours_says_how_to_set_some(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    result = dumont("hours", "my-box")
    assert result.exit_code == 0, result.output
    assert "keeps no hours" in result.stdout
    assert "dumont hours my-box --wake 08:45" in result.stdout
    assert user.called("PUT", "/machines/my-box/working-hours") == []


def test_it_shows_what_is_set_and_what_comes(box: FakeApi, dumont: Dumont):
    result = dumont("hours", "my-box")
    assert result.exit_code == 0, result.output
    for words in ("08:45", "19:00", "mon-fri", "Europe/Berlin", "2026-12-24"):
        assert words in result.stdout
    assert "Fri 2026-11-27 08:45  wake" in result.stdout
    assert "Mon 2026-11-30 08:45  wake" in result.stdout
    assert box.called("PUT", "/machines/my-box/working-hours") == []


def test_the_first_time(user: FakeApi, dumont: Dumont, monkeypatch: pytest.MonkeyPatch):
    user.add_running("my-box")
    monkeypatch.setenv("TZ", "America/New_York")
    result = dumont("hours", "my-box", "--wake", "8:45", "--hibernate", "19:00")
    assert result.exit_code == 0, result.output
    assert user.hours.kept["my-box"] == HOURS.model_copy(
        update={"timezone": "America/New_York", "holidays": ()}
    )
    assert "America/New_York" in result.stdout


def test_the_zone_of_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TZ", raising=False)
    link = tmp_path / "localtime"
    monkeypatch.setattr(command, "_LOCALTIME", link)
    with pytest.raises(Exception, match="cannot be told"):
        command._here()
    link.symlink_to("/usr/share/zoneinfo/Europe/Lisbon")
    if link.exists():
        assert command._here() == "Europe/Lisbon"
    monkeypatch.setenv("TZ", "nonsense")
    with pytest.raises(Exception, match="cannot be told"):
        command._here()


def test_only_what_is_said_changes(box: FakeApi, dumont: Dumont):
    assert dumont("hours", "my-box", "--hibernate", "20:30").exit_code == 0
    assert dumont("hours", "my-box", "--days", "daily", "--holiday", "2026-12-31").exit_code == 0
    kept = box.hours.kept["my-box"]
    assert (
        f"{kept.wake:%H:%M} {kept.hibernate:%H:%M} {kept.timezone}" == "08:45 20:30 Europe/Berlin"
    )
    assert len(kept.days) == 7
    assert [str(day) for day in kept.holidays] == ["2026-12-24", "2026-12-31"]
    assert dumont("hours", "my-box", "--no-holidays", "--no-wake").exit_code == 0
    kept = box.hours.kept["my-box"]
    assert (kept.holidays, kept.wake) == ((), None)


def test_a_pause_and_its_end(box: FakeApi, dumont: Dumont):
    result = dumont("hours", "my-box", "--pause")
    assert "--resume" in result.stdout
    assert box.hours.kept["my-box"].paused
    assert dumont("hours", "my-box", "--resume").exit_code == 0
    assert not box.hours.kept["my-box"].paused


def test_off(box: FakeApi, dumont: Dumont):
    result = dumont("hours", "my-box", "--off")
    assert result.exit_code == 0
    assert "keeps no hours" in result.stdout
    assert box.hours.kept == {}


def test_json(box: FakeApi, dumont: Dumont):
    shown = json.loads(dumont("hours", "my-box", "--json").stdout)
    assert shown["hours"]["wake"] == "08:45"
    assert [each["act"] for each in shown["next"]] == ["wake", "hibernate"] * 2
    assert json.loads(dumont("hours", "my-box", "--off", "--json").stdout)["hours"] is None


def test_what_comes_may_be_unknown(box: FakeApi, dumont: Dumont):
    box.hours.temporal_is_away = True
    assert "not known at this moment" in dumont("hours", "my-box").stdout


@pytest.mark.parametrize(
    ("said", "option", "about"),
    [
        (("--wake", "25:00"), "--wake", "for example 08:45"),
        (("--hibernate", "19h"), "--hibernate", "not a time of day"),
        (("--days", "workdays"), "--days", "for example mon-fri"),
        (("--tz", "berlin"), "--tz", "did you mean Europe/Berlin?"),
        (("--holiday", "christmas"), "--holiday", "valid date"),
        (("--no-wake", "--no-hibernate"), "", "say when to wake"),
        (("--wake", "19:00"), "", "same time of day"),
        (("--wake", "07:00", "--no-wake"), "--wake", "exclude each other"),
        (("--off", "--pause"), "--off", "exclude each other"),
    ],
)
def test_what_makes_no_sense(
    box: FakeApi, dumont: Dumont, said: tuple[str, ...], option: str, about: str
):
    result = dumont("hours", "my-box", *said)
    assert result.exit_code == 2, result.output
    assert option in result.stderr
    assert about in result.stderr
    assert box.hours.kept["my-box"] == HOURS


def test_a_pause_of_nothing(user: FakeApi, dumont: Dumont):
    user.add_running("my-box")
    result = dumont("hours", "my-box", "--pause")
    assert result.exit_code == 2
    assert "--wake 08:45 --hibernate 19:00" in result.stderr
