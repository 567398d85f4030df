"""The supervisor over real processes: order, restarts, and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dumont.cli.embedded.processes import ProcessId
from dumont.cli.embedded.state import PartStatus, StateDir, read_status
from dumont.cli.embedded.supervisor import Part, Supervisor
from dumont.domain.errors import DependencyUnavailable
from tests.integration.embedded import toys


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    directory = StateDir(tmp_path, mode="demo")
    yield directory
    directory.close()


def journal(folder: Path) -> list[str]:
    file = folder / "journal"
    return file.read_text().splitlines() if file.exists() else []


async def until(condition: Callable[[], bool], *, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def pid(status: PartStatus) -> int:
    assert status.process is not None
    return status.process.pid


async def test_parts_start_after_what_they_need_and_stop_before_it(state: StateDir) -> None:
    folder = state.path
    supervisor = Supervisor(
        state=state,
        parts=[
            toys.part("api", folder, needs=("tables", "database")),
            toys.part("tables", folder, kind="once", needs=("database",)),
            toys.part("database", folder),
        ],
        backoff=toys.QUICK,
    )
    await supervisor.start()
    assert journal(folder) == ["start database", "start tables", "start api"]
    assert {name: part.state for name, part in supervisor.status.parts.items()} == {
        "api": "running",
        "tables": "done",
        "database": "running",
    }
    await supervisor.stop()
    assert journal(folder)[3:] == ["stop api", "stop database"]
    written = read_status(folder)
    assert written is not None
    assert [part.process for part in written.parts.values()] == [None, None, None]


async def test_a_killed_part_comes_back_and_the_others_stay(state: StateDir) -> None:
    parts = [toys.part("database", state.path), toys.part("api", state.path, needs=("database",))]
    told: list[tuple[str, str]] = []
    supervisor = Supervisor(
        state=state,
        parts=parts,
        backoff=toys.QUICK,
        report=lambda name, status: told.append((name, f"{status.state} {status.detail}")),
    )
    await supervisor.start()
    status = supervisor.status.parts
    before = {name: pid(part) for name, part in status.items()}
    for round_ in (1, 2):
        victim = pid(status["database"])
        os.kill(victim, signal.SIGKILL)
        await until(lambda n=round_: status["database"].restarts == n)  # type: ignore[misc]
        await until(lambda: status["database"].state == "running")
        assert pid(status["database"]) != victim
    assert pid(status["api"]) == before["api"]
    assert any(
        name == "database" and "was ended by SIGKILL; again in" in text for name, text in told
    )
    await supervisor.stop()


async def test_a_part_that_never_works_is_named_with_its_last_words(state: StateDir) -> None:
    supervisor = Supervisor(
        state=state,
        parts=[toys.part("database", state.path), toys.part("api", state.path, kind="broken")],
        backoff=toys.QUICK,
    )
    with pytest.raises(DependencyUnavailable) as caught:
        await supervisor.start()
    assert "the api ended with exit code 3" in caught.value.message
    assert "cannot find my hat" in caught.value.message
    assert str(state.logs / "api.log") in caught.value.message
    assert caught.value.dependency == "api"
    await supervisor.stop()
    assert supervisor.status.parts["database"].state == "stopped"


async def test_a_program_that_is_not_there_is_named(state: StateDir) -> None:
    part = toys.part("api", state.path)

    async def launch() -> toys.Launch:
        return toys.Launch(command=["/no/such/program"], env={}, cwd=state.path)

    supervisor = Supervisor(
        state=state,
        parts=[Part(name="api", launch=launch, check=part.check)],
        backoff=toys.QUICK,
    )
    with pytest.raises(DependencyUnavailable, match="cannot run /no/such/program"):
        await supervisor.start()
    await supervisor.stop()


async def test_a_part_that_never_answers_is_restarted(state: StateDir) -> None:
    async def check() -> None:
        raise RuntimeError("still warming up")

    silent = toys.part("api", state.path)
    supervisor = Supervisor(
        state=state,
        parts=[Part(name="api", launch=silent.launch, check=check, start_timeout_s=0.3)],
        backoff=toys.QUICK,
    )
    with pytest.raises(DependencyUnavailable, match=r"not healthy after 0\.3 s: still warming up"):
        await supervisor.start()
    await supervisor.stop()
    assert journal(state.path) == ["start api", "stop api"] * 3


async def test_a_running_part_that_does_not_answer_is_shown_and_not_killed(
    state: StateDir,
) -> None:
    supervisor = Supervisor(
        state=state,
        parts=[toys.part("api", state.path)],
        backoff=toys.QUICK,
        watch_every_s=0.05,
    )
    await supervisor.start()
    status = supervisor.status.parts
    before = pid(status["api"])
    up = state.path / "api.up"
    up.rename(state.path / "hidden")
    await until(lambda: status["api"].state == "unhealthy")
    assert status["api"].detail == "api is not up"
    (state.path / "hidden").rename(up)
    await until(lambda: status["api"].state == "running")
    assert pid(status["api"]) == before
    await supervisor.stop()


async def test_a_full_disk_takes_no_part_down(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(
        state=state, parts=[toys.part("api", state.path)], backoff=toys.QUICK, watch_every_s=0.02
    )
    await supervisor.start()
    status = supervisor.status.parts

    def full(_status: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "write_status", full)
    os.kill(pid(status["api"]), signal.SIGKILL)
    await until(lambda: status["api"].restarts == 1 and status["api"].state == "running")
    await supervisor.stop()


async def test_what_ignores_the_stop_is_killed_with_its_children(state: StateDir) -> None:
    supervisor = Supervisor(
        state=state,
        parts=[toys.part("api", state.path, kind="stubborn", grace_s=0.3)],
        backoff=toys.QUICK,
    )
    await supervisor.start()
    leader = ProcessId.of(pid(supervisor.status.parts["api"]))
    child = ProcessId.of(int((state.path / "api.child").read_text()))
    assert leader is not None
    assert child is not None
    await supervisor.stop()
    assert not leader.is_alive()
    assert not child.is_alive()


async def test_a_second_stop_waits_for_nobody(state: StateDir) -> None:
    supervisor = Supervisor(
        state=state,
        parts=[toys.part("api", state.path, kind="stubborn", grace_s=120)],
        backoff=toys.QUICK,
    )
    await supervisor.start()
    supervisor.request_stop()
    stopping = asyncio.create_task(supervisor.stop())
    done, _ = await asyncio.wait([stopping], timeout=0.5)
    assert not done
    supervisor.request_stop()
    await asyncio.wait_for(stopping, 10)


async def test_a_stop_during_the_start_is_obeyed(state: StateDir) -> None:
    async def never() -> None:
        raise RuntimeError("not yet")

    slow = toys.part("database", state.path)
    supervisor = Supervisor(
        state=state,
        parts=[
            Part(name="database", launch=slow.launch, check=never),
            toys.part("api", state.path, needs=("database",)),
        ],
    )
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: "start database" in journal(state.path))
    supervisor.request_stop()
    await asyncio.wait_for(starting, 10)
    await asyncio.wait_for(supervisor.stop(), 10)
    assert journal(state.path) == ["start database", "stop database"]


class Supervised:
    """`toys.py` in a process of its own, to be killed."""

    def __init__(self, path: Path, *kinds: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, toys.__file__, str(path), *kinds],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def test_nothing_survives_a_killed_supervisor(tmp_path: Path) -> None:
    first = Supervised(tmp_path, "polite", "stubborn")
    try:
        assert [first.line(), first.line()] == ["reaped", "ready"]
        status = read_status(tmp_path)
        assert status is not None
        parts = {name: part.process for name, part in status.parts.items() if part.process}
        child = ProcessId.of(int((tmp_path / "stubborn.child").read_text()))
    finally:
        first.close()  # kill -9
    # The kernel tells them; the polite one goes without anybody's help.
    await until(lambda: not parts["polite"].is_alive())
    assert journal(tmp_path)[-1] == "stop polite"
    # The stubborn one is the next start's.
    assert parts["stubborn"].is_alive()
    assert child is not None
    second = Supervised(tmp_path, "polite", "stubborn")
    try:
        assert [second.line(), second.line()] == ["reaped stubborn", "ready"]
        assert not parts["stubborn"].is_alive()
        assert not child.is_alive()
        second.process.terminate()
        assert second.line() == "stopped"
        assert second.process.wait(10) == 0
    finally:
        second.close()


async def test_reaping_spares_whoever_has_the_pid_now(tmp_path: Path, state: StateDir) -> None:
    supervisor = Supervisor(state=state, parts=[toys.part("api", tmp_path)], backoff=toys.QUICK)
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        identity = ProcessId.of(bystander.pid)
        assert identity is not None
        older = identity.model_copy(update={"start_ticks": identity.start_ticks - 1})
        supervisor.status.parts["api"] = supervisor.status.parts["api"].model_copy(
            update={"process": older}
        )
        state.write_status(supervisor.status)
        assert await supervisor.reap() == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
