"""Recovery: kill -9 of worker, Temporal and PostgreSQL at once; how soon all timers live again.

A fleet of idle machines, and among them machines without capacity, each waiting for the time of its
next try: a durable timer. Everything is killed just before the first of them falls due, stays dead
for a while, and is started again. Each timer's firing is seen from outside, at the provider that its
machine asks. "All timers live" is when the last one fired that was more than a second late.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import datetime
from pathlib import Path

from benchmarks import _harness
from benchmarks._fleet import Fleet
from benchmarks._harness import Report, Section, Target, percentile
from benchmarks._machines import HOPELESS_USD
from benchmarks._servers import Stack, stack, wait_until
from dumont.domain.machine import MachinePhase, Timing

_ON_TIME_S = 1.0
_SPREAD_S = 30.0
"""The timers fall due over so long."""
_WAIT_S = _SPREAD_S + 20.0
"""What each timer waits: until after the last one was set."""
_PATIENCE_S = 120.0
_NEXT_TRIES = "SELECT machine_id, state->>'next_try_at' FROM machines WHERE phase = 'stuck'"
_ALIVE = "WorkflowType = 'Machine' AND ExecutionStatus = 'Running'"


def _fired(diary: Path, *, since: float) -> dict[str, float]:
    """Machine -> when it first asked the provider after `since`."""
    first: dict[str, float] = {}
    for line in diary.read_text().splitlines():
        workflow_id, at = line.split()
        if float(at) > since:
            first.setdefault(workflow_id.split("/")[1], float(at))
    return first


class _Run:
    def __init__(self, report: Report, given: argparse.Namespace, on: Stack) -> None:
        self._report = report
        self._given = given
        self._stack = on
        self._diary = on.folder / "diary"
        self._fleet = Fleet(stack=on, diary=self._diary)

    async def run(self) -> None:
        fleet, given = self._fleet, self._given
        fleet.control.start()
        fleet.provider.start()
        await fleet.client()
        await fleet.start(range(given.machines))
        await fleet.wait_for(MachinePhase.RUNNING, given.machines, seconds=60 + given.machines)
        self._report.say(f"{given.machines} machines idle")
        due = await self._set_timers()
        self._report.say(f"{len(due)} timers run")
        await asyncio.sleep(max(0.0, min(due.values()) - 1 - time.time()))
        killed = time.time()
        self._kill()
        self._report.say(f"everything killed; dead for {given.down:g} s")
        await asyncio.sleep(given.down)
        restarted = time.time()
        steps = self._restart(restarted)
        self._report.say("restarted")
        give_up = max(due.values()) + _PATIENCE_S
        while len(_fired(self._diary, since=killed)) < len(due) and time.time() < give_up:
            await asyncio.sleep(0.2)
        fired = _fired(self._diary, since=killed)
        self._tell(due, fired, restarted, steps, alive=await self._alive())

    async def _set_timers(self) -> dict[str, float]:
        """Start machines that find no capacity; returns when each will try again."""
        given, fleet = self._given, self._fleet
        timing = Timing(retry_ladder_s=(_WAIT_S,))
        began = time.time()
        for index in range(given.timers):
            await asyncio.sleep(max(0.0, began + index * _SPREAD_S / given.timers - time.time()))
            await fleet.start([given.machines + index], max_usd=HOPELESS_USD, timing=timing)
        await fleet.wait_for(MachinePhase.STUCK, given.timers, seconds=_WAIT_S)
        rows = await fleet.rows(_NEXT_TRIES)
        return {machine: datetime.fromisoformat(at).timestamp() for machine, at in rows}

    def _kill(self) -> None:
        for process in (
            self._fleet.control,
            self._fleet.provider,
            self._stack.temporal,
            self._stack.postgres,
        ):
            process.kill()

    def _restart(self, began: float) -> dict[str, float]:
        """Start everything as a supervisor does; returns seconds until each part worked."""
        self._stack.postgres.start()
        self._stack.temporal.start()
        self._stack.postgres.wait()
        postgres = time.time() - began
        self._stack.temporal.wait()
        temporal = time.time() - began
        self._fleet.control.start()
        self._fleet.provider.start()
        fleet = self._fleet
        wait_until(lambda: fleet.control.log().count("polling") > 1, what="the worker", seconds=60)
        worker = float(fleet.control.log().split()[-1]) - began
        return {"PostgreSQL": postgres, "Temporal": temporal, "control worker": worker}

    async def _alive(self) -> int:
        client = await self._fleet.client()
        return (await client.count_workflows(_ALIVE)).count

    def _tell(
        self,
        due: dict[str, float],
        fired: dict[str, float],
        restarted: float,
        steps: dict[str, float],
        *,
        alive: int,
    ) -> None:
        late = {m: fired[m] - at for m, at in due.items() if m in fired}
        overdue = [m for m, at in due.items() if at <= restarted]
        slow = [fired[m] for m, seconds in late.items() if seconds > _ON_TIME_S]
        first = min(fired.values(), default=float("nan")) - restarted
        lost = len(due) - len(late)
        live = max(slow, default=restarted) - restarted if not lost else None
        on_time = [s for m, s in late.items() if fired[m] - restarted > (live or 0)]
        self._report.add(
            Section(
                title="After the restart, seconds",
                columns=["what", "value", "unit"],
                rows=[
                    ["PostgreSQL serves (baseline: a polling loop's first look)",
                     steps["PostgreSQL"], "s"],
                    ["Temporal serves (baseline: the servers alone)", steps["Temporal"], "s"],
                    ["first timer fired", first, "s"],
                    ["all timers live", live, "s"],
                    ["lateness of later timers, p99", percentile(on_time, 99), "s"],
                ],
            )
        )  # fmt: skip
        meant = self._given.machines + self._given.timers
        self._report.add(
            Section(
                title="Nothing lost",
                columns=["what", "count", "of"],
                rows=[
                    ["timers that fired", len(late), len(due)],
                    ["of them due while everything was dead", len(overdue), len(due)],
                    ["machines' workflows alive", alive, meant],
                ],
            )
        )
        self._report.targets += [
            Target(name="all timers live after kill -9 of everything", measured=live, target=5,
                   unit="s", better="less"),
            Target(name="timers lost", measured=lost, target=0, unit="timers", better="less"),
            Target(name="machines lost", measured=meant - alive, target=0, unit="machines",
                   better="less"),
        ]  # fmt: skip


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--machines", type=int, default=1000, metavar="N", help="idle ones beside")
    parser.add_argument("--timers", type=int, default=120, metavar="N", help="running timers")
    parser.add_argument("--down", type=float, default=5, metavar="S", help="how long all is dead")
    given = parser.parse_args()
    report = Report(
        name="recovery", question="how soon do all timers live after kill -9?", arguments=given
    )
    with stack() as on:
        asyncio.run(_Run(report, given, on).run())
    report.finish()


if __name__ == "__main__":
    main()
