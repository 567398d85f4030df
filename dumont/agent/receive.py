"""The forced command of the sync key: all that a primary can do on the standby.

It may start rsync in the workspace (to write only while the authority is at the primary of its epoch; to
read as long as its epoch is the newest) and say the words of `words.py`. It is asked again while it
runs: a redirect or a fence ends it.

It starts for every transfer, often many a second, and Python's standard library is slow to import:
for rsync, this module uses nothing but what is here (`typing`, `json`, `pathlib` would each cost more
than all the rest). `guard_code.py` lays it out on the disk, compiled.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dumont.agent.paths import Paths

FENCED = 77
"""Exit status for a body that has no authority (any more)."""
REFUSED = 78
"""Exit status for a command that nobody may give."""

_LOOK_S = 0.1
"""How often a running transfer asks whether it may go on; the guard ends it sooner."""
_LONGEST_STATE = 65536


class Places:
    """Where the guard's things are, as text."""

    def __init__(self, *, authority: str, run: str, workspace: str) -> None:
        self.authority = authority
        self.run = run
        self.workspace = os.path.realpath(workspace)


def main(paths: Paths, *, epoch: int) -> int:
    """The command `receive` of the agent."""
    paths.ensure()
    places = Places(
        authority=str(paths.authority), run=str(paths.run), workspace=str(paths.workspace)
    )
    return serve(places, epoch=epoch)


def serve(places: Places, *, epoch: int) -> int:
    """Do what `SSH_ORIGINAL_COMMAND` asks for, if `epoch` may; returns the exit status."""
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        words = _split(command)
    except ValueError as error:
        return _say(REFUSED, f"not a command: {error}")
    if words[:1] == ["rsync"]:
        return _rsync(places, epoch, words)
    from pathlib import Path

    from dumont.agent import words as vocabulary

    if words not in vocabulary.WORDS:
        return _say(REFUSED, f"not allowed: {command[:100]!r}")
    note = _note(places, epoch, False)
    try:
        return vocabulary.run(
            words,
            workspace=Path(places.workspace),
            allowed=lambda: may(places, epoch, False),
            writable=lambda: may(places, epoch, True),
        )
    finally:
        _forget(note)


def may(places: Places, epoch: int, writes: bool) -> bool:
    """Whether the primary of `epoch` may; unknown is no.

    The same as `authority.may_write` and `may_read`. `AuthorityFile` writes these two fields first,
    in this form; a file that looks different is not one of its.
    """
    try:
        descriptor = os.open(places.authority, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _LONGEST_STATE)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    if not text.endswith(b"}\n"):
        return False
    bodies = (b"primary",) if writes else (b"primary", b"standby")
    return any(
        text.startswith(b'{"authority": "%s", "epoch": %d, ' % (body, epoch)) for body in bodies
    )


def _rsync(places: Places, epoch: int, words: list[str]) -> int:
    from dumont.agent.errors import AgentError
    from dumont.agent.guard_rsync import check

    try:
        writes = check(words, places.workspace)
    except AgentError as error:
        return _say(REFUSED, error.message)
    # Noted first, asked then: see guard_receivers.py.
    note = _note(places, epoch, writes)
    try:
        if not may(places, epoch, writes):
            return _fenced()
        return _run(words, places.workspace, lambda: may(places, epoch, writes))
    finally:
        _forget(note)


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
    """Turn the child into rsync, confined and on a leash."""
    try:
        from dumont.agent.guard_confine import confine, die_with_parent

        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL)
        os.chdir(workspace)
        program = _program()
        # Nothing can be imported from here on.
        confine(workspace)
        os.execv(program, words)  # noqa: S606
    except BaseException as error:
        _say(0, f"rsync cannot be started: {error}")
    finally:
        os._exit(126)


def _program() -> str:
    for folder in [*os.environ.get("PATH", "").split(":"), "/usr/local/bin", "/usr/bin"]:
        path = folder + "/rsync"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("it is not installed")


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _note(places: Places, epoch: int, writes: bool) -> str:
    """Enter this process in the list of receivers; read by `guard_receivers.living`."""
    folder = places.run + "/receivers"
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o700, exist_ok=True)
    with open("/proc/self/stat", "rb") as file:
        started = file.read().rpartition(b")")[2].split()[19].decode()
    pid = os.getpid()
    part, name = f"{folder}/.{pid}", f"{folder}/{pid}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(descriptor, f"{started} {epoch} {int(writes)}\n".encode())
    os.close(descriptor)
    os.rename(part, name)
    return name


def _forget(note: str) -> None:
    if os.path.exists(note):
        os.unlink(note)


def _split(command: str) -> list[str]:
    if not any(character in command for character in "\\'\"#"):
        return command.split()
    import shlex

    return shlex.split(command)


def _fenced() -> int:
    return _say(FENCED, "fenced: this body has no authority over the workspace")


def _say(status: int, sentence: str) -> int:
    sys.stderr.write(f"dumont: {sentence}\n")
    sys.stderr.flush()
    return status
