"""A workspace on a disk of its own, that can be full.

As root a machine's workspace may be a file system in a file (`disk.img`), mounted inside by
`init.sh`. How much of it is free is set from outside with a ballast file beside the workspace: the
machine gets `ENOSPC` from the kernel as on any full disk, and its files survive its reboots.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

INSIDE = "run/simcloud/disk"
"""Where the file system is mounted in a machine; the workspace is the folder `workspace` of it."""
_SMALLEST_MB = 16
_MB = 2**20


class DisksUnavailable(RuntimeError):
    """A machine cannot have a disk of its own here, or has none; the message says why."""


def why_unavailable(isolation: str) -> str:
    """Return why machines cannot have disks of their own here; empty when they can."""
    if isolation != "namespaces":
        return "a disk of its own needs root, and namespaces"
    if shutil.which("mkfs.ext4") is None:
        return "a disk of its own needs mkfs.ext4, of the package e2fsprogs"
    if not Path("/dev/loop-control").exists():
        return "a disk of its own needs loop devices, which this computer has not"
    return ""


def make_disk(image: Path, *, megabytes: int) -> None:
    """Make the file system, unless the machine has one already.

    Raises:
        DisksUnavailable: It could not be made.
    """
    if image.exists():
        return
    new = image.with_suffix(".new")
    with new.open("wb") as file:
        file.truncate(max(megabytes, _SMALLEST_MB) * _MB)
    try:
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-m", "0", str(new)],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise DisksUnavailable(f"no file system: {getattr(error, 'stderr', error)}") from error
    new.rename(image)


def set_free(pid: int, *, megabytes: float | None) -> float:
    """Leave so much room on the disk of a running machine; return what is free then, in MB.

    Args:
        pid: A process inside.
        megabytes: What shall be free, at most what there is; None takes the ballast away.

    Raises:
        DisksUnavailable: The machine has no disk of its own.
    """
    disk = Path(f"/proc/{pid}/root/{INSIDE}")
    if not (disk / "workspace").is_dir():
        raise DisksUnavailable(
            "this machine has no disk of its own: rent it while a fault rule `small_disk` applies"
        )
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    if megabytes is not None:
        surplus = _free(disk) - int(megabytes * _MB)
        if surplus > 0:
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, surplus)
    return _free(disk) / _MB


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize
