"""The forced command of the sync key: all that a primary can do on the standby.

It may start rsync in the workspace (to write only while the authority is at the primary of its epoch; to
read as long as its epoch is the newest) and say the words of `words.py`. It is asked again while it
runs: a redirect or a fence ends it.

This starts for every transfer, so imports are few and made late.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dumont.agent.paths import Paths

FENCED = 77
"""Exit status for a body that has no authority (any more)."""
REFUSED = 78
"""Exit status for a command that nobody may give."""

_LOOK_S = 0.1
"""How often a running transfer asks whether it may go on; the guard ends it sooner."""


def main(paths: Paths, *, epoch: int) -> int:
    """Do what `SSH_ORIGINAL_COMMAND` asks for, if `epoch` may; returns the exit status."""
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        words = _split(command)
    except ValueError as error:
        return _say(REFUSED, f"not a command: {error}")
    paths.ensure()
    if words[:1] == ["rsync"]:
        return _rsync(paths, epoch, words)
    from dumont.agent import words as vocabulary

    if words not in vocabulary.WORDS:
        return _say(REFUSED, f"not allowed: {command[:100]!r}")
    from dumont.agent.guard_receivers import noted

    workspace = paths.workspace
    with noted(paths.run, epoch=epoch, writes=False):
        return vocabulary.run(words, workspace=workspace, allowed=lambda: may(paths, epoch, False))


def may(paths: Paths, epoch: int, writes: bool) -> bool:
    """Whether the primary of `epoch` may; unknown is no.

    The same as `authority.may_write` and `may_read`, read without their imports.
    """
    try:
        with open(str(paths.authority), encoding="utf-8") as file:
            state = json.load(file)
        newest, authority = state["epoch"], state["authority"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if type(newest) is not int or newest != epoch:
        return False
    return authority == "primary" if writes else authority in ("primary", "standby")


def _rsync(paths: Paths, epoch: int, words: list[str]) -> int:
    from dumont.agent.errors import AgentError
    from dumont.agent.guard_receivers import noted
    from dumont.agent.guard_rsync import check

    workspace = os.path.realpath(str(paths.workspace))
    try:
        writes = check(words, workspace)
    except AgentError as error:
        return _say(REFUSED, error.message)
    with noted(paths.run, epoch=epoch, writes=writes):
        if not may(paths, epoch, writes):
            return _fenced()
        return _run(words, workspace, lambda: may(paths, epoch, writes))


def _run(words: list[str], workspace: str, still: Callable[[], bool]) -> int:
    """Be the parent of an rsync that never outlives the permission."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    pid = os.fork()
    if pid == 0:
        _become(words, workspace)
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_S)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if not still():
            _kill_group(pid)
            os.waitpid(pid, 0)
            return _fenced()


def _become(words: list[str], workspace: str) -> None:
    """Turn the child into rsync, confined and with a leash."""
    try:
        from dumont.agent.guard_confine import confine
        from dumont.agent.processes import die_with_parent

        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL)
        os.chdir(workspace)
        confine(workspace)
        os.execvp("rsync", words)  # noqa: S606
    except BaseException as error:
        _say(0, f"rsync cannot be started: {error}")
    finally:
        os._exit(126)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _split(command: str) -> list[str]:
    if not any(character in command for character in "\\'\"#"):
        return command.split()
    import shlex

    return shlex.split(command)


def _fenced() -> int:
    return _say(FENCED, "fenced: this body has no authority over the workspace")


def _say(status: int, sentence: str) -> int:
    print(f"dumont: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
    return status
