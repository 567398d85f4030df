"""The link comes back: quietly when nobody noticed, never when somebody might have."""

from __future__ import annotations

import signal

from tests.endpoint.world import World, cut, mend, wait_until


def lost(world: World) -> None:
    """The primary freezes for a moment."""
    world.apply()
    world.until("the link is up", link="up")
    world.primary.signal(signal.SIGSTOP)
    world.until("redirected", authority="standby")


def test_a_false_alarm_heals_and_is_counted(cuttable: World) -> None:
    cuttable.apply()
    cut(cuttable)
    cuttable.until("redirected", authority="standby", written=False)
    mend(cuttable)
    guard = cuttable.until("healed", authority="primary")
    assert (guard["false_alarms"], guard["redirects"], guard["epoch"]) == (1, 1, 5)
    assert cuttable.where() == "primary"
    (cuttable.primary.workspace / "after").write_text("x")
    assert cuttable.sync(5).returncode == 0
    assert (cuttable.standby.workspace / "after").read_text() == "x"
    # And it is watched as before.
    cut(cuttable)
    cuttable.until("redirected again", authority="standby", redirects=2)


def test_a_login_keeps_the_authority_where_it_is(world: World) -> None:
    lost(world)
    assert world.ssh("true").returncode == 0
    world.until("the login counts", written=True)
    world.primary.signal(signal.SIGCONT)
    world.until("the link is back", link="up")
    assert wait_until("long enough to heal", lambda: _up_for(world) > 4)
    assert world.guard()["authority"] == "standby"
    assert world.where() == "standby"


def test_a_changed_file_keeps_the_authority_where_it_is(world: World) -> None:
    lost(world)
    world.until("nothing was written", written=False)
    (world.standby.workspace / "new").write_text("by a job on the standby")
    world.primary.signal(signal.SIGCONT)
    world.until("the file counts", written=True)
    assert wait_until("long enough to heal", lambda: _up_for(world) > 4)
    assert world.guard()["authority"] == "standby"


def test_what_is_fenced_never_heals(world: World) -> None:
    lost(world)
    assert world.fence(6)["held"] is True
    world.primary.signal(signal.SIGCONT)
    assert wait_until("long enough to heal", lambda: _up_for(world) > 4)
    guard = world.guard()
    assert (guard["authority"], guard["held"], guard["false_alarms"]) == ("standby", True, 0)
    assert world.where() == "standby"


def test_a_port_scan_is_no_login(world: World) -> None:
    lost(world)
    for _ in range(3):
        scan = world.ssh(
            "true", "-o", "KexAlgorithms=ecdh-sha2-nistp256", "-o", "HostKeyAlgorithms=x"
        )
        assert scan.returncode != 0
    world.until("nothing was written", written=False)


def _up_for(world: World) -> float:
    """Seconds since the link came up."""
    from datetime import UTC, datetime

    guard = world.guard()
    if guard["link"] != "up":
        return 0
    return (datetime.now(UTC) - datetime.fromisoformat(guard["link_since"])).total_seconds()
