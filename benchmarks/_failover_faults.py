"""A failure, again and again: how soon work goes on at the same address, and what is lost.

Every third failure strikes in the moment in which a barrier (`flush`) returns; the others strike in
the middle of a stream of writes.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks._failover_cloud import STANDBY_MARK, Unsupported
from benchmarks._failover_pair import FalseAlarm, Pair
from benchmarks._failover_probes import WRITER, Canary, Probes, lost_since, written
from benchmarks._servers import wait_until

LIMIT_S = 15.0
"""A failure that is not over by then counts as one of this length."""
_FLUSH_EVERY = 3
_WRITES_BEFORE = (20, 100)
"""How many writes have arrived before a failure, at random: it must not fall on the same one always."""
_CHECKPOINT = """\
import os, sys
folder = sys.argv[1]
os.makedirs(folder)
for number, size in enumerate([300, 20_000, 1 << 20, 4 << 20, *[4096] * 20]):
    with open(f"{folder}/{number}", "wb") as file:
        file.write(os.urandom(size))
os.execvp("python3", ["python3", os.path.expanduser("~/.dumont/agent.pyz"), "flush"])
"""


@dataclass(frozen=True)
class Fault:
    """How to break the primary, and how it comes back."""

    strike: Callable[[Pair], None]
    revive: Callable[[Pair], None]


def _control(action: str, **body: object) -> Callable[[Pair], None]:
    return lambda pair: pair.cloud.control(action, **body)


FAULTS = {
    "sigkill": Fault(_control("kill"), lambda pair: pair.cloud.reboot()),
    "cut": Fault(_control("link", cut="both"), _control("link")),
    "freeze": Fault(_control("freeze"), _control("thaw")),
    "outbid": Fault(_control("outbid"), _control("resume")),
    "host_offline": Fault(_control("host-offline"), _control("host-online", new_address=False)),
}


@dataclass
class Samples:
    """What the failures of one kind did. Seconds and bytes."""

    redirect_s: list[float] = field(default_factory=list)
    access_s: list[float] = field(default_factory=list)
    rpo_s: list[float] = field(default_factory=list)
    rpo_bytes: list[int] = field(default_factory=list)
    guard_s: list[float] = field(default_factory=list)
    """From the guard's own detection until nothing of the former primary can write any more."""
    strike_s: list[float] = field(default_factory=list)
    """How long the order to break it took; the failure itself lies within."""
    flush_s: list[float] = field(default_factory=list)
    bytes_lost_after_flush: int = 0
    bytes_flushed: int = 0
    timeouts: int = 0
    false_alarms: list[str] = field(default_factory=list)
    """Why the address moved before anything was broken; such a round is done again."""
    failed: list[str] = field(default_factory=list)
    """Rounds that could not be measured, and why."""
    skipped: str = ""


def measure(
    pair: Pair, *, name: str, count: int, say: Callable[[str], None], seconds: float
) -> Samples:
    """Break the primary `count` times in one way; stops early when `seconds` are over."""
    samples = Samples()
    deadline = time.monotonic() + seconds
    number = 0
    while number < count and len(samples.failed) < 4:
        if time.monotonic() > deadline:
            samples.failed.append(f"stopped after {number} of {count}: {seconds:.0f} s are over")
            break
        tag = f"{name}{number}-{len(samples.false_alarms)}"
        try:
            _round(pair, FAULTS[name], samples, flush=number % _FLUSH_EVERY == 2, tag=tag)
        except Unsupported as reason:
            samples.skipped = str(reason)
            return samples
        except FalseAlarm as alarm:
            samples.false_alarms.append(str(alarm))
            if len(samples.false_alarms) > max(10, 2 * count):
                samples.failed.append(f"given up after {len(samples.false_alarms)} false alarms")
                break
            continue
        except (TimeoutError, RuntimeError) as error:
            samples.failed.append(f"round {number}: {error}")
            say(f"{name} {number}: {str(error)[:300]}")
            _mend(pair, FAULTS[name])
        number += 1
        if number % 10 == 0:
            say(f"{name}: {number} of {count}")
    return samples


def _mend(pair: Pair, fault: Fault) -> None:
    if not pair.primary.answers():
        fault.revive(pair)


def _round(pair: Pair, fault: Fault, samples: Samples, *, flush: bool, tag: str) -> None:
    with Canary(pair.standby.host) as canary:
        redirects = _until_streaming(pair, tag, canary)
        _strike(pair, fault, samples, canary, flush=flush, tag=tag)
    wait_until(
        lambda: int(pair.guard().get("redirects") or 0) > redirects and _steps(pair) is not None,
        what="the guard's account of the redirect", seconds=20,
    )  # fmt: skip
    samples.guard_s.append(_steps(pair) or 0.0)
    (pair.primary.workspace / f"run-{tag}/stop").touch()
    fault.revive(pair)
    wait_until(pair.primary.answers, what="the primary's return", seconds=60)


def _strike(
    pair: Pair, fault: Fault, samples: Samples, canary: Canary, *, flush: bool, tag: str
) -> None:
    here, there = (body.workspace / f"run-{tag}" for body in (pair.primary, pair.standby))
    probes = Probes(
        address=pair.endpoint, login=pair.login("hostname"), former=pair.primary_hostname,
        is_new=lambda opened, banner: STANDBY_MARK in banner, seconds=LIMIT_S,
    )  # fmt: skip
    try:
        flush_s = _flush(pair, tag) if flush else None
    except RuntimeError:
        pair.check()
        raise
    pair.check()
    before = time.monotonic()
    probes.start()
    try:
        fault.strike(pair)
    except Unsupported:
        probes.stop()
        raise
    finally:
        struck = time.monotonic()
        probes.wait()
    assert canary.last is not None
    failed = min(max(before, canary.last), struck)
    samples.strike_s.append(struck - before)
    for at, into in ((probes.banner_at, samples.redirect_s), (probes.login_at, samples.access_s)):
        samples.timeouts += at is None
        into.append(LIMIT_S if at is None else at - failed)
    if flush_s is None:
        oldest, lost = lost_since(here, there, until=failed)
        samples.rpo_s.append(0.0 if oldest is None else failed - oldest)
        samples.rpo_bytes.append(lost)
    else:
        samples.flush_s.append(flush_s)
        lost, total = _compare(pair, tag)
        samples.bytes_lost_after_flush += lost
        samples.bytes_flushed += total


def _until_streaming(pair: Pair, tag: str, canary: Canary) -> int:
    """A protected primary on which a writer writes; returns the redirects there have been."""
    try:
        pair.renew(empty=True)
        pair.protect()
        pair.wait_for_endpoint()
        run, there = f"/workspace/run-{tag}", pair.standby.workspace / f"run-{tag}"
        canary_at = "{} {}".format(*canary.address)
        start = f"setsid python3 /root/writer.py {run} {canary_at} >/dev/null 2>&1 </dev/null &"
        pair.primary.run(f"cat >/root/writer.py && {{ {start} }}", given=WRITER)

        enough = random.randint(*_WRITES_BEFORE)

        def streaming() -> bool:
            pair.check()
            return len(written(there)) >= enough and canary.last is not None

        wait_until(streaming, what="the mirror of a stream", seconds=60)
    except (RuntimeError, TimeoutError):
        pair.check()
        raise
    return int(pair.guard().get("redirects") or 0)


def _steps(pair: Pair) -> float | None:
    steps = pair.guard().get("redirect") or {}
    found = steps.get("receivers_ms")
    return None if found is None else float(found) / 1000


def _flush(pair: Pair, tag: str) -> float:
    """Write a checkpoint and wait for the barrier, in one process there; returns its seconds."""
    pair.primary.run("cat >/root/checkpoint.py", given=_CHECKPOINT)
    said = pair.primary.run(f"python3 /root/checkpoint.py /workspace/flushed-{tag}", seconds=90)
    return float(json.loads(said.splitlines()[-1])["seconds"])


def _compare(pair: Pair, tag: str) -> tuple[int, int]:
    """Bytes of the flushed checkpoint that the standby lacks or has otherwise, and all of them."""
    lost = total = 0
    for path in (pair.primary.workspace / f"flushed-{tag}").iterdir():
        content = path.read_bytes()
        total += len(content)
        try:
            copy = (pair.standby.workspace / f"flushed-{tag}" / path.name).read_bytes()
        except OSError:
            copy = b""
        if hashlib.sha256(copy).digest() != hashlib.sha256(content).digest():
            lost += len(content)
    return lost, total
