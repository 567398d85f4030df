"""What the failover benchmark found, as figures of fixed names, as tables, and beside the promises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._failover_faults import Samples
from benchmarks._harness import Section, Target, Value, percentile

Figures = dict[str, Any]

_PROMISES: dict[str, dict[str, tuple[tuple[int, float], ...]]] = {
    "sigkill": {"redirect_s": ((99, 0.1),), "access_s": ((50, 0.3), (99, 0.6))},
    "cut": {"redirect_s": ((99, 0.3),), "access_s": ((99, 1.0),)},
}
_RPO = ((50, 0.15), (99, 1.0))
_TITLES = {
    "redirect_s": "first connection answered by the standby",
    "access_s": "first command of a fresh login",
}
RATIO = 1.3


def spread(values: Sequence[float]) -> Figures:
    """Percentiles of what was measured; None of nothing."""
    found = {f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)}
    return {
        **{name: None if math.isnan(value) else round(value, 4) for name, value in found.items()},
        "n": len(values),
    }


def fault_figures(samples: Samples) -> Figures:
    """The figures of one kind of failure."""
    if samples.skipped:
        return {"skipped": samples.skipped}
    return {
        "redirect_s": spread(samples.redirect_s),
        "access_s": spread(samples.access_s),
        "rpo_s": spread(samples.rpo_s),
        "rpo_bytes": spread(samples.rpo_bytes),
        "bytes_lost_after_flush": samples.bytes_lost_after_flush if samples.flush_s else None,
        "bytes_flushed": samples.bytes_flushed,
        "flush_s": spread(samples.flush_s),
        "guard_s": spread(samples.guard_s),
        "strike_s": spread(samples.strike_s),
        "timeouts": samples.timeouts,
        "false_alarms": len(samples.false_alarms),
        "failed": samples.failed,
    }


def fault_sections(found: Mapping[str, Figures]) -> list[Section]:
    """The tables of the failures."""
    times = Section(
        title="From the failure until work goes on at the same address, seconds (p50 / p95 / p99)",
        columns=["failure", "n", "first connection answered", "first command of a fresh login",
                 "the order to break it took", "false alarms", "rounds that failed"],
        note="from the last sign of life of the primary, which sends one every 5 ms; the guard's false "
        "alarms before a failure are counted, and the round is done again",
    )  # fmt: skip
    losses = Section(
        title="What had not reached the standby (a 4 KB file and a line of a log every 50 ms, 1 MB "
        "every 2 s)",
        columns=["failure", "n", "oldest lost write, s", "bytes lost", "flushes", "flush, s",
                 "bytes flushed", "bytes lost after flush"],
        note="the oldest write that is not on the standby, by its age when the failure was in force; "
        "0: nothing was lost",
    )  # fmt: skip
    for name, figures in found.items():
        if "skipped" in figures:
            times.rows.append([name, 0, "skipped:", figures["skipped"], "-", "-", "-"])
            continue
        times.rows.append(
            [name, figures["redirect_s"]["n"], shown(figures["redirect_s"]),
             shown(figures["access_s"]), shown(figures["strike_s"]), figures["false_alarms"],
             len(figures["failed"])]
        )  # fmt: skip
        losses.rows.append(
            [name, figures["rpo_s"]["n"], shown(figures["rpo_s"]), shown(figures["rpo_bytes"]),
             figures["flush_s"]["n"], shown(figures["flush_s"]), figures["bytes_flushed"],
             figures["bytes_lost_after_flush"]]
        )  # fmt: skip
    return [times, losses]


def fault_targets(found: Mapping[str, Figures]) -> list[Target]:
    """P1 and P2."""
    targets = []
    for name, promises in _PROMISES.items():
        for key, bounds in promises.items():
            for percent, bound in bounds:
                measured = found.get(name, {}).get(key, {}).get(f"p{percent}")
                title = f"P1 {name}: {_TITLES[key]}, p{percent}"
                targets.append(_at_most(title, measured, bound, "s"))
    for name, figures in found.items():
        if "skipped" in figures:
            continue
        for percent, bound in _RPO:
            measured = figures["rpo_s"][f"p{percent}"]
            targets.append(_at_most(f"P2 {name}: RPO, p{percent}", measured, bound, "s"))
        lost = figures["bytes_lost_after_flush"]
        targets.append(_at_most(f"P2 {name}: lost after flush", lost, 0, "bytes"))
    return targets


def replace_target(replace: Figures) -> Target:
    """P3."""
    ratio = replace.get("ratio", {}).get("p50")
    return _at_most("P3 kill: our part of a replacement, against a bare copy", ratio, RATIO, "x")


def shown(figures: Figures) -> str:
    """`p50 / p95 / p99`."""
    values = [figures["p50"], figures["p95"], figures["p99"]]
    if any(value is None for value in values):
        return "-"
    return " / ".join(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in values)


def _at_most(name: str, measured: float | None, target: float, unit: str) -> Target:
    return Target(name=name, measured=measured, target=target, unit=unit, better="less")


def sync_section(found: Mapping[str, Figures]) -> Section:
    """The table of delays."""
    keys = ("burst_s", "checkpoint_s", "move_s", "install_s", "cpu_ms_per_file",
            "idle_cpu_percent", "identical")  # fmt: skip
    section = Section(
        title="From a change until it is on the standby, seconds",
        columns=["mirror", "small file (p50 / p95 / p99)", "appended log (p50 / p95 / p99)",
                 "burst of files", "checkpoint by rename", "move of a tree", "installed tree",
                 "CPU ms per small file", "CPU % when idle", "identical after, s"],
        note="both bodies together for CPU; a dash: not within the limit",
    )  # fmt: skip
    for name, figures in found.items():
        if "failed" in figures:
            section.rows.append([name, figures["failed"][:60], *["-"] * 8])
            continue
        section.rows.append(
            [name, shown(figures["single_s"]), shown(figures["appended_s"]),
             *(figures[key] for key in keys)]
        )  # fmt: skip
    return section


def streams_section(found: Mapping[str, Figures]) -> Section:
    """The table of parallel streams."""
    rows: list[Sequence[Value]] = [
        (int(count), each["megabytes"], shown(each["copy_s"]), each["copy_s"]["n"])
        for count, each in found.items()
    ]
    return Section(
        title="First copy of a workspace: half in four big files, half in files of 64 KB",
        columns=["streams", "MB", "seconds (p50 / p95 / p99)", "n"],
        rows=rows,
        note="on the loopback interface: no latency for streams to hide, and both ends share cores",
    )


def replace_section(found: Figures, *, megabytes: int) -> Section:
    """The table of whole replacements."""
    titles = [
        ("first connection answered by the standby", "redirect_s"),
        ("first command of a fresh login", "access_s"),
        ("kill -> the address leads to a new GPU", "back_s"),
        ("  redirected -> the control plane heard of it", "reported_s"),
        ("  -> fenced, the evidence being clear", "fence_s"),
        ("  -> a GPU is rented and ready", "provision_s"),
        ("  -> every file restored and verified", "restore_s"),
        ("  -> handed back", "hand_back_s"),
        ("the provider's own boot time", "boot_s"),
        ("our part: all but the boot", "ours_s"),
        ("bare copy by 10 parallel rsync", "bare_copy_s"),
        ("our part / bare copy", "ratio"),
        ("restore alone / bare copy", "restore_ratio"),
        ("files lost or changed (the kill came after a flush)", "lost_files"),
    ]
    return Section(
        title=f"The whole product: kill, {megabytes} MB in 1,012 files come back; seconds "
        "(p50 / p95 / p99)",
        columns=["phase", "value", "n"],
        rows=[(title, shown(found[key]), found[key]["n"]) for title, key in titles if key in found],
        note="; ".join(["from the kill; phases from the receipt", *found.get("failed", [])]),
    )
