"""A GPU workspace into object storage and back: first, after a change of 10 %, unchanged, restored.

One run: the same generated workspace, the same server, ours beside restic, tar | lz4 | s5cmd and rclone;
interleaved rounds, medians, after one that is not counted. Every restored file is compared with its source.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import _harness, _snapshot_servers
from benchmarks import _snapshot_report as form
from benchmarks import _snapshot_resident as resident
from benchmarks import _snapshot_tools as tools
from benchmarks._harness import Report, Section, Target
from benchmarks._servers import ROOT
from benchmarks._snapshot_servers import Server
from benchmarks._snapshot_tools import Cost, Failed, Job, Tool
from benchmarks._snapshot_workspace import Digests, Facts, Workspace, digests, settle

_MEMORY = Path("/dev/shm")
_SCANNED = 100_000


@dataclass
class Run:
    """What the parts share."""

    report: Report
    given: argparse.Namespace
    folder: Path
    target: Path
    server: Server
    pool: ProcessPoolExecutor
    """The process that stays."""

    def job(self, name: str, workspace: Path) -> Job:
        """A new place for a tool, here and in the store."""
        folder = self.folder / "tools" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.server.wipe(name)
        return Job(workspace=workspace, folder=folder, server=self.server, prefix=name)


# The whole job --------------------------------------------------------------------------------


def _job(run: Run) -> None:
    report, given = run.report, run.given
    space = Workspace(run.folder / "workspace")
    with resident.process() as generator:
        made = generator.submit(
            space.make, gigabytes=given.gb, seed=given.seed, sources=ROOT
        )  # fmt: skip
        facts = made.result()
    report.say(f"workspace: {facts}")
    space.change()
    expected = digests(space.folder)
    space.undo()
    found = {name: form.Found() for name in _chosen(report, given)}
    names = list(found)
    for number in range(given.repeat + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if name not in found:
                continue
            kept = found[name] if number else form.Found()
            try:
                _round(run, name, space, expected, kept)
            except Failed as error:
                report.say(f"{name} failed: {error}")
                report.figures.setdefault("failed", {})[name] = str(error)
                del found[name]
                continue
            walls = {phase: round(costs[-1].wall_s, 2) for phase, costs in kept.costs.items()}
            report.say(f"{f'round {number}' if number else 'warm-up'}: {name}: {walls}")
    _report_job(run, facts, found)


def _chosen(report: Report, given: argparse.Namespace) -> list[str]:
    for name in given.peers:
        if missing := tools.missing(name):
            report.say(f"{name}: not measured, not installed: {missing}")
            report.figures.setdefault("not_installed", {})[name] = missing
    peers = [name for name in given.peers if not tools.missing(name)]
    return [form.OURS, *([form.RESIDENT] if given.resident else []), *peers]


def _round(run: Run, name: str, space: Workspace, expected: Digests, found: form.Found) -> None:
    """One tool does the whole job once."""
    job = run.job(name, space.folder)
    tool = _tool(run, name, job)
    tool.prepare()

    def save(phase: str) -> None:
        settle()
        # What was there before is some seconds old now.
        since = run.server.now()
        found.costs[phase].append(tool.save())
        found.written[phase].append(run.server.written(job.prefix, since=since))

    try:
        save("first")
        space.change()
        try:
            save("changed10")
            save("unchanged")
        finally:
            space.undo()
        target = run.target / "restored"
        target.mkdir()
        try:
            os.sync()
            found.costs["restore"].append(tool.restore(target))
            compare(expected, digests(target))
        finally:
            shutil.rmtree(target)
    finally:
        run.server.wipe(job.prefix)


def _tool(run: Run, name: str, job: Job) -> Tool:
    if name == form.OURS:
        return tools.dumont(job)
    if name == form.RESIDENT:
        return resident.Resident(job, run.pool)
    return tools.PEERS[name](job)


def compare(expected: Digests, found: Digests) -> None:
    """Whether every file is as it was. Raises Failed: it is not; names some."""
    wrong = [
        path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
    ]
    if wrong:
        raise Failed(f"{len(wrong)} files are not as they were: {', '.join(sorted(wrong)[:5])}")


def _report_job(run: Run, facts: Facts, found: dict[str, form.Found]) -> None:
    report = run.report
    figures = {n: f.figures(gigabytes=facts.bytes / 1e9) for n, f in found.items()}
    versions = {name: tools.version_of(name) for name in tools.PEERS}
    both = {ours: form.ratios(figures, ours) for ours in (form.OURS, form.RESIDENT)}
    report.sections += form.job_sections(figures, versions, facts, run.server.kind)
    cpu = form.ratios(figures, form.OURS, "cpu_s")
    report.add(form.ratio_section({**both, f"{form.OURS}, CPU": cpu}))
    report.targets += form.job_targets(figures, facts)
    report.figures.update(
        workspace=asdict(facts),
        server=run.server.kind,
        peers=versions,
        tools=figures,
        ratios_vs=both[form.OURS],
        ratios_vs_resident=both[form.RESIDENT],
        cpu_ratios_vs=cpu,
        upload_avoided_percent={name: form.avoided(figures, name, facts) for name in figures},
    )


# Its parts ------------------------------------------------------------------------------------


def _scan(run: Run) -> None:
    folder = run.folder / "scanned"
    for number in range(_SCANNED):
        path = folder / f"{number // 1000:03d}" / f"{number % 1000:03d}.txt"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f"{number}\n")
    ways: dict[str, Tool] = {
        "snapshot, resident": resident.Resident(run.job("scan-resident", folder), run.pool),
        "snapshot, the command": tools.dumont(run.job("scan", folder)),
    }
    settle()
    for tool in ways.values():
        tool.prepare()
        tool.save()
    found: dict[str, list[Cost]] = {"looking at every file": [], **{name: [] for name in ways}}
    for _ in range(run.given.repeat):
        found["looking at every file"].append(run.pool.submit(resident.walked, folder).result())
        for name, tool in ways.items():
            found[name].append(tool.save())
    shutil.rmtree(folder)
    run.report.add(form.scan_section(found, _SCANNED))
    run.report.targets.append(form.scan_target(found))
    run.report.figures["scan"] = {n: [asdict(c) for c in costs] for n, costs in found.items()}


def _other(name: str, *arguments: str) -> Callable[[Run], None]:
    """A benchmark of its own, whose promises belong here too."""

    def part(run: Run) -> None:
        file = run.folder / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *arguments]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(file.read_text())
        for each in found["targets"]:
            del each["met"]
            each["name"] = f"P6 {name}: {each['name']}"
            run.report.targets.append(Target(**each))
        run.report.sections += [Section(**table) for table in found["tables"]]

    return part


PARTS: dict[str, Callable[[Run], None]] = {
    "job": _job,
    "scan": _scan,
    "transfer": _other("transfer", "--gb", "1", "--repeat", "3"),
    "codecs": _other("codecs"),
}


def parts(text: str) -> list[str]:
    """Parse `job,scan`. Raises argparse.ArgumentTypeError: one of them is none."""
    return _names(text, list(PARTS))


def peers(text: str) -> list[str]:
    """Parse `restic,rclone`; nothing is nobody. Raises argparse.ArgumentTypeError."""
    return _names(text, list(tools.PEERS)) if text else []


def _names(text: str, known: list[str]) -> list[str]:
    names = text.split(",")
    wrong = [name for name in names if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, wrong))}: none of {', '.join(known)}"
        )
    return names


def _arguments() -> argparse.Namespace:
    parser = _harness.parser(__doc__)
    add = parser.add_argument
    add("--gb", type=float, default=2.0, help="about how large the workspace is")
    add("--repeat", type=int, default=3, help="rounds that count")
    add("--seed", type=int, default=4)
    add("--server", choices=_snapshot_servers.KINDS, default="light",
        help="seaweedfs is faithful, and costs more CPU than any client")  # fmt: skip
    add("--peers", type=peers, default=list(tools.PEERS), metavar="A,B", help="beside whom")
    add("--parts", type=parts, default=list(PARTS), metavar="A,B", help=", ".join(PARTS))
    add("--resident", action=argparse.BooleanOptionalAction, default=True,
        help="also the library in a process that stays")  # fmt: skip
    add("--folder", type=Path, help="for the workspace; a new one where temporary files are")
    add("--target", type=Path, default=_MEMORY,
        help="a new folder there is restored to; on ext4 the inodes that earlier rounds deleted slow "
        "down later ones for minutes")  # fmt: skip
    given = parser.parse_args()
    if given.gb < 0.1 or given.repeat < 1:
        parser.error("--gb starts at 0.1, --repeat at 1")
    return given


def main() -> None:
    """Run it."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report(
        name="snapshot",
        question="how long does a workspace take into object storage, and back?",
        arguments=given,
    )
    report.figures["libraries"] = {n: version(n) for n in ("bitshuffle", "blake3", "pyfastcdc")}
    with ExitStack() as cleanup:

        def folder(at: Path | None) -> Path:
            made = Path(tempfile.mkdtemp(prefix="dumont-snapshot-", dir=at))
            cleanup.callback(shutil.rmtree, made, ignore_errors=True)
            return made

        objects = folder(_MEMORY)
        run = Run(
            report, given, folder(given.folder), folder(given.target),
            cleanup.enter_context(_snapshot_servers.running(given.server, objects)),
            cleanup.enter_context(resident.process()),
        )  # fmt: skip
        for name in given.parts:
            try:
                PARTS[name](run)
            except Exception as error:
                # Whatever it is: what the other parts measured is worth having.
                report.say(f"{name} failed:\n{traceback.format_exc()}")
                report.figures[f"{name}_failed"] = f"{type(error).__name__}: {error}"
    report.finish()
    if any(key == "failed" or key.endswith("_failed") for key in report.figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
