"""Starts parts in the order they need each other, keeps them running, stops them in reverse.

It knows processes and health checks, not what the parts are (`parts.py`).

Why our own: the stack needs start order by health (not by sleep), a hard guarantee that a killed
supervisor leaves nothing behind, reaping by identity at the next start, and it has to live inside
`dumont demo`. supervisord and circus are daemons with configuration files and sockets of their own
and know neither health-ordered starts nor the death signal; honcho and its like end everything when
one part ends. What is left after asyncio's subprocesses and the kernel's death signal is below.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dumont.cli.embedded.logs import bound, open_log, tail
from dumont.cli.embedded.processes import ProcessId, end_session
from dumont.cli.embedded.state import PartState, PartStatus, StackStatus, StateDir, read_status
from dumont.domain.errors import DependencyUnavailable

_EXEC = Path(__file__).with_name("_exec.py")
_CHECK_EVERY_S = 0.1
"""While a part starts."""
_CHECK_TIMEOUT_S = 5.0
_STABLE_S = 60.0
"""After running so long, a crash is a new one and not the last one again."""

Check = Callable[[], Awaitable[None]]
"""Returns when the part does its work; raises anything, whose text says why not."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a part, decided right before each start."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    run_as: str = "-"
    """See `_exec.py`."""
    stdout: Path | None = None
    """A file for its standard output alone, emptied first; the log otherwise."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the stack."""

    name: str
    launch: Callable[[], Awaitable[Launch]]
    check: Check | None = None
    """None for a part that does its work once and exits with 0."""
    needs: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 5.0
    """How long a stop may take before it is killed."""
    start_timeout_s: float = 120.0
    """How long until the first healthy answer."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait before the n-th restart in a row."""

    first_s: float = 0.5
    factor: float = 2.0
    longest_s: float = 30.0
    start_tries: int = 4
    """Failures in a row after which a part that never worked stops the whole start."""

    def delay_s(self, failures: int) -> float:
        """The wait after `failures` failures in a row, from 1."""
        return min(self.longest_s, self.first_s * self.factor ** (failures - 1))


@dataclass(kw_only=True)
class _Running:
    part: Part
    healthy: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    worked: bool = False
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Runs parts on one state directory.

    Args:
        state: The locked state directory.
        parts: In any order.
        report: Told of each change of a part, for people to read.
        backoff: Waits between restarts.
        watch_every_s: Time between two looks at a part that works.
    """

    def __init__(
        self,
        *,
        state: StateDir,
        parts: Sequence[Part],
        report: Callable[[str, PartStatus], None] = lambda _name, _status: None,
        backoff: Backoff | None = None,
        watch_every_s: float = 10.0,
    ) -> None:
        self._state = state
        self._parts = {part.name: _Running(part=part) for part in parts}
        self._report = report
        self._backoff = backoff or Backoff()
        self._watch_every_s = watch_every_s
        self._stopping = asyncio.Event()
        self._in_a_hurry = False
        self._watcher: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = StackStatus(
            mode=state.mode,
            supervisor=ProcessId.mine(),
            parts={name: PartStatus(since=datetime.now(UTC)) for name in self._parts},
        )

    async def reap(self) -> list[str]:
        """End what a killed predecessor left running; returns the names of those parts."""
        before = read_status(self._state.path)
        if before is None:
            return []
        strays = [(name, part, part.process) for name, part in before.parts.items() if part.process]
        found = [name for name, _, process in strays if process.is_alive()]
        await asyncio.gather(
            *(
                end_session(
                    process, stop_signal=signal.Signals(part.stop_signal), grace_s=part.grace_s
                )
                for _, part, process in strays
            )
        )
        return found

    async def start(self) -> None:
        """Start every part; returns when all work.

        Raises:
            DependencyUnavailable: A part cannot be started; names it and quotes its log.
        """
        self._write()
        for running in self._parts.values():
            running.task = asyncio.create_task(self._keep(running), name=running.part.name)
            running.task.add_done_callback(self._notice_bug)
        self._watcher = asyncio.create_task(self._watch(), name="watch")
        await self._unless_stopping(
            asyncio.wait(
                [asyncio.ensure_future(self._all_healthy()), self._failure],
                return_when=asyncio.FIRST_COMPLETED,
            )
        )
        if self._failure.done():
            self._failure.result()

    async def _all_healthy(self) -> None:
        for running in self._parts.values():
            await running.healthy.wait()

    def _notice_bug(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self._failure.done():
            self._failure.set_exception(error)

    async def wait(self) -> None:
        """Return when `request_stop` is called.

        Raises:
            Exception: The supervisor itself failed.
        """
        await self._unless_stopping(asyncio.wait([self._failure]))
        if self._failure.done():
            self._failure.result()

    def request_stop(self) -> None:
        """Begin to stop; asked a second time, stop without grace."""
        self._in_a_hurry = self._stopping.is_set()
        self._stopping.set()

    async def stop(self) -> None:
        """Stop every part, each after all that need it, and record that nothing runs."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.gather(
            *(running.task for running in self._parts.values() if running.task),
            return_exceptions=True,
        )
        if self._failure.done():
            self._failure.exception()  # seen by whoever awaited start() or wait()
        else:
            self._failure.cancel()
        self._write()

    # one part

    async def _keep(self, running: _Running) -> None:
        """Start a part when what it needs works, and again whenever it ends."""
        part = running.part
        failures = 0
        try:
            needed = [self._parts[name].healthy.wait() for name in part.needs]
            if not await self._unless_stopping(asyncio.gather(*needed)):
                return
            while not self._stopping.is_set():
                started = time.monotonic()
                reason = await self._run_once(running)
                if reason is None:
                    return
                failures = 1 if time.monotonic() - started > _STABLE_S else failures + 1
                if not running.worked and failures >= self._backoff.start_tries:
                    self._give_up(part, reason)
                    return
                delay = self._backoff.delay_s(failures)
                self._set(
                    part.name,
                    "restarting",
                    f"{reason}; again in {delay:.3g} s",
                    restarts=self.status.parts[part.name].restarts + 1,
                    process=None,
                )
                await self._unless_stopping(asyncio.sleep(delay))
        finally:
            running.stopped.set()

    async def _run_once(self, running: _Running) -> str | None:
        """One life of the process. Returns why it ended; None when that is all right."""
        part = running.part
        try:
            launch = await part.launch()
            process, identity = await self._spawn(part, launch)
        except OSError as error:
            return f"could not be started: {error}"
        exited = asyncio.create_task(process.wait())
        try:
            if part.check is None:
                await self._unless_stopping(asyncio.shield(exited))
                if exited.done() and exited.result() == 0:
                    running.worked = True
                    running.healthy.set()
                    self._set(part.name, "done", process=None)
                    return None
            else:
                problem = await self._wait_until_healthy(part, part.check, exited)
                if problem is not None:
                    return problem
                if not self._stopping.is_set() and not exited.done():
                    running.worked = True
                    running.healthy.set()
                    self._set(part.name, "running")
                    await self._unless_stopping(asyncio.shield(exited))
            if exited.done():
                return _describe_exit(exited.result())
            await self._wait_for_dependents(part)
            return None
        finally:
            grace = 0.0 if self._in_a_hurry else part.grace_s
            await self._end(part, identity, grace)
            await exited
            if self._stopping.is_set() and not (part.check is None and running.worked):
                self._set(part.name, "stopped", process=None)

    async def _spawn(
        self, part: Part, launch: Launch
    ) -> tuple[asyncio.subprocess.Process, ProcessId]:
        log = open_log(self._state.logs / f"{part.name}.log")
        output = log
        try:
            os.write(log, f"--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: starting\n".encode())
            if launch.stdout is not None:
                output = os.open(launch.stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_EXEC),
                str(os.getpid()), str(int(part.stop_signal)), launch.run_as, *launch.command,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=log,
                cwd=launch.cwd, env=dict(launch.env), start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(log)
            if output != log:
                os.close(output)
        identity = ProcessId.of(process.pid)
        if identity is None:  # it is over already; its exit code says why
            identity = ProcessId(pid=process.pid, start_ticks=0, boot_id="")
        self._set(part.name, "starting", process=identity)
        return process, identity

    async def _wait_until_healthy(
        self, part: Part, check: Check, exited: asyncio.Task[int]
    ) -> str | None:
        deadline = time.monotonic() + part.start_timeout_s
        problem = "no answer yet"
        while not self._stopping.is_set() and not exited.done():
            if time.monotonic() > deadline:
                return f"not healthy after {part.start_timeout_s:.3g} s: {problem}"
            try:
                await asyncio.wait_for(check(), _CHECK_TIMEOUT_S)
            except Exception as error:
                problem = _first_line(error)
            else:
                return None
            await asyncio.wait([exited], timeout=_CHECK_EVERY_S)
        return _describe_exit(exited.result()) if exited.done() else None

    async def _wait_for_dependents(self, part: Part) -> None:
        await asyncio.gather(
            *(
                other.stopped.wait()
                for other in self._parts.values()
                if part.name in other.part.needs
            )
        )

    async def _end(self, part: Part, identity: ProcessId, grace_s: float) -> None:
        ending = asyncio.create_task(
            end_session(identity, stop_signal=part.stop_signal, grace_s=grace_s)
        )
        while not ending.done():
            await asyncio.wait([ending], timeout=0.1)
            if self._in_a_hurry and grace_s > 0 and not ending.done():
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
                ending = asyncio.create_task(
                    end_session(identity, stop_signal=signal.SIGKILL, grace_s=0)
                )
                grace_s = 0

    async def _unless_stopping(self, awaitable: Awaitable[object]) -> bool:
        """Await; False when a stop was requested first."""
        work = asyncio.ensure_future(awaitable)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            return work.done() and not self._stopping.is_set()
        finally:
            stopping.cancel()
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    def _give_up(self, part: Part, reason: str) -> None:
        self._set(part.name, "stopped", reason, process=None)
        log = self._state.logs / f"{part.name}.log"
        if not self._failure.done():
            self._failure.set_exception(
                DependencyUnavailable(
                    f"the {part.name} {reason}. Its last lines ({log}):\n{tail(log, lines=20)}",
                    dependency=part.name,
                )
            )

    # all parts

    async def _watch(self) -> None:
        """Notice parts that run and do not answer, and logs that grow too large.

        A part that does not answer is shown, not killed: on a busy machine it may be alive and slow.
        """
        while True:
            await asyncio.sleep(self._watch_every_s)
            for name, running in self._parts.items():
                bound(self._state.logs / f"{name}.log")
                before = self.status.parts[name]
                if running.part.check is None or before.state not in ("running", "unhealthy"):
                    continue
                try:
                    await asyncio.wait_for(running.part.check(), _CHECK_TIMEOUT_S)
                except Exception as error:
                    state: PartState = "unhealthy"
                    detail = _first_line(error)
                else:
                    state, detail = "running", ""
                now = self.status.parts[name]
                # It may have ended meanwhile, which is another's to say.
                if now.process == before.process and (now.state, now.detail) != (state, detail):
                    self._set(name, state, detail)

    def _set(
        self,
        name: str,
        state: PartState,
        detail: str = "",
        *,
        restarts: int | None = None,
        **process: ProcessId | None,
    ) -> None:
        part = self._parts[name].part
        update: dict[str, object] = {
            "state": state,
            "detail": detail,
            "stop_signal": int(part.stop_signal),
            "grace_s": part.grace_s,
            "since": datetime.now(UTC),
            **process,
        }
        if restarts is not None:
            update["restarts"] = restarts
        self.status.parts[name] = self.status.parts[name].model_copy(update=update)
        self._write()
        self._report(name, self.status.parts[name])

    def _write(self) -> None:
        # On a full disk the parts go on, and so do we: without this record the kernel still ends
        # them with us.
        with contextlib.suppress(OSError):
            self._state.write_status(self.status)


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
