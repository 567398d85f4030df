"""The sync key in `authorized_keys`: exactly one, bound to one forced command.

sshd reads the file at every login, so replacing it is what fences: an older key opens nothing any
more. Keys of the owner and of the control plane are left as they are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dumont.agent import store
from dumont.agent.paths import program, program_environment

if TYPE_CHECKING:
    from dumont.agent.paths import Paths

MARK = "dumont-sync-"
"""Starts the comment of every sync key."""

_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")


def install(paths: Paths, *, epoch: int, public_key: str) -> None:
    """Make `public_key` (empty: none) the only sync key."""
    file = paths.home / ".ssh" / "authorized_keys"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    before = store.read_text(file) or ""
    words = public_key.split()[:2]
    kept = [
        line
        for line in before.splitlines()
        if MARK not in line and not (words and words[1] in line.split())
    ]
    if words:
        options = f'restrict,command="{_command(paths)} receive --epoch {epoch}"'
        kept.append(f"{options} {words[0]} {words[1]} {MARK}e{epoch}")
    after = "\n".join(kept) + "\n" if kept else ""
    if after != before:
        store.write_text(file, after, mode=0o600)


def _command(paths: Paths) -> str:
    """How the shell of a login starts this agent again."""
    python = sys.executable if _PLAIN.fullmatch(sys.executable or "") else "python3"
    archive = Path(program()[-1])
    if archive.suffix == ".pyz" and archive.parent == paths.base:
        return f"{python} -IS ~/.dumont/agent.pyz"
    variables = [f"{name}={value}" for name, value in program_environment().items()]
    return " ".join(["env", *variables, python, *program()[1:]])
