"""What a primary may ask of the standby's copy, beside rsync: the words of the forced command.

`receive.py` (the forced command of the sync key) decides who may speak; this module answers:

    mark-read              the newest sequence mark that arrived
    manifest [--hash]      the tree, one JSON line an entry
    serve                  a conversation: one JSON request a line, one JSON answer a line

Requests of `serve`, which saves starting Python for each question (the mark is read every second):

    {"do": "mark"}                         -> {"mark": "..." or null}
    {"do": "describe", "paths": [...],
     "hash": "sha256"}                     -> {"entries": [...]}       with hashes, see manifest.py
    {"do": "settle", "timeout_s": 60}      -> {"settled": true}        no rsync that began earlier writes
    {"do": "sync"}                         -> {"synced": true, "at": s} all that arrived is on the disk
    {"do": "changed", "since": s}          -> {"paths": [...]}         files changed since, by its clock
    {"do": "disk"}                         -> {"free_bytes": n, "free_inodes": n}

Before and after every answer `allowed()` is asked; when it says no, the answer is an error with code
`fenced` and the conversation ends with status `FENCED`. Every answer also says whether the primary may
write now (`"write": true`), which a mirror needs and a restore does not.

The rsync that `receive` runs must have the workspace as its current folder: the primary names paths
relative to it (`rsync --server ... . ./`), and `settle` finds running transfers by it.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dumont.agent import manifest, processes, store

if TYPE_CHECKING:
    from collections.abc import Callable

FENCED = 77
"""Exit status of the forced command for a body that has no authority."""

WORDS = (["mark-read"], ["manifest"], ["manifest", "--hash"], ["serve"])
"""All that may be said, word by word; anything else but rsync is refused."""

MARK = ".dumont/mark"
"""The sequence mark, in the workspace."""


def run(
    words: list[str],
    *,
    workspace: Path,
    allowed: Callable[[], bool],
    writable: Callable[[], bool] | None = None,
) -> int:
    """Answer one of `WORDS` on stdin and stdout; returns the exit status.

    Args:
        words: What was said.
        workspace: The standby's.
        allowed: Whether the primary may read now.
        writable: Whether it may write now; as `allowed` when not given.
    """
    writable = writable or allowed
    out = sys.stdout.buffer
    if not allowed():
        _send(out, _FENCED_ANSWER)
        return FENCED
    if words == ["mark-read"]:
        _send(out, {"mark": _mark(workspace)})
        return 0
    if words[0] == "manifest":
        return manifest.write(workspace, out, hashed=words[1:] == ["--hash"])
    return _serve(workspace, allowed, writable, sys.stdin.buffer, out)


def transfers(workspace: Path) -> dict[int, str | None]:
    """The rsync processes that may be writing below the workspace, with their start times."""
    here = os.path.realpath(str(workspace))
    found = {}
    for pid in processes.pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            cwd = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        receiving = b"--server" in words and b"--sender" not in words
        if receiving and words[0].endswith(b"rsync") and (cwd + "/").startswith(here + "/"):
            found[pid] = processes.started(pid)
    return found


_FENCED_ANSWER = {"error": "this body has no authority to mirror any more", "code": "fenced"}


def _serve(
    workspace: Path,
    allowed: Callable[[], bool],
    writable: Callable[[], bool],
    requests: BinaryIO,
    out: BinaryIO,
) -> int:
    for line in requests:
        if not allowed():
            _send(out, _FENCED_ANSWER)
            return FENCED
        try:
            answer = _answer(json.loads(line), workspace)
        except (OSError, ValueError, KeyError, TypeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}", "code": "failed"}
        if not allowed():
            # Fenced while it was answered: the answer is no promise any more.
            _send(out, _FENCED_ANSWER)
            return FENCED
        _send(out, {**answer, "write": writable()})
    return 0


def _answer(request: dict[str, Any], workspace: Path) -> dict[str, Any]:
    wish = request["do"]
    if wish == "mark":
        return {"mark": _mark(workspace)}
    if wish == "describe":
        names = [_inside(name) for name in request["paths"]]
        algorithm = manifest.SHA256 if request.get("hash") == manifest.SHA256 else manifest.BLAKE2B
        return {"entries": manifest.describe_all(workspace, names, algorithm=algorithm)}
    if wish == "settle":
        return {"settled": _settle(workspace, float(request["timeout_s"]))}
    if wish == "sync":
        began = time.time()
        _sync(workspace)
        return {"synced": True, "at": began}
    if wish == "changed":
        return {"paths": _changed(workspace, float(request["since"]))}
    if wish == "disk":
        disk = os.statvfs(str(workspace))
        return {"free_bytes": disk.f_bavail * disk.f_frsize, "free_inodes": disk.f_favail}
    raise ValueError(f"unknown request {wish!r}")


def _changed(workspace: Path, since: float) -> list[str]:
    return [
        manifest.to_text(name)
        for name, state in manifest.walk(workspace)
        if state.st_ctime >= since and not stat.S_ISDIR(state.st_mode)
    ]


def _inside(name: str) -> bytes:
    """A name that does not leave the workspace by itself. It is only described, never written."""
    raw = manifest.to_bytes(name)
    if raw.startswith(b"/") or b".." in raw.split(b"/") or b"\0" in raw:
        raise ValueError(f"not a path in the workspace: {manifest.shown(raw)}")
    return raw


def _mark(workspace: Path) -> str | None:
    text = store.read_text(workspace / MARK)
    return None if text is None else text.strip()


def _settle(workspace: Path, timeout_s: float) -> bool:
    waited_for = transfers(workspace)
    deadline = time.monotonic() + min(timeout_s, 3600.0)
    while True:
        alive = [pid for pid, began in waited_for.items() if processes.started(pid) == began]
        if not any(waited_for[pid] for pid in alive):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _sync(folder: Path) -> None:
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _send(out: BinaryIO, document: dict[str, Any]) -> None:
    out.write(json.dumps(document).encode() + b"\n")
    out.flush()
