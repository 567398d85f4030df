"""A machine that hibernates on its standby: people are told so, and can ask for a GPU."""

from __future__ import annotations

from tests.endpoint.world import World


def test_asking_for_a_gpu_from_the_standby(world: World) -> None:
    world.apply()
    refused = world.standby.agent("wake", ok=False)
    assert refused["code"] == "conflict", "nobody asks for a second GPU"
    world.standby.agent("redirect", "--cause", "the machine hibernates: ana asked for it")
    world.fence(6)
    assert world.where() == "standby"
    told = world.ssh("cat ~/.dumont/status").stdout
    assert "No GPU is rented" in told
    assert "dumont-wake" in told
    assert world.guard()["wake"] is False
    asked = world.ssh("~/.local/bin/dumont-wake")
    assert asked.returncode == 0, asked.stderr
    assert world.guard()["wake"] is True
    assert "A GPU is being prepared" in world.ssh("cat ~/.dumont/status").stdout
    world.hand_back(6)
    assert world.guard()["wake"] is False
    world.standby.agent("redirect", "--cause", "the machine hibernates: ana asked for it")
    world.fence(7)
    assert world.guard()["wake"] is False, "what was asked for in an earlier sleep is over"


def test_a_wish_from_before_the_fence_is_heard(world: World) -> None:
    world.apply()
    world.standby.agent("redirect", "--cause", "the machine hibernates: ana asked for it")
    world.standby.agent("wake")
    assert world.fence(6)["wake"] is True


def test_an_ordinary_failover_takes_no_such_wish(world: World) -> None:
    world.apply()
    world.standby.agent("redirect", "--cause", "a drill of ana")
    world.fence(6)
    assert world.standby.agent("wake", ok=False)["code"] == "conflict"
    assert world.guard()["wake"] is False
