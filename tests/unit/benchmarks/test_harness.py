"""A benchmark's report is honest: nearest-rank percentiles, targets that can be missed, one form."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._harness import Report, Section, Target, parser, percentile, sizes

BENCHMARKS = sorted(
    path.stem
    for path in (Path(__file__).parents[3] / "benchmarks").glob("*.py")
    if not path.name.startswith("_")
)


def test_percentiles_are_measured_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 50) == 3.0
    assert percentile(values, 99) == 5.0
    assert percentile(values, 1) == 1.0
    assert math.isnan(percentile([], 50))


@pytest.mark.parametrize(
    ("measured", "better", "met"),
    [(4.9, "less", True), (5.1, "less", False), (5.1, "more", True), (4.9, "more", False)],
)
def test_a_target_is_met_or_missed(measured: float, better: str, met: bool) -> None:
    target = Target(name="x", measured=measured, target=5, unit="s", better=better)  # type: ignore[arg-type]
    assert target.met is met


@pytest.mark.parametrize("measured", [None, math.nan])
def test_what_was_not_measured_is_not_met(measured: float | None) -> None:
    assert Target(name="x", measured=measured, target=5, unit="s", better="less").met is None


@pytest.mark.parametrize("wrong", ["", "many", "0,5", "5,-1"])
def test_wrong_sizes_are_refused(wrong: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        sizes(wrong)


def test_sizes_ascend() -> None:
    assert sizes("50,20,50") == [20, 50]


def test_the_report_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    given = parser("test").parse_args(["--json", str(file)])
    report = Report(name="trial", question="does it work?", arguments=given)
    report.add(Section(title="Ours", columns=["what", "ms"], rows=[["list", 12.5]], note="a note"))
    report.targets.append(Target(name="list", measured=12.5, target=10, unit="ms", better="less"))
    report.finish()
    printed = capsys.readouterr().out
    assert "does it work?" in printed
    assert "12.5" in printed
    assert "NOT met" in printed
    written = json.loads(file.read_text())
    assert written["tables"][0]["rows"] == [["list", 12.5]]
    assert written["targets"][0]["met"] is False
    assert written["machine"]["cores"] > 0
    assert written["machine"]["load_before"] is not None
    assert written["versions"]["temporalio"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_started_by_make_and_takes_json(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "--json FILE" in shown.stdout
