"""The sync key in `authorized_keys`: exactly one, bound to one forced command.

sshd reads the file at every login, so replacing it is what fences: an older key opens nothing any
more. Keys of the owner and of the control plane are left as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dumont.agent import store
from dumont.agent.guard_code import receive_command

if TYPE_CHECKING:
    from dumont.agent.paths import Paths

MARK = "dumont-sync-"
"""Starts the comment of every sync key."""


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
        options = f'restrict,command="{receive_command(paths, epoch=epoch)}"'
        kept.append(f"{options} {words[0]} {words[1]} {MARK}e{epoch}")
    after = "\n".join(kept) + "\n" if kept else ""
    if after != before:
        store.write_text(file, after, mode=0o600)
