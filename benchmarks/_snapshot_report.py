"""What the snapshot benchmark found, as figures of fixed names, as tables, and beside the promises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from benchmarks._harness import Section, Target
from benchmarks._snapshot_tools import Cost
from benchmarks._snapshot_workspace import Facts

PHASES = ("first", "changed10", "unchanged", "restore")
OURS, RESIDENT = "dumont", "dumont_resident"
Figures = dict[str, Any]

_FASTER = {
    "restic": {"first": 6.0, "changed10": 4.0, "unchanged": 3.0, "restore": 5.0},
    "tar_lz4_s5cmd": {"first": 3.0, "restore": 4.0},
}
_CPU_A_GB = 2.0
_SCAN_S = 1.0
_AVOIDED = 92.0
_RSS_MB = 600.0


@dataclass
class Found:
    """Of one tool, by phase: the cost of every round, and what it wrote into the store, bytes."""

    costs: dict[str, list[Cost]] = field(default_factory=lambda: defaultdict(list))
    written: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def figures(self, *, gigabytes: float) -> Figures:
        """Medians by phase, and every wall time."""
        return {phase: self._phase(phase, gigabytes) for phase in PHASES if self.costs[phase]}

    def _phase(self, phase: str, gigabytes: float) -> Figures:
        costs = self.costs[phase]
        cpu = median(cost.cpu_s for cost in costs)
        return {
            "wall_s": round(median(cost.wall_s for cost in costs), 3),
            "cpu_s": round(cpu, 3),
            "cpu_s_per_gb": round(cpu / gigabytes, 3),
            "server_cpu_s": round(median(cost.server_s for cost in costs), 3),
            "rss_mb": round(max(cost.rss_mb for cost in costs)),
            "written": round(median(self.written[phase])) if self.written[phase] else None,
            "every_wall_s": [round(cost.wall_s, 3) for cost in costs],
        }


def ratios(tools: Mapping[str, Figures], ours: str, figure: str = "wall_s") -> Figures:
    """How many times as much of a figure each other tool takes."""
    own = tools.get(ours, {})
    return {
        name: {
            phase: round(figures[phase][figure] / own[phase][figure], 2)
            if phase in figures and phase in own
            else None
            for phase in PHASES
        }
        for name, figures in tools.items()
        if name not in (OURS, RESIDENT)
    }


def avoided(tools: Mapping[str, Figures], name: str, facts: Facts) -> float | None:
    """Per cent of the workspace that did not have to be sent after the change."""
    if "changed10" not in tools.get(name, {}):
        return None
    return round(100 * (1 - float(tools[name]["changed10"]["written"]) / facts.bytes), 2)


def job_sections(
    tools: Mapping[str, Figures], versions: Mapping[str, str], facts: Facts, server: str
) -> list[Section]:
    """The tables of the whole job."""
    times = Section(
        title=f"{facts.bytes / 1e9:.2f} GB in {facts.files:,} files, seconds (CPU seconds), "
        f"server: {server}",
        columns=["tool", "version", *PHASES],
        rows=[
            [name, versions.get(name, ""), *(_times(figures.get(phase)) for phase in PHASES)]
            for name, figures in tools.items()
        ],
        note="whole processes, their start included; restored into memory unless --target says "
        "otherwise, every file compared with its source; the "
        "change gives "
        f"{facts.rewritten / 1e6:,.0f} MB that are new, in files of {facts.touched / 1e6:,.0f} MB. "
        "dumont_resident: the same library in a process that stays. dumont and restic encrypt; restic "
        "derives its key from a password each time. tar sends everything each time; rclone neither "
        "compresses nor encrypts, and keeps no times",
    )
    bytes_ = Section(
        title="What was written into the store, MB; CPU seconds of a GB; most memory of a process, MB",
        columns=["tool", "first", "changed10", "unchanged", "CPU s/GB first", "CPU s/GB restore",
                 "server's CPU s/GB first", "restore", "memory first", "restore"],
        rows=[
            [
                name,
                *(_written(figures.get(phase)) for phase in PHASES[:3]),
                *(_of(figures, phase, "cpu_s_per_gb") for phase in ("first", "restore")),
                *(_server(figures, phase, facts) for phase in ("first", "restore")),
                *(_of(figures, phase, "rss_mb") for phase in ("first", "restore")),
            ]
            for name, figures in tools.items()
        ],
        note="memory of dumont_resident: the most until then, of all rounds",
    )  # fmt: skip
    return [times, bytes_]


def ratio_section(all_ratios: Mapping[str, Figures]) -> Section:
    """The table of `ratios_vs`, of the command and of the library."""
    return Section(
        title="Times as long as we take (more than 1: we are faster)",
        columns=["", *PHASES],
        rows=[
            [f"{peer} / {ours}", *(figures[phase] for phase in PHASES)]
            for ours, peers in all_ratios.items()
            for peer, figures in peers.items()
        ],
    )


def job_targets(tools: Mapping[str, Figures], facts: Facts) -> list[Target]:
    """P6 of the whole job, of the command as people call it."""
    found, own = ratios(tools, OURS), tools.get(OURS, {})
    targets = [
        _target(f"P6 {phase}: times as fast as {peer}", found.get(peer, {}).get(phase), bound, "x")
        for peer, bounds in _FASTER.items()
        for phase, bound in bounds.items()
    ]
    for phase in ("first", "restore"):
        targets += [
            _target(f"P6 {phase}: CPU", _of(own, phase, "cpu_s_per_gb"), _CPU_A_GB, "s/GB", "less"),
            _target(f"{phase}: memory", _of(own, phase, "rss_mb"), _RSS_MB, "MB", "less"),
        ]
    name = "P6 changed10: of the upload avoided"
    return [*targets, _target(name, avoided(tools, OURS, facts), _AVOIDED, "%")]


def scan_section(found: Mapping[str, Sequence[Cost]], files: int) -> Section:
    """The table of the scan."""
    return Section(
        title=f"{files:,} unchanged files",
        columns=["what", "seconds", "best", "CPU seconds"],
        rows=[
            [
                name,
                median(cost.wall_s for cost in costs),
                min(cost.wall_s for cost in costs),
                median(cost.cpu_s for cost in costs),
            ]
            for name, costs in found.items()
        ],
    )


def scan_target(found: Mapping[str, Sequence[Cost]]) -> Target:
    """P6 of the scan; the whole snapshot has to keep it."""
    wall = median(cost.wall_s for cost in found["snapshot, resident"])
    return _target("P6 100k unchanged files: snapshot, resident", wall, _SCAN_S, "s", "less")


def _target(
    name: str,
    measured: float | None,
    target: float,
    unit: str,
    better: Literal["less", "more"] = "more",
) -> Target:
    return Target(name=name, measured=measured, target=target, unit=unit, better=better)


def _of(figures: Figures, phase: str, key: str) -> float | None:
    found = figures.get(phase, {}).get(key)
    return None if found is None else float(found)


def _server(figures: Figures, phase: str, facts: Facts) -> float | None:
    found = _of(figures, phase, "server_cpu_s")
    return None if found is None else found / (facts.bytes / 1e9)


def _times(figures: Figures | None) -> str:
    return f"{figures['wall_s']:.2f} ({figures['cpu_s']:.2f})" if figures else "-"


def _written(figures: Figures | None) -> float | None:
    if not figures or figures["written"] is None:
        return None
    return round(float(figures["written"]) / 1e6, 1)
