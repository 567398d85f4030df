"""The failover benchmark's report: fixed names, honest gaps, promises that can be missed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _failover_report as form
from benchmarks import failover
from benchmarks._failover_faults import Samples
from benchmarks._failover_probes import lost_since
from benchmarks._harness import Report, parser


def samples(**changes: Any) -> Samples:
    good: dict[str, Any] = {
        "redirect_s": [0.04, 0.05, 0.06],
        "access_s": [0.2, 0.2, 0.3],
        "rpo_s": [0.0, 0.1],
        "rpo_bytes": [0, 4096],
        "guard_s": [0.02, 0.02, 0.03],
        "strike_s": [0.01, 0.01, 0.01],
        "flush_s": [0.4],
        "bytes_flushed": 5_000_000,
    }
    return Samples(**{**good, **changes})


def figures(**changes: Any) -> dict[str, Any]:
    return form.fault_figures(samples(**changes))


def verdicts(found: dict[str, Any]) -> dict[str, bool | None]:
    return {target.name: target.met for target in form.fault_targets(found)}


def test_each_failure_has_the_promised_keys() -> None:
    found = figures()
    for key in ("redirect_s", "access_s", "rpo_s"):
        assert set(found[key]) == {"p50", "p95", "p99", "n"}
    assert found["access_s"] == {"p50": 0.2, "p95": 0.3, "p99": 0.3, "n": 3}
    assert found["bytes_lost_after_flush"] == 0


def test_promises_are_kept_or_missed() -> None:
    assert all(verdicts({"sigkill": figures(), "cut": figures()}).values())
    slow = verdicts({"sigkill": figures(redirect_s=[0.05, 0.11])})
    assert slow["P1 sigkill: first connection answered by the standby, p99"] is False
    lossy = verdicts({"freeze": figures(bytes_lost_after_flush=1)})
    assert lossy["P2 freeze: lost after flush"] is False
    stale = verdicts({"outbid": figures(rpo_s=[0.2, 0.2, 1.1])})
    assert stale["P2 outbid: RPO, p50"] is False
    assert stale["P2 outbid: RPO, p99"] is False


def test_what_was_skipped_or_not_flushed_is_not_called_kept() -> None:
    skipped = {"cut": form.fault_figures(Samples(skipped="links cannot be cut here: no iptables"))}
    assert verdicts(skipped)["P1 cut: first command of a fresh login, p99"] is None
    unflushed = verdicts({"sigkill": figures(flush_s=[])})
    assert unflushed["P2 sigkill: lost after flush"] is None
    assert form.replace_target({"failed": ["0: no GPU"]}).met is None


def test_the_report_says_why_a_failure_was_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    given = parser("test").parse_args(["--json", str(file)])
    report = Report(name="failover", question="when?", arguments=given)
    found = {
        "sigkill": figures(),
        "cut": form.fault_figures(Samples(skipped="links cannot be cut here")),
    }
    report.sections += form.fault_sections(found)
    report.targets += form.fault_targets(found)
    report.figures.update(found)
    report.finish()
    printed = capsys.readouterr().out
    assert "links cannot be cut here" in printed
    assert "0.05 / 0.06 / 0.06" in printed
    written = json.loads(file.read_text())
    assert written["sigkill"]["redirect_s"]["p50"] == 0.05
    assert written["cut"]["skipped"]


def test_a_mirror_that_was_never_in_time_shows_a_dash() -> None:
    one = {
        "single_s": form.spread([0.1]), "appended_s": form.spread([]), "burst_s": 1.0,
        "checkpoint_s": None, "move_s": 2.0, "install_s": 3.0, "cpu_ms_per_file": 40.0,
        "idle_cpu_percent": 3.0, "identical": None,
    }  # fmt: skip
    section = form.sync_section({"dumont": one, "rsync_loop": {"failed": "no first copy"}})
    assert section.rows[0][1:5] == ["0.1 / 0.1 / 0.1", "-", 1.0, None]
    assert section.rows[1][1] == "no first copy"
    assert all(len(row) == len(section.columns) for row in section.rows)


def test_the_oldest_lost_write_counts(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for side, count in ((here, 4), (there, 3)):
        side.mkdir()
        (side / "log").write_text("".join(f"{n} {10.0 + n}\n" for n in range(count)))
        for number in range(count):
            (side / f"{number:06d}").write_text("content")
    assert lost_since(here, there, until=12.5) == (None, 0)
    assert lost_since(here, there, until=20) == (13.0, len("content"))
    (there / "000001").write_text("conte")
    assert lost_since(here, there, until=20) == (11.0, 2 * len("content"))
    (there / "000001").unlink()
    (there / "log").write_text("0 10.0\n1 1")
    assert lost_since(here, there, until=20)[0] == 11.0


@pytest.mark.parametrize("wrong", ["", "sigkill,", "earthquake"])
def test_failures_that_cannot_be_played_are_refused(wrong: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="none of sigkill, cut"):
        failover.faults(wrong)


def test_parts_and_failures_are_chosen_by_name() -> None:
    assert failover.faults("cut,freeze") == ["cut", "freeze"]
    assert failover.parts("replace") == ["replace"]
