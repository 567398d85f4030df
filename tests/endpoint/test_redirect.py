"""The primary dies, freezes or is cut off: the same address leads to the standby, and stays there."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.endpoint.world import World, cut, wait_until


def test_kill_lands_new_logins_on_the_standby(world: World) -> None:
    assert world.apply()["guard"]["authority"] == "primary"
    assert world.where() == "primary"
    world.primary.signal(signal.SIGKILL)
    guard = world.until("redirected", authority="standby", redirects=1, held=False)
    assert world.where() == "standby"
    assert "refuses connections" in guard["cause"]
    steps = guard["redirect"]
    assert 0 <= steps["endpoint_ms"] <= steps["authority_ms"] <= steps["receivers_ms"]


def test_a_frozen_primary_is_a_lost_one(world: World) -> None:
    world.apply()
    world.primary.signal(signal.SIGSTOP)
    guard = world.until("redirected", authority="standby")
    assert "says nothing" in guard["cause"]
    assert world.where() == "standby"
    world.until("the link is seen to be down", link="down")


@pytest.mark.parametrize("ways", [("INPUT", "OUTPUT"), ("INPUT",), ("OUTPUT",)])
def test_a_link_cut_without_a_word_is_noticed(cuttable: World, ways: tuple[str, ...]) -> None:
    cuttable.apply()
    assert cuttable.where() == "primary"
    cut(cuttable, ways=ways)
    guard = cuttable.until("redirected", authority="standby")
    assert cuttable.where() == "standby"
    assert "does not answer" in guard["cause"] or "says nothing" in guard["cause"]


def test_what_a_drill_redirects_stays_on_the_standby(world: World) -> None:
    world.apply()
    guard = world.standby.agent("redirect", "--cause", "a drill")["guard"]
    assert (guard["authority"], guard["cause"]) == ("standby", "a drill")
    again = world.standby.agent("redirect", "--cause", "another")["guard"]
    assert (again["cause"], again["redirects"]) == ("a drill", 1)
    world.until("the link is up and nothing was written", link="up", written=False)
    _checks(world, 10)
    assert world.guard()["authority"] == "standby"
    assert world.where() == "standby"


def test_haproxy_alone_redirects_and_never_returns_by_itself(world: World) -> None:
    world.apply()
    status = _haproxy_status(world)
    assert status["status"] == "UP"
    world.standby.agent("status")
    supervisor = world.worker().parent()
    assert supervisor is not None
    supervisor.kill()
    wait_until("no guard", lambda: not world.standby.agent("status")["running"])
    world.primary.signal(signal.SIGKILL)
    wait_until("HAProxy gives it up", lambda: _haproxy_status(world)["status"] == "DOWN")
    world.primary.start()
    wait_until("its checks pass", lambda: _haproxy_status(world)["check_status"] == "L7OK")
    passed = int(_haproxy_status(world)["check_health"])
    wait_until("again and again", lambda: int(_haproxy_status(world)["check_health"]) > passed + 4)
    assert _haproxy_status(world)["status"].startswith("DOWN")
    assert world.where() == "standby"
    assert world.authority()["authority"] == "primary"
    # The guard comes back and makes it last.
    world.standby.agent("resume")
    world.until("the guard takes authority", authority="standby", redirects=1)
    assert world.where() == "standby"


def _checks(world: World, count: int) -> None:
    """Wait for the guard to look at the link some more times."""
    since = world.guard()["link_since"]
    for _ in range(count):
        address = (world.primary.address, 2022)
        with socket.create_connection(address, 2) as connection:
            assert connection.recv(7) == b"SSH-2.0"
    assert world.guard()["link_since"] == since


def _haproxy_status(world: World) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(world.standby.paths.run / "haproxy.sock"))
        connection.sendall(b"show stat\n")
        text = connection.makefile().read()
    head, *rows = [line.split(",") for line in text.lstrip("# ").splitlines() if line]
    found = [dict(zip(head, row, strict=False)) for row in rows]
    return next(row for row in found if row["svname"] == "primary")
