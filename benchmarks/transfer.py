"""Bytes into an object store and out of it: ours beside s5cmd and boto3, on the same light server.

Whole processes, the same files of 32 MiB (the size of our packs) in memory, interleaved rounds, medians,
after one round that is not counted. What came back is compared with what was sent.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blake3 import blake3

from benchmarks import _harness, _snapshot_servers
from benchmarks._harness import Report, Section, Target, Value
from benchmarks._servers import ROOT
from benchmarks._snapshot_servers import BUCKET, Server
from benchmarks._snapshot_tools import Cost, run

_MEMORY = Path("/dev/shm")
_FILE = 32 << 20
_GB = 1e9
WAYS = ("put", "get")
Command = Callable[[str, Path, Server, str], Sequence[str | Path]]
"""From a way, a folder, a server and a prefix."""


def _python(client: str) -> Command:
    def command(way: str, folder: Path, server: Server, prefix: str) -> Sequence[str | Path]:
        return [
            sys.executable, "-m", "benchmarks._transfer_clients", client, way, folder,
            server.endpoint, BUCKET, prefix,
        ]  # fmt: skip

    return command


def _s5cmd(way: str, folder: Path, server: Server, prefix: str) -> Sequence[str | Path]:
    there = f"s3://{BUCKET}/{prefix}/"
    ends = (f"{folder}/*", there) if way == "put" else (f"{there}*", f"{folder}/")
    program = Path(sys.executable).parent / "s5cmd"
    return [program, "--endpoint-url", server.endpoint, "--log", "error", "cp", *ends]


CLIENTS: dict[str, Command] = {
    "dumont": _python("dumont"),
    "s5cmd": _s5cmd,
    "boto3": _python("boto3"),
}


@dataclass
class Found:
    """What was measured of one client, by way."""

    costs: dict[str, list[Cost]] = field(default_factory=lambda: {way: [] for way in WAYS})

    def wall_s(self, way: str) -> float:
        """The median."""
        return statistics.median(cost.wall_s for cost in self.costs[way])

    def cpu_s(self, way: str) -> float:
        """The median, of the client alone."""
        return statistics.median(cost.cpu_s for cost in self.costs[way])


def rows(found: Mapping[str, Found], size: int) -> list[Sequence[Value]]:
    """One for each client and way; `size` in bytes."""
    gigabytes = size / _GB
    made: list[Sequence[Value]] = []
    for way in WAYS:
        for name, of in found.items():
            costs = of.costs[way]
            made.append(
                [
                    way,
                    name,
                    gigabytes / of.wall_s(way),
                    of.wall_s(way),
                    of.cpu_s(way) / gigabytes,
                    statistics.median(cost.server_s for cost in costs) / gigabytes,
                    max(cost.rss_mb for cost in costs),
                    of.wall_s(way) / found["dumont"].wall_s(way),
                ]
            )
    return made


def targets(found: Mapping[str, Found], size: int) -> list[Target]:
    """The promises of P6; without s5cmd the first is not measured."""
    ours, peer = found["dumont"], found.get("s5cmd")
    return [
        Target(
            name="put, faster than s5cmd",
            measured=peer.wall_s("put") / ours.wall_s("put") if peer is not None else None,
            target=3.0,
            unit="x",
            better="more",
        ),
        Target(
            name="put, processor time",
            measured=ours.cpu_s("put") / (size / _GB),
            target=0.35,
            unit="s/GB",
            better="less",
        ),
    ]


def _fill(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}").write_bytes(os.urandom(_FILE))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: blake3().update_mmap(path).hexdigest() for path in sorted(folder.iterdir())}


def _versions() -> dict[str, str]:
    said = subprocess.run(
        [Path(sys.executable).parent / "s5cmd", "version"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        library = version("boto3")
    except PackageNotFoundError:
        library = ""
    return {"s5cmd": said.stdout.strip(), "boto3": library}


def _round(
    name: str, *, folder: Path, source: Path, server: Server, digests: dict[str, str] | None
) -> dict[str, Cost]:
    """Send everything and fetch it. With digests, compare."""
    target, work = folder / "target", folder / "work"
    for path in (target, work):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    who = server.credentials
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(work), "PYTHONPATH": str(ROOT),
        "AWS_ACCESS_KEY_ID": who.access_key_id, "AWS_SECRET_ACCESS_KEY": who.secret_access_key,
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    costs = {}
    for way, place in zip(WAYS, (source, target), strict=True):
        command = CLIENTS[name](way, place, server, name)
        costs[way] = run(command, environment=environment, folder=work, server=server)
    server.wipe(name)
    if digests is not None and _digests(target) != digests:
        raise RuntimeError(f"{name} brought back something else")
    shutil.rmtree(target)
    return costs


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="how much, in GiB")
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count")
    given: argparse.Namespace = parser.parse_args(argv)
    report = Report(
        name="transfer",
        question="How fast, and at what cost, do bytes get into a store and out of it?",
        arguments=given,
    )
    count = max(1, round(given.gb * (1 << 30) / _FILE))
    there = _versions()
    names = [name for name in CLIENTS if name == "dumont" or there[name]]
    found = {name: Found() for name in names}
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="transfer-") as made:
        folder = Path(made)
        source = folder / "source"
        _fill(source, count)
        digests = _digests(source)
        with _snapshot_servers.running("light", folder / "server") as server:
            for number in range(given.repeat + 1):
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    is_last = number == given.repeat
                    costs = _round(
                        name, folder=folder, source=source, server=server,
                        digests=digests if is_last else None,
                    )  # fmt: skip
                    report.say(
                        f"{name}: "
                        + ", ".join(f"{way} {cost.wall_s:.2f} s" for way, cost in costs.items())
                    )
                    if number:
                        for way, cost in costs.items():
                            found[name].costs[way].append(cost)
    size = count * _FILE
    report.add(
        Section(
            title=f"{count} objects of 32 MiB, {size / _GB:.2f} GB",
            columns=[
                "way", "client", "GB/s", "wall, s", "CPU, s/GB", "server's CPU, s/GB", "most MB",
                "x ours",
            ],
            rows=rows(found, size),
            note=(
                f"medians of {given.repeat}; the server shares the cores and checks no signatures; "
                "plain HTTP on loopback; s5cmd and boto3 with their defaults"
            ),
        )
    )  # fmt: skip
    report.targets += targets(found, size)
    report.figures["clients"] = there
    report.finish()


if __name__ == "__main__":
    main()
