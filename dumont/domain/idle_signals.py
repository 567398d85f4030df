"""What each figure of a machine says about its idleness, one minute at a time: see `idle`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from dumont.domain.instances import Message

MINUTE = timedelta(minutes=1)
LONGEST_KEEP_ALIVE = timedelta(days=7)


class Sample(Message):
    """One minute of one machine, from its agent's readings. None is unknown."""

    minute: datetime
    """Its start, UTC."""
    heard: int = Field(default=1, ge=0)
    """Readings in it; a minute with none is as good as missing."""
    gpu_percent: float | None = None
    """The highest of the minute, as all loads and rates here."""
    gpu_memory_busy_percent: float | None = None
    """Share of the time in which the GPU's memory was read or written."""
    gpu_memory_mb: int | None = None
    cpu_percent: float | None = None
    """Of the whole host, which a container often shares; only used where `cpu_cores` is unknown."""
    cpu_cores: float | None = None
    """Cores that people's processes kept busy."""
    disk_read_bps: float | None = None
    """Bits per second by people's processes, from and to disks."""
    disk_write_bps: float | None = None
    net_rx_bps: float | None = None
    """Bits per second, all interfaces but the loopback."""
    net_tx_bps: float | None = None
    user_processes: int | None = None
    """Processes of people (neither ours nor the system's) that used noticeable processor time."""
    ssh_sessions: int | None = None
    """Logins of people."""
    session_idle_s: float | None = None
    """Since the last key or output in the liveliest session; None: unknown, or no session."""
    jupyter_kernels: int | None = None
    """Running kernels; 0: none, None: cannot be told."""
    jupyter_idle_s: float | None = None
    """Since the liveliest kernel did something; None: unknown, or no kernel."""
    keep_alive_s: float | None = None
    """What is left of a keep-alive that was asked for on the machine itself; 0: none."""


class IdlePolicy(Message):
    """When a machine counts as idle, and how it is told before anything happens."""

    enabled: bool = True
    gpu_percent: float = Field(default=5.0, gt=0, le=100)
    idle_for_s: float = Field(default=180.0, ge=60, le=7 * 86400)
    """The seed's rule is these two: under 5 % for 3 minutes."""
    warn_s: float = Field(default=300.0, ge=60, le=86400)
    """From the warning to the act."""
    grace_s: float = Field(default=900.0, ge=0, le=86400)
    """After a start nobody can have logged in yet."""
    gpu_memory_busy_percent: float = Field(default=5.0, gt=0, le=100)
    gpu_memory_mb: int = Field(default=512, ge=1, le=1 << 24)
    """From this on a process holds GPU memory; a driver alone takes less."""
    memory_held_for_s: float = Field(default=1800.0, ge=60, le=7 * 86400)
    """Instead of `idle_for_s` while GPU memory is held; never less than that."""
    cpu_cores: float = Field(default=0.25, gt=0, le=1024)
    cpu_percent: float = Field(default=10.0, gt=0, le=100)
    """Of the host; only used where the cores of people's processes are unknown."""
    disk_bps: float = Field(default=8e6, gt=0, le=1e12)
    """Bits per second read, or written."""
    net_bps: float = Field(default=1e6, gt=0, le=1e12)
    """Bits per second received, or sent. Heartbeats, a quiet mirror and an open login need less."""
    session_quiet_s: float = Field(default=1800.0, ge=60, le=7 * 86400)
    kernel_quiet_s: float = Field(default=3600.0, ge=60, le=7 * 86400)
    stale_s: float = Field(default=120.0, ge=60, le=3600)
    """The newest minute may have ended this long ago; older news says nothing about now."""


class KeepAlive(Message):
    """A person's wish that nothing happens until then."""

    until: datetime
    by: str
    reason: str = ""


class Says(StrEnum):
    """What one signal says. Names are public and stable."""

    ACTIVE = "active"
    IDLE = "idle"
    UNKNOWN = "unknown"


class Signal(Message):
    """One signal over the time that counts."""

    name: str
    """`gpu`, `gpu_memory_traffic`, `gpu_memory`, `cpu`, `processes`, `disk`, `network`, `sessions`,
    `kernels`, `keep_alive`, `keep_alive_here`, `start` or `readings`."""
    says: Says
    value: str
    """For people; of the minute that decided."""
    limit: str
    why: str
    """One clause: `used 0.9 cores 2 min ago`."""


def merge(minute: datetime, readings: Sequence[Mapping[str, float | int | None]]) -> Sample:
    """One minute from the `host` figures of the heartbeats in it.

    Loads, rates and counts: the highest. Idle times: the shortest. A figure that fewer than half of
    the readings know is unknown (nvidia-smi may be late once; a driver that is sick is late often);
    so is the idle time of a login or kernel when any reading that saw one could not tell it.

    A figure that any reading has as negative or as no number is unknown for the whole minute.
    """
    found: dict[str, float | int | None] = {}
    for name in _FIGURES:
        known = [value for reading in readings if (value := reading.get(name)) is not None]
        if not all(math.isfinite(value) and value >= 0 for value in known):
            known = []
        if name in _SHORTEST:
            count = _SHORTEST[name]
            blind = any(reading.get(count) and reading.get(name) is None for reading in readings)
            found[name] = min(known) if known and not blind else None
        else:
            found[name] = max(known) if known and 2 * len(known) >= len(readings) else None
    for name in _WHOLE:
        value = found[name]
        found[name] = None if value is None else int(value)
    return Sample.model_validate({"minute": minute, "heard": len(readings), **found})


class Check:
    """One signal: whether a sample shows activity (None: unknown), its value and limit for people."""

    def __init__(
        self,
        name: str,
        says: Callable[[Sample, IdlePolicy], bool | None],
        value: Callable[[Sample], str],
        limit: Callable[[IdlePolicy], str],
        *,
        lasting: bool = False,
    ) -> None:
        self.name = name
        self.active = says
        self.value = value
        self.limit = limit
        self.lasting = lasting
        """Its figure reaches back by itself (idle for so long): it must be quiet for `idle_for_s`
        only, or its own patience and that for held memory would add up."""


def _reaches(value: float | None, limit: float) -> bool | None:
    return None if value is None else value >= limit


def _either(one: float | None, other: float | None, limit: float) -> bool | None:
    known = [value for value in (one, other) if value is not None]
    if any(value >= limit for value in known):
        return True
    return False if len(known) == 2 else None


def _cpu(sample: Sample, policy: IdlePolicy) -> bool | None:
    if sample.cpu_cores is not None:
        return sample.cpu_cores >= policy.cpu_cores
    return _reaches(sample.cpu_percent, policy.cpu_percent)


def _recent(count: int | None, idle_s: float | None, quiet_s: float) -> bool | None:
    if count == 0:
        return False
    if count is None or idle_s is None:
        return None
    return idle_s < quiet_s


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} %"


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value / 8e6:.2f} MB/s"


def _cpu_value(sample: Sample) -> str:
    if sample.cpu_cores is not None:
        return f"{sample.cpu_cores:.2f} cores"
    return f"{_percent(sample.cpu_percent)} of the host"


def _count_value(count: int | None, idle_s: float | None, name: str) -> str:
    if count is None:
        return "unknown"
    if count == 0:
        return "none"
    last = "nobody can tell since when quiet" if idle_s is None else f"quiet for {words_s(idle_s)}"
    return f"{count} {name}{'s' if count > 1 else ''}, {last}"


CHECKS = (
    Check(
        "gpu",
        lambda sample, policy: _reaches(sample.gpu_percent, policy.gpu_percent),
        lambda sample: _percent(sample.gpu_percent),
        lambda policy: f"under {policy.gpu_percent:g} %",
    ),
    Check(
        "gpu_memory_traffic",
        lambda sample, policy: _reaches(
            sample.gpu_memory_busy_percent, policy.gpu_memory_busy_percent
        ),
        lambda sample: _percent(sample.gpu_memory_busy_percent),
        lambda policy: f"under {policy.gpu_memory_busy_percent:g} %",
    ),
    Check(
        # Held memory is no activity; it only makes us wait longer. Unknown stays unknown.
        "gpu_memory",
        lambda sample, policy: None if sample.gpu_memory_mb is None else False,
        lambda sample: "unknown" if sample.gpu_memory_mb is None else f"{sample.gpu_memory_mb} MiB",
        lambda policy: (
            f"from {policy.gpu_memory_mb} MiB on quiet for {words_s(policy.memory_held_for_s)}"
        ),
    ),
    Check("cpu", _cpu, _cpu_value, lambda policy: f"under {policy.cpu_cores:g} cores"),
    Check(
        "processes",
        lambda sample, policy: _reaches(sample.user_processes, 1),
        lambda sample: (
            "unknown" if sample.user_processes is None else f"{sample.user_processes} at work"
        ),
        lambda policy: "none at work",
    ),
    Check(
        "disk",
        lambda sample, policy: _either(
            sample.disk_read_bps, sample.disk_write_bps, policy.disk_bps
        ),
        lambda sample: (
            f"{_rate(sample.disk_read_bps)} read, {_rate(sample.disk_write_bps)} written"
        ),
        lambda policy: f"under {_rate(policy.disk_bps)}",
    ),
    Check(
        "network",
        lambda sample, policy: _either(sample.net_rx_bps, sample.net_tx_bps, policy.net_bps),
        lambda sample: f"{_rate(sample.net_rx_bps)} in, {_rate(sample.net_tx_bps)} out",
        lambda policy: f"under {_rate(policy.net_bps)}",
    ),
    Check(
        "sessions",
        lambda sample, policy: _recent(
            sample.ssh_sessions, sample.session_idle_s, policy.session_quiet_s
        ),
        lambda sample: _count_value(sample.ssh_sessions, sample.session_idle_s, "login"),
        lambda policy: f"quiet for {words_s(policy.session_quiet_s)}",
        lasting=True,
    ),
    Check(
        "kernels",
        lambda sample, policy: _recent(
            sample.jupyter_kernels, sample.jupyter_idle_s, policy.kernel_quiet_s
        ),
        lambda sample: _count_value(sample.jupyter_kernels, sample.jupyter_idle_s, "kernel"),
        lambda policy: f"quiet for {words_s(policy.kernel_quiet_s)}",
        lasting=True,
    ),
    Check(
        "keep_alive_here",
        lambda sample, policy: None if sample.keep_alive_s is None else sample.keep_alive_s > 0,
        lambda sample: (
            "unknown"
            if sample.keep_alive_s is None
            else f"{words_s(sample.keep_alive_s)} left"
            if sample.keep_alive_s
            else "none"
        ),
        lambda policy: "none",
        lasting=True,
    ),
)
_FIGURES = tuple(name for name in Sample.model_fields if name not in ("minute", "heard"))
_SHORTEST = {"session_idle_s": "ssh_sessions", "jupyter_idle_s": "jupyter_kernels"}
_WHOLE = ("gpu_memory_mb", "user_processes", "ssh_sessions", "jupyter_kernels")
_ORDER = {Says.IDLE: 0, Says.UNKNOWN: 1, Says.ACTIVE: 2}


def says_in(check: Check, sample: Sample, policy: IdlePolicy) -> Says:
    """What a signal says in one sample; a minute without a reading says nothing."""
    if sample.heard == 0:
        return Says.UNKNOWN
    active = check.active(sample, policy)
    return Says.UNKNOWN if active is None else Says.ACTIVE if active else Says.IDLE


def said(check: Check, there: Sequence[Sample], policy: IdlePolicy) -> Says:
    """What a signal says in one minute: the liveliest of its samples."""
    return max((says_in(check, sample, policy) for sample in there), key=_ORDER.__getitem__)


def by_minute(samples: Sequence[Sample], now: datetime | None) -> dict[datetime, list[Sample]]:
    """Samples by their minute, in order; those that begin after `now` are left out."""
    found: defaultdict[datetime, list[Sample]] = defaultdict(list)
    for sample in samples:
        if now is None or sample.minute <= now:
            found[sample.minute.replace(second=0, microsecond=0)].append(sample)
    return dict(sorted(found.items()))


def is_quiet(there: Sequence[Sample] | None, policy: IdlePolicy, *, lasting: bool = True) -> bool:
    """Whether every signal says idle in this minute; without the lasting ones where not asked."""
    return not against(there, policy, lasting=lasting)


def against(
    there: Sequence[Sample] | None, policy: IdlePolicy, *, lasting: bool = True
) -> list[str]:
    """Names of the signals that do not say idle in this minute."""
    if not there:
        return ["readings"]
    return [
        check.name
        for check in CHECKS
        if (lasting or not check.lasting) and said(check, there, policy) is not Says.IDLE
    ]


def patience_s(there: Sequence[Sample], policy: IdlePolicy) -> float:
    """For how long the machine must be quiet, given its newest minute, seconds."""
    held = any((sample.gpu_memory_mb or 0) >= policy.gpu_memory_mb for sample in there)
    return max(policy.idle_for_s, policy.memory_held_for_s if held else 0.0)


def minutes_of(seconds: float) -> int:
    """Whole minutes that cover so many seconds."""
    return max(1, math.ceil(seconds / 60))


def words(span: timedelta) -> str:
    """A time for people."""
    return words_s(span.total_seconds())


def words_s(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 5 min`, `3 d 1 h`."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
