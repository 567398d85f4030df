"""Sweeps that keep snapshots going: schedules as policies want them, and freeing space."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.snapshot_upkeep import UpkeepActivities
    from workflows.options import READ, STORE


@workflow.defn
class SnapshotSchedules:
    """Each live machine has the schedule that its policy wants; a destroyed one has none."""

    @workflow.run
    async def run(self) -> int:
        """Look once; returns how many schedules had to be changed."""
        return await workflow.execute_activity_method(UpkeepActivities.align_schedules, **READ)


@workflow.defn
class PruneRepositories:
    """Space that no snapshot needs is freed, owner by owner."""

    @workflow.run
    async def run(self) -> int:
        """Prune all of them; returns how many bytes were freed."""
        owners = await workflow.execute_activity_method(UpkeepActivities.repository_owners, **READ)
        freed = 0
        for owner_id in owners:
            pruned = await workflow.execute_activity_method(
                UpkeepActivities.prune_owner, owner_id, summary=f"owner {owner_id}", **STORE
            )
            freed += pruned.freed if pruned is not None else 0
        return freed
