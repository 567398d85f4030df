"""What is rented in the GPU's place does not work: work goes on on the standby meanwhile."""

from __future__ import annotations

import os

from tests.chaos.failover_world import BRISK, FailoverWorld

RACING = BRISK.model_copy(update={"race_width": 3, "race_stagger_s": 1.0, "attempt_s": 25.0})


async def test_three_replacements_never_answer(failover_world: FailoverWorld) -> None:
    """They run and are paid for, and nobody can log in: they are ended, and a fourth is had."""
    box = await failover_world.machine(timing=RACING)
    former, failovers = box.gpu, box.state.failovers
    await box.until_on("primary")
    box.save(work=os.urandom(50_000))
    box.flush()
    failover_world.cloud.control.add_fault("no_ssh", operation="instances.boot", times=3)
    failover_world.cloud.control.vast(former.instance_id, "kill")
    await box.until_step("replacing", after=failovers)
    await box.until_on("standby")
    box.save(work=b"on the standby", more=os.urandom(10_000))
    box.assert_whole()

    state = await box.until_replaced(former, seconds=200)
    assert state.instance is not None
    assert [row["label"] for row in box.gpus()] == [state.instance.label]
    assert len(box.events("provision.attempt_failed")) >= 3
    box.assert_whole()
