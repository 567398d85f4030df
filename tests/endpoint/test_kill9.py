"""kill -9 of the guard, of HAProxy, of both, at bad moments: who serves and who may write stays true."""

from __future__ import annotations

import signal

import psutil

from tests.endpoint.world import World, wait_until


def gone(process: psutil.Process) -> None:
    process.kill()

    def ended() -> bool:
        try:
            return not process.is_running() or process.status() == "zombie"
        except psutil.NoSuchProcess:  # reaped between the two questions
            return True

    wait_until("it is gone", ended)


def test_haproxy_comes_back_on_the_side_that_has_authority(world: World) -> None:
    world.apply()
    first = world.haproxy()
    gone(first)
    wait_until("another HAProxy", lambda: world.haproxy_pid() != first.pid)
    wait_until("the primary serves", lambda: world.where() == "primary")
    world.fence(6)
    second = world.haproxy()
    gone(second)
    wait_until("another HAProxy", lambda: world.haproxy_pid() != second.pid)
    wait_until("the standby serves", lambda: world.where() == "standby")


def test_the_guard_comes_back_without_touching_sessions(world: World) -> None:
    world.apply()
    haproxy, worker = world.haproxy(), world.worker()
    gone(worker)
    wait_until("another worker", lambda: world.worker_pid() != worker.pid)
    world.until("it guards", authority="primary", link="up")
    assert world.haproxy() == haproxy
    world.primary.signal(signal.SIGKILL)
    world.until("redirected", authority="standby")
    gone(world.worker())
    wait_until("it answers", lambda: "guard" in world.standby.agent("status"))
    world.until("it knows", authority="standby", redirects=1)
    assert world.where() == "standby"


def test_both_killed_at_once(world: World) -> None:
    world.apply()
    world.standby.agent("redirect", "--cause", "a drill")
    haproxy = world.haproxy()
    gone(world.worker())
    gone(haproxy)
    wait_until("another HAProxy", lambda: world.haproxy_pid() != haproxy.pid)
    wait_until("it serves", lambda: world.where() == "standby")
    assert world.authority()["redirects"] == 1


def test_a_lost_authority_file_is_unknown_and_a_fence_ends_that(world: World) -> None:
    world.apply()
    assert world.sync(5).returncode == 0
    (world.standby.home / ".dumont/authority.json").write_text("{")
    assert "fenced" in world.sync(5).stderr
    gone(world.worker())
    guard = world.until("unknown", authority=None)
    assert guard["epoch"] is None
    assert "unknown" in guard["cause"]
    assert world.where() == "standby"
    assert world.fence(6)["held"] is True
    world.hand_back(6)
    assert world.where() == "primary"
