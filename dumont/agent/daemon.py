"""One background daemon a machine: a small supervisor and the worker that it keeps alive.

    command line --starts--> supervisor --starts, restarts--> worker (`worker.py`: the role's work)

The supervisor holds a lock on its pid file for as long as it lives, so there is never a second one,
and the file also holds the process's start time, so that a stale one never gets a stranger killed.
It runs in a session of its own and survives the login that started it. When the worker ends, its
whole process group is killed before the next one starts: nothing is ever mirrored twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dumont.agent import processes
from dumont.agent.errors import AgentError
from dumont.agent.paths import MARKER, Paths, program, program_environment

RESTART = 75
"""Exit status of a worker that wants to be started again at once."""

_START_S = 10.0
_STOP_S = 15.0
_WORKER_STOP_S = 10
_BACKOFF_S = (0.2, 30.0)
_HEALTHY_S = 60.0
_LONGEST_LOG = 1 << 20


def is_running(paths: Paths) -> bool:
    """Whether a supervisor lives."""
    return _holder(paths) is not None


def start(paths: Paths) -> None:
    """Start the daemon unless it runs. Raises AgentError when it does not come up."""
    paths.ensure()
    with _exclusive(paths.run / "start.lock"):
        if is_running(paths):
            return
        log = paths.log / "supervisor.log"
        if log.exists() and log.stat().st_size > _LONGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*program(), "supervise"],
                cwd="/",
                env=_environment(paths),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not is_running(paths):
            if child.poll() is not None or time.monotonic() > deadline:
                raise AgentError(f"the daemon did not start; see {log}")
            time.sleep(0.02)


def stop(paths: Paths) -> bool:
    """End the daemon and all that it started; returns whether there was one."""
    pid = _holder(paths)
    if pid is None:
        processes.kill_marked(str(paths.run))
        return False
    _signal(paths, pid, signal.SIGTERM)
    began = processes.started(pid)
    deadline = time.monotonic() + _STOP_S
    while began is not None and processes.started(pid) == began:
        if time.monotonic() > deadline:
            _signal(paths, pid, signal.SIGKILL)
        time.sleep(0.02)
    processes.kill_marked(str(paths.run))
    return True


def supervise(paths: Paths) -> int:
    """Be the supervisor; returns when told to end, or at once when there is one already."""
    processes.name_this()
    paths.ensure()
    # Held open, and with it the lock, until the process ends.
    pid_file = os.open(str(paths.pid_file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _lock(pid_file):
        return 0
    text = json.dumps({"pid": os.getpid(), "started": processes.started(os.getpid())})
    os.ftruncate(pid_file, 0)
    os.pwrite(pid_file, text.encode(), 0)
    with contextlib.suppress(ProcessLookupError):
        processes.kill_marked(str(paths.run))
    _Supervisor(paths).run()
    return 0


class _Supervisor:
    """Keeps one worker alive."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._ending = threading.Event()
        self._worker: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, self._kill)
        pause = _BACKOFF_S[0]
        while not self._ending.is_set():
            began = time.monotonic()
            status = self._run_worker()
            if self._ending.is_set() or status == RESTART:
                continue
            if time.monotonic() - began > _HEALTHY_S:
                pause = _BACKOFF_S[0]
            _say(f"the worker ended with status {status}; next try in {pause:.1f} s")
            self._wait(pause)
            pause = min(pause * 2, _BACKOFF_S[1])

    def _run_worker(self) -> int:
        worker = subprocess.Popen(
            [*program(), "worker"],
            cwd="/",
            env={**_environment(self._paths), MARKER: str(self._paths.run)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._worker = worker
        if self._ending.is_set():
            self._end()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        # Not reaped yet, so the group's number is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        self._worker = None
        status = worker.wait()
        processes.kill_marked(str(self._paths.run))
        return status

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._ending.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _end(self, *_: object) -> None:
        self._ending.set()
        if self._worker is not None:
            self._worker.terminate()
            signal.alarm(_WORKER_STOP_S)

    def _kill(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.kill()


def _lock(descriptor: int) -> bool:
    """Take the lock; somebody who merely looks whether it is held may have it for an instant."""
    deadline = time.monotonic() + 2
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _environment(paths: Paths) -> dict[str, str]:
    """The daemon's environment: nothing of the login that happened to start it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SSH_", "XDG_")) and name not in ("OLDPWD", "PWD", "TERM", MARKER)
    }
    kept.update(program_environment(), HOME=str(paths.home), PYTHONUNBUFFERED="1")
    kept["PATH"] = kept.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    return kept


def _holder(paths: Paths) -> int | None:
    """The pid of the supervisor that holds the lock and is the one it says it is."""
    try:
        descriptor = os.open(str(paths.pid_file), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except OSError:
            pass
        try:
            noted = json.load(file)
            pid = int(noted["pid"])
        except (ValueError, KeyError, TypeError):
            return None
    return pid if processes.started(pid) == noted["started"] else None


def _signal(paths: Paths, pid: int, number: int) -> None:
    if _holder(paths) == pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(sentence: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), sentence, file=sys.stderr, flush=True)  # noqa: T201
