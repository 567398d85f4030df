"""The GPU dies: how soon work goes on at the same address, what is lost, when a GPU is back.

Real machines of the cloud in a box, the product's real agents, sshd, HAProxy and OpenSSH clients.
Failures by the hundred are struck against both bodies of one machine without the control plane;
whole replacements go through the whole product.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks import _failover_product, _failover_sync, _harness
from benchmarks import _failover_report as form
from benchmarks._failover_cloud import Cloud, Unsupported
from benchmarks._failover_faults import FAULTS, measure
from benchmarks._failover_pair import Pair
from benchmarks._harness import Report

_PATIENT_RTT_MS = 100.0
"""Where the mirror is measured: a busy computer must not be taken for a dead primary there."""
_PROGRAMS = ("ssh", "ssh-keygen", "rsync", "lsyncd", "haproxy")


def faults(text: str) -> list[str]:
    """Parse `sigkill,cut`.

    Raises:
        argparse.ArgumentTypeError: One of them is none that can be played.
    """
    return _names(text, FAULTS)


def parts(text: str) -> list[str]:
    """Parse `faults,sync`.

    Raises:
        argparse.ArgumentTypeError: One of them is none.
    """
    return _names(text, PARTS)


def _names(text: str, known: Iterable[str]) -> list[str]:
    names = text.split(",")
    wrong = [name for name in names if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, wrong))}: none of {', '.join(known)}"
        )
    return names


@contextmanager
def _pair(rtt_ms: float) -> Iterator[Pair]:
    with ExitStack() as cleanup:
        # Short: paths of Unix sockets are limited to 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="dmt-fo-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        cloud = Cloud(folder=folder)
        cleanup.callback(cloud.stop)
        cloud.start()
        yield Pair(cloud=cloud, rtt_ms=rtt_ms)


def _missing() -> str:
    if os.geteuid() != 0:
        return "machines with a private /workspace need root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _arguments() -> argparse.Namespace:
    parser = _harness.parser(__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=100, help="failures of each kind")
    add("--faults", type=faults, default=list(FAULTS), metavar="A,B", help="kinds of failures")
    add("--full", type=int, default=5, help="replacements through the whole product")
    add("--parts", type=parts, default=list(PARTS), metavar="A,B", help=", ".join(PARTS))
    add("--megabytes", type=int, default=1024, help="of checkpoint, first copy and workspace")
    add("--minutes", type=float, default=25, help="at most, for each kind of failure")
    add("--rtt-ms", type=float, default=1.0,
        help="round trip that the endpoint's patience is chosen for, as the product does it")  # fmt: skip
    add("--boot-seconds", default="0.5,1.5", metavar="LO,HI", help="of replacements")
    add("--quick", action="store_true", help="small numbers: 3 failures, 1 replacement, 64 MB")
    given = parser.parse_args()
    if given.quick:
        given.kills, given.full, given.megabytes = 3, 1, 64
    if given.kills < 1 or given.full < 1 or given.megabytes < 16:
        parser.error("--kills and --full start at 1, --megabytes at 16")
    return given


def _faults(report: Report, given: argparse.Namespace) -> None:
    found: dict[str, form.Figures] = {}
    with _pair(given.rtt_ms) as pair:
        for name in given.faults:
            samples = measure(
                pair, name=name, count=given.kills, say=report.say, seconds=60 * given.minutes
            )
            found[name] = form.fault_figures(samples)
            report.say(f"{name}: {found[name]}")
    report.sections += form.fault_sections(found)
    report.targets += form.fault_targets(found)
    report.figures.update(found)


def _sync(report: Report, given: argparse.Namespace) -> None:
    sizes = _failover_sync.Sizes(checkpoint_mb=given.megabytes)
    if given.quick:
        sizes = _failover_sync.Sizes(
            singles=8, burst=200, checkpoint_mb=given.megabytes, tree=400, packages=10, limit_s=90
        )
    with _pair(_PATIENT_RTT_MS) as pair:
        found = _failover_sync.measure(pair, sizes=sizes, say=report.say)
    report.add(form.sync_section(found))
    report.figures["sync"] = {"sizes": asdict(sizes), **found}


def _streams(report: Report, given: argparse.Namespace) -> None:
    with _pair(_PATIENT_RTT_MS) as pair:
        found = _failover_sync.measure_streams(pair, megabytes=given.megabytes, say=report.say)
    report.add(form.streams_section(found))
    report.figures["streams"] = found


def _replace(report: Report, given: argparse.Namespace) -> None:
    found = _failover_product.measure(
        count=given.full, megabytes=given.megabytes, boot_seconds=given.boot_seconds,
        say=report.say,
    )  # fmt: skip
    report.add(form.replace_section(found, megabytes=given.megabytes))
    report.targets.append(form.replace_target(found))
    report.figures["replace"] = found


PARTS: dict[str, Callable[[Report, argparse.Namespace], None]] = {
    "faults": _faults,
    "sync": _sync,
    "streams": _streams,
    "replace": _replace,
}


def main() -> None:
    """Run it."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if missing := _missing():
        sys.exit(f"cannot run here: {missing}")
    report = Report(
        name="failover",
        question="the GPU dies: when does work go on, and what is lost?",
        arguments=given,
    )
    for name in given.parts:
        try:
            PARTS[name](report, given)
        except Unsupported as reason:
            sys.exit(f"cannot run here: {reason}")
        except Exception as error:
            # Whatever it is: what the other parts measured in an hour is worth having.
            report.say(f"{name} failed:\n{traceback.format_exc()}")
            report.figures[f"{name}_failed"] = f"{type(error).__name__}: {error}"
    report.finish()
    if any(key.endswith("_failed") for key in report.figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
