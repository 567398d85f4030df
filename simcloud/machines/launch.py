"""How a machine's init is started: with namespaces as root, in a plain directory otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

Isolation = Literal["namespaces", "directory"]

_HERE = Path(__file__).parent
_UNSHARE = [
    *("unshare", "--mount", "--pid", "--uts", "--ipc"),
    *("--fork", "--kill-child=KILL", "--mount-proc"),
]


def detect_isolation() -> Isolation:
    """Return the strongest isolation that works here.

    Raises:
        RuntimeError: If a program that every machine needs is missing.
    """
    if not Path("/usr/sbin/sshd").exists():
        raise RuntimeError("sshd is missing: install the package openssh-server")
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "directory"
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, timeout=10, check=False)
    return "namespaces" if tried.returncode == 0 else "directory"


def launch_command(isolation: Isolation, *, group: Path | None = None) -> list[str]:
    """Return the command line that becomes the machine's process tree.

    It must be started in the machine's directory, with the environment of `engine.py`.

    Args:
        isolation: What it lives in.
        group: The file by which a process joins the machine's cgroup, if it is to have one.
    """
    command = _command(isolation)
    if group is None:
        return command
    # by itself and first: a socket belongs to the group that its process was in when it was made
    return ["sh", "-c", 'echo $$ >"$0"; exec "$@"', str(group), *command]


def _command(isolation: Isolation) -> list[str]:
    if isolation == "namespaces":
        # setpriv: the tree dies with simcloud, whatever kills simcloud
        return ["setpriv", "--pdeathsig", "KILL", *_UNSHARE, "sh", str(_HERE / "init.sh")]
    return [sys.executable, "-m", "simcloud.machines.supervisor"]
