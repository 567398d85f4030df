"""The least a workflow can be: Temporal's own floor on this machine, with our codec and sandbox."""

from __future__ import annotations

from temporalio import workflow


@workflow.defn(name="BenchmarkFloor")
class Floor:
    """Starts and ends: one workflow task."""

    @workflow.run
    async def run(self) -> None:
        """Nothing."""
