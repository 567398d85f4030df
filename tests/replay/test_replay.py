"""Histories of machines that lived must still replay: their workflows may be alive out there."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from dumont.temporal.client import data_converter
from tests.workflows.conftest import KEYS
from worker.roles import WORKFLOWS, sandbox

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def replayer(*workflows: type) -> Replayer:
    return Replayer(
        workflows=workflows or WORKFLOWS,
        data_converter=data_converter(KEYS),
        workflow_runner=sandbox(),
    )


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_it_still_replays(path: Path) -> None:
    await replayer().replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))


def test_every_workflow_with_a_life_of_its_own_has_a_history() -> None:
    recorded = {path.stem.split("-")[0] for path in HISTORIES}
    assert {"machine", "provision", "end", "reconcile"} <= recorded


@workflow.defn(name="Machine", sandboxed=False)
class Changed:
    """A Machine that begins with a step the recorded ones did not take."""

    @workflow.run
    async def run(self, input: object) -> None:
        await workflow.sleep(1)


async def test_a_changed_workflow_is_caught() -> None:
    path = next(path for path in HISTORIES if path.stem == "machine-plain-life")
    with pytest.raises(NondeterminismError):
        await replayer(Changed).replay_workflow(
            WorkflowHistory.from_json(path.stem, path.read_text())
        )
