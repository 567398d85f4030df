"""This computer: Python, programs, disk."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from pathlib import Path

from dumont.cli.checks.finding import Answer, Check

GROUP = "This computer"
_GB = 1e9
_LOW_DISK_GB = 5.0
_NO_DISK_GB = 1.0


def checks(*, state: Path) -> list[Check]:
    """What the command line, and a stack run here, need of this computer.

    Args:
        state: Where a stack keeps, or would keep, its state.
    """
    return [
        Check(group=GROUP, name="Python", look=_python),
        _program("ssh", package="openssh-client", why="`dumont ssh` runs it"),
        _program("ssh-keygen", package="openssh-client", why="it makes your key pair"),
        _program(
            "sshd", package="openssh-server", why="only the demo's machines need it", needed=False
        ),
        Check(group=GROUP, name="disk", look=lambda: asyncio.to_thread(_disk, state)),
    ]


async def _python() -> Answer:
    return Answer(detail=f"{platform.python_version()} at {sys.executable}")


def _program(name: str, *, package: str, why: str, needed: bool = True) -> Check:
    async def look() -> Answer:
        # Debian keeps sshd where only root's path leads.
        path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if path:
            return Answer(detail=path)
        return Answer(
            status="fail" if needed else "warn",
            detail=f"not found; {why}",
            hint=f"install the package {package} (scripts/setup.sh does it)",
        )

    return Check(group=GROUP, name=name, look=look)


def _disk(state: Path) -> Answer:
    where = state.absolute()
    while not where.exists():
        where = where.parent
    free = shutil.disk_usage(where).free / _GB
    detail = f"{free:.1f} GB free at {where}"
    if free < _NO_DISK_GB:
        return Answer(
            status="fail", detail=detail, hint="free some: databases stop when it is full"
        )
    return Answer(status="warn" if free < _LOW_DISK_GB else "ok", detail=detail)
