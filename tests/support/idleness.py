"""What machines do, as a script: an `ActivityStore` whose minutes a test writes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dumont.domain.errors import NotReady
from dumont.domain.idle import MINUTE, IdlePolicy, IdleState, KeepAlive, Sample, merge
from dumont.domain.idle_watch import Reading, reading_of
from dumont.domain.instances import SshAddress

QUIET: dict[str, Any] = {
    "gpu_percent": 0.0,
    "gpu_memory_busy_percent": 0.0,
    "gpu_memory_mb": 3,
    "cpu_percent": 1.0,
    "cpu_cores": 0.0,
    "disk_read_bps": 0.0,
    "disk_write_bps": 100.0,
    "net_rx_bps": 900.0,
    "net_tx_bps": 900.0,
    "user_processes": 0,
    "ssh_sessions": 0,
    "jupyter_kernels": 0,
    "keep_alive_s": 0.0,
}
"""A host on which nothing happens and everything is known."""
BUSY = QUIET | {"gpu_percent": 97.0, "cpu_cores": 3.2, "user_processes": 4}
TYPING = QUIET | {"ssh_sessions": 1, "session_idle_s": 4.0}
LEFT_OPEN = QUIET | {"ssh_sessions": 1, "session_idle_s": 7_200.0}


@dataclass
class ScriptedActivity:
    """Minutes by script; everything else in memory."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    script: list[tuple[datetime, dict[str, Any] | None]] = field(default_factory=list)
    """From when on a host does what; None: nobody heard of it."""
    daemon: bool = True
    """Whether the machine reports by itself; without, only what is added is known."""
    added: dict[datetime, list[Reading]] = field(default_factory=dict)
    wanted: dict[str, IdlePolicy] = field(default_factory=dict)
    kept_up: dict[str, KeepAlive] = field(default_factory=dict)
    noted: dict[str, tuple[int, IdleState]] = field(default_factory=dict)
    settled: int = 0

    def does(self, what: dict[str, Any] | None) -> None:
        """From now on."""
        self.script.append((self.at, what))

    def _reading(self, minute: datetime) -> list[Reading]:
        found = list(self.added.get(minute, []))
        if self.daemon:
            # What was done in any part of a minute is in it.
            end = minute + MINUTE
            spans = [*self.script, (datetime.max.replace(tzinfo=UTC), None)]
            for (start, what), (stop, _) in itertools.pairwise(spans):
                if start < end and stop > minute and what is not None:
                    found.append(reading_of(what))
        return found

    async def now(self) -> datetime:
        return self.at

    async def add(self, machine_id: str, reading: Reading) -> None:
        self.added.setdefault(self.at.replace(second=0, microsecond=0), []).append(reading)

    async def samples(
        self, machine_ids: Sequence[str], *, since: datetime
    ) -> dict[str, list[Sample]]:
        minute = since.replace(second=0, microsecond=0)
        found = []
        while minute <= self.at:
            readings = self._reading(minute)
            if readings:
                found.append(merge(minute, readings))
            minute += MINUTE
        return dict.fromkeys(machine_ids, found)

    async def last_heard(self, machine_ids: Sequence[str]) -> dict[str, float]:
        if self.daemon and self.script and self.script[-1][1] is not None:
            return dict.fromkeys(machine_ids, 2.0)
        minute = self.at.replace(second=0, microsecond=0)
        if self.added.get(minute):
            return dict.fromkeys(machine_ids, 15.0)
        return {}

    async def settle(self) -> int:
        self.settled += 1
        return 0

    async def policies(self, machine_ids: Sequence[str]) -> dict[str, IdlePolicy]:
        return {each: self.wanted[each] for each in machine_ids if each in self.wanted}

    async def keep_alives(self, machine_ids: Sequence[str]) -> dict[str, KeepAlive]:
        return {each: self.kept_up[each] for each in machine_ids if each in self.kept_up}

    async def states(self, generations: Mapping[str, int]) -> dict[str, IdleState]:
        return {
            each: self.noted[each][1]
            for each, generation in generations.items()
            if each in self.noted and self.noted[each][0] == generation
        }

    async def set_state(self, machine_id: str, state: IdleState, *, generation: int) -> None:
        self.noted[machine_id] = (generation, state)


@dataclass
class ScriptedAgent:
    """A `MachineAgent` that is looked at, and told."""

    host: dict[str, Any] | None = None
    """What `observe` prints; None: the machine cannot be reached."""
    told: list[str] = field(default_factory=list)
    looks: int = 0

    async def call(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        words: Sequence[str],
        stdin: bytes = b"",
        timeout_s: float = 30.0,
        on_progress: object = None,
    ) -> dict[str, Any]:
        if words[0] == "tell":
            self.told.append(stdin.decode())
            return {"terminals": 1}
        assert list(words) == ["observe"]
        self.looks += 1
        if self.host is None:
            raise NotReady("connection refused")
        return self.host

    async def fetch(self, *_: Any, **__: Any) -> int:
        raise AssertionError("nothing is copied")


HOUR = timedelta(hours=1)
