"""A process is known by more than its pid, and only a proven one is signalled."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from dumont.cli.embedded.processes import ProcessId, end_session, session_of


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    return found


def test_a_live_process_is_itself(sleeper: subprocess.Popen[bytes]) -> None:
    assert identity(sleeper).is_alive()
    assert identity(sleeper) == identity(sleeper)


def test_a_dead_process_and_a_zombie_are_gone(sleeper: subprocess.Popen[bytes]) -> None:
    before = identity(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet collected: a zombie
    assert not before.is_alive()
    sleeper.wait()
    assert not before.is_alive()
    assert not before.send(signal.SIGTERM)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}])
async def test_another_process_with_the_same_pid_is_left_alone(
    sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    recorded = identity(sleeper).model_copy(update=change)
    assert not recorded.is_alive()
    assert not recorded.send(signal.SIGKILL)
    assert session_of(recorded) == []
    assert await end_session(recorded, stop_signal=signal.SIGTERM, grace_s=1) == []
    assert sleeper.poll() is None


async def test_children_of_a_dead_leader_are_ended() -> None:
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; exec sleep 60"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert leader.stdout is not None
    child = ProcessId.of(int(leader.stdout.readline()))
    before = identity(leader)
    leader.kill()
    leader.wait()
    assert child is not None
    assert child.is_alive()
    assert await end_session(before, stop_signal=signal.SIGTERM, grace_s=1) == [child]
    assert not child.is_alive()
    leader.stdout.close()


async def test_what_ignores_the_stop_is_killed_after_its_grace() -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    killed = await end_session(identity(stubborn), stop_signal=signal.SIGTERM, grace_s=0.2)
    assert stubborn.wait(5) == -signal.SIGKILL
    assert stubborn.pid in [process.pid for process in killed]
    stubborn.stdout.close()
