"""Idle machines: what thousands of them cost that run and need nothing.

Starts real Machine workflows until each is RUNNING, lets them be, and measures memory, CPU and
database. Beside them, in the same run and on the same PostgreSQL, a loop that polls as many rows.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping

import psycopg

from benchmarks import _harness
from benchmarks._fleet import Fleet
from benchmarks._harness import Report, Section, Target
from benchmarks._servers import Process, Stack, stack
from dumont.domain.machine import MachinePhase

_SETTLE_S = 10.0
_LATE = "SELECT count(*) FROM polled WHERE due_at < now() - interval '5 s'"


def _cpu_percent(parts: Mapping[str, Process], seconds: float) -> dict[str, float]:
    """CPU of each part over a while, in percent of one core."""
    before = {name: process.cpu_s() for name, process in parts.items()}
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    return {n: 100 * (process.cpu_s() - before[n]) / elapsed for n, process in parts.items()}


class _Run:
    def __init__(self, report: Report, given: argparse.Namespace, on: Stack) -> None:
        self._report = report
        self._given = given
        self._stack = on
        self._fleet = Fleet(stack=on)
        self._ours = Section(
            title="Machine workflows, idle",
            columns=["machines", "started/s", "running/s", "worker MB", "KB/machine", "worker CPU %",
                     "server MB", "server CPU %", "server DB KB/machine", "PostgreSQL CPU %"],
            note="CPU in percent of one core while nothing happens; memory is the process's "
            "proportional share; KB/machine is what each machine added to the control worker",
        )  # fmt: skip
        self._costs = Section(
            title="What one start costs, CPU milliseconds (request to RUNNING, with all its records)",
            columns=["machines", *self._fleet.parts, "stand-in for the provider"],
        )
        self._peers = Section(
            title=f"Peer, measured here: a loop that polls each row every {given.poll:g} s",
            columns=["rows", "loop MB", "loop CPU %", "PostgreSQL CPU %", "rows late"],
            note="the least such a loop can be (benchmarks/_poller.py); it is no other product's "
            "code. Its CPU grows with the fleet, ours does not",
        )

    async def run(self) -> None:
        fleet = self._fleet
        fleet.control.start()
        fleet.provider.start()
        await fleet.client()
        await fleet.start([0])
        await fleet.wait_for(MachinePhase.RUNNING, 1, seconds=60)
        await asyncio.sleep(_SETTLE_S / 2)
        empty = fleet.control.memory_mb()
        empty_db = self._stack.temporal.size_mb()
        self._report.say(f"workers are up, {empty:.0f} MB before the first machine counts")
        there = 0
        for size in self._given.machines:
            await self._grow(there, size, empty, empty_db)
            there = size
        fleet.control.kill()
        fleet.provider.kill()
        for size in self._given.machines:
            self._poll(size)
        for section in (self._ours, self._costs, self._peers, _documented()):
            self._report.add(section)
        self._promise()

    async def _grow(self, there: int, size: int, empty: float, empty_db: float) -> None:
        fleet, added = self._fleet, size - there
        everybody = {**fleet.parts, "provider": fleet.provider}
        cpu = {name: process.cpu_s() for name, process in everybody.items()}
        began = time.monotonic()
        accepted = await fleet.start(range(there + 1, size + 1))
        patience = 60 + added * self._given.patience
        await fleet.wait_for(MachinePhase.RUNNING, size + 1, seconds=patience)
        took = time.monotonic() - began
        spent = [1000 * (p.cpu_s() - cpu[name]) / added for name, p in everybody.items()]
        self._report.say(f"{size} run, {added / took:.1f}/s; letting them be")
        await asyncio.sleep(_SETTLE_S)
        idle = _cpu_percent(fleet.parts, self._given.window)
        memory, server = fleet.control.memory_mb(), self._stack.temporal.memory_mb()
        self._ours.rows.append([
            size, added / accepted, added / took, memory, 1000 * (memory - empty) / size,
            idle["control worker"], server, idle["Temporal server"],
            1000 * (self._stack.temporal.size_mb() - empty_db) / size, idle["PostgreSQL"],
        ])  # fmt: skip
        self._costs.rows.append([size, *spent])

    def _poll(self, size: int) -> None:
        database = self._stack.postgres
        loop = self._stack.python(
            "poller", "benchmarks._poller", database.url, str(size), str(self._given.poll)
        )
        loop.start()
        time.sleep(_SETTLE_S)
        loop.check()
        used = _cpu_percent({"loop": loop, "database": database}, self._given.window)
        with psycopg.connect(database.url) as connection:
            row = connection.execute(_LATE).fetchone()
        assert row is not None
        late = int(row[0])
        self._peers.rows.append([size, loop.memory_mb(), used["loop"], used["database"], late])
        loop.kill()

    def _promise(self) -> None:
        size, _, _, memory, _, worker_cpu, *_ = self._ours.rows[-1]
        full = isinstance(size, int) and size >= 10_000

        def measured(value: object) -> float | None:
            return float(value) if full and isinstance(value, float) else None

        at = "of 10,000 idle machines"
        for target in (
            Target(name=f"worker memory {at}", measured=measured(memory), target=1000, unit="MB",
                   better="less"),
            Target(name=f"worker CPU {at}", measured=measured(worker_cpu), target=5, unit="%",
                   better="less"),
        ):  # fmt: skip
            self._report.targets.append(target)


def _documented() -> Section:
    return Section(
        title="Peers, as they document themselves",
        columns=["who", "capacity", "memory each", "source"],
        rows=[
            ["dstack", "1,000 instances a replica", "8 MB", "dstack docs, server deployment"],
            [
                "SkyPilot",
                "400 jobs on 8 GiB, 2,000 at most",
                "~20 MB",
                "SkyPilot docs, managed jobs",
            ],
        ],
    )


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument(
        "--machines", type=_harness.sizes, default="1000,5000,10000", metavar="N,..."
    )
    parser.add_argument("--window", type=float, default=30, metavar="S", help="idle time measured")
    parser.add_argument("--poll", type=float, default=15, metavar="S", help="interval of the peer")
    parser.add_argument(
        "--patience", type=float, default=1, metavar="S", help="allowed for each machine to start"
    )
    given = parser.parse_args()
    report = Report(
        name="idle-machines",
        question="what do machines cost that run and need nothing?",
        arguments=given,
    )
    with stack() as on:
        asyncio.run(_Run(report, given, on).run())
    report.finish()


if __name__ == "__main__":
    main()
