"""Starts: how many machines a second the control plane takes, and brings to RUNNING.

Machines are asked for as fast as Temporal takes them, and each climbs its whole ladder: provisioning
child, intent, rungs, events, projections, everything but the provider's own time. Beside them, on the
same server in the same run, the floor: workflows that start and do nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import UTC, datetime

from benchmarks import _harness
from benchmarks._fleet import Fleet
from benchmarks._floor import Floor
from benchmarks._harness import Report, Section, Target, percentile
from benchmarks._servers import stack
from benchmarks._worker import FLOOR_QUEUE
from dumont.domain.events import EventKind
from dumont.domain.machine import MachinePhase

_TOOK = """
SELECT extract(epoch FROM max(at) - min(at)) FROM events
WHERE at >= %s AND kind IN (%s, %s) GROUP BY machine_id HAVING count(*) = 2
"""
_READY = "SELECT extract(epoch FROM at) FROM events WHERE at >= %s AND kind = %s ORDER BY at"


async def _machines(fleet: Fleet, count: int, report: Report) -> tuple[float, float]:
    """Start machines; returns machines/s accepted, and RUNNING/s of the middle 80 %."""
    parts = {**fleet.parts, "stand-in for the provider": fleet.provider}
    cpu = {name: process.cpu_s() for name, process in parts.items()}
    before = await fleet.count(MachinePhase.RUNNING)
    began = datetime.now(UTC)
    accepted = await fleet.start(range(before, before + count))
    report.say(f"{count} accepted in {accepted:.1f} s")
    await fleet.wait_for(MachinePhase.RUNNING, before + count, seconds=60 + count)
    spent = {name: 1000 * (p.cpu_s() - cpu[name]) / count for name, p in parts.items()}
    ready = [float(at) for (at,) in await fleet.rows(_READY, began, EventKind.READY.value)]
    took = [
        float(seconds)
        for (seconds,) in await fleet.rows(
            _TOOK, began, EventKind.REQUESTED.value, EventKind.READY.value
        )
    ]
    assert len(ready) == len(took) == count
    first, last = len(ready) // 10, len(ready) * 9 // 10
    sustained = (last - first) / (ready[last] - ready[first])
    report.add(
        Section(
            title="Machines",
            columns=["machines", "accepted/s", "RUNNING/s", "to RUNNING p50 s", "p99 s"],
            rows=[[count, count / accepted, sustained, percentile(took, 50), percentile(took, 99)]],
            note="RUNNING/s of the middle 80 % of them; the time to RUNNING is that of "
            "a burst: all are asked for at once and wait for each other",
        )
    )
    report.add(
        Section(
            title="CPU milliseconds of one start",
            columns=[*spent, "sum"],
            rows=[[*spent.values(), sum(spent.values())]],
        )
    )
    return count / accepted, sustained


async def _alone(fleet: Fleet, numbers: range) -> list[float]:
    """Seconds from request to RUNNING of machines that start one after the other."""
    took = []
    for number in numbers:
        before = await fleet.count(MachinePhase.RUNNING)
        began = time.monotonic()
        await fleet.start([number])
        while await fleet.count(MachinePhase.RUNNING) == before:
            await asyncio.sleep(0.005)
        took.append(time.monotonic() - began)
    return took


async def _floor(fleet: Fleet, count: int) -> float:
    client = await fleet.client()
    gate = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with gate:
            await client.execute_workflow(Floor.run, id=f"floor/{number}", task_queue=FLOOR_QUEUE)

    await one(count)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    return count / (time.monotonic() - began)


async def _run(given: argparse.Namespace, report: Report) -> None:
    with stack() as on:
        fleet = Fleet(stack=on)
        floor = on.python("worker-floor", "benchmarks._worker", "floor")
        for process in (fleet.control, fleet.provider, floor):
            process.start()
        await fleet.client()
        warm = 3  # connections, caches, lazy imports
        await _alone(fleet, range(warm))
        alone = await _alone(fleet, range(warm, warm + given.alone))
        _, sustained = await _machines(fleet, given.machines, report)
        fleet.control.kill()
        fleet.provider.kill()
        floor_rate = await _floor(fleet, given.machines)
        report.add(
            Section(
                title="Beside it",
                columns=["what", "value", "unit"],
                rows=[
                    ["one machine alone, request to RUNNING, p50", percentile(alone, 50), "s"],
                    ["baseline: workflows that do nothing", floor_rate, "/s"],
                    ["baseline / RUNNING", floor_rate / sustained, "x"],
                ],
            )
        )
        report.targets.append(
            Target(
                name="machines reaching RUNNING, sustained",
                measured=sustained,
                target=40,
                unit="/s",
                better="more",
            )
        )


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--machines", type=int, default=1000, metavar="N", help="started at once")
    parser.add_argument("--alone", type=int, default=10, metavar="N", help="started one by one")
    given = parser.parse_args()
    report = Report(
        name="starts", question="how many machines a second can be started?", arguments=given
    )
    asyncio.run(_run(given, report))
    report.finish()


if __name__ == "__main__":
    main()
