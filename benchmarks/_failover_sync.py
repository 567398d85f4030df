"""How late changes are on the standby, and what that costs, beside others in the same run."""

from __future__ import annotations

import filecmp
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._failover_pair import FalseAlarm, Pair
from benchmarks._failover_peers import Mirrored, lsyncd, ours, rsync_loop
from benchmarks._failover_report import spread

PACKAGES, FILES = 100, 79
"""Of the tree that stands for an installation: 7,900 files."""
_SMALL = 4096
_IDLE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is changed."""

    singles: int = 30
    burst: int = 1000
    checkpoint_mb: int = 256
    tree: int = 2000
    packages: int = PACKAGES
    limit_s: float = 240.0
    """The longest wait for one change."""


Figures = dict[str, Any]
_Mirror = Callable[[Pair], AbstractContextManager[Mirrored]]
_MIRRORS: tuple[tuple[_Mirror, float], ...] = ((ours, 0.3), (lsyncd, 2.0), (rsync_loop, 3.0))
"""With the pause between single changes: enough that they are not one transfer, and for those that
collect changes, enough that they fall anywhere in their interval."""


def measure(pair: Pair, *, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Figures]:
    """Every kind of change, for each mirror."""
    found: dict[str, Figures] = {}
    for mirror, pause in _MIRRORS:
        try:
            with mirror(pair) as mirrored:
                found[mirrored.name] = _all(pair, mirrored, sizes, pause)
                say(f"{mirrored.name}: {found[mirrored.name]}")
        except (TimeoutError, RuntimeError, FalseAlarm) as error:
            found[mirror.__name__] = {"failed": str(error)}
            say(f"{mirror.__name__}: {error}")
    return found


def _all(pair: Pair, mirrored: Mirrored, sizes: Sizes, pause: float) -> Figures:
    def cpu() -> float:
        return pair.primary.cpu_s() + pair.standby.cpu_s()

    before = cpu()
    time.sleep(_IDLE_S)
    idle = (cpu() - before) / _IDLE_S
    before, began = cpu(), time.monotonic()
    singles = _singles(mirrored, sizes, pause)
    spent = cpu() - before - idle * (time.monotonic() - began)
    found: Figures = {
        "single_s": spread(singles),
        "single_missing": sizes.singles - len(singles),
        "appended_s": spread(_appended(mirrored, sizes, pause)),
        "burst_s": _burst(mirrored, sizes),
        "checkpoint_s": _checkpoint(mirrored, sizes),
        "move_s": _move(mirrored, sizes),
        "install_s": _install(mirrored, sizes),
        "cpu_ms_per_file": round(1000 * max(0.0, spent) / sizes.singles, 1),
        "idle_cpu_percent": round(100 * idle, 1),
    }
    found["identical"] = _settled(lambda: _same(mirrored.source, mirrored.target), sizes.limit_s)
    return found


def _singles(mirrored: Mirrored, sizes: Sizes, pause: float) -> list[float]:
    content = os.urandom(_SMALL)

    def write(number: int) -> Callable[[], bool]:
        (mirrored.source / f"single{number}").write_bytes(content)
        target = mirrored.target / f"single{number}"
        return lambda: _size(target) == _SMALL

    return _delays(write, sizes.singles, pause, sizes.limit_s)


def _appended(mirrored: Mirrored, sizes: Sizes, pause: float) -> list[float]:
    target = mirrored.target / "log"
    with (mirrored.source / "log").open("ab", buffering=0) as log:

        def write(number: int) -> Callable[[], bool]:
            log.write(b"%099d\n" % number)
            size = log.tell()
            return lambda: _size(target) >= size

        return _delays(write, sizes.singles, pause, sizes.limit_s)


def _delays(
    write: Callable[[int], Callable[[], bool]], count: int, pause: float, limit: float
) -> list[float]:
    """Make changes with pauses of random length; returns how late each was there."""
    pauses = random.Random(1)
    waiting: list[tuple[float, Callable[[], bool]]] = []
    delays: list[float] = []
    number, due = 0, time.monotonic()
    deadline = due + count * pause + limit
    while (number < count or waiting) and (now := time.monotonic()) < deadline:
        if number < count and now >= due:
            waiting.append((now, write(number)))
            number, due = number + 1, now + pause * (0.5 + pauses.random())
        seen = [(at, there) for at, there in waiting if there()]
        delays += [time.monotonic() - at for at, _ in seen]
        waiting = [each for each in waiting if each not in seen]
        time.sleep(0.002)
    return delays


def _burst(mirrored: Mirrored, sizes: Sizes) -> float | None:
    folder = mirrored.source / "burst"
    folder.mkdir()
    content = os.urandom(1024)
    for number in range(sizes.burst):
        (folder / str(number)).write_bytes(content)
    return _settled(lambda: _count(mirrored.target / "burst") == sizes.burst, sizes.limit_s)


def _checkpoint(mirrored: Mirrored, sizes: Sizes) -> float | None:
    """Written beside its place, then renamed, as training loops save theirs."""
    block = os.urandom(1 << 20)
    new, name = mirrored.source / "model.pt.tmp", "model.pt"
    with new.open("wb") as file:
        for number in range(sizes.checkpoint_mb):
            file.write(number.to_bytes(8, "big") + block[8:])
        os.fsync(file.fileno())
    new.rename(mirrored.source / name)
    size = sizes.checkpoint_mb << 20
    return _settled(lambda: _size(mirrored.target / name) == size, sizes.limit_s)


def _move(mirrored: Mirrored, sizes: Sizes) -> float | None:
    before, after = "tree", "moved"
    for number in range(sizes.tree):
        file = mirrored.source / before / f"d{number % 20}" / str(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number * 50)
    if _settled(lambda: _count(mirrored.target / before) == sizes.tree, sizes.limit_s) is None:
        return None
    (mirrored.source / before).rename(mirrored.source / after)
    return _settled(
        lambda: (
            _count(mirrored.target / after) == sizes.tree
            and not (mirrored.target / before).exists()
        ),
        sizes.limit_s,
    )


def _install(mirrored: Mirrored, sizes: Sizes) -> float | None:
    """A tree like that of `pip install`: from its last file until all are there."""
    sizes_of = random.Random(2)
    content = os.urandom(1 << 15)
    for package in range(sizes.packages):
        folder = mirrored.source / f"site-packages/package{package}/inner"
        folder.mkdir(parents=True)
        for number in range(FILES):
            place = folder if number % 2 else folder.parent
            (place / f"m{number}.py").write_bytes(content[: sizes_of.randrange(100, 8000)])
    wanted = sizes.packages * FILES
    return _settled(lambda: _count(mirrored.target / "site-packages") == wanted, sizes.limit_s)


def _settled(check: Callable[[], bool], limit: float) -> float | None:
    """Seconds until it is so; None: not in time."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if check():
            return round(time.monotonic() - began, 3)
        time.sleep(0.02)
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _count(folder: Path) -> int:
    """Files below a folder that have their names; rsync's unfinished ones begin with a dot."""
    return sum(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def _same(one: Path, other: Path) -> bool:
    """Whether two trees have the same names and contents."""
    compared = filecmp.dircmp(one, other, ignore=[])
    if compared.left_only or compared.right_only or compared.funny_files:
        return False
    _, different, errors = filecmp.cmpfiles(one, other, compared.common_files, shallow=False)
    if different or errors:
        return False
    return all(_same(one / name, other / name) for name in compared.common_dirs)


def measure_streams(
    pair: Pair,
    *,
    megabytes: int,
    say: Callable[[str], None],
    streams: tuple[int, ...] = (1, 10, 10, 1),
) -> dict[str, Figures]:
    """The first copy of the same workspace, by one stream and by ten, in turns."""
    seconds: dict[int, list[float]] = {count: [] for count in streams}
    for count in streams:
        try:
            pair.renew(empty=True)
            _fill(pair.primary.workspace, megabytes)
            pair.protect(streams=count, seconds=600)
        except (TimeoutError, RuntimeError, FalseAlarm) as error:
            say(f"{count} streams: {error}")
            continue
        log = (pair.primary.home / ".dumont/log/agent.log").read_text(errors="replace")
        said = re.findall(r"first copy: \d+ bytes in ([\d.]+) s", log)
        seconds[count].append(float(said[-1]))
        say(f"{count} streams: {said[-1]} s")
    return {
        str(count): {"copy_s": spread(each), "megabytes": megabytes}
        for count, each in seconds.items()
    }


def _fill(workspace: Path, megabytes: int) -> None:
    """Half in four big files, half in files of 64 KB."""
    block = os.urandom(1 << 20)
    shutil.rmtree(workspace / "data", ignore_errors=True)
    for name in ("big", "small"):
        (workspace / "data" / name).mkdir(parents=True)
    for number in range(4):
        with (workspace / f"data/big/{number}").open("wb") as file:
            for part in range(megabytes // 8):
                file.write(b"%d %d " % (number, part) + block)
    for number in range(megabytes * 8):
        (workspace / f"data/small/{number}").write_bytes(b"%d " % number + block[: 1 << 16])
