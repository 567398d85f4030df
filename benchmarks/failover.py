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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import _failover_report as form
from benchmarks import _harness
from benchmarks._failover_cloud import Cloud, Unsupported
from benchmarks._failover_faults import FAULTS, measure
from benchmarks._failover_pair import Pair
from benchmarks._harness import Report

_PROGRAMS = ("ssh", "ssh-keygen", "rsync", "lsyncd", "haproxy")


def faults(text: str) -> list[str]:
    """Parse `sigkill,cut`.

    Raises:
        argparse.ArgumentTypeError: One of them is none that can be played.
    """
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        known = ", ".join(FAULTS)
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {known}")
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


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--kills", type=int, default=100, help="failures of each kind")
    parser.add_argument("--faults", type=faults, default=list(FAULTS), metavar="A,B",
                        help="which failures; empty for none")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=25, help="at most, for each failure")
    parser.add_argument(
        "--rtt-ms", type=float, default=1.0,
        help="round trip that the endpoint's patience is chosen for, as the product chooses it",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="3 failures of each kind")
    given = parser.parse_args()
    if given.quick:
        given.kills = 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report(
        name="failover", question="the GPU dies: when does work go on?", arguments=given
    )
    missing = _missing()
    if missing:
        sys.exit(f"cannot run here: {missing}")
    try:
        with _pair(given.rtt_ms) as pair:
            found = {}
            for name in given.faults:
                samples = measure(
                    pair, name=name, count=given.kills, say=report.say, seconds=60 * given.minutes
                )
                found[name] = form.fault_figures(samples)
                report.say(f"{name}: {found[name]}")
    except Unsupported as reason:
        sys.exit(f"cannot run here: {reason}")
    for section in form.fault_sections(found):
        report.add(section)
    report.targets += form.fault_targets(found)
    report.figures.update(found)
    report.finish()


if __name__ == "__main__":
    main()
