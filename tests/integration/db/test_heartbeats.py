"""Of heartbeats the newest is kept, whatever order they come in."""

from __future__ import annotations

import asyncio

import pytest

from dumont.db.engine import Database
from dumont.db.heartbeats import PostgresHeartbeats
from dumont.domain.protection import AgentRole, Heartbeat
from tests.integration.db.conftest import T0

M = "m000000000001"


def beat(sequence: int = 1, **changes: object) -> Heartbeat:
    whole = {
        "protocol": 1,
        "role": "primary",
        "machine_id": M,
        "generation": 1,
        "epoch": 1,
        "instance_id": "7",
        "sequence": sequence,
        "sent_at": T0,
        "boot_id": "b1",
        "host": {"gpu_percent": None, "cpu_percent": 1.5},
    }
    return Heartbeat.model_validate(whole | changes)


@pytest.fixture
def heartbeats(database: Database) -> PostgresHeartbeats:
    return PostgresHeartbeats(database)


async def _kept(heartbeats: PostgresHeartbeats, role: AgentRole = AgentRole.PRIMARY) -> Heartbeat:
    return (await heartbeats.latest([M]))[M][role].heartbeat


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (beat(1), beat(2), True),
        (beat(2), beat(1), False),
        (beat(2), beat(2), False),
        (beat(9), beat(1, boot_id="b2"), True),
        (beat(9), beat(1, epoch=2), True),
        (beat(9), beat(1, instance_id="8", boot_id=None), True),
        (beat(1, epoch=2), beat(9, epoch=1), False),
        (beat(1, epoch=2), beat(9, epoch=1, boot_id="b2"), False),
    ],
)
async def test_the_newest_is_kept(
    heartbeats: PostgresHeartbeats, first: Heartbeat, second: Heartbeat, kept: bool
):
    assert await heartbeats.hear(first) is not None
    assert (await heartbeats.hear(second) is not None) is kept
    assert await _kept(heartbeats) == (second if kept else first)


async def test_bodies_do_not_overwrite_each_other(heartbeats: PostgresHeartbeats):
    guard = beat(role="standby", instance_id="9")
    await heartbeats.hear(beat())
    await heartbeats.hear(guard)
    assert await _kept(heartbeats) == beat()
    assert await _kept(heartbeats, AgentRole.STANDBY) == guard


async def test_many_at_once_leave_the_newest(heartbeats: PostgresHeartbeats):
    await asyncio.gather(*(heartbeats.hear(beat(n)) for n in (3, 9, 1, 8, 7, 2, 6, 5, 4)))
    assert (await _kept(heartbeats)).sequence == 9


async def test_what_was_told_is_remembered_with_the_next_one(heartbeats: PostgresHeartbeats):
    first = await heartbeats.hear(beat(1))
    assert first is not None
    assert first.told is None
    await heartbeats.set_told(beat(1), {"status": "protected"})
    second = await heartbeats.hear(beat(2))
    assert second is not None
    assert second.told == {"status": "protected"}
    assert second.received_at >= first.received_at


async def test_when_an_agent_was_last_heard(heartbeats: PostgresHeartbeats):
    async def last(instance_id: str) -> object:
        return await heartbeats.last_heard(M, AgentRole.PRIMARY, instance_id=instance_id)

    assert await last("7") is None
    heard = await heartbeats.hear(beat())
    assert heard is not None
    assert await last("7") == heard.received_at
    assert await last("8") is None


async def test_what_an_agent_said_last_of_its_mirror(heartbeats: PostgresHeartbeats):
    assert await heartbeats.last_report(M, instance_id="7") is None
    said = {"status": "degraded", "reason": "disk full", "replicated_at": T0.isoformat()}
    await heartbeats.hear(beat(protection=said))
    report = await heartbeats.last_report(M, instance_id="7")
    assert report is not None
    assert (report.reason, report.replicated_at) == ("disk full", T0)
    assert await heartbeats.last_report(M, instance_id="8") is None


async def test_unknown_machines_have_none(heartbeats: PostgresHeartbeats):
    assert await heartbeats.latest(["m00000000000f"]) == {}
