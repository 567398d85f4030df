"""A GPU that was given up comes back with an old generation; both sides were written meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos.failover_world import BRISK, FailoverWorld, Protected

PATIENT = BRISK.model_copy(update={"rescue_s": 120.0})
"""A former GPU is waited for longer than it takes this one to come back."""


@dataclass(frozen=True)
class Absence:
    """How a GPU goes away and comes back."""

    going: str
    coming: str
    how: dict[str, Any]


ABSENCES = {
    "outbid and resumed": Absence("outbid", "resume", {}),
    "host offline and back elsewhere": Absence(
        "host-offline", "host-online", {"new_address": True}
    ),
}


@pytest.mark.parametrize("name", ABSENCES)
async def test_back_from_the_dead(failover_world: FailoverWorld, name: str) -> None:
    """Fenced, what only it had is kept beside the workspace, and it is ended."""
    absence, control = ABSENCES[name], failover_world.cloud.control
    box = await failover_world.machine(timing=PATIENT)
    former, epoch = box.gpu, box.state.epoch
    await box.until_on("primary")
    box.save(notes=b"before", other=b"before")
    box.flush()
    control.vast(former.instance_id, absence.going)
    await box.until_on("standby")
    # Its last moments: written when the mirror was dead already.
    last_words(box, former.instance_id, {"only-here": b"a checkpoint", "notes": b"its own"})
    box.save(notes=b"the standby's")
    await box.until_step("failed_back", after=box.state.failovers - 1)
    await box.until("another GPU", lambda: box.gpu.label != former.label)

    control.vast(former.instance_id, absence.coming, **absence.how)
    await box.until("the former GPU ended", lambda: len(box.gpus()) == 1, seconds=120)
    state = await box.until_protected()
    assert state.instance is not None
    assert [row["label"] for row in box.gpus()] == [state.instance.label]
    box.assert_whole()
    assert "only-here" not in box.files()
    kept = box.kept_aside()
    assert kept[f"{epoch}/only-here"] == b"a checkpoint"
    assert kept[f"{epoch}/notes"] == b"its own"
    assert box.events("failover.rescued")


async def test_both_sides_written(failover_world: FailoverWorld) -> None:
    """The link was cut for a moment and both went on: the standby's edit wins, the other is kept."""
    control = failover_world.cloud.control
    health = control.get("/health")
    if not health["links"]:
        pytest.skip(health["links_reason"])
    box = await failover_world.machine(timing=PATIENT)
    home, epoch = box.gpu, box.state.epoch
    await box.until_on("primary")
    box.save(both=b"before", quiet=b"untouched")
    box.flush()
    control.vast(home.instance_id, "link", cut="both")
    await box.until_on("standby")
    last_words(box, home.instance_id, {"both": b"the primary's", "new": b"only on the primary"})
    box.save(both=b"the standby's")
    control.vast(home.instance_id, "link")

    await box.until("the address leads to a GPU again", lambda: box.state.epoch > epoch, seconds=60)
    await box.until_protected()
    await box.until_on("primary")
    box.assert_whole()
    kept = box.kept_aside()
    assert kept[f"{epoch}/both"] == b"the primary's"
    assert kept[f"{epoch}/new"] == b"only on the primary"
    receipt = box.receipts()[-1]
    if receipt.outcome == "returned":  # as it is, unless the host is so busy that time is up first
        names = {f".dumont/conflicts/{epoch}/{name}" for name in ("both", "new")}
        assert set(receipt.conflicts) == names
        assert len(receipt.conflicts) == 2


def last_words(box: Protected, instance_id: str, files: dict[str, bytes]) -> None:
    """What something on the GPU wrote that could not be mirrored any more."""
    workspace = box.disk_of(f"vast-{instance_id}") / "workspace"
    for name, content in files.items():
        (workspace / name).write_bytes(content)
