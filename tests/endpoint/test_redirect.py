"""The primary dies, freezes or is cut off: the same address leads to the standby, and stays there."""

from __future__ import annotations

import signal

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
